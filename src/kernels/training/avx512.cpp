// Kernels for AVX-512 with VPOPCNTDQ (Intel since Ice Lake, AMD since Zen 4).
//
// 5 x 4 accumulators of 512 bits, 4 vectors of the panel and one broadcast word make 25 of the 32 registers.
// One step is 20 xor + popcnt + add on 9 loads: bound by arithmetic, not by loads.
#include <immintrin.h>

#include "kernels/popcount_avx512.h"
#include "kernels/training/elementwise.h"
#include "kernels/training/float_gemm_tile.h"
#include "kernels/training/gemm_tile.h"
#include "kernels/training/sign_check.h"

namespace bmx {
namespace {

inline __mmask8 first_lanes(int lanes) { return static_cast<__mmask8>((1u << lanes) - 1); }

inline __mmask16 first_floats(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }

struct Avx512 {
  static constexpr int kLanes = 8;
  static constexpr int kMaxRows = 5;
  static constexpr int kMaxVectors = 4;
  static constexpr int kChunk = 0;
  using Words = __m512i;
  using Sums = __m512i;
  using Partial = __m512i;
  using Floats = __m512;

  static Partial zero_partial() { return _mm512_setzero_si512(); }
  static Words load(const uint64_t* p) { return _mm512_load_si512(p); }
  static Words broadcast(const uint64_t* p) { return _mm512_set1_epi64(static_cast<int64_t>(*p)); }
  static Partial add_popcount(Partial acc, Words a, Words b) { return PopcountAvx512::add(acc, a, b); }
  // The sums are below 2^31: their low halves are all of them.
  static Floats to_floats(Sums a, Sums b) {
    const __m512i low_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_cvtepi32_ps(_mm512_permutex2var_epi32(a, low_halves, b));
  }
  static Floats splat(float x) { return _mm512_set1_ps(x); }
  static Floats load_floats(const float* p, int lanes) { return _mm512_maskz_loadu_ps(first_floats(lanes), p); }
  // a - b * c
  static Floats minus_product(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(b, c, a); }
  static Floats plus(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static void store(float* p, Floats y, int lanes) {
    if (lanes == 2 * kLanes) {
      _mm512_storeu_ps(p, y);
    } else {
      _mm512_mask_storeu_ps(p, first_floats(lanes), y);
    }
  }
};

constexpr int kPanelColumns = Avx512::kLanes * Avx512::kMaxVectors;

// Gathers sign_difference of sign_check.h: others | (x ^ 1) is one instruction, of truth table 0xf6.
struct SignCheck {
  __m512i others = _mm512_setzero_si512();

  void add(__m512 x, __mmask16 valid) {
    const __m512i one = _mm512_castps_si512(_mm512_set1_ps(1));
    others = _mm512_mask_ternarylogic_epi32(others, valid, _mm512_castps_si512(x), one, 0xf6);
  }
  bool passed() const { return _mm512_test_epi32_mask(others, _mm512_set1_epi32(kMagnitudeBits)) == 0; }
};

// Lanes are 16 pixels; `low` and `high` collect channels 0-31 and 32-63 of each.
inline __m512i collect(const float* data, size_t channel_stride, int channels, __mmask16 valid, SignCheck* check) {
  __m512i bits = _mm512_setzero_si512();
  for (int c = 0; c < channels; ++c) {
    const __m512 x = _mm512_maskz_loadu_ps(valid, data + c * channel_stride);
    check->add(x, valid);
    const __mmask16 set = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLT_UQ);
    bits = _mm512_mask_or_epi32(bits, set, bits, _mm512_set1_epi32(static_cast<int>(1u << c)));
  }
  return bits;
}

bool pack_channels(const float* data, size_t channel_stride, int channels, size_t pixels, uint64_t* words) {
  SignCheck check;
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  for (size_t p = 0; p < pixels; p += 16) {
    const int count = static_cast<int>(pixels - p < 16 ? pixels - p : 16);
    const auto valid = static_cast<__mmask16>((1u << count) - 1);
    __m512i low, high = _mm512_setzero_si512();
    if (channels == 64) {  // constant trip counts, so that the compiler unrolls
      low = collect(data + p, channel_stride, 32, valid, &check);
      high = collect(data + p + 32 * channel_stride, channel_stride, 32, valid, &check);
    } else {
      low = collect(data + p, channel_stride, channels < 32 ? channels : 32, valid, &check);
      if (channels > 32) high = collect(data + p + 32 * channel_stride, channel_stride, channels - 32, valid, &check);
    }
    const __m512i w0 = _mm512_permutex2var_epi32(low, first, high);
    const __m512i w1 = _mm512_permutex2var_epi32(low, second, high);
    _mm512_mask_storeu_epi64(words + p, static_cast<__mmask8>(valid), w0);
    if (count > 8) _mm512_mask_storeu_epi64(words + p + 8, static_cast<__mmask8>(valid >> 8), w1);
  }
  return check.passed();
}

void expand_signs(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride,
                  float* out) {
  const __m512 plus = _mm512_set1_ps(1), minus = _mm512_set1_ps(-1);
  for (int c = 0; c < channels; c += 16) {
    const auto valid = static_cast<__mmask16>(channels - c >= 16 ? 0xffffu : (1u << (channels - c)) - 1);
    float* target = out + c / 16 * block_stride;
    for (size_t p = 0; p < pixels; ++p, target += pixel_stride) {
      const auto set = static_cast<__mmask16>(words[p] >> c);
      _mm512_storeu_ps(target, _mm512_maskz_mov_ps(valid, _mm512_mask_blend_ps(set, minus, plus)));
    }
  }
}

void expand_signs_bf16(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride,
                       uint16_t* out) {
  const __m256i plus = _mm256_set1_epi16(0x3f80), minus = _mm256_set1_epi16(static_cast<int16_t>(0xbf80));
  for (int c = 0; c < channels; c += 16) {
    const auto valid = static_cast<__mmask16>(channels - c >= 16 ? 0xffffu : (1u << (channels - c)) - 1);
    uint16_t* target = out + c / 16 * block_stride;
    for (size_t p = 0; p < pixels; ++p, target += pixel_stride) {
      const auto set = static_cast<__mmask16>(words[p] >> c);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(target),
                          _mm256_maskz_mov_epi16(valid, _mm256_mask_blend_epi16(set, minus, plus)));
    }
  }
}

bool pack_row(const float* data, size_t length, uint64_t* words) {
  const __m512 zero = _mm512_setzero_ps();
  SignCheck check;
  size_t i = 0;
  for (; i + 64 <= length; i += 64) {
    uint64_t word = 0;
    for (int part = 0; part < 4; ++part) {
      const __m512 x = _mm512_loadu_ps(data + i + 16 * part);
      check.add(x, 0xffff);
      word |= static_cast<uint64_t>(_mm512_cmp_ps_mask(x, zero, _CMP_NLT_UQ)) << (16 * part);
    }
    words[i / 64] = word;
  }
  if (i < length) {
    uint64_t word = 0;
    for (int part = 0; part < 4 && i + 16 * part < length; ++part) {
      const size_t left = length - i - 16 * part;
      const auto valid = static_cast<__mmask16>(left >= 16 ? 0xffffu : (1u << left) - 1);
      const __m512 x = _mm512_maskz_loadu_ps(valid, data + i + 16 * part);
      check.add(x, valid);
      word |= static_cast<uint64_t>(_mm512_mask_cmp_ps_mask(valid, x, zero, _CMP_NLT_UQ)) << (16 * part);
    }
    words[i / 64] = word;
  }
  return check.passed();
}

void gather_panel(const uint64_t* words, const int64_t* column_offset, int columns, const int64_t* depth_offset,
                  size_t depth, uint64_t* panel) {
  for (int v = 0; v < Avx512::kMaxVectors; ++v) {
    const int lanes = columns - v * 8 < 8 ? columns - v * 8 : 8;
    uint64_t* target = panel + v * 8;
    if (lanes <= 0) {
      // Columns beyond the tile's last vector are never read; within it they are zeros (below).
      continue;
    }
    const int64_t* offset = column_offset + v * 8;
    const __mmask8 valid = first_lanes(lanes);
    const uint64_t* base = words + offset[0];
    const __m512i offsets = _mm512_maskz_loadu_epi64(valid, offset);
    const __m512i consecutive =
        _mm512_add_epi64(_mm512_set1_epi64(offset[0]), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    if (_mm512_mask_cmpneq_epi64_mask(valid, offsets, consecutive) == 0) {
      for (size_t k = 0; k < depth; ++k) {
        _mm512_store_si512(target + k * kPanelColumns, _mm512_maskz_loadu_epi64(valid, base + depth_offset[k]));
      }
    } else {
      for (size_t k = 0; k < depth; ++k) {
        const __m512i w = _mm512_mask_i64gather_epi64(_mm512_setzero_si512(), valid, offsets, words + depth_offset[k],
                                                      sizeof(uint64_t));
        _mm512_store_si512(target + k * kPanelColumns, w);
      }
    }
  }
}

}  // namespace

constexpr Kernels kAvx512Kernels = {
    "avx512",           Avx512::kLanes, kPanelColumns, pack_channels, expand_signs,
    expand_signs_bf16,  pack_row,       gather_panel,  gemm<Avx512>,  Elementwise<Avx512>::kernels(),
    float_gemm<Avx512>, &kAvx512Lookup};

}  // namespace bmx
