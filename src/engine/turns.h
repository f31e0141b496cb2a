// The order in which a single thread runs the steps of a program.
//
// If each step ran as a whole, tensors larger than the second-level cache would go to the next level and come back. So
// neighbouring steps with such tensors are cut into bands of rows. A later step runs a band as soon as its input is
// ready, and reads what was just written.
#pragma once

#include <vector>

#include "engine/bound_step.h"

namespace bmx::engine {

struct Turn {
  int step;
  Share share;
};

// Bytes of tensors that a band reads and writes. A few bands fit any second-level cache.
constexpr int64_t kBandBytes = 512 << 10;

std::vector<Turn> turns(const Program& program, int64_t band_bytes = kBandBytes);

}  // namespace bmx::engine
