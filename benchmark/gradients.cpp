// Times the two gradients of binary convolutions on one core: on tiles or by lookup (src/kernels/training/
// sign_gradients.h), and as the float products of oneDNN, or of our own plain loops in a build without it
// (src/operators/float_layer.h):
//
//   OMP_NUM_THREADS=1 bmx_gradient_bench [rounds]
//
// The shapes are those of ResNet-18 on 32x32 and of a large layer of AlexNet, batch 64. GMAC/s count every
// multiply-add, also those with zeros at the border, that no one has to do. The least time of the rounds counts.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/training/quantize.h"
#include "kernels/training/sign_gradients.h"
#include "operators/float_layer.h"
#include "roof.h"

namespace {

using bmx::Buffer;
using bmx::ConvShape;
using bmx::GradientType;

struct Layer {
  int64_t channels, filters, size, stride, kernel;
};

constexpr GradientType kTypes[] = {GradientType::kFloat32, GradientType::kFloat32x2, GradientType::kBfloat16};

constexpr Layer kLayers[] = {{64, 64, 32, 1, 3},  {64, 128, 32, 2, 3}, {128, 128, 16, 1, 3}, {128, 256, 16, 2, 3},
                             {256, 256, 8, 1, 3}, {256, 512, 8, 2, 3}, {512, 512, 4, 1, 3},  {256, 384, 13, 1, 3}};

ConvShape shape_of(const Layer& layer) {
  ConvShape s;
  s.batch = 64;
  s.channels = layer.channels;
  s.filters = layer.filters;
  s.in = {1, layer.size, layer.size};
  s.kernel = {1, layer.kernel, layer.kernel};
  s.stride = {1, layer.stride, layer.stride};
  s.pad = {0, layer.kernel / 2, layer.kernel / 2};
  return s;
}

// Numbers between -1 and 1.
std::vector<float> numbers(size_t count, uint32_t seed) {
  std::vector<float> x(count);
  for (float& value : x) {
    seed = seed * 1664525 + 1013904223;
    value = static_cast<float>(seed >> 8) / (1 << 23) - 1;
  }
  return x;
}

template <class F>
void time(double* least, F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  *least = std::min(*least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

class Subject {
 public:
  explicit Subject(const Layer& layer)
      : s_(shape_of(layer)),
        data_(numbers(s_.batch * s_.channels * s_.in_pixels(), 1)),
        weight_(numbers(s_.filters * s_.inputs(), 2)),
        out_grad_(numbers(s_.batch * s_.filters * s_.out_pixels(), 3)),
        data_grad_(data_.size()),
        weight_grad_(weight_.size()),
        signs_(weight_.size()),
        data_bits_(packed_input_words(s_)),
        weight_bits_(packed_weight_words(s_)),
        data_scratch_(most([&](GradientType t) { return sign_data_gradient_floats(bmx::kernels(), s_, t, 1); })),
        weight_scratch_(most([&](GradientType t) { return sign_weight_gradient_floats(bmx::kernels(), s_, t, 1); })) {
    bmx::quantize_weight(weight_.data(), signs_.data(), signs_.size(), 1);
    for (GradientType type : {GradientType::kFloat32, GradientType::kBfloat16}) {
      memory_.resize(std::max(memory_.size(), float_.backward_bytes(s_, type, 1) + 64));
    }
  }

  void run() {
    const bmx::Kernels& k = bmx::kernels();
    time(&pack_, [&] {
      bmx::pack_conv_input(k, s_, data_.data(), false, data_bits_.get(), 1);
      bmx::pack_conv_weight(k, s_, weight_.data(), weight_bits_.get(), 1);
    });
    for (int t = 0; t < (k.sign_tiles == nullptr ? 1 : 3); ++t) {
      time(&of_data_[t], [&] {
        bmx::sign_data_gradient(k, s_, out_grad_.data(), weight_bits_.get(), 1, nullptr, data_grad_.data(), kTypes[t],
                                1, data_scratch_.get());
      });
      time(&of_weight_[t], [&] {
        bmx::sign_weight_gradient(k, s_, out_grad_.data(), data_bits_.get(), 1, weight_grad_.data(), kTypes[t], 1,
                                  weight_scratch_.get());
      });
    }
    time(&float32_, [&] { products(GradientType::kFloat32); });
    time(&bfloat16_, [&] { products(GradientType::kBfloat16); });
  }

  void print() const {
    const double macs = 1e-9 * static_cast<double>(s_.batch * s_.filters * s_.out_pixels() * s_.inputs());
    std::printf("| %ld -> %ld, %ldx%ld, stride %ld | %.2f |", s_.channels, s_.filters, s_.in[1], s_.in[2], s_.stride[1],
                pack_ * 1e3);
    for (const double* times : {of_data_, of_weight_}) {
      for (int t = 0; t < 3; ++t) {
        times[t] == kNever ? std::printf(" |") : std::printf(" %.2f (%.0f) |", times[t] * 1e3, macs / times[t]);
      }
    }
    std::printf(" %.2f (%.0f) | %.2f |", float32_ * 1e3, 2 * macs / float32_, bfloat16_ * 1e3);
    for (int t = 0; t < 3; ++t) {
      const double both = pack_ + of_data_[t] + of_weight_[t];
      of_data_[t] == kNever ? std::printf(" |") : std::printf(" %.2f |", both / float32_);
    }
    std::printf("\n");
  }

 private:
  template <class F>
  static size_t most(F floats) {
    return std::max({floats(kTypes[0]), floats(kTypes[1]), floats(kTypes[2])});
  }

  void products(GradientType type) {
    bmx::Workspace workspace(memory_.size() - 64, [&](int) { return memory_.data(); });
    float_.backward(s_, out_grad_.data(), {data_.data(), 1, -1}, signs_.data(), data_grad_.data(), weight_grad_.data(),
                    type, 1, &workspace);
  }

  const ConvShape s_;
  std::vector<float> data_, weight_, out_grad_, data_grad_, weight_grad_, signs_;
  Buffer<uint64_t> data_bits_, weight_bits_;
  Buffer<float> data_scratch_, weight_scratch_;
  bmx::FloatConvolution float_;
  std::vector<char> memory_;
  static constexpr double kNever = 1e9;
  double pack_ = kNever, float32_ = kNever, bfloat16_ = kNever;
  double of_data_[3] = {kNever, kNever, kNever}, of_weight_[3] = {kNever, kNever, kNever};  // of each type
};

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5;
  if (bmx::kernels().sign_lookup == nullptr) {  // of which those on tiles have some, too
    std::fprintf(stderr, "the kernels '%s' have no gradients of signs\n", bmx::kernels().name);
    return 1;
  }
  std::vector<Subject> subjects(std::begin(kLayers), std::end(kLayers));
  for (int round = 0; round <= rounds; ++round) {
    for (Subject& subject : subjects) subject.run();
  }
  std::printf("%s, batch 64, one thread, ms (GMAC/s)\n", bmx::kernels().name);
#if BMX_X86_64
  if (std::string(bmx::kernels().name) == "avx512") {
    double f32 = 0, lookups = 0;
    for (int round = 0; round < rounds; ++round) {
      f32 = std::max(f32, roof::f32(1000000));
      lookups = std::max(lookups, roof::lookups(1000000));
    }
    std::printf("on registers alone: %.0f GMAC/s as multiply-adds, %.0f as lookups and additions\n", f32 / 1e9,
                lookups / 1e9);
  }
#endif
  std::printf(
      "\n| layer | packing | data | float32x2 | bfloat16 | weights | float32x2 | bfloat16 | both, oneDNN | bfloat16 "
      "| float32 / oneDNN | float32x2 | bfloat16 |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Subject& subject : subjects) subject.print();
}
