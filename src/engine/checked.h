// Helpers for checking files. Sums and products of sizes saturate instead of overflowing, because nothing that large
// ever fits. `all_zero` is for bytes that must be 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace bmx::engine {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

// These functions take numbers >= 0.
inline int64_t times(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? kHuge : product;
}
template <class... More>
int64_t times(int64_t a, int64_t b, More... more) {
  return times(times(a, b), more...);
}

inline int64_t plus(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? kHuge : sum;
}
template <class... More>
int64_t plus(int64_t a, int64_t b, More... more) {
  return plus(plus(a, b), more...);
}

inline int64_t round_up(int64_t n, int64_t multiple) {
  const int64_t rest = n % multiple;
  return rest == 0 ? n : plus(n, multiple - rest);
}

inline bool all_zero(const uint8_t* bytes, int64_t count) {
  return std::all_of(bytes, bytes + count, [](uint8_t byte) { return byte == 0; });
}

}  // namespace bmx::engine
