#include "kernels/training/channelwise.h"

namespace bmx {

// Sums of a plane are floats, those of a channel doubles: a batch has many planes of few pixels.

void shift(const Kernels& k, const Planes& s, const float* data, const float* bias, float* out, int threads) {
  s.for_channels(threads, [&](int64_t c) {
    s.for_images(c, [&](int64_t plane) { k.arrays.affine(data + plane, 1, bias[c], out + plane, s.pixels); });
  });
}

void shift_backward(const Kernels& k, const Planes& s, const float* out_grad, float* bias_grad, int threads) {
  s.for_channels(threads, [&](int64_t c) {
    double total = 0;
    s.for_images(c, [&](int64_t plane) {
      float sums[2];
      k.arrays.moments(out_grad + plane, 0, s.pixels, sums);
      total += sums[0];
    });
    bias_grad[c] = static_cast<float>(total);
  });
}

void scale(const Kernels& k, const Planes& s, const float* data, const float* scale, float* out, int threads) {
  s.for_channels(threads, [&](int64_t c) {
    s.for_images(c, [&](int64_t plane) { k.arrays.affine(data + plane, scale[c], 0, out + plane, s.pixels); });
  });
}

void scale_backward(const Kernels& k, const Planes& s, const float* out_grad, const float* data, const float* scale,
                    float* data_grad, float* scale_grad, int threads) {
  s.for_channels(threads, [&](int64_t c) {
    double total = 0;
    s.for_images(c, [&](int64_t plane) {
      float sums[4];
      k.arrays.products(out_grad + plane, data + plane, 0, s.pixels, sums);
      total += sums[3];
      k.arrays.affine(out_grad + plane, scale[c], 0, data_grad + plane, s.pixels);
    });
    scale_grad[c] = static_cast<float>(total);
  });
}

void rprelu(const Kernels& k, const Planes& s, const RPReLUParameters& p, const float* data, float* out, int threads) {
  s.for_channels(threads, [&](int64_t c) {
    s.for_images(c, [&](int64_t plane) {
      k.arrays.rprelu(data + plane, p.shift[c], p.slope[c], p.offset[c], out + plane, s.pixels);
    });
  });
}

void rprelu_backward(const Kernels& k, const Planes& s, const RPReLUParameters& p, const float* out_grad,
                     const float* data, const RPReLUGradients& gradients, int threads) {
  s.for_channels(threads, [&](int64_t c) {
    double offset = 0, shift = 0, slope = 0;
    s.for_images(c, [&](int64_t plane) {
      float sums[3];
      k.arrays.rprelu_backward(out_grad + plane, data + plane, p.shift[c], p.slope[c], gradients.data + plane, s.pixels,
                               sums);
      offset += sums[0];
      shift += sums[1];
      slope += sums[2];
    });
    gradients.offset[c] = static_cast<float>(offset);
    gradients.shift[c] = static_cast<float>(shift);
    gradients.slope[c] = static_cast<float>(slope);
  });
}

}  // namespace bmx
