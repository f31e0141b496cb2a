// What training adds to the kernels: signs in blocks of 16 channels, and batch normalization.
#include <cmath>

#include "kernels/instruction_sets.h"
#include "kernels/training/batch_norm.h"
#include "kernels/training/channelwise.h"
#include "test.h"

namespace {

template <class F>
void for_each_kernels(F f) {
  for (const char* const* name = bmx::available_instruction_sets(); *name != nullptr; ++name)
    f(*bmx::find_kernels(*name));
}

void check_near(float got, double expected, double scale, const std::string& what) {
  CHECK(std::fabs(got - expected) <= 1e-4 * (scale + std::fabs(expected)), what);
}

}  // namespace

TEST(expanded_signs_are_those_of_the_bits_and_zero_beyond_the_channels) {
  test::Random random(23);
  for (int i = 0; i < 100; ++i) {
    const size_t pixels = random.between(1, 20);
    const int channels = static_cast<int>(random.between(1, 64)), blocks = (channels + 15) / 16;
    const size_t pixel_stride = i % 2 == 0 ? 16 : 64, block_stride = i % 2 == 0 ? pixels * 16 : 16;
    std::vector<uint64_t> words(pixels);
    for (uint64_t& word : words) word = random.bits();
    for_each_kernels([&](const bmx::Kernels& k) {
      const size_t size = (blocks - 1) * block_stride + (pixels - 1) * pixel_stride + 16;
      std::vector<float> out(size, 7.0f);
      std::vector<uint16_t> out_bf16(size, 7);
      k.expand_signs(words.data(), pixels, channels, block_stride, pixel_stride, out.data());
      k.expand_signs_bf16(words.data(), pixels, channels, block_stride, pixel_stride, out_bf16.data());
      for (size_t p = 0; p < pixels; ++p) {
        for (int c = 0; c < blocks * 16; ++c) {
          const size_t at = c / 16 * block_stride + p * pixel_stride + c % 16;
          const float expected = c >= channels ? 0.0f : ((words[p] >> c) & 1 ? 1.0f : -1.0f);
          CHECK(out[at] == expected, std::string(k.name) + " channel " + std::to_string(c));
          const uint32_t bits = static_cast<uint32_t>(out_bf16[at]) << 16;
          float value;
          __builtin_memcpy(&value, &bits, sizeof(value));
          CHECK(value == expected, std::string(k.name) + " bfloat16 channel " + std::to_string(c));
        }
      }
    });
  }
}

TEST(batch_norm_and_its_gradients_equal_their_definition) {
  test::Random random(29);
  for (int i = 0; i < 60; ++i) {
    const bmx::Planes s{random.between(1, 4), i % 6 == 0 ? random.between(250, 600) : random.between(1, 5),
                        random.between(1, i % 6 == 0 ? 9 : 40)};
    const int64_t count = s.batch * s.pixels, size = count * s.channels;
    const double mean_of_all = i % 3 == 0 ? 50 : 0;  // far from zero: the variance must not drown
    auto tame = [&](int64_t n, double offset) {
      std::vector<float> v(n);
      for (float& x : v) x = static_cast<float>(offset + static_cast<double>(random.between(-1000, 1000)) / 1000);
      return v;
    };
    const std::vector<float> x = tame(size, mean_of_all), g = tame(size, 0), gamma = tame(s.channels, 0),
                             beta = tame(s.channels, 0);
    const bool fixed = i % 4 == 1;
    std::vector<float> fixed_mean = tame(s.channels, 0), fixed_variance = tame(s.channels, 2);
    const float eps = 1e-3f;
    auto channel_of = [&](int64_t at) { return at / s.pixels % s.channels; };
    std::vector<double> mean(s.channels), variance(s.channels), sum_g(s.channels), sum_gx(s.channels);
    for (int64_t at = 0; at < size; ++at) mean[channel_of(at)] += static_cast<double>(x[at]) / count;
    for (int64_t at = 0; at < size; ++at) {
      variance[channel_of(at)] += (x[at] - mean[channel_of(at)]) * (x[at] - mean[channel_of(at)]) / count;
    }
    if (fixed) {
      mean.assign(fixed_mean.begin(), fixed_mean.end());
      variance.assign(fixed_variance.begin(), fixed_variance.end());
    }
    auto normalized = [&](int64_t at) {
      return (x[at] - mean[channel_of(at)]) / std::sqrt(variance[channel_of(at)] + eps);
    };
    for (int64_t at = 0; at < size; ++at) {
      sum_g[channel_of(at)] += g[at];
      sum_gx[channel_of(at)] += g[at] * normalized(at);
    }
    for_each_kernels([&](const bmx::Kernels& k) {
      const std::string what = k.name;
      const bmx::BatchNormParameters p{gamma.data(), beta.data(), eps};
      std::vector<float> out(size), dx(size), dgamma(s.channels), dbeta(s.channels), m(s.channels), v(s.channels);
      if (fixed) {
        bmx::batch_norm_fixed(k, s, p, x.data(), fixed_mean.data(), fixed_variance.data(), out.data(), 2);
      } else {
        bmx::batch_norm(k, s, p, x.data(), out.data(), m.data(), v.data(), 2);
        for (int64_t c = 0; c < s.channels; ++c) {
          check_near(m[c], mean[c], 1, what + " mean");
          check_near(v[c], variance[c], 1, what + " variance");
        }
      }
      bmx::batch_norm_backward(k, s, p, g.data(), x.data(), fixed ? fixed_mean.data() : nullptr,
                               fixed ? fixed_variance.data() : nullptr, dx.data(), dgamma.data(), dbeta.data(), 2);
      for (int64_t c = 0; c < s.channels; ++c) {
        check_near(dgamma[c], sum_gx[c], 100, what + " gamma");
        check_near(dbeta[c], sum_g[c], 100, what + " beta");
      }
      for (int64_t at = 0; at < size; ++at) {
        const int64_t c = channel_of(at);
        const double r = 1 / std::sqrt(variance[c] + eps);
        check_near(out[at], gamma[c] * normalized(at) + beta[c], 10, what + " out");
        const double inner = fixed ? g[at] : g[at] - sum_g[c] / count - normalized(at) * sum_gx[c] / count;
        check_near(dx[at], gamma[c] * r * inner, 100, what + " data");
      }
    });
  }
}

TEST(rprelu_and_its_gradients_equal_their_definition) {
  test::Random random(31);
  for (int i = 0; i < 60; ++i) {
    const bmx::Planes s{random.between(1, 4), i % 6 == 0 ? random.between(250, 600) : random.between(1, 5),
                        random.between(1, i % 6 == 0 ? 9 : 40)};
    const int64_t size = s.batch * s.channels * s.pixels;
    auto halves = [&](int64_t n) {  // sums of their products are exact, and z is often 0
      std::vector<float> v(n);
      for (float& x : v) x = static_cast<float>(random.between(-4, 4)) / 2;
      return v;
    };
    const std::vector<float> x = halves(size), g = halves(size), shift = halves(s.channels), slope = halves(s.channels),
                             offset = halves(s.channels);
    std::vector<float> expected(size), dx(size), d_shift(s.channels), d_slope(s.channels), d_offset(s.channels);
    for (int64_t at = 0; at < size; ++at) {
      const int64_t c = at / s.pixels % s.channels;
      const float z = x[at] + shift[c], f = z > 0 ? 1 : slope[c];
      expected[at] = f * z + offset[c];
      dx[at] = f * g[at];
      d_shift[c] += dx[at];
      d_slope[c] += z > 0 ? 0 : z * g[at];
      d_offset[c] += g[at];
    }
    for_each_kernels([&](const bmx::Kernels& k) {
      const bmx::RPReLUParameters p{shift.data(), slope.data(), offset.data()};
      std::vector<float> out(size), got_dx(size), got_shift(s.channels), got_slope(s.channels), got_offset(s.channels);
      bmx::rprelu(k, s, p, x.data(), out.data(), 2);
      CHECK(out == expected, k.name);
      bmx::rprelu_backward(k, s, p, g.data(), x.data(),
                           {got_dx.data(), got_shift.data(), got_slope.data(), got_offset.data()}, 2);
      CHECK(got_dx == dx && got_shift == d_shift && got_slope == d_slope && got_offset == d_offset, k.name);
      bmx::shift(k, s, x.data(), shift.data(), out.data(), 2);
      for (int64_t at = 0; at < size; ++at) CHECK(out[at] == x[at] + shift[at / s.pixels % s.channels], k.name);
      bmx::shift_backward(k, s, g.data(), got_shift.data(), 2);
      CHECK(got_shift == d_offset, k.name);
    });
  }
}
