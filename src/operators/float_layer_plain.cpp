// The float layers without oneDNN: explicit padding and the matrix products of src/kernels/training/float_conv.cpp. The
// arithmetic is always float32.
#include "kernels/training/float_conv.h"
#include "kernels/training/float_matmul.h"
#include "kernels/training/quantize.h"
#include "operators/float_layer.h"

namespace bmx {
namespace {

size_t data_size(const ConvShape& s) { return static_cast<size_t>(s.batch * s.channels * s.in_pixels()); }
size_t padded_size(const ConvShape& s) { return static_cast<size_t>(s.batch * s.channels * s.padded_pixels()); }

float* quantized_and_padded(const ConvShape& s, const QuantizedData& data, int threads, Workspace* workspace) {
  float* padded = workspace->take<float>(padded_size(s));
  const float* values = data.values;
  if (data.bits < 32) {
    float* quantized = workspace->take<float>(data_size(s));
    quantize_activation(values, quantized, data_size(s), data.bits, threads);
    values = quantized;
  }
  pad_input(s, values, data.pad, padded, threads);
  return padded;
}

}  // namespace

bool faster_than_lookups(GradientType) { return false; }

struct FloatConvolution::State {};

FloatConvolution::FloatConvolution() = default;
FloatConvolution::~FloatConvolution() = default;

size_t FloatConvolution::forward_bytes(const ConvShape& s, int) {
  return Workspace::bytes<float>(data_size(s)) + Workspace::bytes<float>(padded_size(s));
}

size_t FloatConvolution::backward_bytes(const ConvShape& s, GradientType, int threads) {
  return forward_bytes(s, threads) + Workspace::bytes<float>(padded_size(s));
}

void FloatConvolution::forward(const ConvShape& s, const QuantizedData& data, const float* weight, float* out,
                               int threads, Workspace* workspace) {
  float_conv(kernels(), s, quantized_and_padded(s, data, threads, workspace), weight, out, threads);
}

void FloatConvolution::backward(const ConvShape& s, const float* out_grad, const QuantizedData& data,
                                const float* weight, float* data_grad, float* weight_grad, GradientType, int threads,
                                Workspace* workspace) {
  if (data_grad != nullptr) {
    float* padded_grad = workspace->take<float>(padded_size(s));
    float_conv_backward_data(kernels(), s, out_grad, weight, padded_grad, threads);
    crop_input(s, padded_grad, data_grad, threads);
  }
  if (weight_grad == nullptr) return;
  float_conv_backward_weight(kernels(), s, out_grad, quantized_and_padded(s, data, threads, workspace), weight_grad,
                             threads);
}

struct FloatDense::State {};

FloatDense::FloatDense() = default;
FloatDense::~FloatDense() = default;

size_t FloatDense::forward_bytes(const DenseShape&, int) { return 0; }
size_t FloatDense::backward_bytes(const DenseShape&, GradientType, int) { return 0; }

void FloatDense::forward(const DenseShape& s, const float* data, const float* weight, float* out, int threads,
                         Workspace*) {
  float_matmul(kernels(), s.rows, s.units, s.inputs, data, s.inputs, 1, weight, 1, s.inputs, out, threads);
}

void FloatDense::backward(const DenseShape& s, const float* out_grad, const float* data, const float* weight,
                          float* data_grad, float* weight_grad, GradientType, int threads, Workspace*) {
  if (data_grad != nullptr) {
    float_matmul(kernels(), s.rows, s.inputs, s.units, out_grad, s.units, 1, weight, s.inputs, 1, data_grad, threads);
  }
  if (weight_grad == nullptr) return;
  float_matmul(kernels(), s.units, s.inputs, s.rows, out_grad, 1, s.units, data, s.inputs, 1, weight_grad, threads);
}

}  // namespace bmx
