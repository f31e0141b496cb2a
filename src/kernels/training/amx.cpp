// Products of floats with signs for AMX, conversions for AVX-512. (A processor with AMX has both.)
#include <immintrin.h>

#include "kernels/training/kernels.h"
#include "kernels/training/sign_tiles_kernels.h"

namespace bmx {
namespace {

inline __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : (1u << count) - 1);
}

// 16 x 16 numbers of 32 bits: ones, pairs, fours, then eights change places.
BMX_INLINE void transpose(__m512i (&x)[16]) {
  __m512i y[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i % 8 >= 4) continue;
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 8; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
  }
}

struct Conversion {
  // As PortableTileConversion::Terms, of 16 floats.
  struct Terms {
    __m512 x;
    __mmask16 finite;

    explicit Terms(__m512 values) : finite(static_cast<__mmask16>(~_mm512_fpclass_ps_mask(values, 0x99))) {
      const __mmask16 nan = _mm512_fpclass_ps_mask(values, 0x81);
      const __m512i bits = _mm512_castps_si512(values);
      x = _mm512_castsi512_ps(_mm512_mask_or_epi32(bits, nan, bits, _mm512_set1_epi32(0x400000)));
    }
    // In upper halves.
    __m512i next(bool last) {
      const __m512i bits = _mm512_castps_si512(x);
      if (last) {
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        return _mm512_mask_add_epi32(bits, finite, bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
      }
      const __m512i term = _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
      x = _mm512_maskz_sub_ps(finite, x, _mm512_castsi512_ps(term));
      return term;
    }
  };

  template <int Count>
  static void split_columns_of(const float* values, int64_t stride, int depth, int64_t count, const int64_t* rows,
                               uint16_t* out, int64_t term_stride) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    for (int64_t i = 0; i < count; i += 16) {
      const __mmask16 valid = first_lanes(count - i);
      __m512i pairs[Count][16];
      for (int k = 0; k < kTileDepth; k += 2) {
        const float* even = values + k * stride + i;
        Terms a(_mm512_maskz_loadu_ps(k < depth ? valid : 0, even));
        Terms b(_mm512_maskz_loadu_ps(k + 1 < depth ? valid : 0, even + stride));
#pragma GCC unroll 3
        for (int t = 0; t < Count; ++t) {
          const __m512i low = _mm512_srli_epi32(a.next(t + 1 == Count), 16);
          pairs[t][k / 2] = _mm512_or_si512(low, _mm512_and_si512(b.next(t + 1 == Count), upper));
        }
      }
      const int live = static_cast<int>(count - i < 16 ? count - i : 16);
      for (int t = 0; t < Count; ++t) {
        transpose(pairs[t]);
        uint16_t* target = out + t * term_stride;
        if (live == 16) {
#pragma GCC unroll 16
          for (int r = 0; r < 16; ++r) _mm512_storeu_si512(target + rows[i + r] * kTileDepth, pairs[t][r]);
        } else {
          for (int r = 0; r < live; ++r) _mm512_storeu_si512(target + rows[i + r] * kTileDepth, pairs[t][r]);
        }
      }
    }
  }

  static void split_columns(const float* values, int64_t stride, int depth, int64_t count, int terms,
                            const int64_t* rows, uint16_t* out, int64_t term_stride) {
    if (terms == 1) return split_columns_of<1>(values, stride, depth, count, rows, out, term_stride);
    if (terms == 2) return split_columns_of<2>(values, stride, depth, count, rows, out, term_stride);
    split_columns_of<3>(values, stride, depth, count, rows, out, term_stride);
  }

  static void split_row(const float* values, int64_t count, int terms, uint16_t* out, int64_t term_stride,
                        int64_t step_stride) {
    for (int64_t i = 0; i < count; i += kTileDepth, out += step_stride) {
      Terms a(_mm512_loadu_ps(values + i)), b(_mm512_loadu_ps(values + i + 16));
      for (int t = 0; t < terms; ++t) {
        const __m256i low = _mm512_cvtepi32_epi16(_mm512_srli_epi32(a.next(t + 1 == terms), 16));
        const __m256i high = _mm512_cvtepi32_epi16(_mm512_srli_epi32(b.next(t + 1 == terms), 16));
        _mm512_storeu_si512(out + t * term_stride, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
      }
    }
  }

  static void expand(const uint64_t* words, const int64_t* offsets, int64_t count, int first, uint16_t* signs) {
    const __m512i minus = _mm512_set1_epi32(static_cast<int>(0xbf80bf80u));
    const __m512i low = _mm512_set1_epi32(0x8000), high = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    const auto pair = [&](uint64_t a, uint64_t b) {
      const __m512i half = _mm512_mask_xor_epi32(minus, static_cast<__mmask16>(a), minus, low);
      return _mm512_mask_xor_epi32(half, static_cast<__mmask16>(b), half, high);
    };
    for (int64_t i = 0; i < count; i += kTileDepth, signs += kBlockNumbers) {
#pragma GCC unroll 4
      for (int k = 0; k < kTileSide; ++k) {
        const uint64_t a = words[offsets[i + 2 * k]] >> first, b = words[offsets[i + 2 * k + 1]] >> first;
        _mm512_storeu_si512(signs + k * kTileDepth, pair(a, b));
        _mm512_storeu_si512(signs + kTileNumbers + k * kTileDepth, pair(a >> 16, b >> 16));
      }
    }
  }

  static void join(const float* sums, const int64_t* rows, int64_t count, int columns, float factor, float* out,
                   int64_t out_stride) {
    const __m512 scale = _mm512_set1_ps(factor);
    for (int c = 0; c < columns; c += 16) {
      const int live = columns - c < 16 ? columns - c : 16;
      for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 valid = first_lanes(count - i);
        __m512i x[16];
#pragma GCC unroll 16
        for (int r = 0; r < 16; ++r) {
          // (Beyond the last row, any: they are not stored.)
          const int64_t row = rows[i + r < count ? i + r : count - 1];
          x[r] = _mm512_loadu_si512(sums + row * kBlock + c);
        }
        transpose(x);
        float* target = out + c * out_stride + i;
        if (live == 16) {
#pragma GCC unroll 16
          for (int k = 0; k < 16; ++k) {
            _mm512_mask_storeu_ps(target + k * out_stride, valid, _mm512_mul_ps(scale, _mm512_castsi512_ps(x[k])));
          }
        } else {
          for (int k = 0; k < live; ++k) {
            _mm512_mask_storeu_ps(target + k * out_stride, valid, _mm512_mul_ps(scale, _mm512_castsi512_ps(x[k])));
          }
        }
      }
    }
  }
};

}  // namespace

constexpr SignTiles kAmxSignTiles = SignTileKernels<AmxTiles, Conversion>::table();

}  // namespace bmx
