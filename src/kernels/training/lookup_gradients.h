// Gradients of binary convolutions by lookup (sign_lookup.h), with the arguments of sign_gradients.h.
#pragma once

#include "kernels/training/sign_gradients.h"

namespace bmx {

size_t lookup_data_gradient_floats(const Kernels& kernels, const ConvShape& shape, int threads);
size_t lookup_weight_gradient_floats(const Kernels& kernels, const ConvShape& shape, int threads);

void lookup_data_gradient(const Kernels& kernels, const ConvShape& shape, const float* out_grad, const uint64_t* weight,
                          float factor, const SignWindow* window, float* data_grad, int threads, float* scratch);

void lookup_weight_gradient(const Kernels& kernels, const ConvShape& shape, const float* out_grad, const uint64_t* data,
                            float factor, float* weight_grad, int threads, float* scratch);

}  // namespace bmx
