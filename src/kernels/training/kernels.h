// The kernels of training, for the operators of MXNet: NCHW arrays, one table for each instruction set.
//
// Conventions of every kernel:
//  - a bit is 1 when the value is +1, that is when !(x < 0): 0, -0.0 and NaN are +1;
//  - a row of bits is a sequence of 64-bit words, bit 0 first, the unused bits of its last word 0;
//  - with `depth` words a row, popcount(a ^ b) over a row counts the differing bits: zero tails on both
//    sides cancel, and the +-1 dot product of K bits is K - 2 * popcount.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/training/elementwise.h"
#include "kernels/training/sign_lookup.h"
#include "kernels/training/sign_tiles.h"

namespace bmx {

// What becomes of a count of differing bits:
//   out = ((all - step * popcount) + bias) * scale
// with one bias and scale a row (output channel of a convolution) or a column (unit of a fully connected layer).
// all = K with step 2 is the dot product, with step 1 it is (K + dot) / 2. The inner bracket is an exact integer, so
// that a result of 0 is 0 for every instruction set, and the next layer's sign is the same everywhere.
struct Epilogue {
  float all, step;
  const float* bias;  // both null: no bias, scale 1
  const float* scale;
  bool along_rows;

  Epilogue from(size_t first) const {
    return {all, step, bias == nullptr ? nullptr : bias + first, scale == nullptr ? nullptr : scale + first,
            along_rows};
  }
};

constexpr size_t kFloatGemmScratch = 256 * (1024 + 6);

struct Kernels {
  const char* name;

  // Columns that one vector holds, and columns of one panel: the widest block that `gemm` works on.
  int lanes;
  int panel_columns;

  // words[p] bit c = !(data[c * channel_stride + p] < 0), for c < channels <= 64 and p < pixels. Returns whether every
  // value is exactly -1 or +1 (sign_check.h): then the bits are all there is to know of the data.
  bool (*pack_channels)(const float* data, size_t channel_stride, int channels, size_t pixels, uint64_t* words);

  // The opposite, as +-1 for other libraries' layouts: channel c of pixel p goes to
  // out[c / 16 * block_stride + p * pixel_stride + c % 16]; the rest of a last block of 16 becomes 0. float32, or
  // bfloat16 bit patterns.
  void (*expand_signs)(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride,
                       float* out);
  void (*expand_signs_bf16)(const uint64_t* words, size_t pixels, int channels, size_t block_stride,
                            size_t pixel_stride, uint16_t* out);

  // A row of `length` contiguous floats into ceil(length / 64) words. Returns as pack_channels.
  bool (*pack_row)(const float* data, size_t length, uint64_t* words);

  // panel[k * panel_columns + j] = words[column_offset[j] + depth_offset[k]] for j < columns, k < depth;
  // the rest of the last vector is zeros.
  void (*gather_panel)(const uint64_t* words, const int64_t* column_offset, int columns, const int64_t* depth_offset,
                       size_t depth, uint64_t* panel);

  // out[r * out_stride + j] = epilogue(popcount of rows[r * row_stride ...] ^ column j of the panel).
  void (*gemm)(const uint64_t* rows, size_t row_stride, size_t num_rows, const uint64_t* panel, size_t depth,
               int columns, const Epilogue& epilogue, float* out, size_t out_stride);

  // On one thread (elementwise.h).
  ArrayKernels arrays;

  // c (m, n) = or += a (m, k) * b (k, n) in float32, on one thread, with kFloatGemmScratch floats of scratch
  // (float_gemm_tile.h).
  void (*float_gemm)(size_t m, size_t n, size_t k, const float* a, size_t a_row, size_t a_column, const float* b,
                     size_t b_row, size_t b_column, float* c, size_t c_row, bool accumulate, float* scratch);

  // Products of floats with signs, or nullptr.
  const SignLookup* sign_lookup;

  // The same on tiles, or nullptr.
  const SignTiles* sign_tiles = nullptr;
};

// Those of the chosen instruction set (kernels/instruction_sets.h, which throws as that does).
const Kernels& kernels();

// Those of an instruction set by its name, or nullptr if this build or this machine does not have it.
const Kernels* find_kernels(const char* name);

extern const Kernels kPortableKernels;
#if BMX_X86_64
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const SignLookup kAvx2Lookup;
extern const SignLookup kAvx512Lookup;
#endif
#if BMX_AMX
extern const SignTiles kAmxSignTiles;
#endif

}  // namespace bmx
