// The weights of a convolution as docs/format.md lays them out: blocks of filters, runs, elements.
#pragma once

#include <cstdint>

#include "engine/program.h"

namespace bmx::engine {

class WeightLayout {
 public:
  // The window, groups, filters and run of the step must be known.
  WeightLayout(const Step& step, const Tensor& in);

  // Size of the weights, and how many numbers `start` has. Each is kHuge if it does not fit 64 bits.
  int64_t bytes() const;
  int64_t starts() const;

  // Throws Refusal if bits beyond the last filter, channel or the end of a run are not 0, because kernels multiply
  // them.
  void check_zeros(const uint8_t* weights) const;
  // For inputs of bytes. Throws Refusal if a filter's sums may not fit 32 bits, or if `start` does not match the
  // weights.
  void check_start(const uint8_t* weights, const int32_t* start, int32_t zero_point) const;

 private:
  int64_t block_bytes() const { return elements_ * spans_ * element_bytes(); }
  int64_t element_bytes() const { return block_filters_ * bits_ / 8; }
  int64_t filters_of(int64_t block) const;  // without padding

  Arithmetic arithmetic_;
  int64_t groups_;
  int64_t filters_, blocks_;  // per group
  int64_t block_filters_;     // filters per block
  int64_t bits_;              // bits of an element per filter
  int64_t spans_;             // spans of elements in a block: runs, or taps if binary
  int64_t elements_;          // elements per span
  int64_t last_;              // used bits per filter in the last element of a span
  int64_t inputs_;            // weights per filter
};

}  // namespace bmx::engine
