// Steps without kernels for each instruction set: STORE, FILL and COPY, which only move numbers, and SOFTMAX.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// Writes the pixels first <= p < last of `out`, C x H x W floats.
void store(const nhwc::View& in, float* out, int64_t first, int64_t last);

// Fills the border in rows first <= r < last; row 0 is the top row of the border.
void fill(const Tensor& t, uint8_t* origin, int64_t first, int64_t last);

void softmax(const nhwc::View& in, const nhwc::View& out, int64_t first, int64_t last);

// Items are the combinations of the indices of all axes but the last.
void copy(const std::vector<CopyAxis>& axes, const uint8_t* in, uint8_t* out, int64_t first, int64_t last);
int64_t copy_items(const std::vector<CopyAxis>& axes);

}  // namespace bmx::engine
