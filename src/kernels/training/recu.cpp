#include "kernels/training/recu.h"

#include <cmath>

#include "kernels/buffer.h"

namespace bmx {
namespace {

struct Standardization {
  float mean, scale;  // v = (w - mean) scale
};

// Moments in double precision: filters have up to some ten thousand weights.
Standardization standardization(const float* w, int64_t size) {
  double sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += w[i];
  const double mean = sum / static_cast<double>(size);
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < size; ++i) squares += (w[i] - mean) * (w[i] - mean);
  return {static_cast<float>(mean), static_cast<float>(1 / std::sqrt(squares / static_cast<double>(size) + 1e-5))};
}

// The standardization of each filter, and the limit q of all.
float prepare(const Filters& f, const float* weight, float tau, Standardization* standardizations, int threads) {
  double total = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : total)
  for (int64_t o = 0; o < f.count; ++o) {
    const float* w = weight + o * f.inputs;
    const Standardization s = standardizations[o] = standardization(w, f.inputs);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < f.inputs; ++i) sum += std::fabs(w[i] - s.mean);
    total += sum * s.scale;
  }
  return static_cast<float>(-total / static_cast<double>(f.count * f.inputs) *
                            std::log(2 - 2 * static_cast<double>(tau)));
}

}  // namespace

void rectified_clamp(const Filters& f, const float* weight, float tau, float* out, int threads) {
  if (f.count * f.inputs == 0) return;
  Buffer<Standardization> standardizations(f.count);
  const float limit = prepare(f, weight, tau, standardizations.get(), threads);
#pragma omp parallel for num_threads(threads)
  for (int64_t o = 0; o < f.count; ++o) {
    const Standardization s = standardizations[o];
    const float* w = weight + o * f.inputs;
    float* to = out + o * f.inputs;
#pragma omp simd
    for (int64_t i = 0; i < f.inputs; ++i) {
      const float v = (w[i] - s.mean) * s.scale;
      to[i] = v > limit ? limit : (v < -limit ? -limit : v);
    }
  }
}

// With m the gradient of v, which is that of the output inside of the limits and else 0, and n inputs:
//   dw = scale (m - sum m / n - v sum m v / n),
// as for batch normalization.
void rectified_clamp_backward(const Filters& f, const float* out_grad, const float* weight, float tau,
                              float* weight_grad, int threads) {
  if (f.count * f.inputs == 0) return;
  Buffer<Standardization> standardizations(f.count);
  const float limit = prepare(f, weight, tau, standardizations.get(), threads);
#pragma omp parallel for num_threads(threads)
  for (int64_t o = 0; o < f.count; ++o) {
    const Standardization s = standardizations[o];
    const float *w = weight + o * f.inputs, *g = out_grad + o * f.inputs;
    float* to = weight_grad + o * f.inputs;
    double sum = 0, products = 0;
#pragma omp simd reduction(+ : sum, products)
    for (int64_t i = 0; i < f.inputs; ++i) {
      const float v = (w[i] - s.mean) * s.scale, m = std::fabs(v) <= limit ? g[i] : 0.0f;
      sum += m;
      products += m * v;
    }
    const double n = static_cast<double>(f.inputs);
    const float mean = static_cast<float>(sum / n), slope = static_cast<float>(products / n);
#pragma omp simd
    for (int64_t i = 0; i < f.inputs; ++i) {
      const float v = (w[i] - s.mean) * s.scale, m = std::fabs(v) <= limit ? g[i] : 0.0f;
      to[i] = s.scale * (m - mean - v * slope);
    }
  }
}

}  // namespace bmx
