// The engine's kernels for AArch64: what neon.cpp and neon_dot.cpp share, each compiled for its instructions.
//
// A vector of the engine has 8 lanes, two registers, as a byte of bits has 8 channels. All products and sums are those
// of the AVX2 kernels, in their order: results are equal to the last bit.
#pragma once

#include <arm_neon.h>

#include "kernels/engine/table.h"

namespace bmx::nhwc {
namespace {

template <class T>
BMX_INLINE T read(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Registers that are one operand. (Not NEON's own float32x4x2_t, which GCC 12 copies from place to place.)
template <class Register, int Count>
struct Registers {
  Register part[Count];
};

template <class Register, int Count, class F>
BMX_INLINE Registers<Register, Count> make(F f) {
  Registers<Register, Count> y;
#pragma GCC unroll 8
  for (int i = 0; i < Count; ++i) y.part[i] = f(i);
  return y;
}

struct Neon {
  static constexpr int kLanes = 8;
  using Floats = Registers<float32x4_t, 2>;
  using Ints = Registers<int32x4_t, 2>;
  using Mask = uint32x4_t;  // bits 0 to 3 in its lanes, or bits 4 to 7

  template <class F>
  BMX_INLINE static Floats floats(F f) {
    return make<float32x4_t, 2>(f);
  }
  template <class F>
  BMX_INLINE static Ints ints(F f) {
    return make<int32x4_t, 2>(f);
  }

  BMX_INLINE static Floats load(const float* p) {
    return floats([&](int i) { return vld1q_f32(p + 4 * i); });
  }
  BMX_INLINE static Ints load(const int32_t* p) {
    return ints([&](int i) { return vld1q_s32(p + 4 * i); });
  }
  // Numbers of channels, which are padded to whole vectors.
  BMX_INLINE static Floats load(const float* p, int) { return load(p); }
  BMX_INLINE static Ints load(const int32_t* p, int) { return load(p); }
  BMX_INLINE static void store(float* p, const Floats& y) {
    vst1q_f32(p, y.part[0]);
    vst1q_f32(p + 4, y.part[1]);
  }
  BMX_INLINE static void store(float* p, const Floats& y, int lanes) {
    float numbers[kLanes];
    store(numbers, y);
    for (int i = 0; i < lanes; ++i) p[i] = numbers[i];
  }
  BMX_INLINE static Floats splat(float x) {
    return floats([&](int) { return vdupq_n_f32(x); });
  }
  BMX_INLINE static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    return floats([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
  }
  BMX_INLINE static Floats add(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
  }
  BMX_INLINE static Floats sub(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
  }
  BMX_INLINE static Floats mul(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
  }
  BMX_INLINE static Floats div(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vdivq_f32(a.part[i], b.part[i]); });
  }
  // The second operand where one is NaN, which FMAX and FMIN do not do.
  BMX_INLINE static Floats larger(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
  }
  BMX_INLINE static Floats smaller(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
  }
  BMX_INLINE static Floats where_positive(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vbslq_f32(vcgtzq_f32(a.part[i]), a.part[i], b.part[i]); });
  }
  BMX_INLINE static Floats exclusive_or(const Floats& a, const Floats& b) {
    return floats([&](int i) {
      return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a.part[i]), vreinterpretq_u32_f32(b.part[i])));
    });
  }
  // y, with from[index[i]] in each lane i whose index is not negative: byte numbers, which are beyond the table where
  // the index is -1.
  BMX_INLINE static Floats insert(const Floats& y, const Floats& from, const Ints& index) {
    const uint8x16x2_t table{{vreinterpretq_u8_f32(from.part[0]), vreinterpretq_u8_f32(from.part[1])}};
    return floats([&](int i) {
      const int32x4_t bytes = vmlaq_n_s32(vdupq_n_s32(0x03020100), index.part[i], 0x04040404);
      return vreinterpretq_f32_u8(vqtbx2q_u8(vreinterpretq_u8_f32(y.part[i]), table, vreinterpretq_u8_s32(bytes)));
    });
  }
  BMX_INLINE static Mask not_less(const Floats& a, const Floats& b) {
    return mask(vcltq_f32(a.part[0], b.part[0]), vcltq_f32(a.part[1], b.part[1]));
  }
  BMX_INLINE static Mask at_most(const Ints& a, const Ints& b) {
    return mask(vcgtq_s32(a.part[0], b.part[0]), vcgtq_s32(a.part[1], b.part[1]));
  }
  // Of the masks of consecutive vectors.
  template <int Vectors>
  BMX_INLINE static uint64_t join(const Mask (&m)[Vectors]) {
    static_assert(Vectors <= 4, "four bytes");
    if constexpr (Vectors == 1) return vaddvq_u32(m[0]);
    const auto at = [&](int v) { return v < Vectors ? m[v] : vdupq_n_u32(0); };
    const uint16x8_t bytes = vreinterpretq_u16_u32(vpaddq_u32(vpaddq_u32(at(0), at(1)), vpaddq_u32(at(2), at(3))));
    return vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vuzp1q_u16(bytes, bytes))), 0);
  }
  BMX_INLINE static Floats to_floats(const Ints& a) {
    return floats([&](int i) { return vcvtq_f32_s32(a.part[i]); });
  }
  BMX_INLINE static Ints round(const Floats& a) {
    return ints([&](int i) { return vcvtnq_s32_f32(a.part[i]); });
  }
  BMX_INLINE static Ints add_int(const Ints& a, int32_t b) {
    return ints([&](int i) { return vaddq_s32(a.part[i], vdupq_n_s32(b)); });
  }
  BMX_INLINE static Ints load_bytes(const uint8_t* p) {
    const uint16x8_t wide = vmovl_u8(vld1_u8(p));
    return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide))), vreinterpretq_s32_u32(vmovl_high_u16(wide))}};
  }
  BMX_INLINE static void store_bytes(uint8_t* p, const Ints& a, int lanes) {
    const uint16x8_t pairs = vreinterpretq_u16_s16(vmovn_high_s32(vmovn_s32(a.part[0]), a.part[1]));
    const uint8x8_t bytes = vmovn_u16(pairs);
    if (lanes == kLanes) {
      vst1_u8(p, bytes);
    } else {
      uint8_t all[kLanes];
      vst1_u8(all, bytes);
      for (int i = 0; i < lanes; ++i) p[i] = all[i];
    }
  }

  // 128 products are EOR, CNT and ADD. The bytes grow by at most 8 a step and are folded after 31.
  struct Binary {
    static constexpr bool kCounts = true;
    static constexpr int kRows = 4, kAccumulators = 1, kSingle = 2, kElement = 8, kBlock = 8, kPerVector = 1,
                         kChunk = 31, kWeightBytes = 64;
    using Weight = Registers<uint8x16_t, 4>;  // words of two filters each
    using Partial = Weight;
    using Sum = Ints;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels / 8; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels + 63) / 64 * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) {
      return ints([](int) { return vdupq_n_s32(0); });
    }
    BMX_INLINE static Partial zero() {
      return make<uint8x16_t, 4>([](int) { return vdupq_n_u8(0); });
    }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      return make<uint8x16_t, 4>([&](int i) { return vld1q_u8(p + 16 * i); });
    }
    BMX_INLINE static uint8x16_t broadcast(const uint8_t* p) {
      return vreinterpretq_u8_u64(vld1q_dup_u64(reinterpret_cast<const uint64_t*>(p)));
    }
    BMX_INLINE static Partial madd(const Partial& acc, uint8x16_t a, const Weight& b) {
      return make<uint8x16_t, 4>([&](int i) { return vaddq_u8(acc.part[i], vcntq_u8(veorq_u8(a, b.part[i]))); });
    }
    BMX_INLINE static Sum fold(const Sum& sum, const Partial& bytes) {
      return ints([&](int i) {
        const uint16x8_t a = vpaddlq_u8(bytes.part[2 * i]), b = vpaddlq_u8(bytes.part[2 * i + 1]);
        return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum.part[i]), vpaddq_u16(a, b)));
      });
    }
    BMX_INLINE static Ints counts(const Sum& a, const Sum&) { return a; }
  };

  struct Float {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 5, kAccumulators = 2, kSingle = 4, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    using Weight = Floats;
    using Partial = Floats;
    using Sum = Floats;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels * 4; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return channels * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) { return splat(0); }
    BMX_INLINE static Weight weight(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
    BMX_INLINE static float broadcast(const uint8_t* p) { return read<float>(p); }
    BMX_INLINE static Sum madd(const Sum& acc, float a, const Weight& b) {
      return floats([&](int i) { return vfmaq_n_f32(acc.part[i], b.part[i], a); });
    }
    BMX_INLINE static Floats result(const Sum& a) { return a; }
  };

  // With `start` as it is. A register for each filter: its four bytes are widened and their products summed apart.
  struct Int8 {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 3, kAccumulators = 1, kSingle = 2, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    using Weight = Registers<int16x8_t, 4>;  // of two filters each
    using Sum = Registers<int32x4_t, 8>;
    using Partial = Sum;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels * taps + 3) / 4; }
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) {
      return make<int32x4_t, 8>([&](int i) { return vsetq_lane_s32(start[filter + i], vdupq_n_s32(0), 0); });
    }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const auto* w = reinterpret_cast<const int8_t*>(p);
      return make<int16x8_t, 4>([&](int i) { return vmovl_s8(vld1_s8(w + 8 * i)); });
    }
    BMX_INLINE static int16x8_t broadcast(const uint8_t* p) {
      return vreinterpretq_s16_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(read<uint32_t>(p)))));
    }
    BMX_INLINE static Sum madd(const Sum& acc, int16x8_t a, const Weight& b) {
      return make<int32x4_t, 8>([&](int i) {
        const int16x8_t w = b.part[i / 2];
        return i % 2 == 0 ? vmlal_s16(acc.part[i], vget_low_s16(w), vget_low_s16(a))
                          : vmlal_high_s16(acc.part[i], w, a);
      });
    }
    BMX_INLINE static Floats result(const Sum& a) {
      const auto four = [&](int i) {
        return vpaddq_s32(vpaddq_s32(a.part[i], a.part[i + 1]), vpaddq_s32(a.part[i + 2], a.part[i + 3]));
      };
      return to_floats({{four(0), four(4)}});
    }
  };

  // With 128 times the sum of weights in `start` (conv_u8): signed bytes are multiplied, eight at once, and two
  // filters share a register.
  struct SignedInt8 : Int8 {
    using Weight = Registers<int8x16_t, 2>;
    using Sum = Registers<int32x4_t, 4>;
    using Partial = Sum;
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) {
      const Ints eight = load(start + filter);
      const int32x4_t zero = vdupq_n_s32(0);
      return make<int32x4_t, 4>([&](int i) {
        return i % 2 == 0 ? vzip1q_s32(eight.part[i / 2], zero) : vzip2q_s32(eight.part[i / 2], zero);
      });
    }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const auto* w = reinterpret_cast<const int8_t*>(p);
      return make<int8x16_t, 2>([&](int i) { return vld1q_s8(w + 16 * i); });
    }
    BMX_INLINE static int8x16_t broadcast(const uint8_t* p) {
      const uint8x16_t a = vreinterpretq_u8_u32(vdupq_n_u32(read<uint32_t>(p)));
      return vreinterpretq_s8_u8(veorq_u8(a, vdupq_n_u8(0x80)));
    }
    BMX_INLINE static Sum madd(const Sum& acc, int8x16_t a, const Weight& b) {
      return make<int32x4_t, 4>([&](int i) {
        const int8x16_t w = b.part[i / 2];
        return vpadalq_s16(acc.part[i], i % 2 == 0 ? vmull_s8(vget_low_s8(w), vget_low_s8(a)) : vmull_high_s8(w, a));
      });
    }
    BMX_INLINE static Floats result(const Sum& a) {
      return to_floats(ints([&](int i) { return vpaddq_s32(a.part[2 * i], a.part[2 * i + 1]); }));
    }
  };

  // Adds the four bytes of 8 filters each.
  BMX_INLINE static Ints sum_weights(const Ints& sum, const SignedInt8::Weight& w) {
    return ints([&](int i) { return vpadalq_s16(sum.part[i], vpaddlq_s8(w.part[i])); });
  }

  struct FloatSigns : Float {
    static constexpr int kWeightBytes = 2;
    BMX_INLINE static Weight weight(const uint8_t* p) {
      constexpr uint32_t kBits[] = {1, 2, 4, 8, 16, 32, 64, 128};
      const uint32x4_t byte = vdupq_n_u32(*p);
      return floats(
          [&](int i) { return vbslq_f32(vtstq_u32(byte, vld1q_u32(kBits + 4 * i)), vdupq_n_f32(1), vdupq_n_f32(-1)); });
    }
  };

  // 32 bits as bytes -1 and 1.
  BMX_INLINE static SignedInt8::Weight signs(const uint8_t* p) {
    constexpr uint8_t kBits[] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    constexpr uint8_t kPlaces[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint8x16_t word = vreinterpretq_u8_u32(vdupq_n_u32(read<uint32_t>(p)));
    return make<int8x16_t, 2>([&](int i) {
      const uint8x16_t place = vaddq_u8(vld1q_u8(kPlaces), vdupq_n_u8(static_cast<uint8_t>(2 * i)));
      const uint8x16_t set = vtstq_u8(vqtbl1q_u8(word, place), vld1q_u8(kBits));
      return vornq_s8(vdupq_n_s8(1), vreinterpretq_s8_u8(set));
    });
  }

  struct Int8Signs : Int8 {
    static constexpr int kWeightBytes = 8;
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const SignedInt8::Weight w = signs(p);
      return make<int16x8_t, 4>(
          [&](int i) { return i % 2 == 0 ? vmovl_s8(vget_low_s8(w.part[i / 2])) : vmovl_high_s8(w.part[i / 2]); });
    }
  };

  // Products are at most 128: 16 bits have room for 255 of them.
  struct SignedInt8Signs : SignedInt8 {
    static constexpr int kChunk = 254, kWeightBytes = 8;
    using Partial = Registers<int16x8_t, 4>;
    BMX_INLINE static Partial zero() {
      return make<int16x8_t, 4>([](int) { return vdupq_n_s16(0); });
    }
    BMX_INLINE static Weight weight(const uint8_t* p) { return signs(p); }
    BMX_INLINE static Partial madd(const Partial& acc, int8x16_t a, const Weight& b) {
      return make<int16x8_t, 4>([&](int i) {
        const int8x16_t w = b.part[i / 2];
        return i % 2 == 0 ? vmlal_s8(acc.part[i], vget_low_s8(w), vget_low_s8(a)) : vmlal_high_s8(acc.part[i], w, a);
      });
    }
    BMX_INLINE static Sum fold(const Sum& sum, const Partial& pairs) {
      return make<int32x4_t, 4>([&](int i) { return vpadalq_s16(sum.part[i], pairs.part[i]); });
    }
  };

 private:
  // Of the lanes that are not set in `low` and `high`.
  BMX_INLINE static Mask mask(uint32x4_t low, uint32x4_t high) {
    constexpr uint32_t kLow[] = {1, 2, 4, 8}, kHigh[] = {16, 32, 64, 128};
    return vorrq_u32(vbicq_u32(vld1q_u32(kLow), low), vbicq_u32(vld1q_u32(kHigh), high));
  }
};

// The instructions that multiply most bytes take signed ones, and activations have no sign. a - 128 has one:
//   sum of a * w = sum of (a - 128) * w + 128 * sum of w,
// and the second part is the same for all pixels. Unless they are few, it is found first. (Where signs of bytes
// multiply a 0 behind a run's end, which is -128 then, the second part has 128 times that sign too.)
template <class Isa, class Plain, class Shifted>
void conv_u8(const Conv& c, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter) {
  constexpr int32_t kMost = 4096;  // filters, 16 KiB of the stack
  const int32_t filters = c.filters / c.groups, padded = (filters + 31) / 32 * 32;
  if (last - first < 4 || c.groups > kMost / padded) {
    return conv<Isa, Plain>(c, first, last, first_filter, last_filter);
  }
  const int32_t channels = c.in.channels / c.groups, taps = c.window.kernel_w;
  const int64_t row = c.run ? Plain::elements(channels, taps) : taps * Plain::elements(channels, 1);
  const int64_t elements = c.window.kernel_h * row, blocks = (filters + 15) / 16;
  int32_t start[kMost];
  for (int32_t g = 0; g < c.groups; ++g) {
    for (int32_t f = c.groups > 1 ? 0 : first_filter; f < (c.groups > 1 ? filters : last_filter); f += Isa::kLanes) {
      constexpr int kBytes = Shifted::kWeightBytes;
      const uint8_t* w = c.weights + (g * blocks + f / 16) * elements * kBytes + f % 16 * kBytes / 16;
      auto sum = Isa::ints([](int) { return vdupq_n_s32(0); });
      for (int64_t i = 0; i < elements; ++i) sum = Isa::sum_weights(sum, Shifted::weight(w + i * kBytes));
      const auto given = Isa::load(c.start + g * padded + f);
      for (int i = 0; i < 2; ++i) {
        vst1q_s32(start + g * padded + f + 4 * i, vaddq_s32(given.part[i], vshlq_n_s32(sum.part[i], 7)));
      }
    }
  }
  Conv shifted = c;
  shifted.start = start;
  conv<Isa, Shifted>(shifted, first, last, first_filter, last_filter);
}

template <class Isa>
constexpr Kernels make_neon_kernels(const char* name) {
  Kernels k = make_kernels<Isa>(name);
  k.conv_u8 = conv_u8<Isa, typename Isa::Int8, typename Isa::SignedInt8>;
  k.conv_u8_signs = conv_u8<Isa, typename Isa::Int8Signs, typename Isa::SignedInt8Signs>;
  return k;
}

}  // namespace
}  // namespace bmx::nhwc
