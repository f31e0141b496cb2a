// Products of floats with signs by lookup, the "method of four Russians".
//
// A sum of four floats with signs has 16 values. They are made once, as a table, and each column of signs then takes
// its sum from the table by an index of 4 bits. The table is a vector register and one permutation looks up a whole
// vector of columns: a permutation and an addition stand for four multiply-adds, the sums are those of float32.
//
// A table lies in memory as the tile below reads it; entry e is the sum in which float i has the sign + if bit i of e
// is set. (AVX2, whose registers hold 8 floats, has half a table, with a + before the last float: the other half is
// its negative.) Indices of 8 lookups are one 32-bit word of a column: 32 signs, bit 0 first.
#pragma once

#include <cstdint>

namespace bmx {

constexpr int kSignsPerLookup = 4;
constexpr int kSignsPerIndex = 32;
constexpr int kLookupsPerIndex = kSignsPerIndex / kSignsPerLookup;
constexpr int kMostTileRows = 8;

// out[r][c] = or += the sum over segments s and lookups l < `lookups` of
//   table(tables[r] + offsets[s] + l * table size), entry l of column c of the rows of indices from index_rows[s] on.
struct SignTile {
  const float* const* tables;
  int rows;
  int columns;  // whole vectors
  int segments;
  int64_t lookups;
  const int64_t* offsets;
  const uint32_t* indices;  // rows of `columns` words
  const int64_t* index_rows;
  float* const* out;
  bool accumulate;
};

struct SignLookup {
  int table;    // floats of a table
  int lanes;    // columns of a vector
  int rows;     // of the largest tile, up to kMostTileRows
  int columns;  // of the largest tile: 64, or a divisor

  // Table t < count, at tables + t * table_stride, is that of the floats values[t * next + i * stride], i < live <= 4;
  // the others count as 0.
  void (*make_tables)(const float* values, int64_t stride, int64_t next, int live, int64_t count, float* tables,
                      int64_t table_stride);

  // One row of indices: bit k of column c is bit first + c of words[offsets[k]], k < count <= 32; 0 for other k.
  void (*make_indices)(const uint64_t* words, const int64_t* offsets, int count, int first, int columns,
                       uint32_t* indices);

  void (*product)(const SignTile& tile);

  // out[c * out_stride + r] = factor * in[r * in_stride + c].
  void (*transpose)(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float factor, float* out,
                    int64_t out_stride);
};

}  // namespace bmx
