// The engine's vectors for every little-endian machine: 16 bytes as GCC and Clang know them, which become SSE2, NEON or
// plain arithmetic. (Loops over arrays of lanes stay scalar: GCC does not keep such sums in registers.)
#pragma once

#include "kernels/engine/table.h"

namespace bmx::nhwc {
namespace {

typedef float F32x4 __attribute__((vector_size(16)));
typedef int32_t I32x4 __attribute__((vector_size(16)));
typedef uint32_t U32x4 __attribute__((vector_size(16)));
typedef int16_t I16x8 __attribute__((vector_size(16)));
typedef uint64_t U64x2 __attribute__((vector_size(16)));

// A vector of more bytes, in parts of 16.
template <class Part, int Parts>
struct Vector {
  Part part[Parts];
};

template <class Part, int Parts, class F>
BMX_INLINE Vector<Part, Parts> make(F f) {
  Vector<Part, Parts> y;
#pragma GCC unroll 8
  for (int i = 0; i < Parts; ++i) y.part[i] = f(i);
  return y;
}

template <class T>
BMX_INLINE T read(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

struct Portable {
  static constexpr int kLanes = 8;
  using Floats = Vector<F32x4, 2>;
  using Ints = Vector<I32x4, 2>;
  using Mask = uint32_t;  // a bit for each lane

  template <class F>
  BMX_INLINE static Floats floats(F f) {
    return make<F32x4, 2>(f);
  }

  BMX_INLINE static Floats load(const float* p) { return read<Floats>(p); }
  BMX_INLINE static Ints load(const int32_t* p) { return read<Ints>(p); }
  BMX_INLINE static Floats load(const float* p, int lanes) { return first_lanes<Floats>(p, lanes); }
  BMX_INLINE static Ints load(const int32_t* p, int lanes) { return first_lanes<Ints>(p, lanes); }
  BMX_INLINE static void store(float* p, const Floats& y) { std::memcpy(p, &y, sizeof(y)); }
  BMX_INLINE static void store(float* p, const Floats& y, int lanes) { std::memcpy(p, &y, lanes * sizeof(float)); }
  BMX_INLINE static Floats splat(float x) {
    return floats([&](int) { return F32x4{x, x, x, x}; });
  }
#ifdef __FP_FAST_FMAF
  BMX_INLINE
#else
  [[gnu::noinline]]  // eight calls of a library
#endif
  static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    float x[kLanes], y[kLanes], z[kLanes];
    store(x, a);
    store(y, b);
    store(z, c);
    for (int i = 0; i < kLanes; ++i) x[i] = __builtin_fmaf(x[i], y[i], z[i]);
    return load(x);
  }
  BMX_INLINE static Floats add(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.part[i] + b.part[i]; });
  }
  BMX_INLINE static Floats sub(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.part[i] - b.part[i]; });
  }
  BMX_INLINE static Floats mul(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.part[i] * b.part[i]; });
  }
  BMX_INLINE static Floats div(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.part[i] / b.part[i]; });
  }
  BMX_INLINE static Floats larger(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.part[i] > b.part[i] ? a.part[i] : b.part[i]; });
  }
  BMX_INLINE static Floats smaller(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.part[i] < b.part[i] ? a.part[i] : b.part[i]; });
  }
  BMX_INLINE static Floats where_positive(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.part[i] > F32x4{} ? a.part[i] : b.part[i]; });
  }
  BMX_INLINE static Floats exclusive_or(const Floats& a, const Floats& b) {
    return floats([&](int i) { return (F32x4)((I32x4)a.part[i] ^ (I32x4)b.part[i]); });
  }
  // y, with from[index[i]] in each lane i whose index is not negative.
  BMX_INLINE static Floats insert(Floats y, const Floats& from, const Ints& index) {
    for (int i = 0; i < kLanes; ++i) {
      const int32_t j = index.part[i / 4][i % 4];
      if (j >= 0) y.part[i / 4][i % 4] = from.part[j / 4][j % 4];
    }
    return y;
  }
  BMX_INLINE static Mask not_less(const Floats& a, const Floats& b) {
    return bits([&](int i) { return ~(a.part[i] < b.part[i]); });
  }
  BMX_INLINE static Mask at_most(const Ints& a, const Ints& b) {
    return bits([&](int i) { return a.part[i] <= b.part[i]; });
  }
  // Of the masks of consecutive vectors.
  template <int Vectors>
  BMX_INLINE static uint64_t join(const Mask (&m)[Vectors]) {
    uint64_t bits = 0;
    for (int v = 0; v < Vectors; ++v) bits |= static_cast<uint64_t>(m[v]) << (v * kLanes);
    return bits;
  }
  BMX_INLINE static Floats to_floats(const Ints& a) {
    return floats([&](int i) { return __builtin_convertvector(a.part[i], F32x4); });
  }
  // Ties to even, between -2^22 and 2^22: the sum with 1.5 * 2^23 has the integer in its lowest bits.
  BMX_INLINE static Ints round(const Floats& a) {
    const F32x4 shift = F32x4{} + 12582912.0f;
    return make<I32x4, 2>([&](int i) { return (I32x4)(a.part[i] + shift) - (I32x4)shift; });
  }
  BMX_INLINE static Ints add_int(const Ints& a, int32_t b) {
    return make<I32x4, 2>([&](int i) { return a.part[i] + b; });
  }
  BMX_INLINE static Ints load_bytes(const uint8_t* p) {
    return make<I32x4, 2>([&](int i) { return I32x4{p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]}; });
  }
  BMX_INLINE static void store_bytes(uint8_t* p, const Ints& a, int lanes) {
    for (int i = 0; i < lanes; ++i) p[i] = static_cast<uint8_t>(a.part[i / 4][i % 4]);
  }

  struct Binary {
    static constexpr bool kCounts = true;
    static constexpr int kRows = 3, kAccumulators = 1, kSingle = 1, kElement = 8, kBlock = 8, kPerVector = 1,
                         kChunk = 31, kWeightBytes = 64;
    using Weight = Vector<U64x2, 4>;
    using Partial = Weight;
    using Sum = Ints;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels / 8; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels + 63) / 64 * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) { return {}; }
    BMX_INLINE static Partial zero() { return {}; }
    BMX_INLINE static Weight weight(const uint8_t* p) { return read<Weight>(p); }
    BMX_INLINE static uint64_t broadcast(const uint8_t* p) { return read<uint64_t>(p); }
    // Counts bits inside of bytes (Hacker's Delight, section 5-1), at most 8 a step.
    BMX_INLINE static Partial madd(const Partial& acc, uint64_t a, const Weight& b) {
      constexpr uint64_t kPairs = 0x5555555555555555, kNibbles = 0x3333333333333333, kBytes = 0x0f0f0f0f0f0f0f0f;
      return make<U64x2, 4>([&](int i) {
        U64x2 x = b.part[i] ^ a;
        x -= (x >> 1) & kPairs;
        x = (x & kNibbles) + ((x >> 2) & kNibbles);
        return acc.part[i] + ((x + (x >> 4)) & kBytes);
      });
    }
    BMX_INLINE static Sum fold(const Sum& sum, const Partial& bytes) {
      Sum y = sum;
#pragma GCC unroll 8
      for (int i = 0; i < kLanes; ++i) {
        constexpr uint64_t kOdd = 0x00ff00ff00ff00ff, kOnes = 0x0001000100010001;
        const uint64_t x = bytes.part[i / 2][i % 2];
        y.part[i / 4][i % 4] += static_cast<int32_t>(((x & kOdd) + ((x >> 8) & kOdd)) * kOnes >> 48);
      }
      return y;
    }
    BMX_INLINE static Ints counts(const Sum& a, const Sum&) { return a; }
  };

  struct Float {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 4, kAccumulators = 2, kSingle = 2, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    using Weight = Floats;
    using Partial = Floats;
    using Sum = Floats;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels * 4; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return channels * taps; }
    BMX_INLINE static Sum start(const int32_t*, int32_t) { return {}; }
    BMX_INLINE static Weight weight(const uint8_t* p) { return read<Floats>(p); }
    BMX_INLINE static float broadcast(const uint8_t* p) { return read<float>(p); }
    BMX_INLINE static Sum madd(const Sum& acc, float a, const Weight& b) {
      return floats([&](int i) { return acc.part[i] + a * b.part[i]; });
    }
    BMX_INLINE static Floats result(const Sum& a) { return a; }
  };

  // Products of a byte and a weight fit 16 bits, sums of two of them do not.
  struct Int8 {
    static constexpr bool kCounts = false;
    static constexpr int kRows = 3, kAccumulators = 2, kSingle = 2, kElement = 4, kBlock = 16, kPerVector = 1,
                         kChunk = 0, kWeightBytes = 64;
    struct Weight {
      I16x8 even[2], odd[2];
    };
    struct Pair {
      I16x8 even, odd;
    };
    using Partial = Ints;
    using Sum = Ints;
    BMX_INLINE static int64_t channel_bytes(int64_t channels) { return channels; }
    BMX_INLINE static int64_t elements(int64_t channels, int64_t taps) { return (channels * taps + 3) / 4; }
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) { return load(start + filter); }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const auto w = read<Vector<I16x8, 2>>(p);
      return {{(w.part[0] << 8) >> 8, (w.part[1] << 8) >> 8}, {w.part[0] >> 8, w.part[1] >> 8}};
    }
    BMX_INLINE static Pair broadcast(const uint8_t* p) {
      const uint32_t a = read<uint32_t>(p);
      return {(I16x8)(U32x4{} + (a & 0x00ff00ff)), (I16x8)(U32x4{} + ((a >> 8) & 0x00ff00ff))};
    }
    BMX_INLINE static Sum madd(const Sum& acc, const Pair& a, const Weight& b) {
      return make<I32x4, 2>([&](int i) {
        const auto even = (I32x4)(a.even * b.even[i]), odd = (I32x4)(a.odd * b.odd[i]);
        return acc.part[i] + ((even << 16) >> 16) + (even >> 16) + ((odd << 16) >> 16) + (odd >> 16);
      });
    }
    BMX_INLINE static Floats result(const Sum& a) { return to_floats(a); }
  };

  struct FloatSigns : Float {
    static constexpr int kWeightBytes = 2;
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const I32x4 bit{1, 2, 4, 8}, byte = I32x4{} + *p;
      return floats([&](int i) { return (byte & (bit << (4 * i))) != 0 ? F32x4{1, 1, 1, 1} : F32x4{-1, -1, -1, -1}; });
    }
  };

  // Weights are 0 for +1 and -1, which has all bits, for -1: -a is (a ^ -1) - -1. Sums of two bytes are at most 510, of
  // 64 of these below 2^15.
  struct Int8Signs : Int8 {
    static constexpr int kChunk = 63, kWeightBytes = 8;
    using Partial = Vector<I16x8, 2>;
    BMX_INLINE static Partial zero() { return {}; }
    BMX_INLINE static Weight weight(const uint8_t* p) {
      const I16x8 even{1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14}, odd = even << 1;
      const I16x8 low = I16x8{} + read<int16_t>(p), high = I16x8{} + read<int16_t>(p + 2);
      return {{(low & even) == 0, (high & even) == 0}, {(low & odd) == 0, (high & odd) == 0}};
    }
    BMX_INLINE static Partial madd(const Partial& acc, const Pair& a, const Weight& b) {
      return make<I16x8, 2>(
          [&](int i) { return acc.part[i] + ((a.even ^ b.even[i]) - b.even[i]) + ((a.odd ^ b.odd[i]) - b.odd[i]); });
    }
    BMX_INLINE static Sum fold(const Sum& sum, const Partial& pairs) {
      return make<I32x4, 2>([&](int i) {
        const auto both = (I32x4)pairs.part[i];
        return sum.part[i] + ((both << 16) >> 16) + (both >> 16);
      });
    }
  };

 private:
  template <class V, class T>
  BMX_INLINE static V first_lanes(const T* p, int lanes) {
    V y{};
    std::memcpy(&y, p, lanes * sizeof(T));
    return y;
  }
  template <class F>
  BMX_INLINE static Mask bits(F f) {
    Mask result = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 4; ++i) {
      const I32x4 set = f(i) & I32x4{1, 2, 4, 8};
      result |= static_cast<Mask>(set[0] | set[1] | set[2] | set[3]) << (4 * i);
    }
    return result;
  }
};

}  // namespace
}  // namespace bmx::nhwc
