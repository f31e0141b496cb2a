// A compiled network, parsed: the tensors and steps of docs/format.md, under the same names.
//
// Strings and weights are pointers into the bytes of the file.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/engine/kernels.h"

namespace bmx::engine {

constexpr int kNone = -1;  // no tensor

// An input or output of the network.
struct Array {
  const char* name = "";
  int dims = 0;
  std::array<int64_t, 4> shape{};
  int64_t size = 0;  // numbers per image
};

struct Tensor {
  const char* name = "";
  nhwc::Type type = nhwc::Type::kF32;
  int32_t height = 0, width = 0, channels = 0;
  int32_t above = 0, left = 0, below = 0, right = 0;  // sizes of the border
  uint32_t border = 0;                                // the value in the border
  int64_t offset = 0, row_stride = 0, pixel_stride = 0;
  float scale = 0;
  int32_t zero_point = 0;

  int64_t pixels() const { return int64_t{height} * width; }
  // Bytes of the first `n` channels of a pixel.
  int64_t bytes_of(int64_t n) const {
    return type == nhwc::Type::kF32 ? 4 * n : (type == nhwc::Type::kBit ? (n + 63) / 64 * 8 : n);
  }
  int64_t pixel_bytes() const { return bytes_of(channels); }
};

enum class Kind : uint32_t { kLoad = 1, kStore, kFill, kConv, kDepthwise, kPool, kPoolBits, kMap, kSoftmax, kCopy };
constexpr uint32_t kKinds = 10;
const char* kind_name(Kind kind);

enum class Arithmetic : uint32_t { kBinary = 0, kFloat = 1, kInt8 = 2, kFloatSigns = 3, kInt8Signs = 4 };

struct Operation {
  nhwc::EpilogueOp op;  // without its tensor, which only has an address once there is an arena
  int tensor = kNone;
};

struct Epilogue {
  std::vector<Operation> ops;
  int f32 = kNone, bits = kNone, u8 = kNone, count_bits = kNone;
  nhwc::Epilogue stores;  // without ops and tensors
};

struct CopyAxis {
  int64_t size, stride_in, stride_out;
};
constexpr int kCopyAxes = 6;

// One type for all kinds. Each kind uses the fields that docs/format.md lists for it.
struct Step {
  Kind kind = Kind::kLoad;
  const char* name = "";
  int in = kNone, out = kNone;
  uint32_t array = 0;                           // number of the input or output
  int32_t height = 0, width = 0, channels = 0;  // size of the result
  nhwc::Window window{};
  Arithmetic arithmetic = Arithmetic::kBinary;
  nhwc::Conv conv{};  // groups, filters, run, weights, start, all, step
  int mode = 0;
  const uint64_t* flips = nullptr;
  std::vector<CopyAxis> axes;
  Epilogue epilogue;
  int64_t macs = 0;   // multiply-adds
  int64_t bytes = 0;  // bytes of tensors and weights that are read and written
};

struct Program {
  const char* name = "";
  std::vector<Array> inputs, outputs;
  std::vector<Tensor> tensors;
  std::vector<Step> steps;
  int64_t arena = 0;
};

}  // namespace bmx::engine
