// The steps that move numbers and need no kernels of an instruction set: STORE, FILL, COPY, and SOFTMAX.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// out, C x H x W floats, of pixels first <= p < last.
void store(const nhwc::View& in, float* out, int64_t first, int64_t last);

// The border of rows first <= r < last, where row 0 is the highest of the border.
void fill(const Tensor& t, uint8_t* origin, int64_t first, int64_t last);

void softmax(const nhwc::View& in, const nhwc::View& out, int64_t first, int64_t last);

// Items are all combinations of the indices but the last axis's.
void copy(const std::vector<CopyAxis>& axes, const uint8_t* in, uint8_t* out, int64_t first, int64_t last);
int64_t copy_items(const std::vector<CopyAxis>& axes);

}  // namespace bmx::engine
