// The engine's kernels of every instruction set of this machine against definitions written with loops over single
// numbers (docs/format.md): convolutions. A definition writes into a copy of the memory that the kernel writes into,
// and the whole memory is compared: what a kernel must not touch is checked with what it must write. Sums of products
// are made of numbers for which they are exact, so that all comparisons are of equality.
#include <algorithm>

#include "kernels/buffer.h"
#include "nhwc_epilogue.h"

namespace {

using namespace nhwc_test;

enum class Arithmetic { kBinary, kFloat, kInt8, kFloatSigns, kInt8Signs };
constexpr Arithmetic kAll[] = {Arithmetic::kBinary, Arithmetic::kFloat, Arithmetic::kInt8, Arithmetic::kFloatSigns,
                               Arithmetic::kInt8Signs};

bool has_signs(Arithmetic a) { return a >= Arithmetic::kFloatSigns; }
Type type_of(Arithmetic a) {
  if (a == Arithmetic::kBinary) return Type::kBit;
  return a == Arithmetic::kFloat || a == Arithmetic::kFloatSigns ? Type::kF32 : Type::kU8;
}
// On tiles, with no more scratch memory than asked for, where the kernels have them: their others are AVX-512's.
void run(const Kernels& k, Arithmetic a, const Conv& c, int64_t first, int64_t last, int32_t first_filter,
         int32_t last_filter) {
  const TileConv tiles[] = {k.tile_binary, {}, k.tile_u8, {}, k.tile_u8_signs};
  const TileConv& tile = tiles[static_cast<int>(a)];
  const int64_t scratch = tile.run == nullptr ? -1 : tile.scratch(c);
  if (scratch >= 0) {
    bmx::Buffer<uint8_t> memory(scratch);
    std::memset(memory.get(), 0xA5, scratch);
    return tile.run(c, first, last, first_filter, last_filter, memory.get());
  }
  const decltype(k.conv_binary) kernels[] = {k.conv_binary, k.conv_f32, k.conv_u8, k.conv_f32_signs, k.conv_u8_signs};
  kernels[static_cast<int>(a)](c, first, last, first_filter, last_filter);
}

struct ConvShape {
  int32_t channels, filters, height, width;  // channels and filters of all groups; size of the output
  Window window;
  int32_t groups = 1;
  bool run = true;
  int gap = 0;

  std::string text(Arithmetic a) const {
    return "arithmetic " + std::to_string(static_cast<int>(a)) + " channels " + std::to_string(channels) + " filters " +
           std::to_string(filters) + " out " + std::to_string(height) + "x" + std::to_string(width) + " kernel " +
           std::to_string(window.kernel_h) + "x" + std::to_string(window.kernel_w) + " stride " +
           std::to_string(window.stride_y) + "," + std::to_string(window.stride_x) + " dilate " +
           std::to_string(window.dilate_y) + "," + std::to_string(window.dilate_x) + " groups " +
           std::to_string(groups) + (run ? " run" : "");
  }
};

// Weights of a convolution: [filter][ky][kx][channel of the group], packed as docs/format.md says.
struct Weights {
  std::vector<int> values;
  uint8_t* packed;
  std::vector<uint8_t> memory;
  std::vector<int32_t> start;

  Weights(Random& random, Arithmetic arithmetic, const ConvShape& s, int zero_point) {
    const Window& w = s.window;
    const int64_t channels = s.channels / s.groups, taps = int64_t{w.kernel_h} * w.kernel_w;
    const int64_t filters = s.filters / s.groups;
    for (int64_t i = 0; i < s.filters * taps * channels; ++i) {
      values.push_back(static_cast<int>(arithmetic == Arithmetic::kBinary  ? random.between(0, 1)
                                        : has_signs(arithmetic)            ? 2 * random.between(0, 1) - 1
                                        : arithmetic == Arithmetic::kFloat ? random.between(-16, 16)
                                                                           : random.between(-128, 127)));
    }
    const Type type = type_of(arithmetic);
    const int64_t block = type == Type::kBit ? 8 : 16;
    const int64_t unit = type == Type::kBit ? 64 : type == Type::kF32 ? 1 : 4;
    const int64_t block_bytes = has_signs(arithmetic) ? 2 * unit : 64;  // of an element
    // Elements: a run's channels one after the other; pixels of bits begin with a word.
    const int64_t pixel = arithmetic == Arithmetic::kBinary ? round_up(channels, 64) : channels;
    const int64_t runs = w.kernel_h * (s.run ? 1 : w.kernel_w);
    const int64_t length = round_up(pixel * (s.run ? w.kernel_w : 1), unit) / unit;
    const int64_t blocks = round_up(filters, block) / block;
    memory.resize(s.groups * blocks * runs * length * block_bytes + 64);
    packed = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    start.resize(s.groups * round_up(filters, 32));
    for (int64_t f = 0; f < s.filters; ++f) {
      const int64_t g = f / filters, in_group = f % filters;
      for (int64_t ky = 0; ky < w.kernel_h; ++ky) {
        for (int64_t kx = 0; kx < w.kernel_w; ++kx) {
          for (int64_t c = 0; c < channels; ++c) {
            const int64_t position = (s.run ? kx * pixel : 0) + c, run = s.run ? ky : ky * w.kernel_w + kx;
            const int value = values[((f * w.kernel_h + ky) * w.kernel_w + kx) * channels + c];
            uint8_t* elements =
                packed +
                ((g * blocks + in_group / block) * runs * length + run * length + position / unit) * block_bytes;
            uint8_t* element = elements + in_group % block * (64 / block);
            if (type == Type::kU8) start[g * round_up(filters, 32) + in_group] -= zero_point * value;
            if (has_signs(arithmetic)) {
              const int64_t bit = in_group % block * unit + position % unit;
              elements[bit / 8] |= static_cast<uint8_t>((value > 0) << (bit % 8));
            } else if (arithmetic == Arithmetic::kBinary) {
              element[position % 64 / 8] |= static_cast<uint8_t>(value << (position % 8));
            } else if (arithmetic == Arithmetic::kFloat) {
              const float number = static_cast<float>(value) / 8;
              std::memcpy(element, &number, 4);
            } else {
              element[position % 4] = static_cast<uint8_t>(value);
            }
          }
        }
      }
    }
  }
};

void check_conv(Random& random, Arithmetic arithmetic, const ConvShape& s) {
  const Window& w = s.window;
  const Type type = type_of(arithmetic);
  Tensor in = make_input(random, type, s.channels, s.height, s.width, w, s.gap);
  if (type == Type::kF32) in.make_exact(random);
  const int zero_point = static_cast<int>(random.between(0, 255));
  const Weights weights(random, arithmetic, s, zero_point);
  const int32_t channels = s.channels / s.groups, filters = s.filters / s.groups;
  const float unit = arithmetic == Arithmetic::kFloat ? 8 : 1;
  const float all = static_cast<float>(channels * w.kernel_h * w.kernel_w), step = random.between(0, 1) ? 2 : 1;
  const bool counts = arithmetic == Arithmetic::kBinary && random.between(0, 1);
  const AnyEpilogue epilogue(random, s.height, s.width, s.filters,
                             counts ? int64_t{channels} * w.kernel_h * w.kernel_w : 0);
  int32_t first_filter = 0, last_filter = s.filters;
  if (s.groups == 1 && s.filters > 64 && random.between(0, 1)) {
    if (random.between(0, 1)) {
      first_filter = 64;
    } else {
      last_filter = 64;
    }
  }
  const auto slow = [&](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
    for (int32_t f = first_filter; f < last_filter; ++f) {
      int64_t sum = 0;
      float number = 0;
      for (int32_t ky = 0; ky < w.kernel_h; ++ky) {
        for (int32_t kx = 0; kx < w.kernel_w; ++kx) {
          const int32_t in_y = y * w.stride_y - w.pad_y + ky * w.dilate_y,
                        in_x = x * w.stride_x - w.pad_x + kx * w.dilate_x;
          const int* weight = weights.values.data() + ((f * w.kernel_h + ky) * w.kernel_w + kx) * channels;
          for (int32_t c = 0; c < channels; ++c) {
            const int32_t channel = f / filters * channels + c;
            switch (type) {
              case Type::kBit:
                sum += in.bit(in_y, in_x, channel) != weight[c];
                break;
              case Type::kF32:
                number += in.number(in_y, in_x, channel) * (static_cast<float>(weight[c]) / unit);
                break;
              case Type::kU8:
                sum += (in.byte(in_y, in_x, channel) - zero_point) * weight[c];
                break;
            }
          }
        }
      }
      if (counts) {
        epilogue.slow_count(static_cast<int32_t>(sum), y, x, f, outputs);
        continue;
      }
      if (type == Type::kBit) number = all - step * static_cast<float>(sum);
      if (type == Type::kU8) number = static_cast<float>(sum);
      epilogue.slow(number, y, x, f, outputs);
    }
  };
  const auto fast = [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
    const Conv conv{in.view(),
                    w,
                    s.height,
                    s.width,
                    s.groups,
                    s.filters,
                    s.run,
                    weights.packed,
                    type == Type::kU8 ? weights.start.data() : nullptr,
                    all,
                    step,
                    &e};
    run(k, arithmetic, conv, first, last, first_filter, last_filter);
  };
  compare(random, epilogue, s.height, s.width, 0, s.text(arithmetic), fast, slow);
}

Window square(int32_t kernel, int32_t stride, int32_t dilate, int32_t pad) {
  return {kernel, kernel, stride, stride, dilate, dilate, pad, pad};
}

}  // namespace

TEST(nhwc_convolutions_equal_their_definition_on_a_grid) {
  Random random(1);
  for (Arithmetic arithmetic : kAll) {
    for (int32_t channels : {1, 3, 8, 31, 64, 65, 130}) {
      for (int32_t filters : {1, 5, 8, 10, 32, 40, 64, 100}) {
        for (int32_t kernel : {1, 3}) {
          for (bool run : {true, false}) {
            const int32_t height = static_cast<int32_t>(random.between(1, 4)),
                          width = static_cast<int32_t>(random.between(1, 5));
            check_conv(random, arithmetic,
                       {channels, filters, height, width, square(kernel, 1, 1, kernel / 2), 1, run});
          }
        }
      }
    }
  }
}

TEST(nhwc_convolutions_equal_their_definition_on_random_shapes) {
  Random random(2);
  for (Arithmetic arithmetic : kAll) {
    for (int i = 0; i < 300; ++i) {
      ConvShape s{};
      s.groups = random.between(0, 2) == 0 ? static_cast<int32_t>(random.between(2, 4)) : 1;
      const int32_t word = arithmetic == Arithmetic::kBinary ? 64 : 1;
      s.channels = static_cast<int32_t>(s.groups > 1 ? s.groups * word * random.between(1, word > 1 ? 2 : 20)
                                                     : random.between(1, 150));
      s.filters = static_cast<int32_t>(s.groups > 1 ? s.groups * 8 * random.between(1, 6) : random.between(1, 140));
      s.height = static_cast<int32_t>(random.between(1, 5));
      s.width = static_cast<int32_t>(random.between(1, 9));
      s.window = any_window(random, 3);
      s.gap = random.between(0, 1) ? static_cast<int>(random.between(1, 3)) : 0;
      s.run = s.groups == 1 && s.gap == 0 && s.window.dilate_x == 1 && random.between(0, 3) > 0;
      check_conv(random, arithmetic, s);
    }
  }
}

TEST(nhwc_convolutions_deeper_than_a_chunk) {
  Random random(3);
  for (Arithmetic arithmetic : kAll) {
    check_conv(random, arithmetic, {512, 40, 2, 3, square(3, 1, 1, 1)});
    check_conv(random, arithmetic, {300, 16, 2, 3, square(3, 2, 1, 1), 1, false});
    check_conv(random, arithmetic, {2100, 70, 1, 1, square(1, 1, 1, 0)});
    check_conv(random, arithmetic, {3, 64, 6, 7, square(7, 2, 1, 3)});
  }
}

// More positions than tiles, steps than a ring of weights, rows than a band of expanded input.
TEST(nhwc_convolutions_larger_than_tiles) {
  Random random(6);
  for (Arithmetic arithmetic : {Arithmetic::kBinary, Arithmetic::kInt8, Arithmetic::kInt8Signs}) {
    for (int32_t filters : {8, 16, 24, 33, 72}) {
      check_conv(random, arithmetic, {64, filters, 5, 21, square(3, 1, 1, 1)});
      check_conv(random, arithmetic, {64, filters, 5, 21, square(3, 1, 1, 1), 1, false});
      check_conv(random, arithmetic, {130, filters, 7, 11, square(3, 1, 1, 1)});
      check_conv(random, arithmetic, {256, filters, 4, 9, square(3, 1, 1, 1)});
      check_conv(random, arithmetic, {64, filters, 9, 11, square(3, 2, 1, 1)});
      check_conv(random, arithmetic, {48, filters, 10, 7, square(3, 1, 2, 2), 1, false});
      check_conv(random, arithmetic, {3, filters, 9, 19, square(7, 2, 1, 3)});
      check_conv(random, arithmetic, {5, filters, 9, 19, square(3, 3, 1, 1)});
      check_conv(random, arithmetic, {96, filters, 6, 17, square(1, 1, 1, 0)});
      check_conv(random, arithmetic, {100, filters, 6, 17, square(1, 1, 1, 0), 1, true, 0});
    }
  }
  check_conv(random, Arithmetic::kBinary, {64, 8, 10, 700, square(1, 1, 1, 0)});
  check_conv(random, Arithmetic::kBinary, {128, 3, 7, 700, square(3, 1, 1, 1)});
  check_conv(random, Arithmetic::kBinary, {64, 3, 9, 350, square(3, 2, 1, 1)});
}

// No sign is 0: bytes behind the end of a run, which lie there where pixels have gaps, taps are dilated or the row
// ends, are no part of the sum.
TEST(nhwc_signs_of_bytes_multiply_nothing_behind_a_run) {
  Random random(5);
  for (int32_t channels : {1, 2, 3, 4, 5, 6, 7, 9}) {
    for (int32_t filters : {1, 16, 40, 100}) {
      for (int32_t width : {1, 2, 7, 13}) {
        const Arithmetic signs = Arithmetic::kInt8Signs;
        check_conv(random, signs, {channels, filters, 1, width, square(1, 1, 1, 0), 1, false, 3});
        check_conv(random, signs, {channels, filters, 2, width, square(3, 1, 2, 2), 1, false});
        check_conv(random, signs, {channels, filters, 2, width, square(3, 2, 1, 1)});
        check_conv(random, signs, {3 * channels, 3 * 8 * filters, 2, width, square(2, 1, 1, 0), 3, false});
      }
    }
  }
}

// Sums of the largest numbers there are, and many of them, fit all that they are made in.
TEST(nhwc_sums_are_exact_at_their_extremes) {
  Random random(4);
  const int32_t channels = 6400, filters = 48, width = 7;
  const auto check = [&](Arithmetic arithmetic, int in_byte, int weight_byte, int64_t expected) {
    const bool binary = arithmetic == Arithmetic::kBinary;
    Tensor in(random, binary ? Type::kBit : Type::kU8, 1, width, channels);
    for (int32_t x = 0; x < width; ++x) {
      for (int32_t i = 0; i < (binary ? channels / 8 : channels); ++i) in.set_byte(0, x, i, in_byte);
    }
    std::vector<uint8_t> memory(channels * filters + 64, static_cast<uint8_t>(weight_byte));
    const std::vector<int32_t> start(64, 1);
    const Tensor out(random, Type::kF32, 1, width, filters);
    Epilogue e;
    e.f32 = out.view();
    Conv c{in.view(), square(1, 1, 1, 0), 1, width, 1, filters, true, memory.data(), start.data(), 0, -1, &e};
    c.weights += (64 - reinterpret_cast<uintptr_t>(c.weights) % 64) % 64;
    for_each_kernels([&](const Kernels& k) {
      run(k, arithmetic, c, 0, width, 0, filters);
      for (int32_t x = 0; x < width; ++x) {
        for (int32_t f = 0; f < filters; ++f) {
          CHECK(out.number(0, x, f) == static_cast<float>(expected), k.name);
        }
      }
    });
  };
  check(Arithmetic::kBinary, 0xff, 0, channels);
  check(Arithmetic::kBinary, 0xff, 0xff, 0);
  check(Arithmetic::kInt8, 255, 0x80, 1 - int64_t{channels} * 255 * 128);
  check(Arithmetic::kInt8, 255, 0x7f, 1 + int64_t{channels} * 255 * 127);
  check(Arithmetic::kInt8Signs, 255, 0, 1 - int64_t{channels} * 255);
  check(Arithmetic::kInt8Signs, 255, 0xff, 1 + int64_t{channels} * 255);
}
