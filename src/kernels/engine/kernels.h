// Kernels of the engine: images are NHWC, lanes are channels.
//
// A convolution reads its input where it lies, inside a border that holds the padding: for each output pixel the taps
// are runs of consecutive elements, broadcast one by one against blocks of filters side by side. Nothing is gathered,
// and 8 or 16 channels of a result are one vector: BatchNorm, residuals and the next layer's bits are made of it in
// registers. docs/format.md defines every operation and layout; the names here are those there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/engine/operations.h"

namespace bmx::nhwc {

enum class Type : uint32_t { kF32 = 0, kBit = 1, kU8 = 2 };

// Where a tensor of one image lies. `data` is pixel (0, 0); a border of padding may lie around. Strides in bytes.
struct View {
  uint8_t* data = nullptr;
  int32_t height = 0, width = 0, channels = 0;
  int64_t row_stride = 0, pixel_stride = 0;
};

struct Window {
  int32_t kernel_h, kernel_w, stride_y, stride_x, dilate_y, dilate_x, pad_y, pad_x;
};

// An operation with its operands (operations.h).
struct EpilogueOp {
  Operation operation;
  Function function;
  const float *a = nullptr, *b = nullptr, *c = nullptr;  // its arrays of one number a channel, in their order
  float low = 0, high = 0;                               // its limits
  View tensor;                                           // strides of 0 where one number is for all pixels,
  bool one_channel = false;                              // and this where one is for all channels
};

// Everything that becomes of a result. Arrays of numbers per channel are padded to a multiple of 32.
struct Epilogue {
  const EpilogueOp* ops = nullptr;
  int num_ops = 0;
  View f32;  // stores; data is null where there is none
  View bits;
  const float* threshold = nullptr;
  const uint32_t* sign = nullptr;
  View u8;
  float inverse_scale = 0;
  int32_t zero_point = 0;
  View count_bits;  // binary convolutions only, then nothing else is set
  const int32_t* count_threshold = nullptr;
  const uint8_t* flip = nullptr;
};

struct Conv {
  View in;
  Window window;
  int32_t height, width;    // of the output
  int32_t groups, filters;  // filters of all groups
  bool run;                 // a kernel row is one run
  const uint8_t* weights;
  const int32_t* start;  // of bytes
  float all, step;       // binary
  const Epilogue* epilogue;
};

struct Pool {
  View in;
  Window window;
  int32_t height, width;
  int mode;  // 0 maximum, 1 average without padding, 2 average with
  const Epilogue* epilogue;
};

// A convolution on matrix units, where an instruction set has them (else all are null): the same results.
struct TileConv {
  // Bytes that a call needs, or -1 if this is not a convolution that it takes.
  int64_t (*scratch)(const Conv&) = nullptr;
  // Whether it is faster than the other function, of one that it takes.
  bool (*faster)(const Conv&) = nullptr;
  // Parts as of the other functions; `scratch` is at a multiple of 64 and a thread's own.
  void (*run)(const Conv&, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter,
              uint8_t* scratch) = nullptr;
};

// Each function computes a part, so that threads share a step: output pixels first <= p < last in row-major order
// (p = y * width + x), and for convolutions filters first_filter <= f < last_filter, where first_filter is a multiple
// of 64 and last_filter too, or the number of filters (with groups > 1: always all filters).
struct Kernels {
  const char* name;
  void (*conv_binary)(const Conv&, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter);
  void (*conv_f32)(const Conv&, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter);
  void (*conv_u8)(const Conv&, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter);
  // With binary weights.
  void (*conv_f32_signs)(const Conv&, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter);
  void (*conv_u8_signs)(const Conv&, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter);
  void (*depthwise)(const Conv&, int64_t first, int64_t last);  // groups and run are not read
  void (*pool)(const Pool&, int64_t first, int64_t last);
  // out = OR of the window's pixels inside the image, xor flips (null: none).
  void (*pool_bits)(const View& in, const Window&, const View& out, const uint64_t* flips, int64_t first, int64_t last);
  // A tensor through an epilogue: f32 or u8 with its scale and zero point.
  void (*map_f32)(const View& in, const Epilogue&, int64_t first, int64_t last);
  void (*map_u8)(const View& in, float scale, int32_t zero_point, const Epilogue&, int64_t first, int64_t last);
  // Planes of C x H x W floats through an epilogue.
  void (*load)(const float* in, int32_t height, int32_t width, int32_t channels, const Epilogue&, int64_t first,
               int64_t last);
  TileConv tile_binary{}, tile_u8{}, tile_u8_signs{};
};

// Those of the chosen instruction set (kernels/instruction_sets.h, which throws as that does).
const Kernels& kernels();

// Those of an instruction set by its name, or nullptr if this build or this machine does not have it.
const Kernels* find_kernels(const char* name);

extern const Kernels kPortableKernels;
#if BMX_X86_64
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#if BMX_AMX
extern const Kernels kAmxKernels;
#endif
#elif BMX_AARCH64
extern const Kernels kNeonKernels;
extern const Kernels kNeonDotKernels;
#elif BMX_ARM32
extern const Kernels kNeonKernels;
extern const Kernels kNeonFmaKernels;
#endif

}  // namespace bmx::nhwc
