#include "kernels/quantize.h"

#include <cmath>

namespace bmx {
namespace {

float sign(float x) { return x < 0 ? -1.0f : 1.0f; }

float clip01(float x) { return x > 1 ? 1.0f : (x < 0 ? 0.0f : x); }

float round_to_levels(float x, float levels) { return std::round(x * levels) / levels; }

float levels_of(int bits) { return static_cast<float>((uint64_t{1} << bits) - 1); }

constexpr size_t kParallelSize = 1 << 16;  // below this, starting threads costs more than they save

template <class F>
void for_each(size_t size, int threads, F f) {
#pragma omp parallel for num_threads(threads) if (size >= kParallelSize)
  for (size_t i = 0; i < size; ++i) f(i);
}

}  // namespace

float quantize_activation(float x, int bits) {
  if (bits == 1) return sign(x);
  return bits == 32 ? clip01(x) : round_to_levels(clip01(x), levels_of(bits));
}

void quantize_activation(const float* x, float* y, size_t size, int bits, int threads) {
  if (bits == 1) {
    for_each(size, threads, [=](size_t i) { y[i] = sign(x[i]); });
  } else if (bits == 32) {
    for_each(size, threads, [=](size_t i) { y[i] = clip01(x[i]); });
  } else {
    const float levels = levels_of(bits);
    for_each(size, threads, [=](size_t i) { y[i] = round_to_levels(clip01(x[i]), levels); });
  }
}

void sign_backward(const float* g, const float* x, float* dx, size_t size, float threshold, Estimator estimator,
                   int threads) {
  if (estimator == Estimator::kStraightThrough) {
    for_each(size, threads, [=](size_t i) { dx[i] = std::fabs(x[i]) <= threshold ? g[i] : 0.0f; });
  } else {
    for_each(size, threads, [=](size_t i) {
      const float magnitude = std::fabs(x[i]);
      dx[i] = magnitude <= threshold ? g[i] * (2 - 2 * magnitude) : 0.0f;
    });
  }
}

void quantize_weight(const float* w, float* y, size_t size, int bits) {
  if (bits == 1 || bits == 32) {
    for (size_t i = 0; i < size; ++i) y[i] = bits == 1 ? sign(w[i]) : w[i];
    return;
  }
  float largest = 0;
  for (size_t i = 0; i < size; ++i) {
    y[i] = std::tanh(w[i]);
    const float magnitude = std::fabs(y[i]);
    if (magnitude > largest) largest = magnitude;
  }
  const float levels = levels_of(bits), range = 2 * largest;
  for (size_t i = 0; i < size; ++i) {
    const float unit = (range > 0 ? y[i] / range : 0.0f) + 0.5f;
    y[i] = 2 * round_to_levels(unit, levels) - 1;
  }
}

float mean_abs(const float* w, size_t size) {
  double sum = 0;
  for (size_t i = 0; i < size; ++i) sum += std::fabs(w[i]);
  return size == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(size));
}

}  // namespace bmx
