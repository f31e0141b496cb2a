// Popcounts with AVX2, which has no instruction for them. A byte shuffle looks up nibbles, and the counts are summed in
// bytes (Mula, Kurz, Lemire: Faster Population Counts Using AVX2 Instructions, 2018).
#pragma once

#include <immintrin.h>

#include "kernels/inline.h"

namespace bmx {

struct PopcountAvx2 {
  static constexpr int kChunk = 31;  // additions of at most 8 per byte before the bytes must be folded

  // Adds the number of 1 bits in each byte of a ^ b to acc.
  BMX_INLINE static __m256i add(__m256i acc, __m256i a, __m256i b) {
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    const __m256i x = _mm256_xor_si256(a, b);
    const __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(x, nibble));
    const __m256i high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
    return _mm256_add_epi8(_mm256_add_epi8(acc, low), high);
  }

  // Adds the bytes to the 64-bit sums.
  BMX_INLINE static __m256i fold(__m256i sums, __m256i bytes) {
    return _mm256_add_epi64(sums, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
  }
};

}  // namespace bmx
