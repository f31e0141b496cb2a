// The float side of the layers, on oneDNN or plain as built, against definitions in double precision. The workspace is
// filled with NaN first: nothing may depend on what an earlier operator left in it.
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "conv_definition.h"
#include "kernels/training/quantize.h"
#include "operators/float_layer.h"
#include "test.h"

namespace {

using bmx::ConvShape;
using bmx::GradientType;
using test::check_close;

struct Poisoned {
  std::vector<char> memory;
  bmx::Workspace workspace;

  explicit Poisoned(size_t bytes)
      : memory(bytes + 64, static_cast<char>(0xff)), workspace(bytes, [this](int) { return memory.data(); }) {}
};

std::vector<float> tame(test::Random* random, size_t count) {
  std::vector<float> v(count);
  for (float& x : v) x = static_cast<float>(random->between(-64, 64)) / 64;  // exact in bfloat16
  return v;
}

std::vector<float> quantized(const std::vector<float>& x, int bits) {
  if (bits == 32) return x;
  std::vector<float> y;
  for (float v : x) y.push_back(bmx::quantize_activation(v, bits));
  return y;
}

std::string description(const ConvShape& s) {
  std::string text = std::to_string(s.channels) + " -> " + std::to_string(s.filters);
  const auto add = [&](const char* name, const ConvShape::Dims& dims) {
    text += std::string(", ") + name;
    for (int64_t size : dims) text += " " + std::to_string(size);
  };
  add("in", s.in), add("kernel", s.kernel), add("stride", s.stride), add("dilate", s.dilate), add("pad", s.pad);
  return text + ": ";
}

// All of a layer for random numbers that bfloat16 holds, with data of 1 or 32 bits.
void check_convolution(const ConvShape& s, int bits, float pad, int threads, test::Random* random) {
  const std::string what = description(s);
  const std::vector<float> raw = tame(random, s.batch * s.channels * s.in_pixels()), data = quantized(raw, bits);
  const std::vector<float> weight = tame(random, s.filters * s.inputs());
  const std::vector<float> grad = tame(random, s.batch * s.filters * s.out_pixels());
  std::vector<double> out(grad.size()), data_grad(raw.size()), weight_grad(weight.size());
  test::for_each_product(s, [&](size_t o, int64_t d, size_t w) {
    const float x = d >= 0 ? data[d] : pad;
    out[o] += static_cast<double>(x) * weight[w];
    if (d >= 0) data_grad[d] += static_cast<double>(grad[o]) * weight[w];
    weight_grad[w] += static_cast<double>(grad[o]) * x;
  });
  bmx::FloatConvolution layer;
  {
    Poisoned p(layer.forward_bytes(s, threads));
    std::vector<float> got(grad.size());
    layer.forward(s, {raw.data(), bits, pad}, weight.data(), got.data(), threads, &p.workspace);
    check_close(got, out, what + "forward");
  }
  for (GradientType type : {GradientType::kFloat32, GradientType::kBfloat16}) {
    Poisoned p(layer.backward_bytes(s, type, threads));
    std::vector<float> dx(raw.size(), 1e9f), dw(weight.size(), 1e9f);
    layer.backward(s, grad.data(), {raw.data(), bits, pad}, weight.data(), dx.data(), dw.data(), type, threads,
                   &p.workspace);
    check_close(dx, data_grad, what + "gradient of the data");
    check_close(dw, weight_grad, what + "gradient of the weight");
  }
}

}  // namespace

TEST(float_convolutions_equal_their_definition_in_both_types) {
  test::Random random(31);
  for (int i = 0; i < 150; ++i) {
    ConvShape s;
    s.batch = random.between(0, 2);
    s.groups = random.between(1, 2);
    s.channels = s.groups * random.between(1, i % 3 == 0 ? 40 : 6);
    s.filters = s.groups * random.between(1, i % 3 == 0 ? 20 : 6);
    for (int axis = i % 4 == 0 ? 0 : 1; axis < 3; ++axis) {
      s.kernel[axis] = random.between(1, 3);
      s.stride[axis] = random.between(1, 3);
      s.dilate[axis] = random.between(1, 2);
      s.pad[axis] = random.between(0, 3);
      const int64_t least = s.dilate[axis] * (s.kernel[axis] - 1) + 1 - 2 * s.pad[axis];
      s.in[axis] = std::max<int64_t>(1, least) + random.between(0, 4);
    }
    const int bits = i % 2 == 0 ? 1 : 32;
    const float pad = bits == 1 ? (i % 4 < 2 ? 1.0f : -1.0f) : (i % 4 < 2 ? 0.0f : -1.0f);
    check_convolution(s, bits, pad, 1 + i % 2, &random);
  }
}

// Geometries on which oneDNN crashed or was wrong (float_convolution_onednn.cpp), and their like: of numbers of
// channels that fill its vectors, with large kernels, strides and paddings.
TEST(float_convolutions_of_rare_geometries_equal_their_definition) {
  const auto shape = [](int64_t channels, int64_t filters, ConvShape::Dims in, ConvShape::Dims kernel,
                        ConvShape::Dims stride, ConvShape::Dims dilate, ConvShape::Dims pad) {
    ConvShape s;
    s.batch = 2;
    s.channels = channels;
    s.filters = filters;
    s.in = in, s.kernel = kernel, s.stride = stride, s.dilate = dilate, s.pad = pad;
    return s;
  };
  for (const ConvShape& s : {
           shape(47, 81, {1, 3, 5}, {1, 2, 5}, {1, 1, 1}, {1, 4, 2}, {0, 1, 2}),  // rows -1 and 3 of 3
           shape(31, 29, {3, 4, 5}, {2, 2, 5}, {1, 1, 1}, {4, 3, 3}, {1, 1, 4}),
           shape(38, 49, {2, 5, 6}, {2, 3, 6}, {2, 3, 3}, {3, 2, 2}, {1, 0, 5}),
           shape(25, 14, {20, 3, 19}, {6, 3, 1}, {4, 2, 2}, {1, 1, 1}, {0, 0, 0}),  // planes 18 and 19 are not read
           shape(51, 23, {2, 24, 7}, {3, 3, 3}, {1, 1, 2}, {1, 4, 1}, {1, 0, 0}),
           shape(1, 21, {6, 2, 21}, {5, 3, 6}, {4, 3, 5}, {1, 1, 1}, {1, 1, 1}),
           shape(29, 6, {5, 6, 2}, {7, 7, 2}, {2, 4, 2}, {1, 1, 1}, {5, 2, 1}),  // padded by more than a stride
           shape(74, 23, {5, 4, 1}, {6, 7, 1}, {4, 3, 2}, {1, 1, 1}, {5, 3, 0}),
           shape(27, 36, {4, 7, 4}, {7, 6, 1}, {2, 1, 4}, {1, 1, 3}, {5, 0, 0}),
       }) {
    test::Random random(53);
    for (int bits : {1, 32}) check_convolution(s, bits, -1, 1, &random);
  }
  test::Random random(59);
  for (int i = 0; i < 150; ++i) {
    ConvShape s;
    s.batch = random.between(1, 3);
    s.channels = random.between(1, 3) == 1 ? random.between(1, 70) : 16;
    s.filters = random.between(1, 3) == 1 ? random.between(1, 70) : 16;
    for (int axis = i % 3; axis < 3; ++axis) {
      s.kernel[axis] = random.between(1, axis == 2 ? 3 : 7);
      s.stride[axis] = random.between(1, 5);
      s.dilate[axis] = random.between(1, 3) == 1 ? random.between(2, 4) : 1;
      s.pad[axis] = random.between(0, s.kernel[axis]);
      const int64_t least = s.dilate[axis] * (s.kernel[axis] - 1) + 1 - 2 * s.pad[axis];
      s.in[axis] = std::max<int64_t>(1, least) + random.between(0, 3);
    }
    if (s.batch * s.filters * s.out_pixels() * s.inputs() < 3000000) check_convolution(s, 32, 0, 1, &random);
  }
}

TEST(float_dense_layers_equal_their_definition_in_both_types) {
  test::Random random(37);
  for (int i = 0; i < 60; ++i) {
    const bmx::DenseShape s{random.between(0, 9), random.between(1, 40), random.between(1, 70)};
    const std::vector<float> data = tame(&random, s.rows * s.inputs), weight = tame(&random, s.units * s.inputs),
                             grad = tame(&random, s.rows * s.units);
    std::vector<double> out(grad.size()), data_grad(data.size()), weight_grad(weight.size());
    for (int64_t r = 0; r < s.rows; ++r) {
      for (int64_t u = 0; u < s.units; ++u) {
        for (int64_t x = 0; x < s.inputs; ++x) {
          out[r * s.units + u] += static_cast<double>(data[r * s.inputs + x]) * weight[u * s.inputs + x];
          data_grad[r * s.inputs + x] += static_cast<double>(grad[r * s.units + u]) * weight[u * s.inputs + x];
          weight_grad[u * s.inputs + x] += static_cast<double>(grad[r * s.units + u]) * data[r * s.inputs + x];
        }
      }
    }
    const int threads = 1 + i % 2;
    bmx::FloatDense layer;
    {
      Poisoned p(layer.forward_bytes(s, threads));
      std::vector<float> got(grad.size());
      layer.forward(s, data.data(), weight.data(), got.data(), threads, &p.workspace);
      check_close(got, out, "forward");
    }
    for (GradientType type : {GradientType::kFloat32, GradientType::kBfloat16}) {
      Poisoned p(layer.backward_bytes(s, type, threads));
      std::vector<float> dx(data.size(), 1e9f), dw(weight.size(), 1e9f);
      layer.backward(s, grad.data(), data.data(), weight.data(), dx.data(), dw.data(), type, threads, &p.workspace);
      check_close(dx, data_grad, "gradient of the data");
      check_close(dw, weight_grad, "gradient of the weight");
    }
  }
}

TEST(many_threads_share_one_layer) {
  test::Random random(41);
  ConvShape s;
  s.batch = 2;
  s.channels = 20;
  s.filters = 9;
  s.in = {1, 7, 7};
  s.kernel = {1, 3, 3};
  s.pad = {0, 1, 1};
  const std::vector<float> data = tame(&random, s.batch * s.channels * s.in_pixels());
  const std::vector<float> weight = tame(&random, s.filters * s.inputs());
  const std::vector<float> grad = tame(&random, s.batch * s.filters * s.out_pixels());
  bmx::FloatConvolution layer;
  auto run = [&](GradientType type) {
    Poisoned p(layer.backward_bytes(s, type, 1));
    std::vector<float> dx(data.size()), dw(weight.size());
    layer.backward(s, grad.data(), {data.data(), 1, 1.0f}, weight.data(), dx.data(), dw.data(), type, 1, &p.workspace);
    dx.insert(dx.end(), dw.begin(), dw.end());
    return dx;
  };
  const GradientType types[] = {GradientType::kFloat32, GradientType::kBfloat16};
  const std::vector<float> expected[] = {run(types[0]), run(types[1])};
  std::vector<int> wrong(8);
  std::vector<std::thread> threads;
  for (int& mine : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) mine += run(types[i % 2]) != expected[i % 2];
    });
  }
  for (std::thread& t : threads) t.join();
  for (int count : wrong) CHECK(count == 0, "a thread got another result");
}

TEST(windows_and_taps_that_miss_the_image_are_found) {
  ConvShape s;
  s.in = {1, 1, 11};
  s.kernel = {1, 3, 2};
  s.stride = {1, 3, 1};
  s.dilate = {1, 2, 2};
  s.pad = {0, 3, 2};
  CHECK(!s.windows_meet_image(), "rows -3, -1 and 1 of a single row");
  s.pad = {0, 2, 2};
  CHECK(s.windows_meet_image(), "rows -2, 0 and 2");
  s.pad = {0, 2, 3};
  CHECK(!s.windows_meet_image(), "columns -3 and -1");
  s.dilate = {5, 1, 1};
  CHECK(!s.windows_meet_image(), "columns -3 and -2");
  s.pad = {0, 2, 1};
  CHECK(s.windows_meet_image(), "less padding than taps");
  s = ConvShape();
  s.in[2] = 2;
  s.kernel[2] = 2;
  s.stride[2] = 5;
  s.pad[2] = 1;
  CHECK(s.windows_meet_image() && !s.taps_meet_image(), "column -1 alone for the first tap");
  s.stride[2] = 2;
  CHECK(s.taps_meet_image(), "and 1");
}
