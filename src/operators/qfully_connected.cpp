// QFullyConnected. Forward with 1/1 bits: popcount arithmetic on packed bits, (D + dot) / 2 = D - popcount(x ^ w)
// exactly. Forward with other bit widths: a float product of the quantized arrays. Backward: as in QConvolution.
#include <algorithm>

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

struct Sizes {
  size_t rows = 1, inputs = 1, units = 0;
  size_t depth() const { return (inputs + 63) / 64; }
  DenseShape dense() const {
    return {static_cast<int64_t>(rows), static_cast<int64_t>(units), static_cast<int64_t>(inputs)};
  }
};

// The sizes as a convolution of 1x1 images, and back.
ConvShape images(const Sizes& s) {
  ConvShape shape;
  shape.batch = static_cast<int64_t>(s.rows);
  shape.channels = static_cast<int64_t>(s.inputs);
  shape.filters = static_cast<int64_t>(s.units);
  return shape;
}
Sizes sizes_of(const ConvShape& shape) {
  return {static_cast<size_t>(shape.batch), static_cast<size_t>(shape.channels), static_cast<size_t>(shape.filters)};
}

Sizes sizes_of(const QFullyConnectedParam& param, const std::vector<int64_t>& data) {
  if (data.size() < 2 && param.flatten) {
    throw std::invalid_argument("data has shape " + to_string(data) + "; at least 2 dimensions are needed");
  }
  Sizes s;
  s.units = static_cast<size_t>(param.num_hidden);
  const size_t row_dims = param.flatten ? 1 : data.size() - 1;
  for (size_t i = 0; i < data.size(); ++i) (i < row_dims ? s.rows : s.inputs) *= static_cast<size_t>(data[i]);
  if (s.inputs == 0)
    throw std::invalid_argument("data has shape " + to_string(data) + "; it must have at least one input");
  return s;
}

class QFullyConnected final : public QLayer {
 public:
  QFullyConnected(const char* name, QFullyConnectedParam param) : QLayer(name, param), param_(std::move(param)) {}

 private:
  void forward(Tensors* inputs, float* out, const Resource& resource) override {
    const Sizes s = sizes_of(param_, inputs->at(kData).shape);
    const float* bias = param_.no_bias ? nullptr : floats(inputs->at(kBias));
    const float* data = floats(inputs->at(kData));
    MXTensor* weight = &inputs->at(kWeight);
    if (param_.binary() && forward_binary(s, data, weight, bias, out, resource)) return;
    forward_float(s, data, weight, bias, out, resource);
  }

  // Does nothing and returns false if the data are not signs and the layer must not binarize them.
  bool forward_binary(const Sizes& s, const float* data, MXTensor* weight, const float* bias, float* out,
                      const Resource& resource) {
    const Kernels& k = kernels();
    const int threads = num_threads();
    const size_t data_words = s.rows * s.depth(), weight_words = s.units * s.depth();
    Workspace memory =
        workspace(Workspace::bytes<uint64_t>(data_words) + Workspace::bytes<uint64_t>(weight_words), resource);
    uint64_t* x = memory.take<uint64_t>(data_words);
    const bool signs = pack_rows(k, data, s.rows, s.inputs, x, threads, other_values());
    if (!signs && other_values() == OtherValues::kGiveUp) return false;
    const uint64_t* bits;
    PackedCache::Words kept;
    if (param_.binarized_weights_only) {
      kept = packed(images(s), weight);
      bits = kept->get();
    } else {
      uint64_t* own = memory.take<uint64_t>(weight_words);
      pack_rows(k, floats(*weight), s.units, s.inputs, own, threads);
      bits = own;
    }
    Buffer<float> scales;
    if (bias != nullptr) {
      scales = Buffer<float>(s.units);
      std::fill(scales.get(), scales.get() + s.units, 1.0f);
    }
    const float step = param_.offset() ? 1.0f : 2.0f;
    binary_matmul(k, x, bits, s.rows, s.units, s.depth(),
                  {static_cast<float>(s.inputs), step, bias, scales.get(), false}, out, threads);
    return true;
  }

  void forward_float(const Sizes& s, const float* data, MXTensor* weight, const float* bias, float* out,
                     const Resource& resource) {
    const int threads = num_threads();
    Workspace memory = workspace(quantized_bytes(s) + float_.forward_bytes(s.dense(), threads), resource);
    const float* x = quantized_data(s, data, &memory);
    const float* w = param_.binarized_weights_only ? expanded(s, packed(images(s), weight)->get(), &memory)
                                                   : quantized_weight(s, floats(*weight), &memory);
    float_.forward(s.dense(), x, w, out, threads, &memory);
    const FloatEpilogue epilogue{static_cast<float>(s.inputs), param_.offset(), bias, 1};
    for (size_t i = 0; !epilogue.nothing() && i < s.rows * s.units; ++i) epilogue.apply(out + i, 1, i % s.units);
  }

  ConvShape shape_of(const std::vector<int64_t>& data) const override { return images(sizes_of(param_, data)); }
  bool pad_bit() const override { return true; }
  float weight_scale(const ConvShape&, const float*) const override { return 1; }

  size_t float_backward_bytes(const ConvShape& shape, int threads) override {
    const Sizes s = sizes_of(shape);
    return quantized_bytes(s) + float_.backward_bytes(s.dense(), param_.gradient_type, threads);
  }

  void float_backward(const ConvShape& shape, const FloatPass& pass, int threads, Workspace* memory) override {
    const Sizes s = sizes_of(shape);
    const float* used = pass.weight;
    if (pass.weight == nullptr) {
      used = expanded(s, pass.packed, memory);
    } else if (!pass.latent) {
      used = quantized_weight(s, pass.weight, memory);
    }
    float_.backward(s.dense(), pass.out_grad, quantized_data(s, pass.data, memory), used, pass.data_grad,
                    pass.weight_grad, param_.gradient_type, threads, memory);
    if (pass.data_grad != nullptr) multiply(pass.data_grad, s.rows * s.inputs, pass.scale);
  }

  // Workspace of quantized_data and quantized_weight.
  static size_t quantized_bytes(const Sizes& s) {
    return Workspace::bytes<float>(s.rows * s.inputs) + Workspace::bytes<float>(s.units * s.inputs);
  }

  const float* quantized_data(const Sizes& s, const float* data, Workspace* workspace) const {
    if (param_.data_bits() == 32) return data;
    float* x = workspace->take<float>(s.rows * s.inputs);
    quantize_activation(data, x, s.rows * s.inputs, param_.data_bits(), num_threads());
    return x;
  }

  const float* quantized_weight(const Sizes& s, const float* weight, Workspace* workspace) const {
    float* w = workspace->take<float>(s.units * s.inputs);
    quantize_weight(weight, w, s.units * s.inputs, param_.weight_bit);
    return w;
  }

  static const float* expanded(const Sizes& s, const uint64_t* bits, Workspace* workspace) {
    float* w = workspace->take<float>(s.units * s.inputs);
    for (size_t u = 0; u < s.units; ++u) {
      for (size_t i = 0; i < s.inputs; ++i) {
        w[u * s.inputs + i] = (bits[u * s.depth() + i / 64] >> (i % 64)) & 1 ? 1.0f : -1.0f;
      }
    }
    return w;
  }

  PackedCache::Words packed(const ConvShape& shape, MXTensor* weight) override {
    const Sizes s = sizes_of(shape);
    return packed_weight(
        weight, s.units * s.depth(),
        [&](int word_bits) { return interchange_dense_words(s.units, s.inputs, word_bits); },
        [&](const void* words, int word_bits, uint64_t* target) {
          unpack_dense_weight(s.units, s.inputs, words, word_bits, target);
        });
  }

  const QFullyConnectedParam param_;
  FloatDense float_;
};

}  // namespace

namespace bmx {

mxnet::ext::CustomStatefulOp* create_qfully_connected(const char* name, const QFullyConnectedParam& param) {
  return CustomStatefulOp::create<QFullyConnected>(name, param);
}

void infer_qfully_connected(const QFullyConnectedParam& param, std::vector<Shape>* in_shapes,
                            std::vector<Shape>* out_shapes) {
  const Shape& data = in_shapes->at(kData);
  const Sizes s = sizes_of(param, known_data_shape(data));
  const auto units = static_cast<int64_t>(s.units), inputs = static_cast<int64_t>(s.inputs);
  if (param.binarized_weights_only) {
    assign_packed_shape({units, (inputs + 31) / 32}, interchange_dense_words(s.units, s.inputs, 32),
                        interchange_dense_words(s.units, s.inputs, 64), &in_shapes->at(kWeight));
  } else {
    assign_shape("weight", {units, inputs}, &in_shapes->at(kWeight));
  }
  if (!param.no_bias) assign_shape("bias", {units}, &in_shapes->at(kBias));
  Shape out(data.begin(), param.flatten ? data.begin() + 1 : data.end() - 1);
  out.push_back(static_cast<unsigned>(s.units));
  out_shapes->at(0) = out;
}

}  // namespace bmx

namespace {

MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded("QFullyConnected", [&] {
    *num_inputs = QFullyConnectedParam("QFullyConnected", attributes).num_inputs();
    *num_outputs = 1;
  });
}

MXReturnValue infer_type(const AttributeMap& attributes, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded("QFullyConnected", [&] {
    const QFullyConnectedParam param("QFullyConnected", attributes);
    infer_float32({"data", "weight", "bias"}, param.binarized_weights_only, in_types, out_types);
  });
}

MXReturnValue infer_shape(const AttributeMap& attributes, std::vector<Shape>* in_shapes,
                          std::vector<Shape>* out_shapes) {
  return guarded("QFullyConnected", [&] {
    infer_qfully_connected(QFullyConnectedParam("QFullyConnected", attributes), in_shapes, out_shapes);
  });
}

MXReturnValue create(const AttributeMap& attributes, const MXContext&, const std::vector<Shape>&,
                     const std::vector<int>, CustomStatefulOp** op) {
  return guarded("QFullyConnected", [&] {
    *op = create_qfully_connected("QFullyConnected", QFullyConnectedParam("QFullyConnected", attributes));
  });
}

[[maybe_unused]] const bool kRegistered =
    register_operator({"QFullyConnected"}, create, {parse_attributes, infer_type, infer_shape});

}  // namespace
