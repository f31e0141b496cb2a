// The engine's kernels of every instruction set of this machine against definitions written with loops over single
// numbers (docs/format.md): all but convolutions. A definition writes into a copy of the memory that the kernel writes
// into, and the whole memory is compared: what a kernel must not touch is checked with what it must write. Sums of
// products are made of numbers for which they are exact, so that all comparisons are of equality, except of the
// transcendental functions.
#include <algorithm>

#include "nhwc_epilogue.h"

namespace {

using namespace nhwc_test;

// Calls f(y, x) for the window's pixels inside of the image.
template <class F>
void for_each_inside(const View& in, const Window& w, int32_t y, int32_t x, F f) {
  for (int32_t ky = 0; ky < w.kernel_h; ++ky) {
    for (int32_t kx = 0; kx < w.kernel_w; ++kx) {
      const int32_t in_y = y * w.stride_y - w.pad_y + ky * w.dilate_y,
                    in_x = x * w.stride_x - w.pad_x + kx * w.dilate_x;
      if (in_y >= 0 && in_y < in.height && in_x >= 0 && in_x < in.width) f(in_y, in_x);
    }
  }
}

}  // namespace

TEST(nhwc_depthwise_equals_its_definition) {
  Random random(5);
  for (int i = 0; i < 200; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, 100)),
                  height = static_cast<int32_t>(random.between(1, 6)),
                  width = static_cast<int32_t>(random.between(1, 9));
    const Window w = any_window(random, 4);
    Tensor in = make_input(random, Type::kF32, channels, height, width, w, static_cast<int>(random.between(0, 2)));
    in.make_exact(random);
    const int64_t padded = round_up(channels, 32);
    std::vector<float> weights(w.kernel_h * w.kernel_w * padded);
    for (size_t j = 0; j < weights.size(); ++j) {
      weights[j] = static_cast<int64_t>(j) % padded < channels ? static_cast<float>(random.between(-16, 16)) / 8 : 0;
    }
    const AnyEpilogue epilogue(random, height, width, channels);
    compare(
        random, epilogue, height, width, 0, "depthwise",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          Conv c{in.view(), w, height, width, channels, channels, false, nullptr, nullptr, 0, 0, &e};
          c.weights = reinterpret_cast<const uint8_t*>(weights.data());
          k.depthwise(c, first, last);
        },
        [&](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
          for (int32_t c = 0; c < channels; ++c) {
            float sum = 0;
            for (int32_t ky = 0; ky < w.kernel_h; ++ky) {
              for (int32_t kx = 0; kx < w.kernel_w; ++kx) {
                sum += in.number(y * w.stride_y - w.pad_y + ky * w.dilate_y, x * w.stride_x - w.pad_x + kx * w.dilate_x,
                                 c) *
                       weights[(ky * w.kernel_w + kx) * padded + c];
              }
            }
            epilogue.slow(sum, y, x, c, outputs);
          }
        });
  }
}

TEST(nhwc_pooling_equals_its_definition) {
  Random random(6);
  for (int i = 0; i < 300; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, 100)),
                  height = static_cast<int32_t>(random.between(1, 5)),
                  width = static_cast<int32_t>(random.between(1, 9));
    const Window w = any_window(random, 5);
    const Tensor in(random, Type::kF32, static_cast<int32_t>(random.between(1, 9)),
                    static_cast<int32_t>(random.between(1, i % 4 == 0 ? 9 : 24)), channels, {0, 0, 0, 0}, i % 2);
    const int mode = i % 3;
    const AnyEpilogue epilogue(random, height, width, channels);
    compare(
        random, epilogue, height, width, 0, "pool mode " + std::to_string(mode),
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.pool({in.view(), w, height, width, mode, &e}, first, last);
        },
        [&](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
          const View v = in.view();
          for (int32_t c = 0; c < channels; ++c) {
            float largest = -kInfinity, sum = 0;
            int count = 0;
            for_each_inside(v, w, y, x, [&](int32_t in_y, int32_t in_x) {
              const float number = in.number(in_y, in_x, c);
              largest = number > largest ? number : largest;
              sum += number;
              ++count;
            });
            const int32_t y0 = y * w.stride_y - w.pad_y, x0 = x * w.stride_x - w.pad_x;
            const int32_t padded = (std::min(y0 + w.kernel_h, v.height + w.pad_y) - y0) *
                                   (std::min(x0 + w.kernel_w, v.width + w.pad_x) - x0);
            const float average = count == 0 ? 0 : sum / static_cast<float>(mode == 1 ? count : padded);
            epilogue.slow(mode == 0 ? largest : average, y, x, c, outputs);
          }
        });
  }
}

TEST(nhwc_pooling_of_bits_equals_its_definition) {
  Random random(7);
  for (int i = 0; i < 200; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, 200)),
                  height = static_cast<int32_t>(random.between(1, 5)),
                  width = static_cast<int32_t>(random.between(1, 6));
    const Window w = any_window(random, 4);
    Tensor in(random, Type::kBit, static_cast<int32_t>(random.between(1, 9)),
              static_cast<int32_t>(random.between(1, 9)), channels, {0, 0, 0, 0}, i % 2);
    in.as_input();
    const Tensor out(random, Type::kBit, height, width, channels, {0, 0, 0, 0}, i % 3);
    std::vector<uint64_t> flips((channels + 63) / 64);
    for (int32_t c = 0; c < channels; ++c) flips[c / 64] |= static_cast<uint64_t>(random.between(0, 1)) << (c % 64);
    const bool flipped = i % 4 != 0;
    const int64_t first = random.between(0, height * width - 1), last = random.between(first, height * width);
    Tensor expected = out.copy();
    for (int64_t p = first; p < last; ++p) {
      const auto y = static_cast<int32_t>(p / width), x = static_cast<int32_t>(p % width);
      for (int32_t c = 0; c < channels; ++c) {
        bool any = false;
        for_each_inside(in.view(), w, y, x, [&](int32_t in_y, int32_t in_x) { any |= in.bit(in_y, in_x, c); });
        expected.set_bit(y, x, c, any != (flipped && ((flips[c / 64] >> (c % 64)) & 1)));
      }
    }
    for_each_kernels([&](const Kernels& k) {
      const Tensor result = out.copy();
      k.pool_bits(in.view(), w, result.view(), flipped ? flips.data() : nullptr, first, last);
      result.check_equal(expected, 0, k.name);
    });
  }
}

TEST(nhwc_maps_equal_their_definition) {
  Random random(8);
  for (int i = 0; i < 300; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, i % 2 == 0 ? 9 : 150)),
                  height = static_cast<int32_t>(random.between(1, 5)),
                  width = static_cast<int32_t>(random.between(1, i % 4 < 2 ? 9 : 60));
    const AnyEpilogue epilogue(random, height, width, channels);
    const Tensor floats(random, Type::kF32, height, width, channels, {0, 0, 0, 0}, i % 3 == 0),
        bytes(random, Type::kU8, height, width, channels, {0, 0, 0, 0}, i % 3 == 0);
    const std::vector<float> planes = random.values(int64_t{channels} * height * width);
    const float scale = static_cast<float>(random.between(1, 30)) / 7;
    const auto zero_point = static_cast<int32_t>(random.between(0, 255));
    const auto each = [&](auto value) {
      return [&epilogue, channels, value](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
        for (int32_t c = 0; c < channels; ++c) epilogue.slow(value(y, x, c), y, x, c, outputs);
      };
    };
    compare(
        random, epilogue, height, width, 0, "map of floats",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.map_f32(floats.view(), e, first, last);
        },
        each([&](int32_t y, int32_t x, int32_t c) { return floats.number(y, x, c); }));
    compare(
        random, epilogue, height, width, 0, "map of bytes",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.map_u8(bytes.view(), scale, zero_point, e, first, last);
        },
        each([&](int32_t y, int32_t x, int32_t c) {
          return scale * static_cast<float>(bytes.byte(y, x, c) - zero_point);
        }));
    compare(
        random, epilogue, height, width, 0, "load",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.load(planes.data(), height, width, channels, e, first, last);
        },
        each([&](int32_t y, int32_t x, int32_t c) { return planes[(c * height + y) * width + x]; }));
  }
}

TEST(nhwc_functions_are_those_of_the_format) {
  Random random(9);
  const int32_t channels = 40, width = 25;
  for (const FunctionDefinition& definition : kFunctionDefinitions) {
    const Function function = definition.function;
    for (float range : {1e-3f, 1.0f, 20.0f, 200.0f, 1e30f}) {
      Tensor in(random, Type::kF32, 1, width, channels);
      for (int32_t x = 0; x < width; ++x) {
        for (int32_t c = 0; c < channels; ++c) in.set_number(0, x, c, random.value() * range);
      }
      EpilogueOp op;
      op.operation = Operation::kFunction;
      op.function = function;
      for_each_kernels([&](const Kernels& k) {
        const Tensor out(random, Type::kF32, 1, width, channels);
        Epilogue e;
        e.ops = &op;
        e.num_ops = 1;
        e.f32 = out.view();
        k.map_f32(in.view(), e, 0, width);
        for (int32_t x = 0; x < width; ++x) {
          for (int32_t c = 0; c < channels; ++c) {
            const float number = in.number(0, x, c), got = out.number(0, x, c);
            const auto expected = static_cast<float>(definition.of(number));
            // A few units in the last place; of the larger term where the definition subtracts.
            const bool subtracts =
                function == Function::kGelu || function == Function::kElu || function == Function::kSelu;
            const float magnitude =
                subtracts ? std::max(std::fabs(expected), std::min(std::fabs(number), 1.0f)) : std::fabs(expected);
            const float tolerance = definition.rounds_differently ? 4e-7f * magnitude + 2e-38f : 0;
            CHECK(got == expected || (got != got && expected != expected) || std::fabs(got - expected) <= tolerance,
                  std::string(k.name) + " function " + std::to_string(static_cast<int>(function)) + " of " +
                      std::to_string(number) + ": " + std::to_string(got) + " for " + std::to_string(expected));
            CHECK(definition.rounds_differently || got != got || std::signbit(got) == std::signbit(expected), k.name);
          }
        }
      });
    }
  }
}

// Few channels are loaded kLanes pixels at a time where rows are long enough and outputs have no gaps.
TEST(nhwc_load_of_few_channels_equals_its_definition) {
  Random random(10);
  const Operation operations[] = {Operation::kAffine, Operation::kNorm, Operation::kPRelu, Operation::kClip};
  for (int i = 0; i < 200; ++i) {
    const auto channels = static_cast<int32_t>(random.between(1, 4)),
               height = static_cast<int32_t>(random.between(1, 4)), width = static_cast<int32_t>(random.between(1, 70));
    const std::vector<float> planes = random.values(int64_t{channels} * height * width);
    const AnyEpilogue epilogue(random, height, width, channels, operations, static_cast<int>(random.between(0, 4)));
    compare(
        random, epilogue, height, width, 0, "load of few channels",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.load(planes.data(), height, width, channels, e, first, last);
        },
        [&](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
          for (int32_t c = 0; c < channels; ++c) {
            epilogue.slow(planes[(c * height + y) * width + x], y, x, c, outputs);
          }
        });
  }
}

TEST(nhwc_functions_are_the_same_for_every_instruction_set) {
  Random random(11);
  const int32_t channels = 50, width = 20;
  for (int code = 1; code <= static_cast<int>(kLastFunction); ++code) {
    Tensor in(random, Type::kF32, 1, width, channels);
    for (int32_t x = 0; x < width; ++x) {
      for (int32_t c = 0; c < channels; ++c) {
        in.set_number(0, x, c, random.value() * std::exp2(static_cast<float>(random.between(-20, 20))));
      }
    }
    const Tensor empty(random, Type::kF32, 1, width, channels);
    const auto run = [&](const Kernels& k) {
      EpilogueOp op{};
      op.operation = Operation::kFunction;
      op.function = static_cast<Function>(code);
      const Tensor out = empty.copy();
      Epilogue e;
      e.ops = &op;
      e.num_ops = 1;
      e.f32 = out.view();
      k.map_f32(in.view(), e, 0, width);
      return out;
    };
    const Tensor expected = run(*find_kernels("portable"));
    for_each_kernels(
        [&](const Kernels& k) { run(k).check_equal(expected, 0, k.name + (" function " + std::to_string(code))); });
  }
}

TEST(nhwc_kernels_are_found_by_name) {
  CHECK(find_kernels("portable") != nullptr, "");
  CHECK(find_kernels("sparc") == nullptr, "");
  for_each_kernels([](const Kernels& k) { CHECK(find_kernels(k.name) == &k || &k == &kTileModelKernels, k.name); });
  const char* wanted = std::getenv("BMX_ISA");
  if (wanted != nullptr && *wanted != '\0') CHECK(std::strcmp(kernels().name, wanted) == 0, wanted);
}
