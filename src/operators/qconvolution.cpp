// QConvolution, and QConvolution_v1, its name in older files.
//
// Forward of 1/1 bits: popcount arithmetic on packed bits, (K + dot) / 2 = K - popcount(x ^ w) exactly. Other
// bit widths: quantized floats, padded by the quantized pad value, and a float convolution.
// Backward: the gradients of the convolution of the quantized arrays, straight through both quantizers.
#include <algorithm>

#include "kernels/binary_conv.h"
#include "kernels/buffer.h"
#include "kernels/float_conv.h"
#include "kernels/interchange.h"
#include "operators/attributes.h"
#include "operators/mxnet.h"
#include "operators/packed_cache.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

enum Input { kData, kWeight, kBias };

size_t data_size(const ConvShape& s) { return static_cast<size_t>(s.batch * s.channels * s.in_pixels()); }
size_t padded_size(const ConvShape& s) { return static_cast<size_t>(s.batch * s.channels * s.padded_pixels()); }
size_t weight_size(const ConvShape& s) { return static_cast<size_t>(s.filters * s.inputs()); }

// Mean |w| where scaling_mode asks for it; BMXNet scales only 1/1-bit layers.
float scale_of(const QConvolutionParam& param, const ConvShape& s, const float* weight) {
  return param.act_bit == 1 && param.weight_bit == 1 && !param.binarized_weights_only ? mean_abs(weight, weight_size(s))
                                                                                      : 1.0f;
}

void expand_bits(const ConvShape& s, const uint64_t* bits, float* weight) {
  for (int64_t f = 0; f < s.filters; ++f) {
    const uint64_t* row = bits + f * s.filter_words();
    for (int64_t c = 0; c < s.group_channels(); ++c) {
      for (int64_t t = 0; t < s.taps(); ++t) {
        *weight++ = (row[c / 64 * s.taps() + t] >> (c % 64)) & 1 ? 1.0f : -1.0f;
      }
    }
  }
}

class QConvolution : public CustomStatefulOp {
 public:
  explicit QConvolution(QConvolutionParam param) : param_(std::move(param)) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs, const OpResource&) override {
    return guarded("QConvolution", [&] { forward(inputs, floats(outputs->at(0))); });
  }

  // Inputs: the gradient of the output, the inputs of forward, its output.
  MXReturnValue Backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs, const OpResource&) override {
    return guarded("QConvolution", [&] { backward(inputs, outputs); });
  }

 private:
  void forward(std::vector<MXTensor>* inputs, float* out) {
    const ConvShape s = param_.shape(inputs->at(kData).shape);
    const float* bias = param_.no_bias ? nullptr : floats(inputs->at(kBias));
    const float* data = floats(inputs->at(kData));
    if (param_.binary()) {
      forward_binary(s, data, &inputs->at(kWeight), bias, out);
    } else {
      forward_float(s, data, floats(inputs->at(kWeight)), bias, out);
    }
  }

  void forward_binary(const ConvShape& s, const float* data, MXTensor* weight, const float* bias, float* out) {
    const Kernels& k = kernels();
    const int threads = num_threads();
    Buffer<uint64_t> input(packed_input_words(s));
    pack_conv_input(k, s, data, !(param_.pad_value < 0), input.get(), threads);

    Buffer<uint64_t> own;
    PackedCache::Words kept;
    float scale = 1;
    if (param_.binarized_weights_only) {
      kept = packed_weight(s, weight);
    } else {
      own = Buffer<uint64_t>(packed_weight_words(s));
      pack_conv_weight(k, s, floats(*weight), own.get(), threads);
      if (param_.scaling_mode == ScalingMode::kForward) scale = scale_of(param_, s, floats(*weight));
    }
    // ((K - step * popcount) + bias) * scale, as one multiplication and one addition a filter.
    const float step = param_.offset() ? 1.0f : 2.0f, all = static_cast<float>(s.inputs());
    Buffer<float> multiplier(s.filters), addend(s.filters);
    for (int64_t f = 0; f < s.filters; ++f) {
      multiplier[f] = -step * scale;
      addend[f] = (all + (bias == nullptr ? 0.0f : bias[f])) * scale;
    }
    binary_conv(k, s, input.get(), kept ? kept->get() : own.get(), {multiplier.get(), addend.get(), true}, out,
                threads);
  }

  void forward_float(const ConvShape& s, const float* data, const float* weight, const float* bias, float* out) {
    const Buffer<float> padded = quantized_input(s, data), quantized = quantized_weight(s, weight);
    float_conv(kernels(), s, padded.get(), quantized.get(), out, num_threads());
    if (bias == nullptr) return;
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t f = 0; f < s.filters; ++f) {
        for (int64_t p = 0; p < s.out_pixels(); ++p) *out++ += bias[f];
      }
    }
  }

  void backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs) {
    const Kernels& k = kernels();
    const int threads = num_threads();
    const float* out_grad = floats(inputs->at(0));
    MXTensor* weight = &inputs->at(1 + kWeight);
    const ConvShape s = param_.shape(inputs->at(1 + kData).shape);

    // Of the data.
    Buffer<float> used;
    if (param_.binarized_weights_only) {
      used = Buffer<float>(weight_size(s));
      expand_bits(s, packed_weight(s, weight)->get(), used.get());
    } else {
      used = param_.gradient_mode == GradientMode::kLatent ? copied(floats(*weight), weight_size(s))
                                                           : quantized_weight(s, floats(*weight));
    }
    float scale = param_.gradient_scale();
    if (param_.scaling_mode != ScalingMode::kNone && param_.gradient_mode != GradientMode::kLatent &&
        !param_.binarized_weights_only) {
      scale *= scale_of(param_, s, floats(*weight));
    }
    if (scale != 1) multiply(used.get(), used.size(), scale);
    Buffer<float> padded_grad(padded_size(s));
    float_conv_backward_data(k, s, out_grad, used.get(), padded_grad.get(), threads);
    crop_input(s, padded_grad.get(), floats(outputs->at(kData)), threads);

    // Of the weight: packed bits have none.
    if (param_.binarized_weights_only) {
      MXTensor& grad = outputs->at(kWeight);
      const size_t bytes = grad.size() * (grad.dtype == kFloat64 ? sizeof(double) : sizeof(float));
      std::memset(grad.data_ptr, 0, bytes);
    } else {
      const Buffer<float> padded = quantized_input(s, floats(inputs->at(1 + kData)));
      float* weight_grad = floats(outputs->at(kWeight));
      float_conv_backward_weight(k, s, out_grad, padded.get(), weight_grad, threads);
      if (param_.gradient_scale() != 1) multiply(weight_grad, weight_size(s), param_.gradient_scale());
    }
    if (!param_.no_bias) bias_backward(out_grad, s.batch, s.filters, s.out_pixels(), floats(outputs->at(kBias)));
  }

  // The quantized data with its padding; packed weights always meet binarized data.
  Buffer<float> quantized_input(const ConvShape& s, const float* data) const {
    const int bits = param_.binarized_weights_only ? 1 : param_.act_bit;
    Buffer<float> quantized(data_size(s)), padded(padded_size(s));
    quantize_activation(data, quantized.get(), quantized.size(), bits, num_threads());
    pad_input(s, quantized.get(), quantize_activation(param_.pad_value, bits), padded.get(), num_threads());
    return padded;
  }

  Buffer<float> quantized_weight(const ConvShape& s, const float* weight) const {
    Buffer<float> quantized(weight_size(s));
    quantize_weight(weight, quantized.get(), quantized.size(), param_.weight_bit);
    return quantized;
  }

  static Buffer<float> copied(const float* values, size_t size) {
    Buffer<float> copy(size);
    std::copy(values, values + size, copy.get());
    return copy;
  }

  static void multiply(float* values, size_t size, float factor) {
    for (size_t i = 0; i < size; ++i) values[i] *= factor;
  }

  PackedCache::Words packed_weight(const ConvShape& s, MXTensor* weight) {
    const int word_bits = weight->dtype == kFloat64 ? 64 : 32;
    const size_t words = interchange_conv_words(s, word_bits);
    if (static_cast<size_t>(weight->size()) != words) {
      throw std::invalid_argument("weight has " + std::to_string(weight->size()) + " words of " +
                                  std::to_string(word_bits) + " bits; it must have " + std::to_string(words));
    }
    return packed_.get(weight->data_ptr, words * word_bits / 8, packed_weight_words(s),
                       [&](uint64_t* target) { unpack_conv_weight(s, weight->data_ptr, word_bits, target); });
  }

  const QConvolutionParam param_;
  PackedCache packed_;
};

MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded("QConvolution", [&] {
    *num_inputs = QConvolutionParam("QConvolution", attributes).num_inputs();
    *num_outputs = 1;
  });
}

MXReturnValue infer_type(const AttributeMap& attributes, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded("QConvolution", [&] {
    const QConvolutionParam param("QConvolution", attributes);
    infer_float32({"data", "weight", "bias"}, param.binarized_weights_only, in_types, out_types);
  });
}

MXReturnValue infer_shape(const AttributeMap& attributes, std::vector<Shape>* in_shapes,
                          std::vector<Shape>* out_shapes) {
  return guarded("QConvolution", [&] {
    const QConvolutionParam param("QConvolution", attributes);
    const Shape& data = in_shapes->at(kData);
    const ConvShape s = param.shape(known_data_shape(data));
    std::vector<int64_t> weight{s.filters, s.group_channels()};
    weight.insert(weight.end(), param.kernel.begin(), param.kernel.end());
    if (param.binarized_weights_only) {
      if (s.group_channels() % 32 == 0) {
        weight[1] /= 32;
      } else {
        weight = {s.filters, (s.inputs() + 31) / 32};
      }
      assign_packed_shape(weight, interchange_conv_words(s, 32), interchange_conv_words(s, 64),
                          &in_shapes->at(kWeight));
    } else {
      assign_shape("weight", weight, &in_shapes->at(kWeight));
    }
    if (!param.no_bias) assign_shape("bias", {s.filters}, &in_shapes->at(kBias));
    Shape out{data[0], static_cast<unsigned>(s.filters)};
    for (size_t i = 0; i < param.kernel.size(); ++i) {
      out.push_back(static_cast<unsigned>(s.out(static_cast<int>(3 - param.kernel.size() + i))));
    }
    out_shapes->at(0) = out;
  });
}

MXReturnValue create(const AttributeMap& attributes, const MXContext&, const std::vector<Shape>&,
                     const std::vector<int>, CustomStatefulOp** op) {
  return guarded("QConvolution",
                 [&] { *op = CustomStatefulOp::create<QConvolution>(QConvolutionParam("QConvolution", attributes)); });
}

REGISTER_OP(QConvolution)
    .setCreateOpState(create, "cpu")
    .setParseAttrs(parse_attributes)
    .setInferType(infer_type)
    .setInferShape(infer_shape);

REGISTER_OP(QConvolution_v1)
    .setCreateOpState(create, "cpu")
    .setParseAttrs(parse_attributes)
    .setInferType(infer_type)
    .setInferShape(infer_shape);

}  // namespace
