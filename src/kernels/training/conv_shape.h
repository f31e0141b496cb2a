// The geometry of a convolution with one, two or three spatial dimensions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bmx {

// Spatial arrays are (depth, height, width); a convolution with fewer dimensions has leading sizes of 1.
struct ConvShape {
  using Dims = std::array<int64_t, 3>;

  int64_t batch = 0;
  int64_t channels = 0;  // of the input, all groups together
  int64_t filters = 0;   // of the output, all groups together
  int64_t groups = 1;
  Dims in{1, 1, 1};
  Dims kernel{1, 1, 1};
  Dims stride{1, 1, 1};
  Dims dilate{1, 1, 1};
  Dims pad{0, 0, 0};

  int64_t out(int axis) const {
    return (in[axis] + 2 * pad[axis] - dilate[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1;
  }
  int64_t padded(int axis) const { return in[axis] + 2 * pad[axis]; }

  int64_t in_pixels() const { return in[0] * in[1] * in[2]; }
  int64_t padded_pixels() const { return padded(0) * padded(1) * padded(2); }
  int64_t out_pixels() const { return out(0) * out(1) * out(2); }
  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }

  // Whether every window has a tap on the image along each axis, and not in the padding alone; and whether every tap is
  // on the image in some window.
  bool windows_meet_image() const {
    for (int axis = 0; axis < 3; ++axis) {
      for (int64_t o = 0; o < out(axis); ++o) {
        bool meets = false;
        for (int64_t k = 0; k < kernel[axis]; ++k) meets = meets || on_image(axis, o, k);
        if (!meets) return false;
      }
    }
    return true;
  }
  bool taps_meet_image() const {
    for (int axis = 0; axis < 3; ++axis) {
      for (int64_t k = 0; k < kernel[axis]; ++k) {
        bool meets = false;
        for (int64_t o = 0; o < out(axis); ++o) meets = meets || on_image(axis, o, k);
        if (!meets) return false;
      }
    }
    return true;
  }
  // Whether tap k of window o is.
  bool on_image(int axis, int64_t o, int64_t k) const {
    const int64_t at = o * stride[axis] - pad[axis] + k * dilate[axis];
    return at >= 0 && at < in[axis];
  }

  int64_t group_channels() const { return channels / groups; }
  int64_t group_filters() const { return filters / groups; }
  // K: inputs of one output.
  int64_t inputs() const { return group_channels() * taps(); }

  // In bits: words of one pixel (of one group), and of one filter.
  int64_t channel_words() const { return (group_channels() + 63) / 64; }
  int64_t filter_words() const { return channel_words() * taps(); }
};

}  // namespace bmx
