// The lookups of sign_lookup.h, compiled once for each instruction set by the file that includes it.
#pragma once

#include <immintrin.h>

#include "kernels/training/sign_lookup.h"

namespace bmx {

// Isa has vectors of floats and of keys (what a lookup takes of the indices), kLanes, kTable, kTileRows, kTileVectors.
template <class Isa, int Rows, int Vectors>
void sign_tile(const SignTile& t) {
  typename Isa::Floats sums[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sums[r][v] = Isa::zero();
  }
  for (int s = 0; s < t.segments; ++s) {
    const float* tables[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) tables[r] = t.tables[r] + t.offsets[s];
    const uint32_t* indices = t.indices + t.index_rows[s] * Vectors * Isa::kLanes;
    int64_t at = 0;
    for (int64_t left = t.lookups; left > 0; left -= kLookupsPerIndex, indices += Vectors * Isa::kLanes) {
      typename Isa::Keys keys[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) keys[v] = Isa::load_keys(indices + v * Isa::kLanes);
      const int64_t end = at + (left < kLookupsPerIndex ? left : kLookupsPerIndex) * Isa::kTable;
      for (; at < end; at += Isa::kTable) {
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          const auto table = Isa::load_table(tables[r] + at);
#pragma GCC unroll 8
          for (int v = 0; v < Vectors; ++v) {
            sums[r][v] = Isa::add(sums[r][v], Isa::lookup(table, keys[v]), (r + v) % 2 == 0);
            // GCC would do all permutations first, and spill them.
            asm volatile("" : "+v"(sums[r][v]));
          }
        }
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) keys[v] = Isa::next(keys[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      float* out = t.out[r] + v * Isa::kLanes;
      Isa::store(out, t.accumulate ? Isa::add(sums[r][v], Isa::load(out), false) : sums[r][v]);
    }
  }
}

template <class Isa, int Rows, int Vectors>
void sign_product_of(const SignTile& t) {
  if (t.columns == Vectors * Isa::kLanes) return sign_tile<Isa, Rows, Vectors>(t);
  if constexpr (Vectors > 1) return sign_product_of<Isa, Rows, Vectors - 1>(t);
}

template <class Isa, int Rows = Isa::kTileRows>
void sign_product(const SignTile& t) {
  if (t.rows == Rows) return sign_product_of<Isa, Rows, Isa::kTileVectors>(t);
  if constexpr (Rows > 1) return sign_product<Isa, Rows - 1>(t);
}

template <class Isa>
void make_sign_tables(const float* values, int64_t stride, int64_t next, int live, int64_t count, float* tables,
                      int64_t table_stride) {
  static const float kZero = 0;
  const float* x[kSignsPerLookup];
  int64_t step[kSignsPerLookup];
  for (int i = 0; i < kSignsPerLookup; ++i) {
    x[i] = i < live ? values + i * stride : &kZero;
    step[i] = i < live ? next : 0;
  }
  for (int64_t t = 0; t < count; ++t) {
    Isa::store(tables + t * table_stride,
               Isa::table(x[0][t * step[0]], x[1][t * step[1]], x[2][t * step[2]], x[3][t * step[3]]));
  }
}

// 8 x 8 floats: pairs, then fours, then halves change places. (A template, as all that is compiled more than once with
// different instructions: of an inline function the linker would keep one copy for all.)
template <class Isa>
void transpose_8x8(const float* in, int64_t in_stride, float factor, float* out, int64_t out_stride) {
  const __m256 scale = _mm256_set1_ps(factor);
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) a[i] = _mm256_mul_ps(scale, _mm256_loadu_ps(in + i * in_stride));
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
  }
}

template <class Isa>
void transpose_floats(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float factor, float* out,
                      int64_t out_stride) {
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
  for (int64_t c = 0; c < whole_columns; c += 8) {
    for (int64_t r = 0; r < whole_rows; r += 8) {
      transpose_8x8<Isa>(in + r * in_stride + c, in_stride, factor, out + c * out_stride + r, out_stride);
    }
  }
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = c < whole_columns ? whole_rows : 0; r < rows; ++r) {
      out[c * out_stride + r] = factor * in[r * in_stride + c];
    }
  }
}

template <class Isa>
constexpr SignLookup sign_lookup() {
  static_assert(Isa::kTileRows <= kMostTileRows);
  return {Isa::kTable,           Isa::kLanes,       Isa::kTileRows,    Isa::kTileVectors * Isa::kLanes,
          make_sign_tables<Isa>, Isa::make_indices, sign_product<Isa>, transpose_floats<Isa>};
}

}  // namespace bmx
