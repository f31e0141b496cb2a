// As much of a test framework as these tests need.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace test {

struct Case {
  const char* name;
  std::function<void()> run;
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Register {
  Register(const char* name, std::function<void()> run) { cases().push_back({name, std::move(run)}); }
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::exit(1);
}

// The same numbers on every machine (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  // Mostly about -1..1, and now and then one of the values that sign must get right.
  float value() {
    static const float special[] = {0.0f, -0.0f, kInfinity, -kInfinity, kNan, 1e-45f, -1e-45f, 0.5f, -0.5f};
    const uint64_t b = bits();
    if (b % 16 == 0) return special[(b >> 8) % (sizeof(special) / sizeof(*special))];
    return static_cast<float>(static_cast<int64_t>(b >> 40) - (1 << 23)) / (1 << 23);
  }
  std::vector<float> values(size_t count) {
    std::vector<float> v(count);
    for (float& x : v) x = value();
    return v;
  }

 private:
  static constexpr float kInfinity = __builtin_huge_valf();
  static constexpr float kNan = __builtin_nanf("");
  uint64_t state_;
};

}  // namespace test

#define TEST(name)                                          \
  static void name();                                       \
  static const test::Register register_##name(#name, name); \
  static void name()

#define CHECK(condition, what) \
  if (!(condition)) test::fail(__FILE__, __LINE__, std::string(#condition) + ": " + (what))
