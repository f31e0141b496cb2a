// Lookups for AVX-512: a table of 16 floats is a register.
//
// 6 x 4 sums, 4 vectors of keys, a table, the ones of `add` and a temporary are 31 of the 32 registers.
#include "kernels/training/kernels.h"
#include "kernels/training/sign_lookup_tile.h"

namespace bmx {
namespace {

struct Avx512Lookup {
  static constexpr int kLanes = 16, kTable = 16, kTileRows = 6, kTileVectors = 4;
  using Floats = __m512;
  using Keys = __m512i;

  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static Floats load_table(const float* p) { return _mm512_load_ps(p); }
  static void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }

  // A permutation reads the low 4 bits of each key.
  static Keys load_keys(const uint32_t* indices) { return _mm512_loadu_si512(indices); }
  static Keys next(Keys k) { return _mm512_srli_epi32(k, kSignsPerLookup); }
  static Floats lookup(Floats table, Keys k) { return _mm512_permutexvar_ps(k, table); }

  // The same sum either way. AMD's cores add, and multiply, in different units, and permute in one of each: half of
  // the sums for either is a sixth faster than all for one.
  static Floats add(Floats sum, Floats x, bool by_multiplier) {
    return by_multiplier ? _mm512_fmadd_ps(x, _mm512_set1_ps(1), sum) : _mm512_add_ps(sum, x);
  }

  static Floats table(float a, float b, float c, float d) {
    const __m512 sa = _mm512_setr_ps(-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1);
    const __m512 sb = _mm512_setr_ps(-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1);
    const __m512 sc = _mm512_setr_ps(-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1);
    const __m512 sd = _mm512_setr_ps(-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512 low = _mm512_fmadd_ps(sb, _mm512_set1_ps(b), _mm512_mul_ps(sa, _mm512_set1_ps(a)));
    const __m512 high = _mm512_fmadd_ps(sd, _mm512_set1_ps(d), _mm512_mul_ps(sc, _mm512_set1_ps(c)));
    return _mm512_add_ps(low, high);
  }

  static void make_indices(const uint64_t* words, const int64_t* offsets, int count, int first, int columns,
                           uint32_t* indices) {
    __m512i index[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) index[v] = _mm512_setzero_si512();
    for (int k = 0; k < count; ++k) {
      const uint64_t word = words[offsets[k]] >> first;
      const __m512i bit = _mm512_set1_epi32(static_cast<int>(1u << k));
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) {
        index[v] = _mm512_mask_or_epi32(index[v], static_cast<__mmask16>(word >> (v * kLanes)), index[v], bit);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v)
      if (v * kLanes < columns) _mm512_storeu_si512(indices + v * kLanes, index[v]);
  }
};

}  // namespace

constexpr SignLookup kAvx512Lookup = sign_lookup<Avx512Lookup>();

}  // namespace bmx
