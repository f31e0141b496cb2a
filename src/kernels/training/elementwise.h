// Element by element: quantizers, the gradient of sign, and the sums and maps of batch normalization, compiled
// once for each instruction set by the file that includes it. Loops are written without branches, for the
// compiler to vectorise; inputs and outputs may be the same array.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/training/quantize.h"

namespace bmx {

struct ArrayKernels {
  // quantize_activation and sign_backward of quantize.h.
  void (*quantize)(const float* x, float* y, size_t size, int bits);
  void (*sign_backward)(const float* g, const float* x, float* dx, size_t size, float threshold, Estimator estimator);
  // Sums of d = x - shift: of d and d^2; and with a second array also of g and g d.
  void (*moments)(const float* x, float shift, size_t size, float sums[2]);
  void (*products)(const float* g, const float* x, float shift, size_t size, float sums[4]);
  // y = a x + b; y = a g + b x + c.
  void (*affine)(const float* x, float a, float b, float* y, size_t size);
  void (*combine)(const float* g, const float* x, float a, float b, float c, float* y, size_t size);
  // y = f(x + shift) + offset, where f multiplies what is not above 0 by the slope. The gradient of x; and the sums of
  // g, of dx, and of the gradient of the slope.
  void (*rprelu)(const float* x, float shift, float slope, float offset, float* y, size_t size);
  void (*rprelu_backward)(const float* g, const float* x, float shift, float slope, float* dx, size_t size,
                          float sums[3]);
};

template <class Isa>
struct Elementwise {
  static void quantize(const float* x, float* y, size_t size, int bits) {
    if (bits == 1) {
#pragma omp simd
      for (size_t i = 0; i < size; ++i) y[i] = x[i] < 0 ? -1.0f : 1.0f;
      return;
    }
    const float levels = static_cast<float>((uint64_t{1} << bits) - 1);
    const bool rounds = bits < 32;
#pragma omp simd
    for (size_t i = 0; i < size; ++i) {
      const float clipped = x[i] > 1 ? 1.0f : (x[i] < 0 ? 0.0f : x[i]);
      const float scaled = clipped * levels, below = __builtin_floorf(scaled);
      const float rounded = below + (scaled - below >= 0.5f ? 1.0f : 0.0f);  // scaled >= 0: half away from zero
      y[i] = rounds ? rounded / levels : clipped;
    }
  }

  static void sign_backward(const float* g, const float* x, float* dx, size_t size, float threshold,
                            Estimator estimator) {
    if (estimator == Estimator::kStraightThrough) {
#pragma omp simd
      for (size_t i = 0; i < size; ++i) dx[i] = __builtin_fabsf(x[i]) <= threshold ? g[i] : 0.0f;
      return;
    }
    if (estimator == Estimator::kSwishSign) {
      for (size_t i = 0; i < size; ++i) {
        const float magnitude = __builtin_fabsf(x[i]);
        const float z = 5 * magnitude < 80 ? 5 * magnitude : 80;  // cosh overflows soon after
        const float slope = 5 * (2 - z * __builtin_tanhf(z / 2)) / (1 + __builtin_coshf(z));
        dx[i] = magnitude <= threshold ? g[i] * slope : 0.0f;
      }
      return;
    }
#pragma omp simd
    for (size_t i = 0; i < size; ++i) {
      const float magnitude = __builtin_fabsf(x[i]), passed = g[i] * (2 - 2 * magnitude);
      dx[i] = magnitude <= threshold ? passed : 0.0f;
    }
  }

  static void moments(const float* x, float shift, size_t size, float sums[2]) {
    float total = 0, squares = 0;
#pragma omp simd reduction(+ : total, squares)
    for (size_t i = 0; i < size; ++i) {
      const float d = x[i] - shift;
      total += d;
      squares += d * d;
    }
    sums[0] = total;
    sums[1] = squares;
  }

  static void products(const float* g, const float* x, float shift, size_t size, float sums[4]) {
    float total = 0, squares = 0, total_g = 0, total_gd = 0;
#pragma omp simd reduction(+ : total, squares, total_g, total_gd)
    for (size_t i = 0; i < size; ++i) {
      const float d = x[i] - shift;
      total += d;
      squares += d * d;
      total_g += g[i];
      total_gd += g[i] * d;
    }
    sums[0] = total;
    sums[1] = squares;
    sums[2] = total_g;
    sums[3] = total_gd;
  }

  static void affine(const float* x, float a, float b, float* y, size_t size) {
#pragma omp simd
    for (size_t i = 0; i < size; ++i) y[i] = a * x[i] + b;
  }

  static void combine(const float* g, const float* x, float a, float b, float c, float* y, size_t size) {
#pragma omp simd
    for (size_t i = 0; i < size; ++i) y[i] = a * g[i] + b * x[i] + c;
  }

  static void rprelu(const float* x, float shift, float slope, float offset, float* y, size_t size) {
#pragma omp simd
    for (size_t i = 0; i < size; ++i) {
      const float z = x[i] + shift;
      y[i] = (z > 0 ? z : slope * z) + offset;
    }
  }

  static void rprelu_backward(const float* g, const float* x, float shift, float slope, float* dx, size_t size,
                              float sums[3]) {
    float total_g = 0, total_dx = 0, total_slope = 0;
#pragma omp simd reduction(+ : total_g, total_dx, total_slope)
    for (size_t i = 0; i < size; ++i) {
      const float z = x[i] + shift, gradient = g[i], passed = z > 0 ? gradient : slope * gradient;
      total_g += gradient;
      total_dx += passed;
      total_slope += z > 0 ? 0 : z * gradient;
      dx[i] = passed;
    }
    sums[0] = total_g;
    sums[1] = total_dx;
    sums[2] = total_slope;
  }

  static constexpr ArrayKernels kernels() {
    return {quantize, sign_backward, moments, products, affine, combine, rprelu, rprelu_backward};
  }
};

}  // namespace bmx
