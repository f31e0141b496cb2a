#include "kernels/training/channelwise.h"

#include <algorithm>

namespace bmx {

// Sums of a plane are floats, those of a channel doubles: a batch has many planes of few pixels.
using Block = Planes::Block;
constexpr int64_t kMost = Planes::kMostChannels;

void shift(const Kernels& k, const Planes& s, const float* data, const float* bias, float* out, int threads) {
  s.for_blocks(threads, [&](const Block& block) {
    block.for_planes([&](int64_t i, int64_t plane) {
      k.arrays.affine(data + plane, 1, bias[block.first + i], out + plane, s.pixels);
    });
  });
}

void shift_backward(const Kernels& k, const Planes& s, const float* out_grad, float* bias_grad, int threads) {
  s.for_blocks(threads, [&](const Block& block) {
    double totals[kMost] = {};
    block.for_planes([&](int64_t i, int64_t plane) {
      float sums[2];
      k.arrays.moments(out_grad + plane, 0, s.pixels, sums);
      totals[i] += sums[0];
    });
    std::copy(totals, totals + block.count, bias_grad + block.first);
  });
}

void scale(const Kernels& k, const Planes& s, const float* data, const float* scale, float* out, int threads) {
  s.for_blocks(threads, [&](const Block& block) {
    block.for_planes([&](int64_t i, int64_t plane) {
      k.arrays.affine(data + plane, scale[block.first + i], 0, out + plane, s.pixels);
    });
  });
}

void scale_backward(const Kernels& k, const Planes& s, const float* out_grad, const float* data, const float* scale,
                    float* data_grad, float* scale_grad, int threads) {
  s.for_blocks(threads, [&](const Block& block) {
    double totals[kMost] = {};
    block.for_planes([&](int64_t i, int64_t plane) {
      float sums[4];
      k.arrays.products(out_grad + plane, data + plane, 0, s.pixels, sums);
      totals[i] += sums[3];
      k.arrays.affine(out_grad + plane, scale[block.first + i], 0, data_grad + plane, s.pixels);
    });
    std::copy(totals, totals + block.count, scale_grad + block.first);
  });
}

void rprelu(const Kernels& k, const Planes& s, const RPReLUParameters& p, const float* data, float* out, int threads) {
  s.for_blocks(threads, [&](const Block& block) {
    block.for_planes([&](int64_t i, int64_t plane) {
      const int64_t c = block.first + i;
      k.arrays.rprelu(data + plane, p.shift[c], p.slope[c], p.offset[c], out + plane, s.pixels);
    });
  });
}

void rprelu_backward(const Kernels& k, const Planes& s, const RPReLUParameters& p, const float* out_grad,
                     const float* data, const RPReLUGradients& gradients, int threads) {
  s.for_blocks(threads, [&](const Block& block) {
    double offset[kMost] = {}, shift[kMost] = {}, slope[kMost] = {};
    block.for_planes([&](int64_t i, int64_t plane) {
      const int64_t c = block.first + i;
      float sums[3];
      k.arrays.rprelu_backward(out_grad + plane, data + plane, p.shift[c], p.slope[c], gradients.data + plane, s.pixels,
                               sums);
      offset[i] += sums[0];
      shift[i] += sums[1];
      slope[i] += sums[2];
    });
    std::copy(offset, offset + block.count, gradients.offset + block.first);
    std::copy(shift, shift + block.count, gradients.shift + block.first);
    std::copy(slope, slope + block.count, gradients.slope + block.first);
  });
}

}  // namespace bmx
