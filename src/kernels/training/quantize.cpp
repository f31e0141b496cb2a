#include "kernels/training/quantize.h"

#include <algorithm>
#include <cmath>

#include "kernels/training/kernels.h"

namespace bmx {
namespace {

constexpr size_t kParallelSize = 1 << 16;  // below this, starting threads costs more than they save

// Calls f(begin, end) for ranges that cover 0..size.
template <class F>
void for_ranges(size_t size, int threads, F f) {
  const size_t parts = size < kParallelSize ? 1 : static_cast<size_t>(threads);
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1)
  for (size_t part = 0; part < parts; ++part) f(size * part / parts, size * (part + 1) / parts);
}

}  // namespace

float quantize_activation(float x, int bits) {
  float y;
  kPortableKernels.arrays.quantize(&x, &y, 1, bits);
  return y;
}

void quantize_activation(const float* x, float* y, size_t size, int bits, int threads) {
  const Kernels& k = kernels();
  for_ranges(size, threads,
             [&](size_t begin, size_t end) { k.arrays.quantize(x + begin, y + begin, end - begin, bits); });
}

void sign_backward(const float* g, const float* x, float* dx, size_t size, float threshold, Estimator estimator,
                   int threads) {
  const Kernels& k = kernels();
  for_ranges(size, threads, [&](size_t begin, size_t end) {
    k.arrays.sign_backward(g + begin, x + begin, dx + begin, end - begin, threshold, estimator);
  });
}

void quantize_weight(const float* w, float* y, size_t size, int bits) {
  if (bits == 1) return kernels().arrays.quantize(w, y, size, 1);
  if (bits == 32) {
    std::copy(w, w + size, y);
    return;
  }
  float largest = 0;
  for (size_t i = 0; i < size; ++i) {
    y[i] = std::tanh(w[i]);
    const float magnitude = std::fabs(y[i]);
    if (magnitude > largest) largest = magnitude;
  }
  const float range = 2 * largest;
  for (size_t i = 0; i < size; ++i) y[i] = (range > 0 ? y[i] / range : 0.0f) + 0.5f;
  kernels().arrays.quantize(y, y, size, bits);
  for (size_t i = 0; i < size; ++i) y[i] = 2 * y[i] - 1;
}

float mean_abs(const float* w, size_t size) {
  double sum = 0;
  for (size_t i = 0; i < size; ++i) sum += std::fabs(w[i]);
  return size == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(size));
}

}  // namespace bmx
