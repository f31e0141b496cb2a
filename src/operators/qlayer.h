// What QConvolution and QFullyConnected share as operators of MXNet.
#pragma once

#include <cstring>
#include <optional>

#include "kernels/quantize.h"
#include "operators/attributes.h"
#include "operators/layer_gradients.h"
#include "operators/mxnet.h"
#include "operators/packed_cache.h"
#include "operators/workspace.h"

namespace bmx {

// The inputs of both.
enum QLayerInput { kData, kWeight, kBias };

class QLayer : public mxnet::ext::CustomStatefulOp {
 public:
  using Tensors = std::vector<mxnet::ext::MXTensor>;
  using Resource = mxnet::ext::OpResource;

  mxnet::ext::MXReturnValue Forward(Tensors* inputs, Tensors* outputs, const Resource& resource) final {
    return guarded(name_, [&] { forward(inputs, floats(outputs->at(0)), resource); });
  }

  mxnet::ext::MXReturnValue Backward(Tensors* inputs, Tensors* outputs, const Resource& resource) final {
    return guarded(name_, [&] { backward(inputs, outputs, resource); });
  }

 protected:
  explicit QLayer(const char* name) : name_(name) {}

  virtual void forward(Tensors* inputs, float* out, const Resource& resource) = 0;
  // Inputs: the gradient of the output, the inputs of forward, its output.
  virtual void backward(Tensors* inputs, Tensors* outputs, const Resource& resource) = 0;

  static Workspace workspace(size_t bytes, const Resource& resource) {
    return Workspace(bytes, [&](int size) { return resource.alloc_cpu(size); });
  }

  // Packed words of a file, of which there must be count(word bits), in the kernels' layout of `size` words, made by
  // convert(words, word bits, target) when they are new.
  template <class Count, class Convert>
  PackedCache::Words packed_weight(mxnet::ext::MXTensor* weight, size_t size, Count count, Convert convert) {
    const int word_bits = weight->dtype == mxnet::ext::kFloat64 ? 64 : 32;
    const size_t words = count(word_bits);
    if (static_cast<size_t>(weight->size()) != words) {
      throw std::invalid_argument("weight has " + std::to_string(weight->size()) + " words of " +
                                  std::to_string(word_bits) + " bits; it must have " + std::to_string(words));
    }
    const void* source = weight->data_ptr;
    return packed_.get(source, words * word_bits / 8, word_bits, size,
                       [&](uint64_t* target) { convert(source, word_bits, target); });
  }

  // Packed bits have no gradient.
  static void clear(mxnet::ext::MXTensor* gradient) {
    const size_t word = gradient->dtype == mxnet::ext::kFloat64 ? sizeof(double) : sizeof(float);
    std::memset(gradient->data_ptr, 0, gradient->size() * word);
  }

  static std::optional<SignWindow> sign_window(const std::optional<GradientWindow>& window, const float* data) {
    if (!window) return std::nullopt;
    return SignWindow{data, window->threshold, window->estimator};
  }

  // The gradient of the data, in place, through the window of a layer that has one.
  static void pass_window(const std::optional<GradientWindow>& window, const float* data, float* gradient, size_t size,
                          int threads) {
    if (window) sign_backward(gradient, data, gradient, size, window->threshold, window->estimator, threads);
  }

  static void multiply(float* values, size_t size, float factor) {
    for (size_t i = 0; i < size; ++i) values[i] *= factor;
  }

 private:
  const char* const name_;
  PackedCache packed_;
};

}  // namespace bmx
