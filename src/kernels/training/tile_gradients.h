// Gradients of binary convolutions on tiles (sign_tiles.h), with the arguments of sign_gradients.h. `terms`: bfloat16
// numbers that each float is split into.
#pragma once

#include "kernels/training/sign_gradients.h"

namespace bmx {

size_t tile_data_gradient_floats(const ConvShape& shape, int terms, int threads);
size_t tile_weight_gradient_floats(const ConvShape& shape, int terms, int threads);

void tile_data_gradient(const Kernels& kernels, const ConvShape& shape, const float* out_grad, const uint64_t* weight,
                        float factor, const SignWindow* window, float* data_grad, int terms, int threads,
                        float* scratch);

void tile_weight_gradient(const Kernels& kernels, const ConvShape& shape, const float* out_grad, const uint64_t* data,
                          float factor, float* weight_grad, int terms, int threads, float* scratch);

}  // namespace bmx
