// NCHW arrays as their channels see them: a plane of pixels in each image, one number a channel for all of them.
#pragma once

#include <algorithm>
#include <cstdint>

namespace bmx {

struct Planes {
  int64_t batch, channels, pixels;

  // At most so many channels are worked on at a time.
  static constexpr int64_t kMostChannels = 256;

  // Some consecutive channels.
  struct Block {
    const Planes& planes;
    int64_t first, count;

    // Calls f(i, offset) for the plane of channel first + i in each image.
    template <class F>
    void for_planes(F f) const {
      for (int64_t n = 0; n < planes.batch; ++n) {
        int64_t offset = (n * planes.channels + first) * planes.pixels;
        for (int64_t i = 0; i < count; ++i, offset += planes.pixels) f(i, offset);
      }
    }
  };

  // Calls f(block) over threads. Everything about a channel is done in one go: the planes of a batch's channel fit the
  // second-level cache, so that only the first of two passes reads memory. Small planes are taken by the page, for a
  // few bytes of each page at a time cost several times as much as all of it.
  template <class F>
  void for_blocks(int threads, F f) const {
    constexpr int64_t kPage = 1024;  // floats
    const int64_t most = std::min({kMostChannels, kPage / std::max<int64_t>(1, pixels), (channels - 1) / threads + 1});
    const int64_t size = std::max<int64_t>(1, most);
#pragma omp parallel for num_threads(threads)
    for (int64_t first = 0; first < channels; first += size) f(Block{*this, first, std::min(size, channels - first)});
  }
};

}  // namespace bmx
