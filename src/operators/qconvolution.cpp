// QConvolution, and QConvolution_v1, its name in older files.
//
// Forward with 1/1 bits: popcount arithmetic on packed bits, (K + dot) / 2 = K - popcount(x ^ w) exactly. Forward with
// other bit widths: a float convolution of quantized floats, padded by the quantized pad value. It also serves
// float_input, if the data are not signs.
//
// Backward: the gradients of the convolution of the quantized arrays, straight through both quantizers. With a
// gradient_cancel_threshold the gradient of the data passes a window, as if a QActivation stood before the layer.
#include "kernels/buffer.h"
#include "kernels/training/binary_conv.h"
#include "kernels/training/float_conv.h"
#include "kernels/training/interchange.h"
#include "operators/attributes.h"
#include "operators/layer_gradients.h"
#include "operators/qlayer.h"
#include "operators/qlayers.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

size_t weight_size(const ConvShape& s) { return static_cast<size_t>(s.filters * s.inputs()); }

// The mean of |w| if scaling_mode asks for it. BMXNet scales only 1/1-bit layers.
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

class QConvolution final : public QLayer {
 public:
  QConvolution(const char* name, QConvolutionParam param) : QLayer(name, param), param_(std::move(param)) {}

 private:
  void forward(Tensors* inputs, float* out, const Resource& resource) override {
    const ConvShape s = param_.shape(inputs->at(kData).shape);
    const float* bias = param_.no_bias ? nullptr : floats(inputs->at(kBias));
    const float* data = floats(inputs->at(kData));
    MXTensor* weight = &inputs->at(kWeight);
    if (param_.binary() && forward_binary(s, data, weight, bias, out, resource)) return;
    forward_float(s, data, weight, bias, out, resource);
  }

  // Does nothing and returns false if the data are not signs and the layer must not binarize them.
  bool forward_binary(const ConvShape& s, const float* data, MXTensor* weight, const float* bias, float* out,
                      const Resource& resource) {
    const Kernels& k = kernels();
    const int threads = num_threads();
    const size_t input_words = packed_input_words(s), weight_words = packed_weight_words(s);
    Workspace memory =
        workspace(Workspace::bytes<uint64_t>(input_words) + Workspace::bytes<uint64_t>(weight_words), resource);
    uint64_t* input = memory.take<uint64_t>(input_words);
    const bool signs = pack_conv_input(k, s, data, pad_bit(), input, threads, other_values());
    if (!signs && other_values() == OtherValues::kGiveUp) return false;

    const uint64_t* bits;
    PackedCache::Words kept;
    float scale = 1;
    if (param_.binarized_weights_only) {
      kept = packed(s, weight);
      bits = kept->get();
    } else {
      uint64_t* own = memory.take<uint64_t>(weight_words);
      pack_conv_weight(k, s, floats(*weight), own, threads);
      bits = own;
      if (param_.scaling_mode == ScalingMode::kForward) scale = scale_of(param_, s, floats(*weight));
    }
    Buffer<float> biases, scales;
    if (bias != nullptr || scale != 1) {
      biases = Buffer<float>(s.filters);
      scales = Buffer<float>(s.filters);
      for (int64_t f = 0; f < s.filters; ++f) {
        biases[f] = bias == nullptr ? 0.0f : bias[f];
        scales[f] = scale;
      }
    }
    const float step = param_.offset() ? 1.0f : 2.0f;
    binary_conv(k, s, input, bits, {static_cast<float>(s.inputs()), step, biases.get(), scales.get(), true}, out,
                threads);
    return true;
  }

  void forward_float(const ConvShape& s, const float* data, MXTensor* weight, const float* bias, float* out,
                     const Resource& resource) {
    const int threads = num_threads();
    Workspace memory = workspace(quantized_bytes(s) + float_.forward_bytes(s, threads), resource);
    float* quantized = memory.take<float>(weight_size(s));
    FloatEpilogue epilogue{static_cast<float>(s.inputs()), param_.offset(), bias, 1};
    if (param_.binarized_weights_only) {
      expand_bits(s, packed(s, weight)->get(), quantized);
    } else {
      quantize_weight(floats(*weight), quantized, weight_size(s), param_.weight_bit);
      if (param_.scaling_mode == ScalingMode::kForward) epilogue.scale = scale_of(param_, s, floats(*weight));
    }
    float_.forward(s, quantized_data(data), quantized, out, threads, &memory);
    if (epilogue.nothing()) return;
    const int64_t pixels = s.out_pixels();
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < s.batch * s.filters; ++i) epilogue.apply(out + i * pixels, pixels, i % s.filters);
  }

  ConvShape shape_of(const std::vector<int64_t>& data) const override { return param_.shape(data); }
  bool pad_bit() const override { return param_.pad_bit(); }

  float weight_scale(const ConvShape& s, const float* weight) const override {
    return param_.scaling_mode == ScalingMode::kNone ? 1 : scale_of(param_, s, weight);
  }

  size_t float_backward_bytes(const ConvShape& s, int threads) override {
    return quantized_bytes(s) + float_.backward_bytes(s, param_.gradient_type, threads);
  }

  void float_backward(const ConvShape& s, const FloatPass& pass, int threads, Workspace* memory) override {
    float* used = memory->take<float>(weight_size(s));
    if (pass.weight == nullptr) {
      expand_bits(s, pass.packed, used);
    } else {
      quantize_weight(pass.weight, used, weight_size(s), pass.latent ? 32 : param_.weight_bit);
    }
    multiply(used, weight_size(s), pass.scale);
    float_.backward(s, pass.out_grad, quantized_data(pass.data), used, pass.data_grad, pass.weight_grad,
                    param_.gradient_type, threads, memory);
  }

  QuantizedData quantized_data(const float* data) const { return {data, param_.data_bits(), param_.float_padding()}; }

  static size_t quantized_bytes(const ConvShape& s) { return Workspace::bytes<float>(weight_size(s)); }

  PackedCache::Words packed(const ConvShape& s, MXTensor* weight) override {
    return packed_weight(
        weight, packed_weight_words(s), [&](int word_bits) { return interchange_conv_words(s, word_bits); },
        [&](const void* words, int word_bits, uint64_t* target) { unpack_conv_weight(s, words, word_bits, target); });
  }

  const QConvolutionParam param_;
  FloatConvolution float_;
};

}  // namespace

namespace bmx {

mxnet::ext::CustomStatefulOp* create_qconvolution(const char* name, const QConvolutionParam& param) {
  return CustomStatefulOp::create<QConvolution>(name, param);
}

void infer_qconvolution(const QConvolutionParam& param, std::vector<Shape>* in_shapes, std::vector<Shape>* out_shapes) {
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
    assign_packed_shape(weight, interchange_conv_words(s, 32), interchange_conv_words(s, 64), &in_shapes->at(kWeight));
  } else {
    assign_shape("weight", weight, &in_shapes->at(kWeight));
  }
  if (!param.no_bias) assign_shape("bias", {s.filters}, &in_shapes->at(kBias));
  Shape out{data[0], static_cast<unsigned>(s.filters)};
  for (size_t i = 0; i < param.kernel.size(); ++i) {
    out.push_back(static_cast<unsigned>(s.out(static_cast<int>(3 - param.kernel.size() + i))));
  }
  out_shapes->at(0) = out;
}

}  // namespace bmx

namespace {

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
  return guarded("QConvolution",
                 [&] { infer_qconvolution(QConvolutionParam("QConvolution", attributes), in_shapes, out_shapes); });
}

MXReturnValue create(const AttributeMap& attributes, const MXContext&, const std::vector<Shape>&,
                     const std::vector<int>, CustomStatefulOp** op) {
  return guarded("QConvolution",
                 [&] { *op = create_qconvolution("QConvolution", QConvolutionParam("QConvolution", attributes)); });
}

[[maybe_unused]] const bool kRegistered =
    register_operator({"QConvolution", "QConvolution_v1"}, create, {parse_attributes, infer_type, infer_shape});

}  // namespace
