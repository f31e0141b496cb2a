// Learned numbers of the channels of NCHW floats, and their gradients: a shift and a scale of each channel, and RPReLU,
// a PReLU between two shifts (ReActNet, arXiv:2003.03488).
#pragma once

#include "kernels/training/kernels.h"
#include "kernels/training/planes.h"

namespace bmx {

// out = data + bias.
void shift(const Kernels& kernels, const Planes& planes, const float* data, const float* bias, float* out, int threads);

// The gradient of the bias, the sums of a channel; that of the data is that of the output.
void shift_backward(const Kernels& kernels, const Planes& planes, const float* out_grad, float* bias_grad, int threads);

// out = data scale; and its gradients.
void scale(const Kernels& kernels, const Planes& planes, const float* data, const float* scale, float* out,
           int threads);
void scale_backward(const Kernels& kernels, const Planes& planes, const float* out_grad, const float* data,
                    const float* scale, float* data_grad, float* scale_grad, int threads);

struct RPReLUParameters {
  const float *shift, *slope, *offset;
};

// out = f(data + shift) + offset; f(z) = z above 0, and else slope z.
void rprelu(const Kernels& kernels, const Planes& planes, const RPReLUParameters& parameters, const float* data,
            float* out, int threads);

struct RPReLUGradients {
  float *data, *shift, *slope, *offset;
};

// At 0 the derivative of f is the slope.
void rprelu_backward(const Kernels& kernels, const Planes& planes, const RPReLUParameters& parameters,
                     const float* out_grad, const float* data, const RPReLUGradients& gradients, int threads);

}  // namespace bmx
