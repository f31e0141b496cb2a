// The engine's kernels for AVX2 and FMA.
//
// Bytes times weights are summed in pairs of 16-bit products, even and odd bytes apart: the instruction that multiplies
// bytes would saturate.
#include <immintrin.h>

#include "kernels/engine/table.h"
#include "kernels/popcount_avx2.h"

namespace bmx::nhwc {
namespace {

template <class T>
BMX_INLINE T read(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

BMX_INLINE __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

BMX_INLINE __m256i first_lanes(int lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

struct Avx2 {
  static constexpr int kLanes = 8;
  using Floats = __m256;
  using Ints = __m256i;
  using Mask = uint32_t;  // a bit for each lane

  BMX_INLINE static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  BMX_INLINE static Floats load(const float* p, int lanes) { return _mm256_maskload_ps(p, first_lanes(lanes)); }
  BMX_INLINE static Ints load(const int32_t* p) { return load_256(p); }
  BMX_INLINE static Ints load(const int32_t* p, int lanes) { return _mm256_maskload_epi32(p, first_lanes(lanes)); }
  BMX_INLINE static void store(float* p, Floats y) { _mm256_storeu_ps(p, y); }
  BMX_INLINE static void store(float* p, Floats y, int lanes) { _mm256_maskstore_ps(p, first_lanes(lanes), y); }
  BMX_INLINE static Floats splat(float x) { return _mm256_set1_ps(x); }
  BMX_INLINE static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  BMX_INLINE static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  BMX_INLINE static Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  BMX_INLINE static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  BMX_INLINE static Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
  BMX_INLINE static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  BMX_INLINE static Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  BMX_INLINE static Floats where_positive(Floats a, Floats b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ));
  }
  BMX_INLINE static Floats exclusive_or(Floats a, Floats b) { return _mm256_xor_ps(a, b); }
  // y, with from[index[i]] in each lane i whose index is not negative.
  BMX_INLINE static Floats insert(Floats y, Floats from, Ints index) {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(from, index), y, _mm256_castsi256_ps(index));
  }
  BMX_INLINE static Mask not_less(Floats a, Floats b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ)));
  }
  BMX_INLINE static Mask at_most(Ints a, Ints b) {
    return 0xff ^ static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b))));
  }
  // Of the masks of consecutive vectors.
  template <int Vectors>
  BMX_INLINE static uint64_t join(const Mask (&m)[Vectors]) {
    uint64_t bits = 0;
    for (int v = 0; v < Vectors; ++v) bits |= static_cast<uint64_t>(m[v]) << (v * kLanes);
    return bits;
  }
  BMX_INLINE static Floats to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }
  BMX_INLINE static Ints round(Floats a) { return _mm256_cvtps_epi32(a); }
  BMX_INLINE static Ints add_int(Ints a, int32_t b) { return _mm256_add_epi32(a, _mm256_set1_epi32(b)); }
  BMX_INLINE static Ints load_bytes(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  BMX_INLINE static void store_bytes(uint8_t* p, Ints a, int lanes) {
    const __m256i pairs = _mm256_packus_epi32(a, a), bytes = _mm256_packus_epi16(pairs, pairs);
    const __m256i together = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4));
    const int64_t eight = _mm256_extract_epi64(together, 0);
    if (lanes == kLanes) {
      std::memcpy(p, &eight, kLanes);
    } else {
      for (int i = 0; i < lanes; ++i) p[i] = static_cast<uint8_t>(eight >> (8 * i));
    }
  }

  struct Binary {
    static constexpr bool kCounts = true;
    static constexpr int kRows = 2, kAccumulators = 4, kSingle = 4, kElement = 8, kBlock = 8, kPerVector = 2,
                         kChunk = PopcountAvx2::kChunk, kWeightBytes = 64;
    using Weight = __m256i;
    using Partial = __m256i;
    using Sum = __m256i;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels / 8; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels + 63) / 64 * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) { return _mm256_setzero_si256(); }
    BMX_INLINE static Partial zero() { return _mm256_setzero_si256(); }
    BMX_INLINE static Weight weight(const uint8_t* p) { return load_256(p); }
    BMX_INLINE static __m256i broadcast(const uint8_t* p) { return _mm256_set1_epi64x(read<int64_t>(p)); }
    BMX_INLINE static Partial madd(Partial acc, __m256i a, Weight b) { return PopcountAvx2::add(acc, a, b); }
    BMX_INLINE static Sum fold(Sum sum, Partial bytes) { return PopcountAvx2::fold(sum, bytes); }
    // Counts are below 2^31: their low halves are all of them.
    BMX_INLINE static Ints counts(Sum a, Sum b) {
      const __m256i low = _mm256_castps_si256(
          _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), _MM_SHUFFLE(2, 0, 2, 0)));
      return _mm256_permute4x64_epi64(low, _MM_SHUFFLE(3, 1, 2, 0));
    }
  };

  struct Float {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 6, kAccumulators = 2, kSingle = 8, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    using Weight = __m256;
    using Partial = __m256;
    using Sum = __m256;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels * 4; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return channels * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) { return _mm256_setzero_ps(); }
    BMX_INLINE static Weight weight(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
    BMX_INLINE static __m256 broadcast(const uint8_t* p) { return _mm256_set1_ps(read<float>(p)); }
    BMX_INLINE static Sum madd(Sum acc, __m256 a, Weight b) { return _mm256_fmadd_ps(a, b, acc); }
    BMX_INLINE static Floats result(Sum a) { return a; }
  };

  struct Int8 {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 4, kAccumulators = 2, kSingle = 2, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    struct Pair {
      __m256i even, odd;
    };
    using Weight = Pair;
    using Partial = __m256i;
    using Sum = __m256i;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels * taps + 3) / 4; }
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) { return load(start + filter); }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const __m256i w = load_256(p);
      return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)};
    }
    BMX_INLINE static Pair broadcast(const uint8_t* p) {
      const __m256i a = _mm256_set1_epi32(read<int32_t>(p));
      return {_mm256_and_si256(a, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(a, 8)};
    }
    BMX_INLINE static Sum madd(Sum acc, const Pair& a, const Weight& b) {
      return _mm256_add_epi32(_mm256_add_epi32(acc, _mm256_madd_epi16(a.even, b.even)),
                              _mm256_madd_epi16(a.odd, b.odd));
    }
    BMX_INLINE static Floats result(Sum a) { return _mm256_cvtepi32_ps(a); }
  };

  // Bit f of a byte becomes the highest of lane f, which is all that a blend asks.
  struct FloatSigns : Float {
    static constexpr int kWeightBytes = 2;
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const __m256i byte = _mm256_set1_epi8(static_cast<char>(*p));
      const __m256i bits = _mm256_sllv_epi32(byte, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
      return _mm256_blendv_ps(_mm256_set1_ps(-1), _mm256_set1_ps(1), _mm256_castsi256_ps(bits));
    }
  };

  // Bytes times signs do not saturate: sums of two are at most 510, of 64 of these below 2^15.
  struct Int8Signs {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 4, kAccumulators = 2, kSingle = 4, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 63, kWeightBytes = 8;
    using Weight = __m256i;
    using Partial = __m256i;
    using Sum = __m256i;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels * taps + 3) / 4; }
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) { return load(start + filter); }
    BMX_INLINE static Partial zero() { return _mm256_setzero_si256(); }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const __m256i place = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                             2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
      const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(read<int32_t>(p)), place);
      const __m256i bits = _mm256_and_si256(bytes, _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201)));
      return _mm256_or_si256(_mm256_cmpeq_epi8(bits, _mm256_setzero_si256()), _mm256_set1_epi8(1));
    }
    BMX_INLINE static __m256i broadcast(const uint8_t* p) { return _mm256_set1_epi32(read<int32_t>(p)); }
    BMX_INLINE static Partial madd(Partial acc, __m256i a, Weight b) {
      return _mm256_add_epi16(acc, _mm256_maddubs_epi16(a, b));
    }
    BMX_INLINE static Sum fold(Sum sum, Partial pairs) {
      return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    BMX_INLINE static Floats result(Sum a) { return _mm256_cvtepi32_ps(a); }
  };
};

}  // namespace

const Kernels kAvx2Kernels = make_kernels<Avx2>("avx2");

}  // namespace bmx::nhwc
