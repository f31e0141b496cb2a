// The convolutions of the engine, one driver for the five arithmetics.
//
// A tile is Rows pixels x N accumulators, vectors of filters side by side, that stay in registers. Each step broadcasts
// an element of every pixel (a word of bits, a float, four bytes) against the next vectors of the weights. The filters
// of a tile stay the same while it moves over the pixels: their weights stay in the first-level cache.
//
// An arithmetic (Isa::Binary, Isa::Float, Isa::Int8, and the latter two with weights of a bit each: Isa::FloatSigns,
// Isa::Int8Signs, which make -1 and +1 of them as they load them) provides:
//   kRows, kAccumulators  the largest tile
//   kSingle               accumulators of a tile for a single pixel: as many sums at once as hide their latency
//   kElement              bytes of an element of the input
//   kBlock                filters of a block of weights
//   kWeightBytes          bytes of a block for an element: 64; of signs 2 (one a filter) or 8 (four a filter)
//   kPerVector            accumulators that make one vector of results (kLanes filters)
//   kChunk                how many steps a Partial can take before it must be folded into a Sum (0: never); of signs
//                         of bytes one less
//   Partial, Sum, Weight, Element   and the operations used below
//   One         only of one that takes two elements at a step: the arithmetic that takes one, for runs of an odd length
#pragma once

#include <type_traits>

#include "kernels/engine/epilogue.h"

namespace bmx::nhwc {

template <class Arithmetic, class = void>
constexpr bool kTakesPairs = false;
template <class Arithmetic>
constexpr bool kTakesPairs<Arithmetic, std::void_t<typename Arithmetic::One>> = true;

template <class Isa, class Arithmetic>
class ConvDriver {
 public:
  ConvDriver(const Conv& c, int64_t first, int64_t last) : c_(c), first_(first), last_(last) {
    const Window& w = c.window;
    const int32_t channels = c.in.channels / c.groups;
    taps_ = c.run ? 1 : w.kernel_w;
    const int64_t elements = Arithmetic::elements(channels, c.run ? w.kernel_w : 1);
    runs_ = w.kernel_h * taps_;
    length_ = elements * Arithmetic::kElement;
    whole_ = length_ - (kTakesPairs<Arithmetic> ? elements % 2 * Arithmetic::kElement : 0);
    if (const int64_t rest = int64_t{channels} * (c.run ? w.kernel_w : 1) % 4; kSignsOfBytes && rest != 0) {
      whole_ -= Arithmetic::kElement;
      last_bytes_ = (uint32_t{1} << (8 * rest)) - 1;
    }
    tap_step_ = w.dilate_x * c.in.pixel_stride - length_;
    row_step_ = w.dilate_y * c.in.row_stride - (taps_ - 1) * w.dilate_x * c.in.pixel_stride - length_;
    block_ = Arithmetic::kWeightBytes * runs_ * elements;
    // Output pixels in the input.
    origin_ = c.in;
    origin_.data += -w.pad_y * c.in.row_stride - w.pad_x * c.in.pixel_stride;
    origin_.row_stride *= w.stride_y;
    origin_.pixel_stride *= w.stride_x;
  }

  void run(int32_t first_filter, int32_t last_filter) {
    if (first_ >= last_) return;
    const int32_t group_filters = c_.filters / c_.groups;
    const int64_t group_weights = (group_filters + Arithmetic::kBlock - 1) / Arithmetic::kBlock * block_;
    const int64_t group_bytes = Arithmetic::channel_bytes(c_.in.channels / c_.groups);
    for (int32_t g = 0; g < c_.groups; ++g) {
      weights_ = c_.weights + g * group_weights;
      start_ = c_.start == nullptr ? nullptr : c_.start + int64_t{g} * ((group_filters + 31) / 32 * 32);
      group_filter_ = g * group_filters;
      const int32_t last = c_.groups > 1 ? group_filters : last_filter;
      if (last_ - first_ == 1) {
        filters<Arithmetic::kSingle>(first_filter, last);
      } else {
        filters<Arithmetic::kAccumulators>(first_filter, last);
      }
      origin_.data += group_bytes;
    }
  }

 private:
  static constexpr int kLanes = Isa::kLanes;
  static constexpr int kPerVector = Arithmetic::kPerVector;
  static constexpr int kFilters = kLanes / kPerVector;            // of an accumulator
  static constexpr int kInBlock = Arithmetic::kBlock / kFilters;  // accumulators of a block of weights
  static constexpr int kRows = Arithmetic::kRows;
  // No sign is 0: of the last element of a run, the bytes behind its end have to be.
  static constexpr bool kSignsOfBytes = Arithmetic::kWeightBytes == 8;

  // Where the weights of a filter, the first of an accumulator, begin.
  BMX_INLINE int64_t weight_offset(int32_t filter) const {
    return filter / Arithmetic::kBlock * block_ +
           filter % Arithmetic::kBlock * Arithmetic::kWeightBytes / Arithmetic::kBlock;
  }

  template <int N>
  void filters(int32_t filter, int32_t last) {
    for (; last - filter >= N * kFilters; filter += N * kFilters) pixels<N, true>(filter, N * kFilters);
    if constexpr (N > kPerVector) {
      filters<N / 2>(filter, last);
    } else if (filter < last) {
      if constexpr (kPerVector > 1) {
        if (last - filter <= kFilters) return pixels<1, false>(filter, last - filter);
      }
      pixels<kPerVector, false>(filter, last - filter);
    }
  }

  // Tiles of kRows pixels, of one less where that comes out even, and single ones.
  template <int N, bool Full>
  void pixels(int32_t filter, int32_t count) {
    const Channels channels = Channels::of(group_filter_ + filter, count, c_.filters);
    int32_t y = static_cast<int32_t>(first_ / c_.width), x = static_cast<int32_t>(first_ % c_.width);
    if constexpr (N > Arithmetic::kAccumulators) return tile<1, N, Full>(y, x, filter, channels);
    int64_t left = last_ - first_;
    const int64_t tiles = (left + kRows - 1) / kRows, less = tiles * kRows - left;
    const int64_t smaller = less <= tiles ? less : 0;
    for (; left >= kRows && left > smaller * (kRows - 1); left -= kRows) tile<kRows, N, Full>(y, x, filter, channels);
    if (smaller > 0) {
      for (; left > 0; left -= kRows - 1) tile<kRows - 1, N, Full>(y, x, filter, channels);
    }
    for (; left > 0; --left) tile<1, N, Full>(y, x, filter, channels);
  }

  template <int Rows, int N>
  using Partials = typename Arithmetic::Partial[Rows][N];
  template <int Rows, int N>
  using Sums = typename Arithmetic::Sum[Rows][N];

  // The elements from `at` to `end` behind each of `a`, which are bytes.
  template <int Rows, int N>
  BMX_INLINE void multiply(const uint8_t* const (&a)[Rows], int64_t& at, int64_t end, const uint8_t*& w,
                           Partials<Rows, N>& acc) const {
    constexpr int kElements = kTakesPairs<Arithmetic> ? 2 : 1;
    for (; at < end; at += kElements * Arithmetic::kElement, w += kElements * Arithmetic::kWeightBytes) {
      asm("" : "+r"(at));  // one counter for all rows: GCC would make one of each
      multiply_element<Rows, N, Arithmetic>([&](int r) { return a[r] + at; }, w, acc);
    }
  }

  template <int Rows, int N, class A, class F>
  BMX_INLINE void multiply_element(F element, const uint8_t* w, Partials<Rows, N>& acc) const {
    typename A::Weight b[N];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) b[i] = A::weight(w + weight_offset(i * kFilters));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto x = A::broadcast(element(r));
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) acc[r][i] = A::madd(acc[r][i], x, b[i]);
    }
  }

  // Behind the whole elements of a run: one with fewer bytes, or one that is no pair, if there are any. Returns how
  // many bytes `at` moves.
  template <int Rows, int N>
  BMX_INLINE int64_t multiply_last(const uint8_t* const (&a)[Rows], int64_t& at, const uint8_t*& w,
                                   Partials<Rows, N>& acc) const {
    if constexpr (kSignsOfBytes) {
      if (last_bytes_ != 0) {
        uint32_t some[Rows];
        for (int r = 0; r < Rows; ++r) {
          std::memcpy(&some[r], a[r] + at, sizeof(some[r]));
          some[r] &= last_bytes_;
        }
        multiply_element<Rows, N, Arithmetic>([&](int r) { return reinterpret_cast<const uint8_t*>(&some[r]); }, w,
                                              acc);
        w += Arithmetic::kWeightBytes;
        at += Arithmetic::kElement;
        return Arithmetic::kElement;
      }
    } else if constexpr (kTakesPairs<Arithmetic>) {
      if (whole_ != length_) {
        multiply_element<Rows, N, typename Arithmetic::One>([&](int r) { return a[r] + at; }, w, acc);
        w += Arithmetic::kWeightBytes;
        at += Arithmetic::kElement;
        return Arithmetic::kElement;
      }
    }
    return 0;
  }

  template <int Rows, int N>
  BMX_INLINE void accumulate(const uint8_t* const (&a)[Rows], const uint8_t* w, Sums<Rows, N>& sums) const {
    int64_t at = 0;
    int32_t tap = 0;
    const auto next_run = [&] {  // `at` is behind a run
      const bool last = ++tap == taps_;
      at += last ? row_step_ : tap_step_;
      tap = last ? 0 : tap;
    };
    if constexpr (Arithmetic::kChunk == 0) {
      for (int32_t run = 0; run < runs_; ++run) {
        multiply<Rows, N>(a, at, at + whole_, w, sums);
        multiply_last<Rows, N>(a, at, w, sums);
        next_run();
      }
    } else {
      Partials<Rows, N> partial;
      const auto clear = [&] {
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
          for (int i = 0; i < N; ++i) partial[r][i] = Arithmetic::zero();
        }
      };
      const auto fold = [&] {
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
          for (int i = 0; i < N; ++i) sums[r][i] = Arithmetic::fold(sums[r][i], partial[r][i]);
        }
      };
      clear();
      constexpr int64_t kChunk = Arithmetic::kChunk * Arithmetic::kElement;
      int64_t end = whole_, room = kChunk;
      for (int32_t run = 0; run < runs_;) {
        const int64_t part = end - at < room ? end - at : room;
        multiply<Rows, N>(a, at, at + part, w, partial);
        room -= part;
        const bool behind = at == end;
        if (behind) room -= multiply_last<Rows, N>(a, at, w, partial);
        if (room <= 0) {
          fold();
          clear();
          room = kChunk;
        }
        if (behind) {
          next_run();
          end = at + whole_;
          ++run;
        }
      }
      fold();
    }
  }

  template <int Rows, int N, bool Full>
  BMX_INLINE void tile(int32_t& y0, int32_t& x0, int32_t filter, Channels channels) const {
    constexpr int kVectors = (N + kPerVector - 1) / kPerVector;
    constexpr bool kMost = Full && N == Arithmetic::kAccumulators && Rows > 1;  // of the tiles are such
    using Epilogue = EpilogueTile<Isa, Rows, kVectors, Full>;
    const Pixels<Rows> pixels(y0, x0, c_.width);
    const uint8_t* a[Rows];
    pixels.find(origin_, 0, a);
    Sums<Rows, N> sums;
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) sums[r][i] = Arithmetic::start(start_, filter + i * kFilters);
    }
    if constexpr (Rows == 1 && N > kInBlock && Arithmetic::kCounts) {
      // Each weight is used once, and comes fastest in the order of memory: block by block. Sums need not hide each
      // other's latency, which is that of an addition of integers.
#pragma GCC unroll 8
      for (int i = 0; i < N; i += kInBlock) {
        Sums<1, kInBlock> block;
        for (int j = 0; j < kInBlock; ++j) block[0][j] = sums[0][i + j];
        accumulate<1, kInBlock>(a, weights_ + weight_offset(filter + i * kFilters), block);
        for (int j = 0; j < kInBlock; ++j) sums[0][i + j] = block[0][j];
      }
    } else {
      accumulate<Rows, N>(a, weights_ + weight_offset(filter), sums);
    }
    if constexpr (Arithmetic::kCounts) {
      typename Isa::Ints counts[Rows][kVectors];
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          const int i = v * kPerVector, j = i + kPerVector - 1;
          counts[r][v] = Arithmetic::counts(sums[r][i], sums[r][j < N ? j : i]);
        }
      }
      if (c_.epilogue->count_bits.data != nullptr) {
        return Epilogue::run_counts(*c_.epilogue, counts, pixels, channels);
      }
      typename Isa::Floats y[Rows][kVectors];
      const auto all = Isa::splat(c_.all), step = Isa::splat(-c_.step);
      Epilogue::each([&](int r, int v) { y[r][v] = Isa::fma(Isa::to_floats(counts[r][v]), step, all); });
      kMost ? Epilogue::run(*c_.epilogue, y, pixels, channels) : Epilogue::run_apart(*c_.epilogue, y, pixels, channels);
    } else {
      typename Isa::Floats y[Rows][kVectors];
      Epilogue::each([&](int r, int v) { y[r][v] = Arithmetic::result(sums[r][v]); });
      kMost ? Epilogue::run(*c_.epilogue, y, pixels, channels) : Epilogue::run_apart(*c_.epilogue, y, pixels, channels);
    }
  }

  const Conv& c_;
  const int64_t first_, last_;
  int32_t taps_, runs_, group_filter_ = 0;
  int64_t length_, tap_step_,
      row_step_;             // bytes of a run, and from its end to the next, in a kernel row and behind one
  int64_t whole_;            // those of them that are whole elements,
  uint32_t last_bytes_ = 0;  // and of signs of bytes which are behind these, if any
  int64_t block_;
  View origin_;
  const uint8_t* weights_ = nullptr;
  const int32_t* start_ = nullptr;
};

template <class Isa, class Arithmetic>
void conv(const Conv& c, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter) {
  ConvDriver<Isa, Arithmetic>(c, first, last).run(first_filter, last_filter);
}

}  // namespace bmx::nhwc
