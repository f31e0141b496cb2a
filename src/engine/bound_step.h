// A step with all pointers into one arena: what is left to do is to call its kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// A share of a step: its items (pixels of the result; of a FILL rows; of a COPY numbers but for the last axis) and, of
// a convolution, filters.
struct Share {
  int64_t first, last;
  int32_t first_filter, last_filter;
};

Share whole(const Program& program, const Step& step);

// The whole step in as many shares as some threads take one after the other: the first are those of the first thread.
std::vector<Share> shares_of(const Program& program, const Step& step, int threads);

// The arrays that a program hands over, one image after the other in each.
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
  decltype(nhwc::Kernels::conv_binary) kernel_ = nullptr;  // of a CONV's arithmetic
  decltype(nhwc::TileConv::run) tiles_ = nullptr;          // the same on tiles, where these are faster
  int64_t scratch_ = 0;
  const Step* step_ = nullptr;
  const Tensor* tensor_ = nullptr;  // that a FILL fills or a MAP reads
  int64_t array_size_ = 0;          // of LOAD and STORE
  nhwc::View in_, out_;
  nhwc::Conv conv_{};
  nhwc::Pool pool_{};
  nhwc::Epilogue epilogue_;
  std::vector<nhwc::EpilogueOp> ops_;
};

}  // namespace bmx::engine
