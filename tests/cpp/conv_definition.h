// What a convolution is, product by product, for tests to sum in double precision.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "kernels/training/conv_shape.h"
#include "test.h"

namespace test {

// Calls f(index in out, index in data or -1 for padding, index in weight) for every product.
template <class F>
void for_each_product(const bmx::ConvShape& s, F f) {
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t o = 0; o < s.filters; ++o) {
      for (int64_t p = 0; p < s.out_pixels(); ++p) {
        const int64_t at[3] = {p / s.out(2) / s.out(1), p / s.out(2) % s.out(1), p % s.out(2)};
        for (int64_t i = 0; i < s.inputs(); ++i) {
          const int64_t tap[3] = {i / s.kernel[2] / s.kernel[1] % s.kernel[0], i / s.kernel[2] % s.kernel[1],
                                  i % s.kernel[2]};
          int64_t index = n * s.channels + o / s.group_filters() * s.group_channels() + i / s.taps();
          bool inside = true;
          for (int axis = 0; axis < 3; ++axis) {
            const int64_t x = at[axis] * s.stride[axis] - s.pad[axis] + tap[axis] * s.dilate[axis];
            inside = inside && x >= 0 && x < s.in[axis];
            index = index * s.in[axis] + x;
          }
          f((n * s.filters + o) * s.out_pixels() + p, inside ? index : -1, o * s.inputs() + i);
        }
      }
    }
  }
}

inline void check_close(const std::vector<float>& got, const std::vector<double>& expected, const std::string& what) {
  CHECK(got.size() == expected.size(), what);
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(std::fabs(got[i] - expected[i]) <= 1e-4 * (1 + std::fabs(expected[i])),
          what + " at " + std::to_string(i) + ": " + std::to_string(got[i]) + " for " + std::to_string(expected[i]));
  }
}

}  // namespace test
