// ReCU, the rectified clamp unit (Z. Xu et al., arXiv:2103.12369): the latent weights of a 1-bit layer on their way to
// its sign. Each filter is standardized, and weights far from 0, which would hardly ever change their sign, are
// clamped.
#pragma once

#include <cstdint>

namespace bmx {

struct Filters {
  int64_t count, inputs;
};

// With v = (w - mean) / sqrt(variance + 1e-5), the moments those of w's filter:
//   out = min(max(v, -q), q),  q = -mean |v| log(2 - 2 tau), the mean over all filters:
// the quantile tau of a Laplace distribution whose mean of absolute values is that of v. tau is above 0.5 and below 1.
void rectified_clamp(const Filters& filters, const float* weight, float tau, float* out, int threads);

// The gradient of the weight, for q held fixed.
void rectified_clamp_backward(const Filters& filters, const float* out_grad, const float* weight, float tau,
                              float* weight_grad, int threads);

}  // namespace bmx
