// What becomes of a tile of results: Rows pixels by Vectors vectors of channels, in registers. Written once for all
// steps and instruction sets. Which operation comes next is asked once a tile, outside of the loops over registers.
#pragma once

#include "kernels/engine/function.h"

namespace bmx::nhwc {

// Rows pixels of the output, one after the other in row-major order from (y, x) on. A tile may begin in one row of the
// image and end in the next: `wraps` has all bits set where a pixel is the first of a row, which for short rows may be
// several. So a pixel's address is that of the one before, a step and perhaps a gap, without a branch or a product.
template <int Rows>
class Pixels {
 public:
  // Takes the pixels from (y, x) on and moves it behind them.
  BMX_INLINE Pixels(int32_t& y, int32_t& x, int32_t width) : y_(y), x_(x), width_(width) {
    if (__builtin_expect(width >= Rows, 1)) {
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) wraps_[r] = -static_cast<int64_t>(width - x_ == r + 1);
      x += Rows;
      const bool next = x >= width;
      y += next;
      x -= next ? width : 0;
    } else {
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        ++x;
        wraps_[r] = -static_cast<int64_t>(x == width);
        y += x == width;
        x = x == width ? 0 : x;
      }
    }
  }

  BMX_INLINE int32_t y() const { return y_; }
  BMX_INLINE int32_t x() const { return x_; }

  // Where they lie, `offset` bytes into each.
  template <class T>
  BMX_INLINE void find(const View& v, int64_t offset, T* (&p)[Rows]) const {
    const int64_t gap = v.row_stride - width_ * v.pixel_stride, step = v.pixel_stride;
    uint8_t* at = v.data + (y_ * v.row_stride + x_ * step + offset);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      p[r] = reinterpret_cast<T*>(at);
      at += step + (wraps_[r] & gap);
    }
  }

 private:
  int32_t y_, x_, width_;
  int64_t wraps_[Rows];  // of the step behind each
};

// Channels of a tile. Unless it is Full, it is one vector, of which only `count` exist. `clear` bytes of bits after its
// own belong to the last word of the pixel: the tile with the last channel clears them.
struct Channels {
  int32_t first, count, clear;

  BMX_INLINE static Channels of(int32_t first, int32_t count, int32_t all) {
    return {first, count, first + count < all ? 0 : (all + 63) / 64 * 8 - first / 8 - (count + 7) / 8};
  }
};

// A pixel's bits of a tile that is not Full or has the last channel.
template <class Isa>
[[gnu::noinline]] void store_last_bits(uint8_t* p, uint64_t bits, Channels c) {
  const int bytes = (c.count + 7) / 8;
  if (c.count < 64) bits &= (uint64_t{1} << c.count) - 1;
  for (int i = 0; i < bytes; ++i) p[i] = static_cast<uint8_t>(bits >> (8 * i));
  for (int i = bytes; i < bytes + c.clear; ++i) p[i] = 0;
}

template <class Isa, int Rows, int Vectors, bool Full>
struct EpilogueTile {
  static constexpr int kLanes = Isa::kLanes;
  using Floats = typename Isa::Floats;
  using Ints = typename Isa::Ints;
  using Tile = Floats[Rows][Vectors];

  template <class F>
  BMX_INLINE static void each(F f) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) f(r, v);
    }
  }

  BMX_INLINE static Floats channel_floats(const float* p, Channels c, int v) {
    return Full ? Isa::load(p + c.first + v * kLanes) : Isa::load(p + c.first, c.count);
  }

  // y = f(y, t) with the numbers t of a tensor; those beyond the channels are not used.
  template <class F>
  BMX_INLINE static void combine(const EpilogueOp& op, Tile& y, const Pixels<Rows>& pixels, Channels c, F f) {
    const float* p[Rows];
    if (op.one_channel) {
      pixels.find(op.tensor, 0, p);
      each([&](int r, int v) { y[r][v] = f(y[r][v], Isa::splat(*p[r])); });
    } else {
      pixels.find(op.tensor, c.first * sizeof(float), p);
      each([&](int r, int v) { y[r][v] = f(y[r][v], Isa::load(p[r] + v * kLanes)); });
    }
  }

  // x, but NaN where a is: a between 1 and 1 is 1, or NaN, and x times 1 is x.
  BMX_INLINE static Floats nan_of(Floats a, Floats x) {
    const Floats one = Isa::splat(1);
    return Isa::mul(x, Isa::smaller(one, Isa::larger(one, a)));
  }

  BMX_INLINE static void apply(const EpilogueOp& op, Tile& y, const Pixels<Rows>& pixels, Channels c) {
    switch (op.operation) {
      case Operation::kAffine: {
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
          const Floats scale = channel_floats(op.a, c, v), bias = channel_floats(op.b, c, v);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) y[r][v] = Isa::fma(y[r][v], scale, bias);
        }
        break;
      }
      case Operation::kNorm: {
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
          const Floats mean = channel_floats(op.a, c, v), scale = channel_floats(op.b, c, v),
                       bias = channel_floats(op.c, c, v);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) y[r][v] = Isa::fma(Isa::sub(y[r][v], mean), scale, bias);
        }
        break;
      }
      case Operation::kAdd:
        combine(op, y, pixels, c, [](Floats a, Floats b) { return Isa::add(a, b); });
        break;
      case Operation::kMultiply:
        combine(op, y, pixels, c, [](Floats a, Floats b) { return Isa::mul(a, b); });
        break;
      case Operation::kMaximum:
        combine(op, y, pixels, c, [](Floats a, Floats b) { return nan_of(a, Isa::larger(a, b)); });
        break;
      case Operation::kMinimum:
        combine(op, y, pixels, c, [](Floats a, Floats b) { return nan_of(a, Isa::smaller(a, b)); });
        break;
      case Operation::kPRelu: {
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
          const Floats slope = channel_floats(op.a, c, v);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) y[r][v] = Isa::where_positive(y[r][v], Isa::mul(y[r][v], slope));
        }
        break;
      }
      case Operation::kClip: {  // both keep the second operand where one is NaN
        const Floats low = Isa::splat(op.low), high = Isa::splat(op.high);
        each([&](int r, int v) { y[r][v] = Isa::smaller(high, Isa::larger(low, y[r][v])); });
        break;
      }
      case Operation::kFunction: {
        float numbers[Rows * Vectors * kLanes];
        each([&](int r, int v) { Isa::store(numbers + (r * Vectors + v) * kLanes, y[r][v]); });
        Functions<Isa>::apply(op.function, numbers, Rows * Vectors * kLanes);
        each([&](int r, int v) { y[r][v] = Isa::load(numbers + (r * Vectors + v) * kLanes); });
        break;
      }
    }
  }

  // Bits, a byte for 8 channels: threads share a word, but no byte.
  BMX_INLINE static void store_bits(const View& view, const uint64_t (&bits)[Rows], const Pixels<Rows>& pixels,
                                    Channels c) {
    uint8_t* p[Rows];
    pixels.find(view, c.first / 8, p);
    if (Full) {
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) std::memcpy(p[r], &bits[r], Vectors * kLanes / 8);
      if (__builtin_expect(c.clear == 0, 1)) return;
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) store_last_bits<Isa>(p[r], bits[r], c);
  }
  BMX_INLINE static void store(const Epilogue& e, Tile& y, const Pixels<Rows>& pixels, Channels c) {
    if (e.f32.data != nullptr) {
      float* p[Rows];
      pixels.find(e.f32, c.first * sizeof(float), p);
      each([&](int r, int v) { Full ? Isa::store(p[r] + v * kLanes, y[r][v]) : Isa::store(p[r], y[r][v], c.count); });
    }
    if (e.bits.data != nullptr) {
      typename Isa::Mask masks[Rows][Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const Floats threshold = channel_floats(e.threshold, c, v);
        const Floats sign = channel_floats(reinterpret_cast<const float*>(e.sign), c, v);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) masks[r][v] = Isa::not_less(Isa::exclusive_or(y[r][v], sign), threshold);
      }
      uint64_t bits[Rows];
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) bits[r] = Isa::join(masks[r]);
      store_bits(e.bits, bits, pixels, c);
    }
    if (e.u8.data != nullptr) {
      const Floats scale = Isa::splat(e.inverse_scale), low = Isa::splat(static_cast<float>(-e.zero_point)),
                   high = Isa::splat(static_cast<float>(255 - e.zero_point));
      uint8_t* p[Rows];
      pixels.find(e.u8, c.first, p);
      each([&](int r, int v) {
        // Clamped first: then all fit an int32, and NaN, the first operand, becomes the lowest.
        const Floats clamped = Isa::smaller(Isa::larger(Isa::mul(y[r][v], scale), low), high);
        Isa::store_bytes(p[r] + v * kLanes, Isa::add_int(Isa::round(clamped), e.zero_point), Full ? kLanes : c.count);
      });
    }
  }

  BMX_INLINE static void run(const Epilogue& e, Tile& y, const Pixels<Rows>& pixels, Channels c) {
    for (int i = 0; i < e.num_ops; ++i) apply(e.ops[i], y, pixels, c);
    store(e, y, pixels, c);
  }

  // As a function that all who need not keep their tile in registers share.
  [[gnu::noinline]] static void run_apart(const Epilogue& e, Tile& y, const Pixels<Rows>& pixels, Channels c) {
    run(e, y, pixels, c);
  }

  // Counts of differing bits, as they are, against integer thresholds.
  BMX_INLINE static void run_counts(const Epilogue& e, const Ints (&p)[Rows][Vectors], const Pixels<Rows>& pixels,
                                    Channels c) {
    typename Isa::Mask masks[Rows][Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      const Ints threshold =
          Full ? Isa::load(e.count_threshold + c.first + v * kLanes) : Isa::load(e.count_threshold + c.first, c.count);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) masks[r][v] = Isa::at_most(p[r][v], threshold);
    }
    uint64_t flip = 0;
    if (Full) {
      std::memcpy(&flip, e.flip + c.first / 8, Vectors * kLanes / 8);
    } else {
      for (int i = 0; i < (c.count + 7) / 8; ++i) flip |= static_cast<uint64_t>(e.flip[c.first / 8 + i]) << (8 * i);
    }
    uint64_t bits[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) bits[r] = Isa::join(masks[r]) ^ flip;
    store_bits(e.count_bits, bits, pixels, c);
  }
};

}  // namespace bmx::nhwc
