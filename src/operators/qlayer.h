// The common base of QConvolution and QFullyConnected as operators of MXNet.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/training/quantize.h"
#include "operators/attributes.h"
#include "operators/layer_gradients.h"
#include "operators/mxnet.h"
#include "operators/packed_cache.h"
#include "operators/workspace.h"

namespace bmx {

// The inputs of both operators.
enum QLayerInput { kData, kWeight, kBias };

class QLayer : public mxnet::ext::CustomStatefulOp {
 public:
  using Tensors = std::vector<mxnet::ext::MXTensor>;
  using Resource = mxnet::ext::OpResource;

  mxnet::ext::MXReturnValue Forward(Tensors* inputs, Tensors* outputs, const Resource& resource) final {
    return guarded(name_, [&] { forward(inputs, floats(outputs->at(0)), resource); });
  }

  // Inputs: the gradient of the output, then the inputs and the output of forward.
  mxnet::ext::MXReturnValue Backward(Tensors* inputs, Tensors* outputs, const Resource& resource) final {
    return guarded(name_, [&] { backward(inputs, outputs, resource); });
  }

 protected:
  QLayer(const char* name, const QLayerParam& param) : name_(name), layer_(param) {}

  // The float products of a backward pass. A null pointer means that a gradient is not wanted.
  struct FloatPass {
    const float *out_grad, *data;
    const float* weight;     // null if the weights are packed
    const uint64_t* packed;  // in the kernels' layout
    float *data_grad, *weight_grad;
    bool latent;  // the gradient of the data uses the latent weights instead of the quantized ones
    float scale;  // factor of the gradient of the data
  };

  virtual void forward(Tensors* inputs, float* out, const Resource& resource) = 0;

  // The layer as a convolution. A fully connected layer is one of 1x1 images.
  virtual ConvShape shape_of(const std::vector<int64_t>& data) const = 0;
  virtual PackedCache::Words packed(const ConvShape& shape, mxnet::ext::MXTensor* weight) = 0;
  // The factor of binarized weights in the backward pass.
  virtual float weight_scale(const ConvShape& shape, const float* weight) const = 0;
  virtual bool pad_bit() const = 0;
  virtual size_t float_backward_bytes(const ConvShape& shape, int threads) = 0;
  virtual void float_backward(const ConvShape& shape, const FloatPass& pass, int threads, Workspace* memory) = 0;

  // What packing does if the data are not signs.
  OtherValues other_values() const { return layer_.float_input ? OtherValues::kGiveUp : OtherValues::kTakeSign; }

  // Turns a float product y into the result: (K + y) / 2 if the layer has the offset, plus the bias, times the scale.
  struct FloatEpilogue {
    float all;
    bool offset;
    const float* bias;  // null if there is none
    float scale;

    bool nothing() const { return !offset && bias == nullptr && scale == 1; }
    void apply(float* y, int64_t size, int64_t unit) const {
      const float plus = bias == nullptr ? 0.0f : bias[unit];
      for (int64_t i = 0; i < size; ++i) y[i] = ((offset ? (all + y[i]) * 0.5f : y[i]) + plus) * scale;
    }
  };

  static Workspace workspace(size_t bytes, const Resource& resource) {
    return Workspace(bytes, [&](int size) { return resource.alloc_cpu(size); });
  }

  // Packed words of a file in the kernels' layout, which has `size` words. There must be count(word bits) of them. If
  // they are new, convert(words, word bits, target) converts them.
  template <class Count, class Convert>
  PackedCache::Words packed_weight(mxnet::ext::MXTensor* weight, size_t size, Count count, Convert convert) {
    using namespace mxnet::ext;
    const bool wide = weight->dtype == kFloat64 || weight->dtype == kInt64;
    const int word_bits = wide ? 64 : 32;
    const size_t words = count(word_bits), given = static_cast<size_t>(weight->size());
    const void* source = weight->data_ptr;
    if (weight->dtype == kFloat64 && given == count(32) && are_numbers(static_cast<const double*>(source), given)) {
      return packed_.get(source, given * sizeof(double), kNumbers, size, [&](uint64_t* target) {
        const auto* numbers = static_cast<const double*>(source);
        const std::vector<uint32_t> copy(numbers, numbers + given);
        convert(copy.data(), 32, target);
      });
    }
    if (given != words) {
      throw std::invalid_argument("weight has " + std::to_string(given) + " words of " + std::to_string(word_bits) +
                                  " bits; it must have " + std::to_string(words));
    }
    return packed_.get(source, words * word_bits / 8, word_bits, size,
                       [&](uint64_t* target) { convert(source, word_bits, target); });
  }

  static void multiply(float* values, size_t size, float factor) {
    for (size_t i = 0; factor != 1 && i < size; ++i) values[i] *= factor;
  }

 private:
  // The gradients of the product of the quantized arrays, straight through both quantizers. Where an operand has one
  // bit, they are computed from its signs. With float_input the data may turn out to be signs; then the gradient of the
  // weight is computed so too.
  void backward(Tensors* inputs, Tensors* outputs, const Resource& resource) {
    const int threads = num_threads();
    const float* out_grad = floats(inputs->at(0));
    const ConvShape s = shape_of(inputs->at(1 + kData).shape);
    const float* data = floats(inputs->at(1 + kData));
    const bool has_packed = layer_.binarized_weights_only;
    const bool latent = !has_packed && layer_.gradient_mode == GradientMode::kLatent;
    SignGradients signs(s, !latent && (has_packed || layer_.weight_bit == 1),
                        layer_.float_input || layer_.data_bits() == 1, layer_.gradient_type, threads);
    const auto memory_for_all = [&] {
      return workspace(signs.bytes() + (signs.all() ? 0 : float_backward_bytes(s, threads)), resource);
    };
    Workspace memory = memory_for_all();
    const uint64_t* data_bits = nullptr;
    if (signs.of_weight() && !has_packed) {
      data_bits = signs.pack_data(data, pad_bit(), other_values(), &memory);
      if (data_bits == nullptr) {
        signs.leave_weight();
        memory = memory_for_all();
      }
    }

    const PackedCache::Words kept = has_packed ? packed(s, &inputs->at(1 + kWeight)) : nullptr;
    const float* weight = has_packed ? nullptr : floats(inputs->at(1 + kWeight));
    const float scale = layer_.gradient_scale() * (has_packed || latent ? 1 : weight_scale(s, weight));
    float* data_grad = floats(outputs->at(kData));
    float* weight_grad = has_packed ? nullptr : floats(outputs->at(kWeight));
    if (has_packed) clear(&outputs->at(kWeight));

    if (signs.of_data()) {
      const uint64_t* bits = has_packed ? kept->get() : signs.pack_weight(weight, &memory);
      const std::optional<SignWindow> window = sign_window(data);
      signs.data_gradient(out_grad, bits, scale, window ? &*window : nullptr, data_grad, &memory);
    }
    if (data_bits != nullptr) {
      signs.weight_gradient(out_grad, data_bits, layer_.gradient_scale(), weight_grad, &memory);
    }
    if (!signs.all()) {
      float* float_data_grad = signs.of_data() ? nullptr : data_grad;
      float* float_weight_grad = signs.of_weight() ? nullptr : weight_grad;
      float_backward(s,
                     {out_grad, data, weight, has_packed ? kept->get() : nullptr, float_data_grad, float_weight_grad,
                      latent, scale},
                     threads, &memory);
      if (float_data_grad != nullptr) pass_window(data, data_grad, inputs->at(1 + kData).size(), threads);
      if (float_weight_grad != nullptr) multiply(weight_grad, s.filters * s.inputs(), layer_.gradient_scale());
    }
    if (!layer_.no_bias) bias_backward(out_grad, s.batch, s.filters, s.out_pixels(), floats(outputs->at(kBias)));
  }

  // A third format that packed_weight reads: each 32-bit word as a float64 number, because float32 cannot hold it.
  static constexpr int kNumbers = 0;

  // Whether the values are 32-bit words stored as numbers, rather than 64-bit patterns. If there are as many words of
  // 64 bits as of 32, each uses at most 32 bits. Read as float64, such a pattern is tiny and no integer, unless it is
  // 0.
  static bool are_numbers(const double* values, size_t count) {
    return std::all_of(values, values + count,
                       [](double value) { return value >= 0 && value < 4294967296.0 && value == std::floor(value); });
  }

  // Packed bits have no gradient.
  static void clear(mxnet::ext::MXTensor* gradient) {
    const bool wide = gradient->dtype == mxnet::ext::kFloat64 || gradient->dtype == mxnet::ext::kInt64;
    const size_t word = wide ? 8 : 4;
    std::memset(gradient->data_ptr, 0, gradient->size() * word);
  }

  std::optional<SignWindow> sign_window(const float* data) const {
    if (!layer_.window) return std::nullopt;
    return SignWindow{data, layer_.window->threshold, layer_.window->estimator};
  }

  // Applies the layer's window, if it has one, to the gradient of the data in place.
  void pass_window(const float* data, float* gradient, size_t size, int threads) const {
    const std::optional<GradientWindow>& window = layer_.window;
    if (window) sign_backward(gradient, data, gradient, size, window->threshold, window->estimator, threads);
  }

  const char* const name_;
  const QLayerParam layer_;
  PackedCache packed_;
};

}  // namespace bmx
