// Batch normalization (Ioffe and Szegedy, 2015) of NCHW floats, and its gradients.
#pragma once

#include "kernels/training/kernels.h"
#include "kernels/training/planes.h"

namespace bmx {

// What a channel is normalized with: out = gamma (data - mean) / sqrt(variance + eps) + beta.
struct BatchNormParameters {
  const float* gamma;  // null: 1
  const float* beta;
  float eps;
};

// With the moments of the batch (the variance is the biased one), which are returned.
void batch_norm(const Kernels& kernels, const Planes& shape, const BatchNormParameters& parameters, const float* data,
                float* out, float* mean, float* variance, int threads);

// With given moments.
void batch_norm_fixed(const Kernels& kernels, const Planes& shape, const BatchNormParameters& parameters,
                      const float* data, const float* mean, const float* variance, float* out, int threads);

// The gradients. Null `mean` and `variance`: the moments are those of the batch and depend on the data.
void batch_norm_backward(const Kernels& kernels, const Planes& shape, const BatchNormParameters& parameters,
                         const float* out_grad, const float* data, const float* mean, const float* variance,
                         float* data_grad, float* gamma_grad, float* beta_grad, int threads);

}  // namespace bmx
