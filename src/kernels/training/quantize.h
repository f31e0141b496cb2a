// The quantizers of BMXNet and DoReFa-Net (Zhou et al., 2016), on arrays of floats.
// bmx/quantization.py defines the same functions as compositions of MXNet's operators; the tests compare.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bmx {

enum class Estimator { kStraightThrough, kApproxSign, kSwishSign };

// y = act_bit 1: -1 if x < 0, otherwise +1 (0, -0.0 and NaN are +1);
//     2..31:     round((2^b - 1) * clip(x, 0, 1)) / (2^b - 1), halves away from zero;
//     32:        clip(x, 0, 1). NaN stays NaN for more than one bit.
void quantize_activation(const float* x, float* y, size_t size, int bits, int threads);
float quantize_activation(float x, int bits);

// dx = g inside the window |x| <= threshold, otherwise 0 (also for NaN). The estimator multiplies by the
// derivative of its surrogate: 1; 2 - 2 |x| for ApproxSign (Liu et al., Bi-Real Net, 2018); for SwishSign (Darabi
// et al., BNN+, 2018) with beta = 5 and z = beta x, beta (2 - z tanh(z / 2)) / (1 + cosh z).
void sign_backward(const float* g, const float* x, float* dx, size_t size, float threshold, Estimator estimator,
                   int threads);

// y = weight_bit 1: sign as above; 32: w;
//     2..31: 2 * quantize(tanh(w) / (2 * max |tanh w|) + 1/2, b) - 1, the maximum over the whole array
//     (an array of zeros counts as 0 / 0 = 0).
void quantize_weight(const float* w, float* y, size_t size, int bits);

// mean |w|, the scale of XNOR-Net with one value a layer.
float mean_abs(const float* w, size_t size);

}  // namespace bmx
