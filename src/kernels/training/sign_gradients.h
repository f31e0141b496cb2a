// Gradients of binary convolutions: of the data, whose other operand is the signs of the weights, and of the weights,
// whose other operand is the signs of the data. Sums are of float32.
//
// On tiles (sign_tiles.h) where the instruction set has them, which alone know other types than float32; otherwise by
// lookup (sign_lookup.h). For one group and at most two spatial dimensions. A fully connected layer is a convolution of
// 1x1 images.
#pragma once

#include "kernels/training/binary_conv.h"
#include "kernels/training/gradient_type.h"

namespace bmx {

// Whether there are, and the channels are enough to fill vectors with.
bool has_sign_gradients(const Kernels& kernels, const ConvShape& shape);

// A window that the gradient of the data passes (sign_backward of quantize.h).
struct SignWindow {
  const float* data;
  float threshold;
  Estimator estimator;
};

// Scratch memory of the functions below, to be aligned to 64 bytes.
size_t sign_data_gradient_floats(const Kernels& kernels, const ConvShape& shape, GradientType type, int threads);
size_t sign_weight_gradient_floats(const Kernels& kernels, const ConvShape& shape, GradientType type, int threads);

// data_grad (batch, channels, in pixels) = factor * the gradient, from out_grad (batch, filters, out pixels) and
// weights as pack_conv_weight makes them; what of it passes the window, if that is not null.
void sign_data_gradient(const Kernels& kernels, const ConvShape& shape, const float* out_grad, const uint64_t* weight,
                        float factor, const SignWindow* window, float* data_grad, GradientType type, int threads,
                        float* scratch);

// weight_grad (filters, channels, kernel) = factor * the gradient, from out_grad and data as pack_conv_input makes
// them: what pads the images is in their bits.
void sign_weight_gradient(const Kernels& kernels, const ConvShape& shape, const float* out_grad, const uint64_t* data,
                          float factor, float* weight_grad, GradientType type, int threads, float* scratch);

}  // namespace bmx
