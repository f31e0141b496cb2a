#include "kernels/training/batch_norm.h"

#include <algorithm>
#include <cmath>

namespace bmx {
namespace {

constexpr int64_t kMost = Planes::kMostChannels;

// Sums are taken of x - shift in one pass. With the mean of the first plane as shift, the variance is a
// difference of numbers of its own size, whatever the mean.
void find_shifts(const Kernels& k, const Planes::Block& block, const float* data, float* shifts) {
  const Planes& s = block.planes;
  for (int64_t i = 0; i < block.count; ++i) {
    float sums[2];
    k.arrays.moments(data + (block.first + i) * s.pixels, 0, s.pixels, sums);
    shifts[i] = sums[0] / static_cast<float>(s.pixels);
  }
}

struct Moments {
  double mean, variance;
};

Moments moments_of(double shift, double sum, double squares, double count) {
  const double mean = sum / count, variance = squares / count - mean * mean;
  return {shift + mean, variance < 0 ? 0 : variance};  // NaN stays
}

void normalize(const Kernels& k, const Planes::Block& block, const BatchNormParameters& p, const Moments* moments,
               const float* data, float* out) {
  float scales[kMost], offsets[kMost];
  for (int64_t i = 0; i < block.count; ++i) {
    const int64_t c = block.first + i;
    const double scale = (p.gamma == nullptr ? 1.0 : p.gamma[c]) / std::sqrt(moments[i].variance + p.eps);
    scales[i] = static_cast<float>(scale);
    offsets[i] = static_cast<float>(p.beta[c] - moments[i].mean * scale);
  }
  block.for_planes([&](int64_t i, int64_t plane) {
    k.arrays.affine(data + plane, scales[i], offsets[i], out + plane, block.planes.pixels);
  });
}

double count(const Planes& s) { return static_cast<double>(s.batch * s.pixels); }

}  // namespace

void batch_norm(const Kernels& k, const Planes& s, const BatchNormParameters& p, const float* data, float* out,
                float* mean, float* variance, int threads) {
  s.for_blocks(threads, [&](const Planes::Block& block) {
    float shifts[kMost];
    double sum[kMost] = {}, squares[kMost] = {};
    Moments moments[kMost];
    find_shifts(k, block, data, shifts);
    block.for_planes([&](int64_t i, int64_t plane) {
      float sums[2];
      k.arrays.moments(data + plane, shifts[i], s.pixels, sums);
      sum[i] += sums[0];
      squares[i] += sums[1];
    });
    for (int64_t i = 0; i < block.count; ++i) {
      moments[i] = moments_of(shifts[i], sum[i], squares[i], count(s));
      mean[block.first + i] = static_cast<float>(moments[i].mean);
      variance[block.first + i] = static_cast<float>(moments[i].variance);
    }
    normalize(k, block, p, moments, data, out);
  });
}

void batch_norm_fixed(const Kernels& k, const Planes& s, const BatchNormParameters& p, const float* data,
                      const float* mean, const float* variance, float* out, int threads) {
  s.for_blocks(threads, [&](const Planes::Block& block) {
    Moments moments[kMost];
    for (int64_t i = 0; i < block.count; ++i) moments[i] = {mean[block.first + i], variance[block.first + i]};
    normalize(k, block, p, moments, data, out);
  });
}

// With x^ = (x - mean) r, r = 1 / sqrt(variance + eps), and m elements a channel:
//   d beta = sum g;  d gamma = sum g x^ = r sum g (x - mean)
//   d x = gamma r (g - d beta / m - x^ d gamma / m), or gamma r g for given moments,
// which is a g + b x + c for each channel.
void batch_norm_backward(const Kernels& k, const Planes& s, const BatchNormParameters& p, const float* out_grad,
                         const float* data, const float* mean, const float* variance, float* data_grad,
                         float* gamma_grad, float* beta_grad, int threads) {
  const bool of_batch = mean == nullptr;
  s.for_blocks(threads, [&](const Planes::Block& block) {
    float shifts[kMost];
    double sum[kMost] = {}, squares[kMost] = {}, sum_g[kMost] = {}, sum_gd[kMost] = {};
    if (of_batch) {
      find_shifts(k, block, data, shifts);
    } else {
      std::copy(mean + block.first, mean + block.first + block.count, shifts);
    }
    block.for_planes([&](int64_t i, int64_t plane) {
      float sums[4];
      k.arrays.products(out_grad + plane, data + plane, shifts[i], s.pixels, sums);
      sum[i] += sums[0];
      squares[i] += sums[1];
      sum_g[i] += sums[2];
      sum_gd[i] += sums[3];
    });
    float of_grad[kMost], of_data[kMost], constant[kMost];
    for (int64_t i = 0; i < block.count; ++i) {
      const int64_t c = block.first + i;
      const double n = count(s);
      const Moments m = of_batch ? moments_of(shifts[i], sum[i], squares[i], n) : Moments{mean[c], variance[c]};
      const double r = 1 / std::sqrt(m.variance + p.eps);
      const double centered = sum_gd[i] - (m.mean - shifts[i]) * sum_g[i];  // sum of g (x - mean)
      beta_grad[c] = static_cast<float>(sum_g[i]);
      gamma_grad[c] = static_cast<float>(r * centered);
      const double a = (p.gamma == nullptr ? 1.0 : p.gamma[c]) * r;
      const double b = of_batch ? -a * r * r * centered / n : 0;
      of_grad[i] = static_cast<float>(a);
      of_data[i] = static_cast<float>(b);
      constant[i] = static_cast<float>(of_batch ? -a * sum_g[i] / n - b * m.mean : 0);
    }
    block.for_planes([&](int64_t i, int64_t plane) {
      k.arrays.combine(out_grad + plane, data + plane, of_grad[i], of_data[i], constant[i], data_grad + plane,
                       s.pixels);
    });
  });
}

}  // namespace bmx
