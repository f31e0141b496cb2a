// The engine's kernels for ARMv7-A with NEON: binary convolutions. The rest is portable, with vectors of integers and,
// as NEON's own floats have no denormal numbers here, floats one by one. One source file for processors with fused
// multiply-add, one for those without, where it is a call of the C library.
#pragma once

#include <arm_neon.h>

#include "kernels/engine/portable.h"

namespace bmx::nhwc {
namespace {

struct Neon32 : Portable {
  // 128 products are VEOR, VCNT and VADD. The bytes grow by at most 8 a step and are folded after 31.
  struct Binary : Portable::Binary {
    using Weight = Vector<uint8x16_t, 4>;  // words of two filters each
    using Partial = Weight;
    using Portable::Binary::elements;
    BMX_INLINE static Partial zero() {
      return make<uint8x16_t, 4>([](int) { return vdupq_n_u8(0); });
    }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      return make<uint8x16_t, 4>([&](int i) { return vld1q_u8(p + 16 * i); });
    }
    BMX_INLINE static uint8x16_t broadcast(const uint8_t* p) {
      const uint8x8_t word = vld1_u8(p);
      return vcombine_u8(word, word);
    }
    BMX_INLINE static Partial madd(const Partial& acc, uint8x16_t a, const Weight& b) {
      return make<uint8x16_t, 4>([&](int i) { return vaddq_u8(acc.part[i], vcntq_u8(veorq_u8(a, b.part[i]))); });
    }
    BMX_INLINE static Sum fold(const Sum& sum, const Partial& bytes) {
      const auto two = [&](int i) {
        const uint32x4_t halves = vpaddlq_u16(vpaddlq_u8(bytes.part[i]));
        return vpadd_u32(vget_low_u32(halves), vget_high_u32(halves));
      };
      return make<I32x4, 2>([&](int i) { return sum.part[i] + (I32x4)vcombine_u32(two(2 * i), two(2 * i + 1)); });
    }
  };
};

}  // namespace

}  // namespace bmx::nhwc
