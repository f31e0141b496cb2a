// The roofs of this machine: how many multiply-accumulates a second one core does when all operands are in registers.
// No loop that also loads and stores can pass them.
#pragma once

#include <chrono>
#include <cstdint>

#if BMX_X86_64
#include <immintrin.h>
#endif

namespace roof {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

#if BMX_X86_64
// One asm `step` of %0, an accumulator, with %2 and %3 (and %1 for what lies between), on 20 of them, as a tile has
// them. (Of intrinsics GCC 12 makes loops with copies in them.)
#define BMX_ROOF(name, targets, macs, step)                                                                       \
  __attribute__((target(targets))) inline double name(int64_t steps) {                                            \
    constexpr int kSums = 20;                                                                                     \
    __m512i sums[kSums], x, a = _mm512_set1_epi64(0x3f8000003f800000), b = _mm512_set1_epi64(0x4000000040000000); \
    _Pragma("GCC unroll 20") for (int i = 0; i < kSums; ++i) sums[i] = _mm512_setzero_si512();                    \
    const auto start = Clock::now();                                                                              \
    for (int64_t k = 0; k < steps; ++k) {                                                                         \
      _Pragma("GCC unroll 20") for (int i = 0; i < kSums; ++i) {                                                  \
        asm volatile(step : "+v"(sums[i]), "=&v"(x) : "v"(a), "v"(b));                                            \
      }                                                                                                           \
    }                                                                                                             \
    return double(macs) * kSums * static_cast<double>(steps) / seconds_since(start);                              \
  }

BMX_ROOF(binary, "avx512f,avx512vpopcntdq", 512, "vpxorq %2, %3, %1\n vpopcntq %1, %1\n vpaddq %1, %0, %0")
BMX_ROOF(f32, "avx512f", 16, "vfmadd231ps %2, %3, %0")
BMX_ROOF(lookups, "avx512f", 64, "vpermps %2, %3, %1\n vaddps %1, %0, %0")  // of four signs each
BMX_ROOF(u8, "avx512f,avx512vnni", 64, "vpdpbusd %2, %3, %0")
#undef BMX_ROOF
#endif

}  // namespace roof
