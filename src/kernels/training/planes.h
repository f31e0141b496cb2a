// NCHW arrays as their channels see them: a plane of pixels in each image, one number a channel for all of them.
#pragma once

#include <cstdint>

namespace bmx {

struct Planes {
  int64_t batch, channels, pixels;

  // Calls f(offset) for the plane of a channel in each image.
  template <class F>
  void for_images(int64_t channel, F f) const {
    for (int64_t n = 0; n < batch; ++n) f((n * channels + channel) * pixels);
  }

  // Calls f(channel) over threads. Everything about one channel is done in one go: the planes of a batch's channel
  // fit the second-level cache, so that only the first of two passes reads memory.
  template <class F>
  void for_channels(int threads, F f) const {
#pragma omp parallel for num_threads(threads)
    for (int64_t c = 0; c < channels; ++c) f(c);
  }
};

}  // namespace bmx
