// Gradients of sign operands, by lookup and on tiles, against definitions in double precision: of every instruction set
// that has them, and on every machine those of the model of the tile instructions.
#include <cmath>
#include <cstring>

#include "conv_definition.h"
#include "kernels/buffer.h"
#include "kernels/instruction_sets.h"
#include "kernels/tile_model.h"
#include "kernels/training/sign_gradients.h"
#include "kernels/training/sign_tiles_kernels.h"
#include "kernels/training/sign_tiles_portable.h"
#include "test.h"

namespace {

using bmx::ConvShape;
using bmx::GradientType;
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

void check_shape(const bmx::Kernels& k, const ConvShape& s, bool pad_bit, int threads, test::Random* random,
                 GradientType type = GradientType::kFloat32) {
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
    Scratch scratch(bmx::sign_data_gradient_floats(k, s, type, threads));
    bmx::sign_data_gradient(k, s, out_grad.data(), bits.get(), factor, window, got.data(), type, threads,
                            scratch.memory.get());
    check_close(got, data_expected, what + "data");
    scratch.check();
  }
  std::vector<float> got(weight.size(), NAN);
  Scratch scratch(bmx::sign_weight_gradient_floats(k, s, type, threads));
  bmx::sign_weight_gradient(k, s, out_grad.data(), image.get(), factor, got.data(), type, threads,
                            scratch.memory.get());
  check_close(got, weight_expected, what + "weight");
  scratch.check();
}

constexpr bmx::SignTiles kModelTiles = bmx::SignTileKernels<bmx::TileModel, bmx::PortableTileConversion>::table();

bmx::Kernels model() {
  bmx::Kernels k = bmx::kPortableKernels;
  k.name = "tile model";
  k.sign_tiles = &kModelTiles;
  return k;
}

bool is_model(const bmx::Kernels& k) { return k.sign_tiles == &kModelTiles; }

template <class F>
void for_kernels(F f) {
  for (const char* const* name = bmx::available_instruction_sets(); *name != nullptr; ++name) {
    const bmx::Kernels* k = bmx::find_kernels(*name);
    if (k->sign_lookup != nullptr) f(*k);
  }
  f(model());
}

}  // namespace

TEST(sign_gradients_equal_their_definition) {
  for_kernels([](const bmx::Kernels& k) {
    test::Random random(5);
    const int shapes = is_model(k) ? 30 : 150;
    for (int i = 0; i < shapes; ++i) {
      ConvShape s = random_shape(&random, i);
      if (is_model(k)) s.batch = std::min<int64_t>(s.batch, 3), s.channels = std::min<int64_t>(s.channels, 70);
      check_shape(k, s, i % 2 == 0, 1 + i % 3, &random);
    }
  });
}

TEST(sign_gradients_of_large_layers_are_cut_into_bands_and_chunks) {
  for_kernels([](const bmx::Kernels& k) {
    test::Random random(6);
    ConvShape s;
    s.batch = 2;
    s.channels = 17;
    s.filters = 130;
    s.in = {1, 40, 41};
    s.kernel = {1, 3, 3};
    s.pad = {0, 1, 1};
    if (is_model(k)) {  // slow
      s.batch = 1;
      s.kernel = {1, 3, 1};
      s.in[2] = 70;
    }
    check_shape(k, s, true, 2, &random);
    s.stride = {1, 2, 2};
    check_shape(k, s, false, 2, &random);
  });
}

TEST(sign_gradients_of_finite_numbers_beside_infinite_ones_stay_finite) {
  for_kernels([](const bmx::Kernels& k) {
    ConvShape s;
    s.batch = 2;
    s.channels = 3;
    s.filters = 5;
    const std::vector<float> weight(15, 1.0f);
    std::vector<float> out_grad(10, 1.0f), got(6);
    out_grad[2] = INFINITY;  // of the first image
    bmx::Buffer<uint64_t> bits(bmx::packed_weight_words(s));
    bmx::pack_conv_weight(k, s, weight.data(), bits.get(), 1);
    Scratch scratch(bmx::sign_data_gradient_floats(k, s, GradientType::kFloat32, 1));
    bmx::sign_data_gradient(k, s, out_grad.data(), bits.get(), 1, nullptr, got.data(), GradientType::kFloat32, 1,
                            scratch.memory.get());
    for (int i = 0; i < 3; ++i) CHECK(std::isinf(got[i]) && got[3 + i] == 5, k.name);
  });
}

namespace {

// The gradients of one dense layer without borders: of the data for `values` as the gradients of the outputs of one
// image, of the weights for `values` as those of one output of a batch.
struct DenseGradients {
  std::vector<float> of_data, of_weight;

  DenseGradients(const bmx::Kernels& k, const std::vector<float>& values, const std::vector<float>& signs,
                 GradientType type) {
    const auto count = static_cast<int64_t>(values.size());
    const auto columns = static_cast<int64_t>(signs.size()) / count;
    ConvShape s;
    s.batch = 1;
    s.filters = count;
    s.channels = columns;
    of_data.assign(columns, NAN);
    bmx::Buffer<uint64_t> words(bmx::packed_weight_words(s));
    bmx::pack_conv_weight(k, s, signs.data(), words.get(), 1);
    Scratch data_scratch(bmx::sign_data_gradient_floats(k, s, type, 1));
    bmx::sign_data_gradient(k, s, values.data(), words.get(), 1, nullptr, of_data.data(), type, 1,
                            data_scratch.memory.get());
    s.batch = count;
    s.filters = 1;
    of_weight.assign(columns, NAN);
    bmx::Buffer<uint64_t> image(bmx::packed_input_words(s));
    bmx::pack_conv_input(k, s, signs.data(), true, image.get(), 1);
    Scratch scratch(bmx::sign_weight_gradient_floats(k, s, type, 1));
    bmx::sign_weight_gradient(k, s, values.data(), image.get(), 1, of_weight.data(), type, 1, scratch.memory.get());
  }
};

}  // namespace

// Of a sum of 300 floats of the same size. By lookup, every type is float32.
TEST(sign_gradients_are_as_exact_as_their_type) {
  for_kernels([](const bmx::Kernels& k) {
    test::Random random(7);
    const int count = 300, columns = 20;
    std::vector<float> values(count), signs(count * columns);
    for (float& v : values) v = static_cast<float>(random.between(-(1 << 23), 1 << 23)) / (1 << 23);
    for (float& v : signs) v = random.between(0, 1) == 0 ? -1.0f : 1.0f;
    const auto worst = [&](GradientType type) {
      const DenseGradients got(k, values, signs, type);
      double error = 0;
      for (int c = 0; c < columns; ++c) {
        double sum = 0;
        for (int i = 0; i < count; ++i) sum += double{values[i]} * signs[i * columns + c];
        error = std::max({error, std::fabs(got.of_data[c] - sum), std::fabs(got.of_weight[c] - sum)});
      }
      return error;
    };
    const double exact = worst(GradientType::kFloat32), half = worst(GradientType::kFloat32x2);
    const double least = worst(GradientType::kBfloat16);
    const std::string what = std::string(k.name) + ": " + std::to_string(exact * 1e6) + ", " +
                             std::to_string(half * 1e6) + ", " + std::to_string(least * 1e6) + " e-6";
    CHECK(exact <= 2e-5, what);  // sums of about 17, rounded 24 bits behind their first
    CHECK(half <= 3e-4, what);   // 2^-17 of each float
    CHECK(least <= 0.06, what);  // 2^-9
    if (k.sign_tiles != nullptr) CHECK(exact < half && half < least, what);
  });
}

TEST(sign_gradients_of_single_floats_are_these_floats) {
  for_kernels([](const bmx::Kernels& k) {
    test::Random random(8);
    std::vector<float> values{0.0f, 1.0f, -1.0f, 3.402823466e38f, -3.402823466e38f, 0x1.fffffep-100f, 0x1p-126f};
    for (int i = 0; i < 200; ++i) {
      const uint32_t bits = random.bits();
      float x;
      std::memcpy(&x, &bits, sizeof(x));
      if (std::isfinite(x)) values.push_back(x);
    }
    for (float x : values) {
      const DenseGradients got(k, {x}, std::vector<float>{1, -1, 1, 1, 1, 1, 1, 1}, GradientType::kFloat32);
      const float error = std::fabs(x) < 0x1p-100f ? 0x1p-125f : 0.0f;  // below 2^-126 tiles read 0
      for (const auto& of : {got.of_data, got.of_weight}) {
        CHECK(std::fabs(of[0] - x) <= error && std::fabs(of[1] + x) <= error,
              k.name + std::string(": ") + std::to_string(of[0]) + " for " + std::to_string(x));
      }
    }
  });
}

TEST(sign_gradients_of_infinity_are_infinite_and_of_nan_nan) {
  for_kernels([](const bmx::Kernels& k) {
    const uint32_t low_nan_bits = 0x7f800001;  // whose upper half is infinity
    float low_nan;
    std::memcpy(&low_nan, &low_nan_bits, sizeof(low_nan));
    const std::vector<float> signs{1, -1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (GradientType type : {GradientType::kFloat32, GradientType::kFloat32x2, GradientType::kBfloat16}) {
      for (float special : {INFINITY, -INFINITY, NAN, low_nan}) {
        const DenseGradients got(k, {special, 2.5f}, signs, type);
        for (const auto& of : {got.of_data, got.of_weight}) {
          CHECK(std::isnan(special) ? std::isnan(of[0]) && std::isnan(of[1]) : of[0] == special && of[1] == -special,
                k.name + std::string(": ") + std::to_string(of[0]) + " for " + std::to_string(special));
        }
      }
    }
  });
}
