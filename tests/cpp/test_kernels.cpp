// The binary kernels of every instruction set of this machine against one definition, written with loops over
// +-1 numbers. All comparisons are of equality.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <thread>

#include "kernels/instruction_sets.h"
#include "kernels/training/binary_conv.h"
#include "kernels/training/interchange.h"
#include "test.h"

namespace {

using bmx::ConvShape;
using bmx::Kernels;

int sign(float x) { return x < 0 ? -1 : 1; }

std::string describe(const Kernels& k, const ConvShape& s) {
  std::string text = std::string(k.name) + " batch " + std::to_string(s.batch) + " channels " +
                     std::to_string(s.channels) + " filters " + std::to_string(s.filters) + " groups " +
                     std::to_string(s.groups);
  for (int i = 0; i < 3; ++i) {
    text += " | in " + std::to_string(s.in[i]) + " kernel " + std::to_string(s.kernel[i]) + " stride " +
            std::to_string(s.stride[i]) + " dilate " + std::to_string(s.dilate[i]) + " pad " + std::to_string(s.pad[i]);
  }
  return text;
}

// The dot products of the +-1 convolution, (batch, filters, out pixels).
std::vector<int> slow_conv(const ConvShape& s, const std::vector<float>& data, const std::vector<float>& weight,
                           bool pad_bit) {
  std::vector<int> out;
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t f = 0; f < s.filters; ++f) {
      for (int64_t od = 0; od < s.out(0); ++od) {
        for (int64_t oh = 0; oh < s.out(1); ++oh) {
          for (int64_t ow = 0; ow < s.out(2); ++ow) {
            int dot = 0;
            const float* w = weight.data() + f * s.inputs();
            for (int64_t c = 0; c < s.group_channels(); ++c) {
              const int64_t channel = f / s.group_filters() * s.group_channels() + c;
              for (int64_t kd = 0; kd < s.kernel[0]; ++kd) {
                for (int64_t kh = 0; kh < s.kernel[1]; ++kh) {
                  for (int64_t kw = 0; kw < s.kernel[2]; ++kw) {
                    const int64_t d = od * s.stride[0] - s.pad[0] + kd * s.dilate[0];
                    const int64_t h = oh * s.stride[1] - s.pad[1] + kh * s.dilate[1];
                    const int64_t x = ow * s.stride[2] - s.pad[2] + kw * s.dilate[2];
                    const bool inside = d >= 0 && d < s.in[0] && h >= 0 && h < s.in[1] && x >= 0 && x < s.in[2];
                    const int value =
                        inside ? sign(data[(((n * s.channels + channel) * s.in[0] + d) * s.in[1] + h) * s.in[2] + x])
                               : (pad_bit ? 1 : -1);
                    dot += value * sign(*w++);
                  }
                }
              }
            }
            out.push_back(dot);
          }
        }
      }
    }
  }
  return out;
}

std::vector<float> fast_conv(const Kernels& k, const ConvShape& s, const std::vector<float>& data,
                             const std::vector<float>& weight, bool pad_bit, int threads) {
  // Exactly as large as promised, so that AddressSanitizer sees a step too far; kernels need no alignment of these.
  std::vector<uint64_t> input(bmx::packed_input_words(s)), weights(bmx::packed_weight_words(s));
  bmx::pack_conv_input(k, s, data.data(), pad_bit, input.data(), threads);
  bmx::pack_conv_weight(k, s, weight.data(), weights.data(), threads);
  std::vector<float> out(s.batch * s.filters * s.out_pixels(), -12345.0f);
  bmx::binary_conv(k, s, input.data(), weights.data(), {static_cast<float>(s.inputs()), 2, nullptr, nullptr, true},
                   out.data(), threads);
  return out;
}

template <class F>
void for_each_kernels(F f) {
  for (const char* const* name = bmx::available_instruction_sets(); *name != nullptr; ++name)
    f(*bmx::find_kernels(*name));
}

void check_conv(const ConvShape& s, uint64_t seed) {
  test::Random random(seed);
  const std::vector<float> data = random.values(s.batch * s.channels * s.in_pixels());
  const std::vector<float> weight = random.values(s.filters * s.inputs());
  const bool pad_bit = seed % 2 == 0;
  const std::vector<int> expected = slow_conv(s, data, weight, pad_bit);
  for_each_kernels([&](const Kernels& k) {
    for (int threads : {1, 3}) {
      const std::vector<float> out = fast_conv(k, s, data, weight, pad_bit, threads);
      CHECK(out.size() == expected.size(), describe(k, s));
      for (size_t i = 0; i < out.size(); ++i) {
        CHECK(out[i] == static_cast<float>(expected[i]), describe(k, s) + " at " + std::to_string(i) + ": " +
                                                             std::to_string(out[i]) + " for " +
                                                             std::to_string(expected[i]));
      }
    }
  });
}

ConvShape shape_2d(int64_t batch, int64_t channels, int64_t filters, int64_t size, int64_t kernel, int64_t stride,
                   int64_t dilate, int64_t pad, int64_t groups = 1) {
  ConvShape s;
  s.batch = batch;
  s.channels = channels;
  s.filters = filters;
  s.groups = groups;
  s.in = {1, size, size};
  s.kernel = {1, kernel, kernel};
  s.stride = {1, stride, stride};
  s.dilate = {1, dilate, dilate};
  s.pad = {0, pad, pad};
  return s;
}

}  // namespace

TEST(convolution_equals_its_definition_on_a_grid) {
  uint64_t seed = 0;
  for (int64_t channels : {1, 3, 31, 32, 33, 63, 64, 65, 128, 130}) {
    for (int64_t filters : {1, 2, 3, 4, 5, 6, 11}) {
      for (int64_t size : {1, 2, 5, 8, 9}) {
        for (int64_t kernel : {1, 2, 3}) {
          const int64_t pad = kernel / 2;
          if (size + 2 * pad < kernel) continue;
          check_conv(shape_2d(1, channels, filters, size, kernel, 1, 1, pad), seed++);
        }
      }
    }
  }
}

TEST(convolution_equals_its_definition_on_random_shapes) {
  test::Random random(7);
  for (int i = 0; i < 400; ++i) {
    ConvShape s;
    s.batch = random.between(0, 3);
    s.groups = random.between(1, 3);
    s.channels = s.groups * random.between(1, 70);
    s.filters = s.groups * random.between(1, 9);
    for (int axis = 0; axis < 3; ++axis) {
      s.kernel[axis] = random.between(1, axis == 0 ? 2 : 4);
      s.stride[axis] = random.between(1, 3);
      s.dilate[axis] = random.between(1, 2);
      s.pad[axis] = random.between(0, 2);
      const int64_t least = s.dilate[axis] * (s.kernel[axis] - 1) + 1 - 2 * s.pad[axis];
      s.in[axis] = std::max<int64_t>(1, least) + random.between(0, axis == 0 ? 2 : 11);
    }
    check_conv(s, random.bits());
  }
}

TEST(convolution_wider_than_a_panel_and_deeper_than_a_chunk) {
  check_conv(shape_2d(2, 256, 7, 14, 3, 1, 1, 1), 1);     // depth 36: more than the 31 steps of AVX2's bytes
  check_conv(shape_2d(1, 64, 3, 56, 3, 1, 1, 1), 2);      // whole panels
  check_conv(shape_2d(1, 512, 6, 7, 3, 2, 1, 1), 3);      // stride 2, depth 72
  check_conv(shape_2d(1, 64, 5, 4, 3, 9, 1, 1), 4);       // stride past the image
  check_conv(shape_2d(1, 96, 96, 6, 3, 1, 1, 1, 96), 5);  // depthwise
}

TEST(matmul_equals_its_definition) {
  test::Random random(3);
  for (int i = 0; i < 300; ++i) {
    const size_t rows = random.between(0, 14), columns = random.between(1, 70), inputs = random.between(1, 400);
    const size_t depth = (inputs + 63) / 64;
    const std::vector<float> a = random.values(rows * inputs), b = random.values(columns * inputs);
    const bool along_rows = i % 2 == 0;
    // Biases and scales that are no round numbers: every instruction set must round where the definition does.
    std::vector<float> bias, scale;
    for (size_t j = 0; j < (along_rows ? rows : columns); ++j) {
      bias.push_back(i % 3 == 0 ? 0.0f : static_cast<float>(random.between(-1000, 1000)) / 7);
      scale.push_back(static_cast<float>(random.between(1, 1000)) / 3000);
    }
    const bool plain = i % 5 == 0;
    const float all = static_cast<float>(inputs), step = i % 4 < 2 ? 2 : 1;
    for_each_kernels([&](const Kernels& k) {
      std::vector<uint64_t> a_bits(rows * depth), b_bits(columns * depth);
      bmx::pack_rows(k, a.data(), rows, inputs, a_bits.data(), 2);
      bmx::pack_rows(k, b.data(), columns, inputs, b_bits.data(), 1);
      std::vector<float> out(rows * columns);
      bmx::binary_matmul(k, a_bits.data(), b_bits.data(), rows, columns, depth,
                         {all, step, plain ? nullptr : bias.data(), plain ? nullptr : scale.data(), along_rows},
                         out.data(), 1 + i % 3);
      for (size_t r = 0; r < rows; ++r) {
        for (size_t c = 0; c < columns; ++c) {
          int different = 0;
          for (size_t x = 0; x < inputs; ++x) different += sign(a[r * inputs + x]) != sign(b[c * inputs + x]);
          const size_t j = along_rows ? r : c;
          const float exact = all - step * static_cast<float>(different);
          const float expected = plain ? exact : (exact + bias[j]) * scale[j];
          CHECK(out[r * columns + c] == expected, std::string(k.name) + " rows " + std::to_string(rows) + " columns " +
                                                      std::to_string(columns) + " inputs " + std::to_string(inputs));
        }
      }
    });
  }
}

TEST(packing_sets_a_bit_unless_the_value_is_negative) {
  test::Random random(5);
  for (int i = 0; i < 200; ++i) {
    const size_t pixels = random.between(1, 70), stride = pixels + random.between(0, 9);
    const int channels = static_cast<int>(random.between(1, 64));
    const std::vector<float> data = random.values((channels - 1) * stride + pixels);
    for_each_kernels([&](const Kernels& k) {
      std::vector<uint64_t> words(pixels, ~uint64_t{0}), row((data.size() + 63) / 64, ~uint64_t{0});
      k.pack_channels(data.data(), stride, channels, pixels, words.data());
      for (size_t p = 0; p < pixels; ++p) {
        for (int c = 0; c < 64; ++c) {
          const bool expected = c < channels && sign(data[c * stride + p]) > 0;
          CHECK(((words[p] >> c) & 1) == expected, std::string(k.name) + " channel " + std::to_string(c));
        }
      }
      k.pack_row(data.data(), data.size(), row.data());
      for (size_t x = 0; x < 64 * row.size(); ++x) {
        const bool expected = x < data.size() && sign(data[x]) > 0;
        CHECK(((row[x / 64] >> (x % 64)) & 1) == expected, std::string(k.name) + " position " + std::to_string(x));
      }
    });
  }
}

TEST(packing_tells_whether_every_value_is_exactly_minus_or_plus_one) {
  const float others[] = {0.0f,
                          -0.0f,
                          0.5f,
                          2.0f,
                          std::nextafter(1.0f, 2.0f),
                          std::nextafter(-1.0f, 0.0f),
                          1e-45f,
                          std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()};
  test::Random random(7);
  for (int i = 0; i < 200; ++i) {
    const size_t pixels = random.between(1, 70), stride = pixels + random.between(0, 9);
    const int channels = static_cast<int>(random.between(1, 64));
    std::vector<float> data((channels - 1) * stride + pixels, 0.5f);  // between the channels, where nothing is read
    for (int c = 0; c < channels; ++c) {
      for (size_t p = 0; p < pixels; ++p) data[c * stride + p] = random.between(0, 1) == 0 ? -1.0f : 1.0f;
    }
    const size_t place = random.between(0, channels - 1) * stride + random.between(0, pixels - 1);
    std::vector<float> broken = data, row(random.between(1, 300), -1.0f), broken_row = row;
    broken[place] = broken_row[random.between(0, row.size() - 1)] = others[i % std::size(others)];
    for_each_kernels([&](const Kernels& k) {
      std::vector<uint64_t> words(std::max(pixels, row.size() / 64 + 1));
      CHECK(k.pack_channels(data.data(), stride, channels, pixels, words.data()), k.name);
      CHECK(!k.pack_channels(broken.data(), stride, channels, pixels, words.data()), k.name);
      CHECK(k.pack_row(row.data(), row.size(), words.data()), k.name);
      CHECK(!k.pack_row(broken_row.data(), row.size(), words.data()), k.name);
    });
  }
}

TEST(packing_an_image_finds_one_value_that_is_no_sign_on_any_thread) {
  const ConvShape shapes[] = {shape_2d(3, 130, 8, 9, 3, 1, 1, 1), shape_2d(40, 70, 8, 1, 1, 1, 1, 0)};
  test::Random random(9);
  for (const ConvShape& s : shapes) {
    std::vector<float> data(s.batch * s.channels * s.in_pixels(), -1.0f);
    std::vector<uint64_t> words(bmx::packed_input_words(s));
    for (int threads : {1, 3}) {
      for (int i = 0; i < 30; ++i) {
        const size_t place = random.between(0, data.size() - 1);
        for_each_kernels([&](const Kernels& k) {
          for (auto others : {bmx::OtherValues::kTakeSign, bmx::OtherValues::kGiveUp}) {
            CHECK(bmx::pack_conv_input(k, s, data.data(), true, words.data(), threads, others), describe(k, s));
            data[place] = 0.25f;
            CHECK(!bmx::pack_conv_input(k, s, data.data(), true, words.data(), threads, others), describe(k, s));
            data[place] = -1.0f;
          }
        });
      }
    }
  }
}

TEST(interchange_words_give_the_weights_they_were_made_of) {
  test::Random random(11);
  for (int i = 0; i < 200; ++i) {
    const ConvShape s =
        shape_2d(1, i % 3 == 0 ? 64 : random.between(1, 140), random.between(1, 5), 8, random.between(1, 3), 1, 1, 0);
    const std::vector<float> weight = random.values(s.filters * s.inputs());
    std::vector<uint64_t> expected(bmx::packed_weight_words(s)), unpacked(expected.size());
    bmx::pack_conv_weight(*bmx::find_kernels("portable"), s, weight.data(), expected.data(), 1);
    for (int word_bits : {32, 64}) {
      // Bits of each filter from a new word on.
      const size_t filter_words = (s.inputs() + word_bits - 1) / word_bits;
      std::vector<uint8_t> bytes(bmx::interchange_conv_words(s, word_bits) * word_bits / 8);
      for (int64_t f = 0; f < s.filters; ++f) {
        for (int64_t x = 0; x < s.inputs(); ++x) {
          const size_t bit = f * filter_words * word_bits + x;
          if (sign(weight[f * s.inputs() + x]) > 0) bytes[bit / 8] |= 1 << (bit % 8);
        }
      }
      bmx::unpack_conv_weight(s, bytes.data(), word_bits, unpacked.data());
      CHECK(unpacked == expected, std::to_string(word_bits) + " bits, " + std::to_string(s.channels) + " channels");
    }
  }
  for (int i = 0; i < 100; ++i) {
    const size_t units = random.between(1, 9), inputs = random.between(1, 200);
    const std::vector<float> weight = random.values(units * inputs);
    const size_t depth = (inputs + 63) / 64;
    std::vector<uint64_t> expected(units * depth), unpacked(units * depth);
    bmx::pack_rows(*bmx::find_kernels("portable"), weight.data(), units, inputs, expected.data(), 1);
    for (size_t word_bits : {32, 64}) {
      std::vector<uint8_t> bytes(
          bmx::interchange_dense_words(units, inputs, static_cast<int>(word_bits)) * word_bits / 8,
          0xff);  // unused bits of the last words must be ignored
      for (size_t u = 0; u < units; ++u) {
        for (size_t x = 0; x < inputs; ++x) {
          const size_t bit = (x / word_bits * units + u) * word_bits + x % word_bits;
          if (sign(weight[u * inputs + x]) < 0) bytes[bit / 8] &= static_cast<uint8_t>(~(1 << (bit % 8)));
        }
      }
      bmx::unpack_dense_weight(units, inputs, bytes.data(), static_cast<int>(word_bits), unpacked.data());
      CHECK(unpacked == expected, std::to_string(word_bits) + " bits, " + std::to_string(inputs) + " inputs");
    }
  }
}

TEST(many_threads_at_once_get_the_same_result) {
  const ConvShape s = shape_2d(2, 70, 9, 12, 3, 1, 1, 1);
  test::Random random(13);
  const std::vector<float> data = random.values(s.batch * s.channels * s.in_pixels());
  const std::vector<float> weight = random.values(s.filters * s.inputs());
  const std::vector<float> expected = fast_conv(bmx::kernels(), s, data, weight, true, 1);
  std::vector<std::vector<float>> results(8);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) result = fast_conv(bmx::kernels(), s, data, weight, true, 1 + i % 2);
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& result : results) CHECK(result == expected, "a thread got another result");
}

TEST(kernels_are_found_by_name) {
  CHECK(bmx::find_kernels("portable") != nullptr, "");
  CHECK(bmx::find_kernels("sparc") == nullptr, "");
  const char* wanted = std::getenv("BMX_ISA");
  const char* chosen = bmx::name_of(bmx::chosen_instruction_set());
  CHECK(std::strcmp(chosen, wanted != nullptr && *wanted != '\0' ? wanted : *bmx::available_instruction_sets()) == 0,
        chosen);
  CHECK(&bmx::kernels() == bmx::find_kernels(chosen), chosen);
}
