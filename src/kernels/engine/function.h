// The functions of an epilogue, over arrays. Compiled once for each instruction set by the file that includes it, with
// loops without branches or calls (but GELU's) that the compiler vectorises: every product and sum is rounded as
// written, so that all instruction sets give the same numbers. Isa is a tag that gives each its own instance.
//
// Errors are of one or two units in the last place. NaN stays NaN, and infinities give the limits.
#pragma once

#include <cstring>

#include "kernels/engine/kernels.h"
#include "kernels/inline.h"

namespace bmx::nhwc {

// By their numbers in a file; bmx/program/operations.py has the same table in Python.
enum class Function : uint32_t {
  kRound = 1,
  kTanh,
  kSigmoid,
  kSoftplus,
  kSoftsign,
  kExp,
  kLog,
  kSqrt,
  kSquare,
  kAbs,
  kSign1,
  kGelu,
  kElu,
  kSelu,
  kReciprocal,
  kNegate,
  kSignum,
};
constexpr Function kLastFunction = Function::kSignum;

template <class Isa>
struct Functions {
  [[gnu::noinline]] static void apply(Function function, float* y, int size) {
    switch (function) {
      case Function::kRound:
        return map(y, size, [](float x) { return round(x); });
      case Function::kTanh:
        return map(y, size, [](float x) { return tanh(x); });
      case Function::kSigmoid:
        return map(y, size, [](float x) { return 1 / (1 + exp(-x)); });
      case Function::kSoftplus:
        return map(y, size, [](float x) { return (x < 0 ? 0 : x) + log1p(exp(-magnitude(x))); });
      case Function::kSoftsign:
        return map(y, size, [](float x) { return x / (1 + magnitude(x)); });
      case Function::kExp:
        return map(y, size, [](float x) { return exp(x); });
      case Function::kLog:
        return map(y, size, [](float x) { return log(x); });
      case Function::kSqrt:
        return map(y, size, [](float x) { return __builtin_sqrtf(x); });
      case Function::kSquare:
        return map(y, size, [](float x) { return x * x; });
      case Function::kAbs:
        return map(y, size, [](float x) { return magnitude(x); });
      case Function::kSign1:
        return map(y, size, [](float x) { return x < 0 ? -1.0f : 1.0f; });
      case Function::kGelu:
        return map(y, size, [](float x) { return x * (1 + __builtin_erff(x * 0.70710678f)) / 2; });
      case Function::kElu:
        return map(y, size, [](float x) { return x > 0 ? x : expm1(x); });
      case Function::kSelu:
        return map(y, size, [](float x) { return 1.05070099f * (x > 0 ? x : 1.67326324f * expm1(x)); });
      case Function::kReciprocal:
        return map(y, size, [](float x) { return 1 / x; });
      case Function::kNegate:
        return map(y, size, [](float x) { return -x; });
      case Function::kSignum:
        return map(y, size, [](float x) { return x > 0 ? 1.0f : (x < 0 ? -1.0f : x); });
    }
  }

 private:
  template <class F>
  BMX_INLINE static void map(float* y, int size, F f) {
#pragma omp simd
    for (int i = 0; i < size; ++i) y[i] = f(y[i]);
  }

  BMX_INLINE static uint32_t bits(float x) {
    uint32_t b;
    std::memcpy(&b, &x, sizeof(b));
    return b;
  }
  BMX_INLINE static float number(uint32_t b) {
    float x;
    std::memcpy(&x, &b, sizeof(x));
    return x;
  }
  BMX_INLINE static float magnitude(float x) { return __builtin_fabsf(x); }
  BMX_INLINE static float power_of_2(int32_t n) { return number(static_cast<uint32_t>(n + 127) << 23); }

  // Half away from zero. Below 2^23 the sum with it rounds to an integer, ties to even, which misses one for every
  // other tie; from there on all numbers are integers.
  BMX_INLINE static float round(float x) {
    constexpr float kIntegers = 8388608;
    const float m = magnitude(x), even = (m + kIntegers) - kIntegers;
    const float rounded = even + (m - even == 0.5f ? 1.0f : 0.0f);
    return __builtin_copysignf(m < kIntegers ? rounded : m, x);
  }

  // x = n ln 2 + r with |r| <= ln 2 / 2, and exp(r) - 1 = r + r^2 P(r) (Cephes' expf). The first part of ln 2 has so
  // few digits that its product with n is exact.
  struct Exponent {
    int32_t n;
    float minus_1;

    BMX_INLINE explicit Exponent(float x) {
      constexpr float kShift = 12582912;  // 1.5 * 2^23: a sum with it has the integer in its lowest bits
      const float shifted = x * 1.44269504f + kShift, whole = shifted - kShift;
      n = static_cast<int32_t>(bits(shifted) - bits(kShift));
      const float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
      float p = 1.9875691500e-4f;
      p = p * r + 1.3981999507e-3f;
      p = p * r + 8.3334519073e-3f;
      p = p * r + 4.1665795894e-2f;
      p = p * r + 1.6666665459e-1f;
      p = p * r + 5.0000001201e-1f;
      minus_1 = p * (r * r) + r;
    }
  };

  // Two factors, for results that are denormal or infinite.
  BMX_INLINE static float exp(float x) {
    const Exponent e(x < -104 ? -104 : (x > 89 ? 89 : x));
    const int32_t half = e.n >> 1;
    return (1 + e.minus_1) * power_of_2(half) * power_of_2(e.n - half);
  }

  // For x <= 80.
  BMX_INLINE static float expm1(float x) {
    const Exponent e(x < -80 ? -80 : x);
    const float power = power_of_2(e.n);
    return power * e.minus_1 + (power - 1);
  }

  BMX_INLINE static float tanh(float x) {
    const float m = magnitude(x), e = expm1(m > 20 ? 40 : 2 * m);
    return __builtin_copysignf(e / (e + 2), x);
  }

  // x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and fdlibm's log(1 + f).
  BMX_INLINE static float log(float x) {
    const bool small = x < 1.17549435e-38f;  // denormals, and what has no logarithm
    const uint32_t b = bits(small ? x * 8388608 : x) - 0x3f3504f3;
    const auto k = static_cast<float>((static_cast<int32_t>(b) >> 23) - (small ? 23 : 0));
    const float f = number((b & 0x7fffff) + 0x3f3504f3) - 1, s = f / (2 + f), z = s * s, w = z * z;
    const float r = w * (0.40000972152f + w * 0.24279078841f) + z * (0.66666662693f + w * 0.28498786688f);
    const float half = 0.5f * f * f;
    const float y = s * (half + r) + k * 9.0580006145e-06f - half + f + k * 0.69313812256f;
    const float infinity = __builtin_huge_valf();
    return x > 0 ? (x < infinity ? y : x) : (x == 0 ? -infinity : (x - x) / 0.0f);
  }

  // For 0 <= x <= 1: the logarithm of the sum as it is rounded, and what was lost.
  BMX_INLINE static float log1p(float x) {
    const float sum = 1 + x;
    return log(sum) + (x - (sum - 1)) / sum;
  }
};

}  // namespace bmx::nhwc
