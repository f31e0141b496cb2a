// The model of the tile instructions against definitions with loops over single numbers, and, where the processor has
// AMX, the processor against the model: bit for bit, but for which NaN a NaN is.
#include <cmath>
#include <limits>

#include "kernels/instruction_sets.h"
#include "test.h"
#include "tile_products.h"

namespace {

using namespace tile_test;
using test::Random;

using Runner = void (*)(const Case&, uint8_t*, uint8_t*);

std::vector<Runner> runners() {
  std::vector<Runner> all{run<bmx::TileModel>};
#if BMX_AMX
  if (bmx::find_instruction_set("amx")) all.push_back(run_amx);
#endif
  return all;
}

// The memory of a case: exactly the bytes that its tiles have, so that sanitizers see reads beyond them.
struct Memory {
  std::vector<uint8_t> a, b, sum;

  template <class F>
  Memory(Case& c, F byte) {
    fill(a, c.rows, 4 * c.depth, c.a_stride, byte);
    fill(b, c.depth, 4 * c.columns, c.b_stride, byte);
    fill(sum, c.rows, 4 * c.columns, c.sum_stride, byte);
    c.a = a.data(), c.b = b.data(), c.sum = sum.data();
  }

 private:
  template <class F>
  static void fill(std::vector<uint8_t>& bytes, int rows, int row_bytes, int64_t stride, F byte) {
    bytes.resize((rows - 1) * stride + row_bytes);
    for (uint8_t& b : bytes) b = byte();
  }
};

Case any_case(Random& random, Product product) {
  const auto between = [&](int low, int high) { return static_cast<int>(random.between(low, high)); };
  Case c{product, between(1, 16), between(1, 16), between(1, 16), nullptr, nullptr, nullptr, 0, 0, 0};
  c.a_stride = 4 * c.depth + between(0, 70);
  c.b_stride = 4 * c.columns + between(0, 70);
  c.sum_stride = 4 * c.columns + between(0, 70);
  return c;
}

float bf16(const uint8_t* p) {
  const uint32_t bits = static_cast<uint32_t>(p[0]) << 16 | static_cast<uint32_t>(p[1]) << 24;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

template <class T>
T number(const std::vector<uint8_t>& bytes, size_t offset) {
  T value;
  std::memcpy(&value, &bytes[offset], sizeof(T));
  return value;
}

int signed_if(bool condition, uint8_t byte) { return condition && byte > 127 ? byte - 256 : byte; }

}  // namespace

TEST(tiles_products_of_bytes_equal_their_definition) {
  Random random(1);
  for (Product product : {Product::kS8S8, Product::kS8U8, Product::kU8S8, Product::kU8U8}) {
    const bool signed_a = product == Product::kS8S8 || product == Product::kS8U8;
    const bool signed_b = product == Product::kS8S8 || product == Product::kU8S8;
    for (int i = 0; i < 60; ++i) {
      Case c = any_case(random, product);
      const Memory memory(c, [&] { return static_cast<uint8_t>(random.bits()); });
      for (Runner run : runners()) {
        std::vector<uint8_t> out(memory.sum.size(), 0xAB), zeroed = out;
        run(c, out.data(), zeroed.data());
        for (size_t at = 0; at < out.size(); ++at) {
          const auto row = static_cast<int64_t>(at) / c.sum_stride, byte = static_cast<int64_t>(at) % c.sum_stride;
          if (byte >= 4 * c.columns) {
            CHECK(out[at] == 0xAB && zeroed[at] == 0xAB, "a byte beside a row is written");
            continue;
          }
          CHECK(zeroed[at] == 0, "tilezero");
          if (byte % 4 != 0) continue;
          int64_t sum = number<int32_t>(memory.sum, at);
          for (int k = 0; k < 4 * c.depth; ++k) {
            sum += signed_if(signed_a, memory.a[row * c.a_stride + k]) *
                   signed_if(signed_b, memory.b[k / 4 * c.b_stride + byte + k % 4]);
          }
          CHECK(number<int32_t>(out, at) == static_cast<int32_t>(sum), "at byte " + std::to_string(at));
        }
      }
    }
  }
}

// Small integers, of which every order of rounding makes the same sum.
TEST(tiles_products_of_bfloat16_equal_their_definition_where_they_are_exact) {
  Random random(2);
  for (int i = 0; i < 60; ++i) {
    Case c = any_case(random, Product::kBf16);
    c.sum_stride = (c.sum_stride + 3) / 4 * 4;
    Memory memory(c, [] { return uint8_t{0}; });
    const auto fill = [&](std::vector<uint8_t>& bytes, int rows, int numbers, int64_t stride) {
      for (int r = 0; r < rows; ++r) {
        for (int n = 0; n < numbers; ++n) {
          const float value = static_cast<float>(random.between(-128, 128)) / 8;
          std::memcpy(&bytes[r * stride + 2 * n], reinterpret_cast<const uint8_t*>(&value) + 2, 2);
        }
      }
    };
    fill(memory.a, c.rows, 2 * c.depth, c.a_stride);
    fill(memory.b, c.depth, 2 * c.columns, c.b_stride);
    for (size_t at = 0; at + 4 <= memory.sum.size(); at += 4) {
      const float value = static_cast<float>(random.between(-1000, 1000)) / 64;
      std::memcpy(&memory.sum[at], &value, 4);
    }
    for (Runner run : runners()) {
      std::vector<uint8_t> out = memory.sum, zeroed = memory.sum;
      run(c, out.data(), zeroed.data());
      for (int m = 0; m < c.rows; ++m) {
        for (int n = 0; n < c.columns; ++n) {
          double sum = number<float>(memory.sum, m * c.sum_stride + 4 * n);
          for (int k = 0; k < 2 * c.depth; ++k) {
            sum += static_cast<double>(bf16(&memory.a[m * c.a_stride + 2 * k])) *
                   bf16(&memory.b[k / 2 * c.b_stride + 4 * n + 2 * (k % 2)]);
          }
          CHECK(number<float>(out, m * c.sum_stride + 4 * n) == static_cast<float>(sum), "");
        }
      }
    }
  }
}

TEST(tiles_products_of_bfloat16_are_rounded_as_documented) {
  const auto product = [](std::vector<float> a, std::vector<float> b, float sum) {
    Case c{Product::kBf16, 1, 1, static_cast<int>(a.size() / 2), nullptr, nullptr, nullptr, 64, 4, 64};
    Memory memory(c, [] { return uint8_t{0}; });
    for (size_t k = 0; k < a.size(); ++k) {
      std::memcpy(&memory.a[2 * k], reinterpret_cast<const uint8_t*>(&a[k]) + 2, 2);
      std::memcpy(&memory.b[2 * k], reinterpret_cast<const uint8_t*>(&b[k]) + 2, 2);
    }
    std::memcpy(memory.sum.data(), &sum, 4);
    std::vector<float> found;
    for (Runner run : runners()) {
      std::vector<uint8_t> out(4), zeroed(4);
      run(c, out.data(), zeroed.data());
      found.push_back(number<float>(out, 0));
    }
    for (float y : found)
      CHECK(std::memcmp(&y, &found[0], 4) == 0 || (y != y && found[0] != found[0]), "the units differ");
    return found[0];
  };
  const float big = 16777216;  // 2^24, to which float32 cannot add 1
  CHECK(product({1, 1}, {big, 1}, 0) == big, "");
  CHECK(product({1, 1, 1, 1}, {big, 1, 0, 1}, 0) == big + 2, "odd ones have a sum of their own");
  CHECK(product({1, 1, 1, 1}, {big, 0, 1, 1}, 0) == big, "even ones are rounded one by one");
  CHECK(product({1, 1}, {1, 1}, big) == big + 2, "the tile is added last");
  const float tiny = 0x1p-127f;
  CHECK(product({tiny, 0}, {0x1p100f, 0}, 0) == 0, "denormal numbers are read as zeros");
  CHECK(product({0x1p-100f, 0}, {0x1p-27f, 0}, 0) == 0, "and made zeros");
  CHECK(product({0, 0}, {0, 0}, tiny) == 0, "in the tile too");
  CHECK(std::signbit(product({-1, -1}, {0, 0}, -0.0f)) == std::signbit(0.0f), "sums begin with +0");
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(product({infinity, 0}, {1, 0}, 1) == infinity, "");
  CHECK(std::isnan(product({infinity, 0}, {0, 0}, 1)), "");
  CHECK(std::isnan(product({infinity, -infinity}, {1, 1}, 1)), "");
}

TEST(tiles_of_the_processor_equal_the_model_for_all_bfloat16_numbers) {
  Random random(3);
  for (int i = 0; i < 300; ++i) {
    Case c = any_case(random, Product::kBf16);
    // Any bits; or numbers near 1, so that sums are rounded and not swallowed.
    const bool near_one = i % 2 == 0;
    int index = 0;
    const Memory memory(c, [&] {
      const auto byte = static_cast<uint8_t>(random.bits());
      return near_one && index++ % 2 == 1 ? static_cast<uint8_t>((byte & 0x80) | 0x3f) : byte;
    });
    std::vector<std::vector<uint8_t>> found;
    for (Runner run : runners()) {
      std::vector<uint8_t> out(memory.sum.size()), zeroed = out;
      run(c, out.data(), zeroed.data());
      found.push_back(std::move(out));
    }
    for (const auto& out : found) {
      for (int m = 0; m < c.rows; ++m) {
        for (int n = 0; n < c.columns; ++n) {
          const int64_t at = m * c.sum_stride + 4 * n;
          const auto x = number<float>(out, at), y = number<float>(found[0], at);
          CHECK(number<uint32_t>(out, at) == number<uint32_t>(found[0], at) || (x != x && y != y),
                std::to_string(x) + " for " + std::to_string(y));
        }
      }
    }
  }
}

TEST(tiles_model_refuses_what_the_processor_does) {
  using bmx::TileConfig;
  const auto refuses = [](auto use) {
    try {
      use();
    } catch (const std::logic_error&) {
      return true;
    }
    return false;
  };
  const auto configure = [](const TileConfig& config) { bmx::TileModel unit(config); };
  CHECK(!refuses([&] { configure(TileConfig().set(0, 16, 64)); }), "");
  CHECK(refuses([&] { configure(TileConfig().set(0, 17, 64)); }), "");
  CHECK(refuses([&] { configure(TileConfig().set(0, 16, 65)); }), "");
  CHECK(refuses([&] { configure(TileConfig().set(0, 0, 4)); }), "");
  CHECK(refuses([&] { configure(TileConfig().set(0, 4, 0)); }), "");
  CHECK(refuses([&] { configure(TileConfig().set(8, 1, 4)); }), "");
  const TileConfig good = TileConfig().set(0, 3, 20).set(1, 3, 8).set(2, 2, 20);
  const auto multiply = [&](const TileConfig& config) {
    return refuses([&] { bmx::TileModel(config).dot_s8_s8<0, 1, 2>(); });
  };
  CHECK(!multiply(good), "");
  CHECK(multiply(TileConfig(good).set(0, 4, 20)), "");
  CHECK(multiply(TileConfig(good).set(0, 3, 16)), "");
  CHECK(multiply(TileConfig(good).set(1, 3, 12)), "");
  CHECK(multiply(TileConfig(good).set(1, 3, 7)), "");
  CHECK(multiply(TileConfig(good).set(2, 3, 20)), "");
  CHECK(multiply(TileConfig().set(0, 3, 20).set(1, 3, 8)), "");
  CHECK(refuses([] { bmx::TileModel(TileConfig().set(0, 4, 16)).dot_bf16<0, 0, 0>(); }), "");
  CHECK(refuses([] { bmx::TileModel(TileConfig().set(0, 4, 16)).zero<3>(); }), "");
}
