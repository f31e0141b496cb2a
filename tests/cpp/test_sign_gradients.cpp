// Gradients by lookup, of every instruction set that has lookups, against definitions in double precision.
#include <cmath>
#include <cstring>

#include "conv_definition.h"
#include "kernels/buffer.h"
#include "kernels/instruction_sets.h"
#include "kernels/training/sign_gradients.h"
#include "test.h"

namespace {

using bmx::ConvShape;
using test::check_close;

float sign(float x) { return x < 0 ? -1.0f : 1.0f; }

// Scratch that holds NaN at first, with a guard behind it.
struct Scratch {
  static constexpr size_t kGuard = 64;
  bmx::Buffer<float> memory;
  explicit Scratch(size_t count) : memory(count + kGuard) {
    std::memset(memory.get(), 0xff, memory.size() * sizeof(float));
  }
  void check() const {
    for (size_t i = memory.size() - kGuard; i < memory.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, &memory[i], sizeof(bits));
      CHECK(bits == 0xffffffffu, "written behind the scratch memory");
    }
  }
};

ConvShape random_shape(test::Random* random, int i) {
  ConvShape s;
  s.batch = i % 10 == 0 ? 0 : random->between(1, i % 4 == 0 ? 9 : 3);
  s.channels = random->between(1, i % 3 == 0 ? 140 : 20);
  s.filters = random->between(1, i % 5 == 0 ? 80 : 12);
  for (int axis = i % 7 == 0 ? 2 : 1; axis < 3; ++axis) {
    s.kernel[axis] = random->between(1, i % 11 == 0 ? 5 : 3);
    s.stride[axis] = random->between(1, 4);
    s.dilate[axis] = random->between(1, 2);
    s.pad[axis] = random->between(0, 2);
    const int64_t least = s.dilate[axis] * (s.kernel[axis] - 1) + 1 - 2 * s.pad[axis];
    s.in[axis] = std::max<int64_t>(1, least) + random->between(0, 9);
  }
  return s;
}

void check_shape(const bmx::Kernels& k, const ConvShape& s, bool pad_bit, int threads, test::Random* random) {
  std::vector<float> data = random->values(s.batch * s.channels * s.in_pixels());
  std::vector<float> weight = random->values(s.filters * s.inputs());
  std::vector<float> out_grad(s.batch * s.filters * s.out_pixels());
  for (float& g : out_grad) g = static_cast<float>(random->between(-1000, 1000)) / 700;
  const float factor = random->between(0, 1) == 0 ? 1.0f : -0.3f;

  std::vector<double> data_expected(data.size()), weight_expected(weight.size());
  test::for_each_product(s, [&](int64_t out, int64_t in, int64_t w) {
    const double g = double{factor} * out_grad[out];
    if (in >= 0) data_expected[in] += g * sign(weight[w]);
    weight_expected[w] += g * (in >= 0 ? sign(data[in]) : (pad_bit ? 1 : -1));
  });

  const bmx::SignWindow some{data.data(), 0.5f, bmx::Estimator::kApproxSign};
  const bmx::SignWindow* window = random->between(0, 1) == 0 ? nullptr : &some;
  for (size_t i = 0; window != nullptr && i < data.size(); ++i) {
    const double magnitude = std::fabs(data[i]);
    data_expected[i] = magnitude <= 0.5 ? data_expected[i] * (2 - 2 * magnitude) : 0;
  }

  bmx::Buffer<uint64_t> bits(bmx::packed_weight_words(s)), image(bmx::packed_input_words(s));
  bmx::pack_conv_weight(k, s, weight.data(), bits.get(), threads);
  bmx::pack_conv_input(k, s, data.data(), pad_bit, image.get(), threads);
  const std::string what = std::string(k.name) + ", " + std::to_string(s.channels) + " channels, " +
                           std::to_string(s.filters) + " filters, gradient of the ";
  {
    std::vector<float> got(data.size(), NAN);
    Scratch scratch(bmx::sign_data_gradient_floats(k, s, threads));
    bmx::sign_data_gradient(k, s, out_grad.data(), bits.get(), factor, window, got.data(), threads,
                            scratch.memory.get());
    check_close(got, data_expected, what + "data");
    scratch.check();
  }
  std::vector<float> got(weight.size(), NAN);
  Scratch scratch(bmx::sign_weight_gradient_floats(k, s, threads));
  bmx::sign_weight_gradient(k, s, out_grad.data(), image.get(), factor, got.data(), threads, scratch.memory.get());
  check_close(got, weight_expected, what + "weight");
  scratch.check();
}

template <class F>
void for_kernels_with_lookups(F f) {
  for (const char* const* name = bmx::available_instruction_sets(); *name != nullptr; ++name) {
    const bmx::Kernels* k = bmx::find_kernels(*name);
    if (k->sign_lookup != nullptr) f(*k);
  }
}

}  // namespace

TEST(sign_gradients_equal_their_definition) {
  for_kernels_with_lookups([](const bmx::Kernels& k) {
    test::Random random(5);
    for (int i = 0; i < 150; ++i) check_shape(k, random_shape(&random, i), i % 2 == 0, 1 + i % 3, &random);
  });
}

TEST(sign_gradients_of_large_layers_are_cut_into_bands_and_chunks) {
  for_kernels_with_lookups([](const bmx::Kernels& k) {
    test::Random random(6);
    ConvShape s;
    s.batch = 2;
    s.channels = 17;
    s.filters = 130;
    s.in = {1, 40, 41};
    s.kernel = {1, 3, 3};
    s.pad = {0, 1, 1};
    check_shape(k, s, true, 2, &random);
    s.stride = {1, 2, 2};
    check_shape(k, s, false, 2, &random);
  });
}

TEST(sign_gradients_of_finite_numbers_beside_infinite_ones_stay_finite) {
  for_kernels_with_lookups([](const bmx::Kernels& k) {
    ConvShape s;
    s.batch = 2;
    s.channels = 3;
    s.filters = 5;
    const std::vector<float> weight(15, 1.0f);
    std::vector<float> out_grad(10, 1.0f), got(6);
    out_grad[2] = INFINITY;  // of the first image
    bmx::Buffer<uint64_t> bits(bmx::packed_weight_words(s));
    bmx::pack_conv_weight(k, s, weight.data(), bits.get(), 1);
    Scratch scratch(bmx::sign_data_gradient_floats(k, s, 1));
    bmx::sign_data_gradient(k, s, out_grad.data(), bits.get(), 1, nullptr, got.data(), 1, scratch.memory.get());
    for (int i = 0; i < 3; ++i) CHECK(std::isinf(got[i]) && got[3 + i] == 5, k.name);
  });
}
