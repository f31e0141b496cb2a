// Float convolution and its gradients on a padded input, as matrix products over column buffers: the path of
// layers with more than one bit, and of the gradients. Plain and exact; nothing here is tuned.
#pragma once

#include "kernels/training/conv_shape.h"
#include "kernels/training/kernels.h"

namespace bmx {

// (batch, channels, in) to (batch, channels, padded in) with `pad_value` outside, and back again: only the
// pixels of the image (what a gradient says of the padding goes nowhere).
void pad_input(const ConvShape& shape, const float* data, float pad_value, float* padded, int threads);
void crop_input(const ConvShape& shape, const float* padded, float* data, int threads);

// out (batch, filters, out pixels) = padded input * weight.
void float_conv(const Kernels& kernels, const ConvShape& shape, const float* padded, const float* weight, float* out,
                int threads);

// The gradient of the padded input, and of the weight, from the gradient of the output.
void float_conv_backward_data(const Kernels& kernels, const ConvShape& shape, const float* out_grad,
                              const float* weight, float* padded_grad, int threads);
void float_conv_backward_weight(const Kernels& kernels, const ConvShape& shape, const float* out_grad,
                                const float* padded, float* weight_grad, int threads);

// bias_grad (filters) = sum of out_grad over batch and pixels.
void bias_backward(const float* out_grad, int64_t batch, int64_t filters, int64_t pixels, float* bias_grad);

}  // namespace bmx
