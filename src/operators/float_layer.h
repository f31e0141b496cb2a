// The float side of quantized layers: products of arrays quantized to more than one bit, and gradients. The classes
// have two implementations: on oneDNN (float_*_onednn.cpp), and in plain C++ for builds without oneDNN
// (float_layer_plain.cpp).
#pragma once

#include <memory>

#include "kernels/training/conv_shape.h"
#include "kernels/training/gradient_type.h"
#include "operators/workspace.h"

namespace bmx {

// Whether float products of this type are faster than sign lookups (kernels/training/sign_gradients.h). They are in
// bfloat16 on matrix units, and where oneDNN's vectors are wider than those of the lookups.
bool faster_than_lookups(GradientType type);

// NCHW floats that are quantized to `bits` before use; 32 means no quantization. The padding is `pad`, which is
// quantized already.
struct QuantizedData {
  const float* values;
  int bits;
  float pad;
};

// One per operator instance. It keeps prepared primitives for the shapes it has seen. Thread-safe.
class FloatConvolution {
 public:
  FloatConvolution();
  ~FloatConvolution();

  // Bytes of workspace that forward and backward need.
  size_t forward_bytes(const ConvShape& shape, int threads);
  size_t backward_bytes(const ConvShape& shape, GradientType type, int threads);

  // out (batch, filters, out pixels) = data * weight.
  void forward(const ConvShape& shape, const QuantizedData& data, const float* weight, float* out, int threads,
               Workspace* workspace);

  // The gradients of that product. A null pointer means that a gradient is not wanted. `type` is the type of the
  // operands; sums are float32.
  void backward(const ConvShape& shape, const float* out_grad, const QuantizedData& data, const float* weight,
                float* data_grad, float* weight_grad, GradientType type, int threads, Workspace* workspace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct DenseShape {
  int64_t rows, units, inputs;
};

// The same for fully connected layers: data (rows, inputs), weight (units, inputs), both quantized already.
class FloatDense {
 public:
  FloatDense();
  ~FloatDense();

  size_t forward_bytes(const DenseShape& shape, int threads);
  size_t backward_bytes(const DenseShape& shape, GradientType type, int threads);

  // out (rows, units) = data * weight^T.
  void forward(const DenseShape& shape, const float* data, const float* weight, float* out, int threads,
               Workspace* workspace);

  // A null pointer means that a gradient is not wanted.
  void backward(const DenseShape& shape, const float* out_grad, const float* data, const float* weight,
                float* data_grad, float* weight_grad, GradientType type, int threads, Workspace* workspace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bmx
