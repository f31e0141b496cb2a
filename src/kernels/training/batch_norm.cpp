#include "kernels/training/batch_norm.h"

#include <cmath>

namespace bmx {
namespace {

// Sums are taken of x - shift in one pass. With the mean of the first plane as shift, the variance is a
// difference of numbers of its own size, whatever the mean.
float shift_of(const Kernels& k, const Planes& s, const float* data, int64_t channel) {
  float sums[2];
  k.arrays.moments(data + channel * s.pixels, 0, s.pixels, sums);
  return sums[0] / static_cast<float>(s.pixels);
}

struct Moments {
  double mean, variance;
};

Moments moments_of(double shift, double sum, double squares, double count) {
  const double mean = sum / count, variance = squares / count - mean * mean;
  return {shift + mean, variance < 0 ? 0 : variance};  // NaN stays
}

void normalize(const Kernels& k, const Planes& s, const BatchNormParameters& p, int64_t c, const Moments& m,
               const float* data, float* out) {
  const double scale = (p.gamma == nullptr ? 1.0 : p.gamma[c]) / std::sqrt(m.variance + p.eps);
  const double offset = p.beta[c] - m.mean * scale;
  s.for_images(c, [&](int64_t plane) {
    k.arrays.affine(data + plane, static_cast<float>(scale), static_cast<float>(offset), out + plane, s.pixels);
  });
}

double count(const Planes& s) { return static_cast<double>(s.batch * s.pixels); }

}  // namespace

void batch_norm(const Kernels& k, const Planes& s, const BatchNormParameters& p, const float* data, float* out,
                float* mean, float* variance, int threads) {
  s.for_channels(threads, [&](int64_t c) {
    const float shift = shift_of(k, s, data, c);
    double sum = 0, squares = 0;
    s.for_images(c, [&](int64_t plane) {
      float sums[2];
      k.arrays.moments(data + plane, shift, s.pixels, sums);
      sum += sums[0];
      squares += sums[1];
    });
    const Moments m = moments_of(shift, sum, squares, count(s));
    normalize(k, s, p, c, m, data, out);
    mean[c] = static_cast<float>(m.mean);
    variance[c] = static_cast<float>(m.variance);
  });
}

void batch_norm_fixed(const Kernels& k, const Planes& s, const BatchNormParameters& p, const float* data,
                      const float* mean, const float* variance, float* out, int threads) {
  s.for_channels(threads, [&](int64_t c) { normalize(k, s, p, c, {mean[c], variance[c]}, data, out); });
}

// With x^ = (x - mean) r, r = 1 / sqrt(variance + eps), and m elements a channel:
//   d beta = sum g;  d gamma = sum g x^ = r sum g (x - mean)
//   d x = gamma r (g - d beta / m - x^ d gamma / m), or gamma r g for given moments,
// which is a g + b x + c for each channel.
void batch_norm_backward(const Kernels& k, const Planes& s, const BatchNormParameters& p, const float* out_grad,
                         const float* data, const float* mean, const float* variance, float* data_grad,
                         float* gamma_grad, float* beta_grad, int threads) {
  const bool of_batch = mean == nullptr;
  s.for_channels(threads, [&](int64_t c) {
    const float shift = of_batch ? shift_of(k, s, data, c) : mean[c];
    double sum = 0, squares = 0, sum_g = 0, sum_gd = 0;
    s.for_images(c, [&](int64_t plane) {
      float sums[4];
      k.arrays.products(out_grad + plane, data + plane, shift, s.pixels, sums);
      sum += sums[0];
      squares += sums[1];
      sum_g += sums[2];
      sum_gd += sums[3];
    });
    const double n = count(s);
    const Moments m = of_batch ? moments_of(shift, sum, squares, n) : Moments{mean[c], variance[c]};
    const double r = 1 / std::sqrt(m.variance + p.eps);
    const double centered = sum_gd - (m.mean - shift) * sum_g;  // sum of g (x - mean)
    beta_grad[c] = static_cast<float>(sum_g);
    gamma_grad[c] = static_cast<float>(r * centered);
    const double a = (p.gamma == nullptr ? 1.0 : p.gamma[c]) * r;
    const double b = of_batch ? -a * r * r * centered / n : 0;
    const double constant = of_batch ? -a * sum_g / n - b * m.mean : 0;
    s.for_images(c, [&](int64_t plane) {
      k.arrays.combine(out_grad + plane, data + plane, static_cast<float>(a), static_cast<float>(b),
                       static_cast<float>(constant), data_grad + plane, s.pixels);
    });
  });
}

}  // namespace bmx
