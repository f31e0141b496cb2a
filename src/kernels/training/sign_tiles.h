// Products of floats with signs on tiles of bfloat16 (kernels/tiles.h).
//
// A sign is exact in bfloat16. A float is the exact sum of three bfloat16 numbers, its terms: a tile of each term
// times the same tile of signs, added up as float32, is the product of the floats. Two terms are 16 bits of each
// float, one is the float in bfloat16. Infinity and NaN are their first term alone; the others are 0.
//
// The unit reads numbers below 2^-126 as 0, so that of a float below about 2^-110 the last terms are missing: a sum is
// off by less than 2^-126 for each. (A sum of that size is 0 as well.)
#pragma once

#include <cstdint>

namespace bmx {

constexpr int kTileSide = 16;                         // rows of a tile; columns of a tile of sums
constexpr int kTileDepth = 32;                        // products of a row
constexpr int kTileNumbers = kTileSide * kTileDepth;  // bfloat16 numbers of a tile
constexpr int kBlock = 2 * kTileSide;                 // rows and columns of the four tiles that are summed at a time
constexpr int kBlockNumbers = kBlock * kTileDepth;    // of two tiles, one below or beside the other
constexpr int kBlockSums = kBlock * kBlock;

// Sums of block b < blocks, rows of kBlock floats from sums + b * kBlockSums on, = or += those over steps s and terms t
// of kBlock rows of 32 floats, which lie at floats + b * block_stride + offsets[s] + t * term_stride, times the signs
// of the step.
struct TileProduct {
  const uint16_t* floats;
  int64_t block_stride, term_stride;
  int terms;
  const uint16_t* signs;  // step, half of the columns, 16 pairs of rows, column, row of the pair
  const int64_t* offsets;
  int64_t steps, blocks;
  float* sums;
  bool accumulate;
};

struct SignTiles {
  void (*product)(const TileProduct& product);

  // Rows of floats for a product. Term t of values[k * stride + i], for k < depth <= 32 and i < count, goes to
  // out[t * term_stride + rows[i] * 32 + k]; other k are 0.
  void (*split_columns)(const float* values, int64_t stride, int depth, int64_t count, int terms, const int64_t* rows,
                        uint16_t* out, int64_t term_stride);
  // Term t of values[i] goes to out[i / 32 * step_stride + t * term_stride + i % 32], i < count, count % 32 == 0.
  void (*split_row)(const float* values, int64_t count, int terms, uint16_t* out, int64_t term_stride,
                    int64_t step_stride);

  // The signs of `count` rows, count % 32 == 0: column c of row i is bit first + c of words[offsets[i]], c < 32.
  void (*expand)(const uint64_t* words, const int64_t* offsets, int64_t count, int first, uint16_t* signs);

  // out[c * out_stride + i] = factor * sums[rows[i] * kBlock + c], i < count, c < columns <= kBlock.
  void (*join)(const float* sums, const int64_t* rows, int64_t count, int columns, float factor, float* out,
               int64_t out_stride);
};

}  // namespace bmx
