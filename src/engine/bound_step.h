// A step with all its pointers into one arena, ready to call its kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// A share of a step: a range of its items and, in a convolution, of its filters. Items are pixels of the result, rows
// in a FILL, and in a COPY the combinations of indices of all axes but the last.
struct Share {
  int64_t first, last;
  int32_t first_filter, last_filter;
};

Share whole(const Program& program, const Step& step);

// Cuts a step into shares for `threads` threads. Each thread owns consecutive shares: the first thread the first ones.
std::vector<Share> shares_of(const Program& program, const Step& step, int threads);

// The caller's arrays. Each holds one image after the other.
struct Images {
  const float* const* inputs;
  float* const* outputs;
};

class BoundStep {
 public:
  // `arena` starts at a multiple of 64.
  void bind(const Program& program, const Step& step, uint8_t* arena);
  // Bytes of memory that `run` needs besides, for each thread.
  int64_t scratch() const { return scratch_; }
  // `scratch` starts at a multiple of 64.
  void run(const Share& share, const Images& images, int64_t image, uint8_t* scratch) const;

 private:
  void bind_epilogue(const Program& program, const Step& step, uint8_t* arena);

  const nhwc::Kernels* kernels_ = nullptr;
  decltype(nhwc::Kernels::conv_binary) kernel_ = nullptr;  // in a CONV, the kernel of its arithmetic
  decltype(nhwc::TileConv::run) tiles_ = nullptr;          // the same on tiles, where these are faster
  int64_t scratch_ = 0;
  const Step* step_ = nullptr;
  const Tensor* tensor_ = nullptr;  // the tensor that a FILL fills or a MAP reads
  int64_t array_size_ = 0;          // in LOAD and STORE: numbers per image
  nhwc::View in_, out_;
  nhwc::Conv conv_{};
  nhwc::Pool pool_{};
  nhwc::Epilogue epilogue_;
  std::vector<nhwc::EpilogueOp> ops_;
};

}  // namespace bmx::engine
