// The steps of the engine whose output channels each read one input channel: pooling, depthwise convolution, and an
// epilogue alone. Lanes are channels; a source fills a tile, and the epilogue is that of the convolutions.
#pragma once

#include "kernels/engine/epilogue.h"

namespace bmx::nhwc {

// Tiles of Source::kRows pixels, channels inside: what a pixel reads lies side by side.
template <class Isa, class Source>
class ChannelDriver {
 public:
  ChannelDriver(const Source& source, const Epilogue& epilogue, int32_t width, int32_t channels)
      : source_(source), epilogue_(epilogue), width_(width), channels_(channels) {}

  void run(int64_t first, int64_t last) const {
    constexpr int kRows = Source::kRows;
    int32_t y = static_cast<int32_t>(first / width_), x = static_cast<int32_t>(first % width_);
    for (; last - first >= kRows; first += kRows) tiles<Source::kVectors>(Pixels<kRows>(y, x, width_), 0);
    if constexpr (kRows > 1) {
      for (; first < last; ++first) tiles<Source::kVectors>(Pixels<1>(y, x, width_), 0);
    }
  }

 private:
  template <int Vectors, class P>
  BMX_INLINE void tiles(const P& pixels, int32_t c) const {
    for (; channels_ - c >= Vectors * Isa::kLanes; c += Vectors * Isa::kLanes) {
      tile<Vectors, true>(pixels, Channels::of(c, Vectors * Isa::kLanes, channels_));
    }
    if constexpr (Vectors > 1) {
      tiles<Vectors / 2>(pixels, c);
    } else if (c < channels_) {
      tile<1, false>(pixels, Channels::of(c, channels_ - c, channels_));
    }
  }

  template <int Vectors, bool Full, int Rows>
  BMX_INLINE void tile(const Pixels<Rows>& pixels, Channels channels) const {
    typename Isa::Floats y[Rows][Vectors];
    source_.template fill<Rows, Vectors, Full>(y, pixels, channels);
    using Epilogue = EpilogueTile<Isa, Rows, Vectors, Full>;
    constexpr bool kMost = Full && Rows == Source::kRows && Vectors == Source::kVectors;  // of the tiles are such
    kMost ? Epilogue::run(epilogue_, y, pixels, channels) : Epilogue::run_apart(epilogue_, y, pixels, channels);
  }

  const Source& source_;
  const Epilogue& epilogue_;
  const int32_t width_, channels_;
};

template <class Isa>
struct MapFloats {
  static constexpr int kRows = 4, kVectors = 2;
  using Floats = typename Isa::Floats;
  View in;

  template <int Rows, int Vectors, bool Full>
  BMX_INLINE void fill(Floats (&y)[Rows][Vectors], const Pixels<Rows>& pixels, Channels c) const {
    const float* p[Rows];
    pixels.find(in, c.first * sizeof(float), p);
    EpilogueTile<Isa, Rows, Vectors, Full>::each([&](int r, int v) { y[r][v] = Isa::load(p[r] + v * Isa::kLanes); });
  }
};

template <class Isa>
struct MapBytes {
  static constexpr int kRows = 4, kVectors = 2;
  using Floats = typename Isa::Floats;
  View in;
  float scale;
  int32_t zero_point;

  template <int Rows, int Vectors, bool Full>
  BMX_INLINE void fill(Floats (&y)[Rows][Vectors], const Pixels<Rows>& pixels, Channels c) const {
    const Floats factor = Isa::splat(scale);
    const uint8_t* p[Rows];
    pixels.find(in, c.first, p);
    EpilogueTile<Isa, Rows, Vectors, Full>::each([&](int r, int v) {
      const auto bytes = Isa::load_bytes(p[r] + v * Isa::kLanes);
      y[r][v] = Isa::mul(Isa::to_floats(Isa::add_int(bytes, -zero_point)), factor);
    });
  }
};

// One axis of the part of a window that lies inside the image.
struct Inside {
  int32_t first, count;  // pixel and taps
  int32_t with_padding;  // what the average counts of which padding is a part

  BMX_INLINE Inside(int32_t out, int32_t stride, int32_t dilate, int32_t kernel, int32_t pad, int32_t size) {
    const int32_t start = out * stride - pad;
    const auto taps = [&](int32_t pixels) { return dilate == 1 ? pixels : (pixels + dilate - 1) / dilate; };
    const int32_t skipped = start < 0 ? taps(-start) : 0;
    int32_t end = start < size ? taps(size - start) : 0;
    end = end < kernel ? end : kernel;
    first = start + skipped * dilate;
    count = end > skipped ? end - skipped : 0;
    with_padding = (start + kernel < size + pad ? start + kernel : size + pad) - start;
  }
};

// The part of the window of output pixel (y, x) that lies inside the image.
struct InsideWindow {
  Inside ys, xs;
  const uint8_t* data;
  int64_t row_step, pixel_step;

  BMX_INLINE InsideWindow(const View& in, const Window& w, int32_t y, int32_t x)
      : ys(y, w.stride_y, w.dilate_y, w.kernel_h, w.pad_y, in.height),
        xs(x, w.stride_x, w.dilate_x, w.kernel_w, w.pad_x, in.width),
        data(in.data + ys.first * in.row_stride + xs.first * in.pixel_stride),
        row_step(w.dilate_y * in.row_stride),
        pixel_step(w.dilate_x * in.pixel_stride) {}

  // Calls f(pixel) for each.
  template <class F>
  BMX_INLINE void each(F f) const {
    for (int32_t i = 0; i < ys.count; ++i) {
      const uint8_t* pixel = data + i * row_step;
      for (int32_t j = 0; j < xs.count; ++j, pixel += pixel_step) f(pixel);
    }
  }
};

// Taps are taken in the same order wherever a window lies: sums, and of two zeros the maximum, depend on it.
template <class Isa>
struct PoolWindow {
  static constexpr int kRows = Isa::kLanes == 16 ? 4 : 2, kVectors = 4;
  using Floats = typename Isa::Floats;
  const Pool& pool;

  template <int Rows, int Vectors, bool Full>
  BMX_INLINE void fill(Floats (&out)[Rows][Vectors], const Pixels<Rows>& pixels, Channels c) const {
    const Window& w = pool.window;
    const int32_t x = pixels.x(), start = x * w.stride_x - w.pad_x;
    const int32_t end = start + (Rows - 1) * w.stride_x + (w.kernel_w - 1) * w.dilate_x;  // its last column
    if (__builtin_expect(start < 0 || end >= pool.in.width || x + Rows > pool.width, 0)) {
      float numbers[Rows * Vectors * Isa::kLanes];
      one_by_one<Rows, Vectors>(numbers, pixels.y(), x, c.first);
      EpilogueTile<Isa, Rows, Vectors, Full>::each(
          [&](int r, int v) { out[r][v] = Isa::load(numbers + (r * Vectors + v) * Isa::kLanes); });
      return;
    }
    reduce<Rows, Vectors>(out, InsideWindow(pool.in, w, pixels.y(), x), w.stride_x * pool.in.pixel_stride, c.first);
  }

 private:
  template <int Rows, int Vectors>
  [[gnu::noinline]] void one_by_one(float* numbers, int32_t y, int32_t x, int32_t channel) const {
    for (int r = 0; r < Rows; ++r, numbers += Vectors * Isa::kLanes) {
      Floats out[1][Vectors];
      reduce<1, Vectors>(out, InsideWindow(pool.in, pool.window, y, x), 0, channel);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) Isa::store(numbers + v * Isa::kLanes, out[0][v]);
      x = x + 1 == pool.width ? 0 : x + 1;
      y += x == 0;
    }
  }

  // Windows `step` bytes apart, with the same taps inside the image.
  template <int Rows, int Vectors>
  BMX_INLINE void reduce(Floats (&out)[Rows][Vectors], const InsideWindow& window, int64_t step,
                         int32_t channel) const {
    // Starts with `first` and takes y = f(y, number) of each number.
    const auto all = [&](float first, auto f) {
      Floats y[Rows][Vectors];
      EpilogueTile<Isa, Rows, Vectors, true>::each([&](int r, int v) { y[r][v] = Isa::splat(first); });
      window.each([&](const uint8_t* pixel) {
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          const float* p = reinterpret_cast<const float*>(pixel + r * step) + channel;
#pragma GCC unroll 8
          for (int v = 0; v < Vectors; ++v) y[r][v] = f(y[r][v], Isa::load(p + v * Isa::kLanes));
        }
      });
      EpilogueTile<Isa, Rows, Vectors, true>::each([&](int r, int v) { out[r][v] = y[r][v]; });
    };
    if (pool.mode == 0) {  // NaN is no maximum
      return all(-__builtin_huge_valf(), [](Floats y, Floats x) { return Isa::larger(x, y); });
    }
    all(0, [](Floats y, Floats x) { return Isa::add(y, x); });
    const int64_t inside = int64_t{window.ys.count} * window.xs.count;
    if (inside == 0) return;
    const int64_t size = pool.mode == 1 ? inside : int64_t{window.ys.with_padding} * window.xs.with_padding;
    const Floats divisor = Isa::splat(static_cast<float>(size));
    EpilogueTile<Isa, Rows, Vectors, true>::each([&](int r, int v) { out[r][v] = Isa::div(out[r][v], divisor); });
  }
};

template <class Isa>
struct DepthwiseWindow {
  static constexpr int kRows = 4, kVectors = Isa::Float::kAccumulators;
  using Floats = typename Isa::Floats;
  const Conv& conv;
  View origin;  // output pixels in the input

  template <int Rows, int Vectors, bool Full>
  BMX_INLINE void fill(Floats (&out)[Rows][Vectors], const Pixels<Rows>& pixels, Channels c) const {
    const Window& w = conv.window;
    const int64_t tap = (conv.in.channels + 31) / 32 * 32;
    const float* weights = reinterpret_cast<const float*>(conv.weights) + c.first;
    const uint8_t* a[Rows];
    pixels.find(origin, c.first * sizeof(float), a);
    Floats y[Rows][Vectors];
    EpilogueTile<Isa, Rows, Vectors, Full>::each([&](int r, int v) { y[r][v] = Isa::splat(0); });
    for (int32_t i = 0; i < w.kernel_h; ++i) {
      for (int32_t j = 0; j < w.kernel_w; ++j, weights += tap) {
        const int64_t offset = i * w.dilate_y * conv.in.row_stride + j * w.dilate_x * conv.in.pixel_stride;
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
          const Floats b = Isa::load(weights + v * Isa::kLanes);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) {
            const Floats x = Isa::load(reinterpret_cast<const float*>(a[r] + offset) + v * Isa::kLanes);
            y[r][v] = Isa::add(y[r][v], Isa::mul(x, b));
          }
        }
      }
    }
    EpilogueTile<Isa, Rows, Vectors, Full>::each([&](int r, int v) { out[r][v] = y[r][v]; });
  }
};

template <class Isa>
void depthwise(const Conv& c, int64_t first, int64_t last) {
  const Window& w = c.window;
  View origin = c.in;
  origin.data += -w.pad_y * c.in.row_stride - w.pad_x * c.in.pixel_stride;
  origin.row_stride *= w.stride_y;
  origin.pixel_stride *= w.stride_x;
  const DepthwiseWindow<Isa> source{c, origin};
  ChannelDriver<Isa, DepthwiseWindow<Isa>>(source, *c.epilogue, c.width, c.in.channels).run(first, last);
}

template <class Isa>
void pool(const Pool& p, int64_t first, int64_t last) {
  const PoolWindow<Isa> source{p};
  ChannelDriver<Isa, PoolWindow<Isa>>(source, *p.epilogue, p.width, p.in.channels).run(first, last);
}

template <class Isa>
void map_f32(const View& in, const Epilogue& epilogue, int64_t first, int64_t last) {
  const MapFloats<Isa> source{in};
  ChannelDriver<Isa, MapFloats<Isa>>(source, epilogue, in.width, in.channels).run(first, last);
}

template <class Isa>
void map_u8(const View& in, float scale, int32_t zero_point, const Epilogue& epilogue, int64_t first, int64_t last) {
  const MapBytes<Isa> source{in, scale, zero_point};
  ChannelDriver<Isa, MapBytes<Isa>>(source, epilogue, in.width, in.channels).run(first, last);
}

template <class Isa>
void pool_bits(const View& in, const Window& w, const View& out, const uint64_t* flips, int64_t first, int64_t last) {
  const int words = (in.channels + 63) / 64;
  int32_t y = static_cast<int32_t>(first / out.width), x = static_cast<int32_t>(first % out.width);
  for (; first < last; ++first) {
    auto* result = reinterpret_cast<uint64_t*>(out.data + y * out.row_stride + x * out.pixel_stride);
    const InsideWindow window(in, w, y, x);
    for (int k = 0; k < words; ++k) {
      uint64_t bits = 0;
      window.each([&](const uint8_t* pixel) { bits |= reinterpret_cast<const uint64_t*>(pixel)[k]; });
      result[k] = bits ^ (flips == nullptr ? 0 : flips[k]);
    }
    if (++x == out.width) {
      x = 0;
      ++y;
    }
  }
}

}  // namespace bmx::nhwc
