// A convolution and the pooling after it, a band of rows at a time (schedule.h says when and why).
#pragma once

#include <cstdint>

#include "engine/bound_step.h"

namespace bmx::engine {

class BandedPool {
 public:
  // Both bound to the same arena. Part p of a run has its band at rows p * band_rows of what the convolution gives.
  BandedPool(const BoundStep& conv, const BoundStep& pool, int band_rows)
      : conv_(conv), pool_(pool), band_rows_(band_rows) {}

  // Rows first <= r < last of what the pooling gives.
  void run(int64_t first, int64_t last, int part) const;

 private:
  const BoundStep& conv_;
  const BoundStep& pool_;
  const int64_t band_rows_;
};

}  // namespace bmx::engine
