// The weights of a convolution as docs/format.md lays them out: blocks of filters, runs, elements.
#pragma once

#include <cstdint>

#include "engine/program.h"

namespace bmx::engine {

class WeightLayout {
 public:
  // Of a step whose window, groups, filters and run are known.
  WeightLayout(const Step& step, const Tensor& in);

  // Size of the weights, and how many numbers `start` has. Either is huge where it does not fit 64 bits.
  int64_t bytes() const;
  int64_t starts() const;

  // Throws Refusal if bits beyond the last filter, channel or the end of a run are not 0: kernels multiply them.
  void check_zeros(const uint8_t* weights) const;
  // Of bytes: throws Refusal if 32 bits do not hold a filter's sums, or if `start` is not what belongs to its weights.
  void check_start(const uint8_t* weights, const int32_t* start, int32_t zero_point) const;

 private:
  int64_t block_bytes() const { return elements_ * spans_ * element_bytes(); }
  int64_t element_bytes() const { return block_filters_ * bits_ / 8; }
  int64_t filters_of(int64_t block) const;  // that there are

  Arithmetic arithmetic_;
  int64_t groups_, filters_, blocks_;  // filters and blocks of a group
  int64_t block_filters_;
  int64_t bits_;             // of an element for a filter
  int64_t spans_;            // of elements, the last of which may be used in part: runs, or taps if binary
  int64_t elements_, last_;  // of a span; bits of its last one that are used
  int64_t inputs_;           // numbers that a filter has
};

}  // namespace bmx::engine
