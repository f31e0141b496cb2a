// Lookups for AVX2: a register holds half a table, the sums with a + before the last float.
//
// An index whose bit 3 is 0 asks for the negative of the sum with all four signs turned. Indices are stored so that
// bits 0 to 2 choose the entry, turned already, and bit 3 is set for a negative: as bit 31 of the key it is the sign
// that is xored in. 4 x 2 sums, 2 x 2 keys and signs and a table leave room for temporaries in 16 registers.
#include "kernels/training/kernels.h"
#include "kernels/training/sign_lookup_tile.h"

namespace bmx {
namespace {

struct Avx2Lookup {
  static constexpr int kLanes = 8, kTable = 8, kTileRows = 4, kTileVectors = 2;
  using Floats = __m256;
  struct Keys {
    __m256i entry;
    __m256 sign;
  };

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static Floats load_table(const float* p) { return _mm256_load_ps(p); }
  static void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }

  static Keys keys(__m256i entry) {
    const __m256i sign = _mm256_slli_epi32(entry, 28);
    return {entry, _mm256_and_ps(_mm256_castsi256_ps(sign), _mm256_set1_ps(-0.0f))};
  }
  static Keys load_keys(const uint32_t* indices) {
    return keys(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(indices)));
  }
  static Keys next(Keys k) { return keys(_mm256_srli_epi32(k.entry, kSignsPerLookup)); }
  static Floats lookup(Floats table, Keys k) { return _mm256_xor_ps(_mm256_permutevar8x32_ps(table, k.entry), k.sign); }
  static Floats add(Floats sum, Floats x, bool) { return _mm256_add_ps(sum, x); }

  static Floats table(float a, float b, float c, float d) {
    const __m256 sa = _mm256_setr_ps(-1, 1, -1, 1, -1, 1, -1, 1);
    const __m256 sb = _mm256_setr_ps(-1, -1, 1, 1, -1, -1, 1, 1);
    const __m256 sc = _mm256_setr_ps(-1, -1, -1, -1, 1, 1, 1, 1);
    const __m256 low = _mm256_fmadd_ps(sb, _mm256_set1_ps(b), _mm256_mul_ps(sa, _mm256_set1_ps(a)));
    return _mm256_add_ps(low, _mm256_fmadd_ps(sc, _mm256_set1_ps(c), _mm256_set1_ps(d)));
  }

  static void make_indices(const uint64_t* words, const int64_t* offsets, int count, int first, int columns,
                           uint32_t* indices) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i index[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) index[v] = _mm256_setzero_si256();
    for (int k = 0; k < count; ++k) {
      const uint64_t word = words[offsets[k]] >> first;
      const __m256i bit = _mm256_set1_epi32(static_cast<int>(1u << k));
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) {
        const __m256i mine = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(word >> (v * kLanes))), lane);
        index[v] = _mm256_or_si256(index[v], _mm256_and_si256(_mm256_cmpeq_epi32(mine, lane), bit));
      }
    }
    const __m256i last = _mm256_set1_epi32(static_cast<int>(0x88888888u));
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      if (v * kLanes >= columns) break;
      const __m256i negative = _mm256_andnot_si256(index[v], last);
      const __m256i turned = _mm256_sub_epi32(negative, _mm256_srli_epi32(negative, 3));  // 0111 where bit 3 is set
      index[v] = _mm256_xor_si256(_mm256_andnot_si256(last, index[v]), _mm256_or_si256(turned, negative));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(indices + v * kLanes), index[v]);
    }
  }
};

}  // namespace

constexpr SignLookup kAvx2Lookup = sign_lookup<Avx2Lookup>();

}  // namespace bmx
