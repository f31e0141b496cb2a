// The float convolution, its gradients and the quantizers against definitions in double precision.
#include <cmath>
#include <limits>

#include "conv_definition.h"
#include "kernels/instruction_sets.h"
#include "kernels/training/float_conv.h"
#include "kernels/training/float_matmul.h"
#include "kernels/training/quantize.h"
#include "test.h"

namespace {

using bmx::ConvShape;
using bmx::Kernels;
using test::check_close;

std::vector<float> tame(test::Random* random, size_t count) {
  std::vector<float> v(count);
  for (float& x : v) x = static_cast<float>(random->between(-1000, 1000)) / 1000;
  return v;
}

}  // namespace

TEST(float_convolution_and_gradients_equal_their_definition) {
  test::Random random(17);
  for (int i = 0; i < 120; ++i) {
    ConvShape s;
    s.batch = random.between(0, 3);
    s.groups = random.between(1, 2);
    s.channels = s.groups * random.between(1, 20);
    s.filters = s.groups * random.between(1, 9);
    for (int axis = 0; axis < 3; ++axis) {
      s.kernel[axis] = random.between(1, axis == 0 ? 2 : 3);
      s.stride[axis] = random.between(1, 3);
      s.dilate[axis] = random.between(1, 2);
      s.pad[axis] = random.between(0, 1);
      s.in[axis] = s.dilate[axis] * (s.kernel[axis] - 1) + 1 + random.between(0, axis == 0 ? 1 : 6);
    }
    const std::vector<float> padded = tame(&random, s.batch * s.channels * s.padded_pixels());
    const std::vector<float> weight = tame(&random, s.filters * s.inputs());
    const std::vector<float> grad = tame(&random, s.batch * s.filters * s.out_pixels());
    std::vector<double> out(grad.size()), data_grad(padded.size()), weight_grad(weight.size());
    ConvShape of_padded = s;
    for (int axis = 0; axis < 3; ++axis) {
      of_padded.in[axis] = s.padded(axis);
      of_padded.pad[axis] = 0;
    }
    test::for_each_product(of_padded, [&](size_t o, size_t d, size_t w) {
      out[o] += static_cast<double>(padded[d]) * weight[w];
      data_grad[d] += static_cast<double>(grad[o]) * weight[w];
      weight_grad[w] += static_cast<double>(grad[o]) * padded[d];
    });
    for (const char* const* name = bmx::available_instruction_sets(); *name != nullptr; ++name) {
      const Kernels& k = *bmx::find_kernels(*name);
      const int threads = 1 + i % 3;
      std::vector<float> got(grad.size());
      bmx::float_conv(k, s, padded.data(), weight.data(), got.data(), threads);
      check_close(got, out, std::string(k.name) + " forward");
      got.assign(padded.size(), 1e9f);
      bmx::float_conv_backward_data(k, s, grad.data(), weight.data(), got.data(), threads);
      check_close(got, data_grad, std::string(k.name) + " backward data");
      got.assign(weight.size(), 1e9f);
      bmx::float_conv_backward_weight(k, s, grad.data(), padded.data(), got.data(), threads);
      check_close(got, weight_grad, std::string(k.name) + " backward weight");
    }
  }
}

TEST(float_matmul_equals_its_definition_over_any_number_of_threads) {
  test::Random random(23);
  for (int i = 0; i < 60; ++i) {
    const bool large = i % 6 == 0;  // threads meet
    const size_t m = random.between(0, large ? 90 : 9), n = random.between(1, large ? 90 : 40);
    const size_t k = random.between(1, large ? 300 : 30);
    const bool a_turned = i & 1, b_turned = i & 2;
    const std::vector<float> a = tame(&random, m * k), b = tame(&random, k * n);
    const size_t a_row = a_turned ? 1 : k, a_column = a_turned ? m : 1, b_row = b_turned ? 1 : n,
                 b_column = b_turned ? k : 1;
    std::vector<double> wanted(m * n);
    for (size_t row = 0; row < m; ++row)
      for (size_t column = 0; column < n; ++column)
        for (size_t inner = 0; inner < k; ++inner)
          wanted[row * n + column] +=
              static_cast<double>(a[row * a_row + inner * a_column]) * b[inner * b_row + column * b_column];
    for (const char* const* name = bmx::available_instruction_sets(); *name != nullptr; ++name) {
      const Kernels& kernels = *bmx::find_kernels(*name);
      std::vector<float> got(m * n, 1e9f);
      bmx::float_matmul(kernels, m, n, k, a.data(), a_row, a_column, b.data(), b_row, b_column, got.data(), 1 + i % 5);
      check_close(got, wanted, kernels.name);
    }
  }
}

TEST(cropping_undoes_padding) {
  ConvShape s;
  s.batch = 2;
  s.channels = 3;
  s.in = {2, 3, 4};
  s.pad = {1, 0, 2};
  test::Random random(19);
  const std::vector<float> data = tame(&random, s.batch * s.channels * s.in_pixels());
  std::vector<float> padded(s.batch * s.channels * s.padded_pixels()), cropped(data.size());
  bmx::pad_input(s, data.data(), -7.0f, padded.data(), 2);
  double sum = 0;
  for (float x : padded) sum += x == -7.0f;
  CHECK(sum == static_cast<double>(padded.size() - data.size()), "");
  bmx::crop_input(s, padded.data(), cropped.data(), 2);
  CHECK(cropped == data, "");
}

TEST(activations_round_half_away_from_zero_and_keep_nan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  CHECK(bmx::quantize_activation(0.5f, 2) == 2.0f / 3, "1.5 levels round to 2");
  CHECK(bmx::quantize_activation(-inf, 4) == 0 && bmx::quantize_activation(inf, 4) == 1, "");
  CHECK(bmx::quantize_activation(0.3f, 32) == 0.3f && bmx::quantize_activation(3.0f, 32) == 1, "32 bits only clip");
  CHECK(bmx::quantize_activation(-0.0f, 1) == 1 && bmx::quantize_activation(nan, 1) == 1, "");
  CHECK(std::isnan(bmx::quantize_activation(nan, 2)) && std::isnan(bmx::quantize_activation(nan, 32)), "");
}

TEST(weights_of_zeros_quantize_to_the_level_nearest_zero) {
  const std::vector<float> zeros(5, 0.0f);
  std::vector<float> y(5);
  bmx::quantize_weight(zeros.data(), y.data(), 5, 2);
  for (float v : y) CHECK(std::fabs(v - 1.0f / 3) < 1e-6f, "2 * round(1.5) / 3 - 1");
}

TEST(the_window_of_sign_is_closed_and_excludes_nan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x{-0.5f, 0.5f, 0.50001f, -0.0f, nan}, g(5, 2.0f);
  std::vector<float> dx(5);
  bmx::sign_backward(g.data(), x.data(), dx.data(), 5, 0.5f, bmx::Estimator::kStraightThrough, 1);
  CHECK((dx == std::vector<float>{2, 2, 0, 2, 0}), "");
  bmx::sign_backward(g.data(), x.data(), dx.data(), 5, 0.5f, bmx::Estimator::kApproxSign, 1);
  CHECK((dx == std::vector<float>{2, 2, 0, 4, 0}), "2 - 2|x| times the gradient");
}
