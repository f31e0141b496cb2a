// A plain float32 matrix product, compiled once for each instruction set by the file that includes it.
// It serves layers of more than one bit and the gradients where oneDNN is not at hand.
#pragma once

#include "kernels/training/kernels.h"

namespace bmx {

// c (m, n), row stride c_row, = or += a (m, k) * b (k, n); a and b by row and column strides, so that
// transposes are views. Isa is a tag that gives each instruction set its own instance.
template <class Isa>
void float_gemm(size_t m, size_t n, size_t k, const float* a, size_t a_row, size_t a_column, const float* b,
                size_t b_row, size_t b_column, float* c, size_t c_row, bool accumulate, float* scratch) {
  constexpr size_t kRows = 6, kColumns = 16;     // accumulators of a tile: 12 AVX2 or 6 AVX-512 registers
  constexpr size_t kDepth = 256, kWidth = 1024;  // a block of b: 1 MiB, the size of a second-level cache
  static_assert(kDepth * (kWidth + kRows) == kFloatGemmScratch, "kernels.h says how much scratch");
  float *a_tile = scratch, *b_block = scratch + kDepth * kRows;
  for (size_t k0 = 0; k0 < k || k0 == 0; k0 += kDepth) {
    const size_t depth = k - k0 < kDepth ? k - k0 : kDepth;
    const bool add = accumulate || k0 > 0;
    for (size_t n0 = 0; n0 < n; n0 += kWidth) {
      const size_t width = n - n0 < kWidth ? n - n0 : kWidth;
      for (size_t j = 0; j < width; j += kColumns) {  // panels of kColumns, short ones filled with zeros
        float* panel = b_block + j * depth;
        for (size_t p = 0; p < depth; ++p) {
          const float* source = b + (k0 + p) * b_row + (n0 + j) * b_column;
          for (size_t jj = 0; jj < kColumns; ++jj) {
            panel[p * kColumns + jj] = j + jj < width ? source[jj * b_column] : 0.0f;
          }
        }
      }
      for (size_t i = 0; i < m; i += kRows) {
        const size_t rows = m - i < kRows ? m - i : kRows;
        for (size_t p = 0; p < depth; ++p) {
          for (size_t ii = 0; ii < kRows; ++ii) {
            a_tile[p * kRows + ii] = ii < rows ? a[(i + ii) * a_row + (k0 + p) * a_column] : 0.0f;
          }
        }
        for (size_t j = 0; j < width; j += kColumns) {
          const float* panel = b_block + j * depth;
          float acc[kRows][kColumns] = {};
          for (size_t p = 0; p < depth; ++p) {
#pragma GCC unroll 8
            for (size_t ii = 0; ii < kRows; ++ii) {
              const float x = a_tile[p * kRows + ii];
#pragma GCC unroll 16
              for (size_t jj = 0; jj < kColumns; ++jj) acc[ii][jj] += x * panel[p * kColumns + jj];
            }
          }
          const size_t columns = width - j < kColumns ? width - j : kColumns;
          for (size_t ii = 0; ii < rows; ++ii) {
            float* out = c + (i + ii) * c_row + n0 + j;
            for (size_t jj = 0; jj < columns; ++jj) out[jj] = add ? out[jj] + acc[ii][jj] : acc[ii][jj];
          }
        }
      }
    }
  }
}

}  // namespace bmx
