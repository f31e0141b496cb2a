// Popcounts with AVX-512 VPOPCNTDQ.
#pragma once

#include <immintrin.h>

#include "kernels/inline.h"

namespace bmx {

struct PopcountAvx512 {
  // Adds the number of 1 bits in each 64-bit word of a ^ b to acc.
  BMX_INLINE static __m512i add(__m512i acc, __m512i a, __m512i b) {
    return _mm512_add_epi64(acc, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
  }
};

}  // namespace bmx
