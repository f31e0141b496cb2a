// The order in which one thread takes the steps of a program.
//
// Step by step, tensors that are larger than a second-level cache go to the next one and come back. So neighbouring
// steps with such tensors are cut into bands of rows, and a later step takes each band as soon as what it needs is
// there: it reads what was just written.
#pragma once

#include <vector>

#include "engine/bound_step.h"

namespace bmx::engine {

struct Turn {
  int step;
  Share share;
};

// Bytes of tensors that a band reads and writes: a few of them fit any second-level cache.
constexpr int64_t kBandBytes = 512 << 10;

std::vector<Turn> turns(const Program& program, int64_t band_bytes = kBandBytes);

}  // namespace bmx::engine
