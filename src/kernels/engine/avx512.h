// The engine's vectors for AVX-512 with VPOPCNTDQ and VNNI (Intel since Ice Lake, AMD since Zen 4).
//
// Binary tiles are 5 pixels x 4 vectors of 8 filters: 20 xor + popcnt + add on 9 loads. Tiles of the other
// arithmetics are 6 x 4 vectors of 16 filters. Both leave a register for each load of a step.
#pragma once

#include <immintrin.h>

#include "kernels/engine/table.h"
#include "kernels/popcount_avx512.h"

namespace bmx::nhwc {
namespace {

BMX_INLINE __mmask16 first_lanes(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }

template <class T>
BMX_INLINE T read(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

struct Avx512 {
  static constexpr int kLanes = 16;
  using Floats = __m512;
  using Ints = __m512i;
  using Mask = __mmask16;  // a bit for each lane

  BMX_INLINE static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  BMX_INLINE static Floats load(const float* p, int lanes) { return _mm512_maskz_loadu_ps(first_lanes(lanes), p); }
  BMX_INLINE static Ints load(const int32_t* p) { return _mm512_loadu_si512(p); }
  BMX_INLINE static Ints load(const int32_t* p, int lanes) { return _mm512_maskz_loadu_epi32(first_lanes(lanes), p); }
  BMX_INLINE static void store(float* p, Floats y) { _mm512_storeu_ps(p, y); }
  BMX_INLINE static void store(float* p, Floats y, int lanes) { _mm512_mask_storeu_ps(p, first_lanes(lanes), y); }
  BMX_INLINE static Floats splat(float x) { return _mm512_set1_ps(x); }
  BMX_INLINE static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  BMX_INLINE static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  BMX_INLINE static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  BMX_INLINE static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  BMX_INLINE static Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  BMX_INLINE static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  BMX_INLINE static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  BMX_INLINE static Floats where_positive(Floats a, Floats b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ), a);
  }
  BMX_INLINE static Floats exclusive_or(Floats a, Floats b) { return _mm512_xor_ps(a, b); }
  // y, with from[index[i]] in each lane i whose index is not negative.
  BMX_INLINE static Floats insert(Floats y, Floats from, Ints index) {
    return _mm512_mask_permutexvar_ps(y, _knot_mask16(_mm512_movepi32_mask(index)), index, from);
  }
  BMX_INLINE static Mask not_less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }
  BMX_INLINE static Mask at_most(Ints a, Ints b) { return _mm512_cmple_epi32_mask(a, b); }
  // Of the masks of consecutive vectors.
  template <int Vectors>
  BMX_INLINE static uint64_t join(const Mask (&m)[Vectors]) {
    static_assert(Vectors <= 4, "64 bits");
    uint64_t bits = m[0];
    if constexpr (Vectors > 1) bits = _mm512_kunpackw(m[1], m[0]);
    if constexpr (Vectors == 3) bits |= uint64_t{m[2]} << 32;
    if constexpr (Vectors == 4) bits = _mm512_kunpackd(_mm512_kunpackw(m[3], m[2]), bits);
    return bits;
  }
  BMX_INLINE static Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
  BMX_INLINE static Ints round(Floats a) { return _mm512_cvtps_epi32(a); }
  BMX_INLINE static Ints add_int(Ints a, int32_t b) { return _mm512_add_epi32(a, _mm512_set1_epi32(b)); }
  BMX_INLINE static Ints load_bytes(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  BMX_INLINE static void store_bytes(uint8_t* p, Ints a, int lanes) {
    if (lanes == kLanes) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
    } else {
      _mm_mask_storeu_epi8(p, first_lanes(lanes), _mm512_cvtepi32_epi8(a));
    }
  }

  struct Binary {
    static constexpr bool kCounts = true;
    static constexpr int kRows = 5, kAccumulators = 4, kSingle = 4, kElement = 8, kBlock = 8, kPerVector = 2,
                         kChunk = 0, kWeightBytes = 64;
    using Weight = __m512i;
    using Partial = __m512i;
    using Sum = __m512i;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels / 8; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels + 63) / 64 * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) { return _mm512_setzero_si512(); }
    BMX_INLINE static Weight weight(const uint8_t* p) { return _mm512_load_si512(p); }
    BMX_INLINE static __m512i broadcast(const uint8_t* p) { return _mm512_set1_epi64(read<int64_t>(p)); }
    BMX_INLINE static Sum madd(Sum acc, __m512i a, Weight b) { return PopcountAvx512::add(acc, a, b); }
    // Counts are below 2^31: their low halves are all of them.
    BMX_INLINE static Ints counts(Sum a, Sum b) {
      const __m512i low_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
      return _mm512_permutex2var_epi32(a, low_halves, b);
    }
  };

  struct Float {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 6, kAccumulators = 4, kSingle = 4, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    using Weight = __m512;
    using Partial = __m512;
    using Sum = __m512;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels * 4; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return channels * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) { return _mm512_setzero_ps(); }
    BMX_INLINE static Weight weight(const uint8_t* p) { return _mm512_load_ps(p); }
    BMX_INLINE static __m512 broadcast(const uint8_t* p) { return _mm512_set1_ps(read<float>(p)); }
    BMX_INLINE static Sum madd(Sum acc, __m512 a, Weight b) { return _mm512_fmadd_ps(a, b, acc); }
    BMX_INLINE static Floats result(Sum a) { return a; }
  };

  struct Int8 {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 6, kAccumulators = 4, kSingle = 4, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    using Weight = __m512i;
    using Partial = __m512i;
    using Sum = __m512i;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels * taps + 3) / 4; }
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) { return load(start + filter); }
    BMX_INLINE static Weight weight(const uint8_t* p) { return _mm512_load_si512(p); }
    BMX_INLINE static __m512i broadcast(const uint8_t* p) { return _mm512_set1_epi32(read<int32_t>(p)); }
    // _mm512_dpbusd_epi32, around which GCC 12 copies and spills its accumulators.
    BMX_INLINE static Sum madd(Sum acc, __m512i a, Weight b) {
      asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
      return acc;
    }
    BMX_INLINE static Floats result(Sum a) { return _mm512_cvtepi32_ps(a); }
  };

  struct OneFloatSigns : Float {
    static constexpr int kWeightBytes = 2;
    BMX_INLINE static Weight weight(const uint8_t* p) { return signs(read<uint16_t>(p)); }
    BMX_INLINE static Weight signs(__mmask16 bits) {
      return _mm512_mask_blend_ps(bits, _mm512_set1_ps(-1), _mm512_set1_ps(1));
    }
  };

  // Two at a step. With signs v and w, v a + w b = v (a + vw b); a + b and a - b are the same for all filters, and each
  // chooses one by its mask. Half of the multiplications become choices: on Zen 4 a little faster than the floats' own
  // (102 %), where to expand every sign and multiply by it is slower (90 %).
  struct FloatSigns : Float {
    static constexpr int kRows = 5, kWeightBytes = 2;
    using One = OneFloatSigns;
    struct Weight {
      __mmask16 equal;
      __m512 first;
    };
    struct Pair {
      __m512 sum, difference;
    };
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const __mmask16 first = read<uint16_t>(p), second = read<uint16_t>(p + 2);
      return {_kxnor_mask16(first, second), One::signs(first)};
    }
    BMX_INLINE static Pair broadcast(const uint8_t* p) {
      __m512 first = _mm512_set1_ps(read<float>(p)), second = _mm512_set1_ps(read<float>(p + 4));
      asm("" : "+v"(first), "+v"(second));  // GCC would add before it broadcasts, and broadcast for each filter
      return {_mm512_add_ps(first, second), _mm512_sub_ps(first, second)};
    }
    BMX_INLINE static Sum madd(Sum acc, Pair a, Weight b) {
      return _mm512_fmadd_ps(_mm512_mask_blend_ps(b.equal, a.difference, a.sum), b.first, acc);
    }
  };

  struct Int8Signs : Int8 {
    static constexpr int kWeightBytes = 8;
    BMX_INLINE static Weight weight(const uint8_t* p) {
      return _mm512_mask_blend_epi8(read<uint64_t>(p), _mm512_set1_epi8(-1), _mm512_set1_epi8(1));
    }
  };
};

// Groups of 8 filters would leave half of each vector empty: shorter ones are up to 1.5 times as fast.
void conv_f32(const Conv& c, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter) {
  const bool half = c.groups > 1 && c.filters / c.groups <= Avx512::kLanes / 2;
  (half ? kAvx2Kernels.conv_f32 : conv<Avx512, Avx512::Float>)(c, first, last, first_filter, last_filter);
}

// What AMX's kernels are too, but for convolutions that tiles make faster.
constexpr Kernels make_avx512_kernels(const char* name) {
  Kernels kernels = make_kernels<Avx512>(name);
  kernels.conv_f32 = conv_f32;
  return kernels;
}

}  // namespace
}  // namespace bmx::nhwc
