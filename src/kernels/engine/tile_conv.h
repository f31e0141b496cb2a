// Convolutions on tiles (kernels/tiles.h), written once for the processor's unit and for its model.
//
// A product of tiles takes 16 positions x 64 bytes of the input, the 64 bytes of one after the other at a stride of one
// position, and 64 bytes x 16 filters of weights. Two of positions times two of filters are four sums, which stay in
// their tiles over all steps: a step is 64 bytes of the window, and its four products need four loads.
//
//   positions  The output's pixels in row-major order; where the input is read as it lies, with the columns between the
//              rows, whose sums are not used: then all positions are at one stride, and nothing is gathered.
//   input      Bits become bytes of -1 and +1 once for a band of rows, sorted by the phases of the stride, so that
//              positions are beside each other. Bytes are read where they lie if the layout allows it; else the window
//              of each position is copied to a row of a panel.
//   weights    Bits stay bits in memory. They become bytes block by block: for all positions where those of 32 filters
//              fit the first-level cache; else a few steps before their use, into a ring that is always in it, again
//              for every 32 positions, in the shadow of the products. Blocks of bytes are tiles as they lie in the
//              file.
//   results    Sums are stored, and become results (epilogue.h) a few pixels at a time between the steps of the next
//              sums, which leave the vector units idle.
//
// Differing bits are (all - sum) / 2: with weights of the other sign, (all + sum) / 2.
//
// Isa is an instruction set's vectors (isa.h), which for tiles offer besides, with 16 filters f:
//   half(Ints)                        a / 2 of even numbers
//   expand_input(out, bits, words)    64 bytes a word: 1 where a bit is 1, else -1
//   expand_filters(out, a, b)         a tile of the words of filters 0 to 7 and 8 to 15: byte i of filter f goes to
//                                     out[i / 4][4 f + i % 4], -1 where its bit is 1, else 1
//   expand_signs(out, masks, rows)    a tile of 8-byte masks, its bytes 1 or -1, and 0 in rows behind
//   copy(out, from, bytes)            may read and write up to 64 bytes behind
//   add_ints(Ints, Ints)
#pragma once

#include <algorithm>

#include "kernels/engine/conv.h"
#include "kernels/tiles.h"

namespace bmx::nhwc {

enum class TileArithmetic { kBinary, kInt8, kInt8Signs };

template <class Isa, class Unit, TileArithmetic kArithmetic>
class TileConvDriver {
 public:
  explicit TileConvDriver(const Conv& c) : c_(c) {
    const Window& w = c.window;
    if constexpr (kBinary) {
      element_ = 64, runs_ = w.kernel_h * w.kernel_w, elements_ = (c.in.channels + 63) / 64;
    } else {
      element_ = 4, runs_ = w.kernel_h * (c.run ? 1 : w.kernel_w);
      run_bytes_ = int64_t{c.in.channels} * (c.run ? w.kernel_w : 1), elements_ = (run_bytes_ + 3) / 4;
      gather_ = !reads_in_place();
    }
    const int64_t run_steps = (elements_ * element_ + 63) / 64;
    steps_ = gather_ ? (runs_ * elements_ * 4 + 63) / 64 : runs_ * run_steps;
    block_bytes_ = runs_ * elements_ * kWeightBytes;
    pitch_ = gather_   ? c.width
             : kBinary ? c.width + (w.kernel_w - 1) * w.dilate_x / w.stride_x
                       : c.in.row_stride / c.in.pixel_stride;
    position_ = gather_ ? 64 * steps_ : kBinary ? 64 * elements_ : c.in.pixel_stride;
    resident_ = gather_ ? kExpands : steps_ <= kResidentSteps;
    slots_ = !kExpands ? 0 : resident_ ? steps_ : kRing;
    num_tails_ = kExpands || run_bytes_ % 64 == 0 ? 0 : gather_ ? 1 : runs_;
    pause_ = std::max<int64_t>(1, steps_ / 10);
    calls_ = 1 + kPair / 4 / (steps_ + 1);
    band_ = c.height;
    if (kBinary) band_ = static_cast<int32_t>(std::clamp<int64_t>(kBandBytes / (row_bytes() + 1), 1, c.height));
  }

  // Whether these kernels can do it at all.
  static bool takes(const Conv& c) {
    const Window& w = c.window;
    return c.groups == 1 && w.stride_y <= kLargestStride && w.stride_x <= kLargestStride;
  }

  // Whether it is faster than with vectors, as measured: by how much of what the unit multiplies is used.
  bool faster() const {
    const int64_t positions = (c_.height - 1) * pitch_ + c_.width, inputs = kBinary ? elements_ * 64 : run_bytes_;
    const int64_t pixels = int64_t{c_.height} * c_.width;
    if (pixels < kTileRows || (gather_ && steps_ < kLeastGathered)) return false;
    const int64_t multiplied = (positions + 15) / 16 * ((c_.filters + 15) / 16) * steps_ * (16 * 16 * 64);
    const double used = static_cast<double>(pixels * c_.filters * runs_ * inputs) / static_cast<double>(multiplied);
    return used > (kBinary ? 0.7 : 0.3);
  }

  int64_t scratch() const { return layout(nullptr); }

  void run(int64_t first, int64_t last, int32_t first_filter, int32_t last_filter, uint8_t* scratch) {
    if (first >= last) return;
    layout(scratch);
    for (int32_t y = static_cast<int32_t>(first / c_.width); int64_t{y} * c_.width < last; y += band_) {
      const int64_t begin = std::max(first, int64_t{y} * c_.width);
      const int64_t end = std::min(last, (int64_t{y} + band_) * c_.width);
      band(begin, end, first_filter, last_filter);
    }
  }

 private:
  static constexpr bool kBinary = kArithmetic == TileArithmetic::kBinary;
  static constexpr bool kSigns = kArithmetic == TileArithmetic::kInt8Signs;
  static constexpr int kLanes = Isa::kLanes;
  static constexpr int kTileBytes = 1024, kPair = 32;  // filters and positions of two tiles
  static constexpr int64_t kResidentSteps = 18;        // 24 KB
  static constexpr uint32_t kRing = 8, kAhead = 4;     // steps
  static constexpr bool kExpands = kArithmetic != TileArithmetic::kInt8;
  static constexpr int kBlock = kBinary ? 8 : 16;  // filters
  static constexpr int64_t kBandBytes = 384 << 10;
  static constexpr int kLargestStride = 4;
  static constexpr int64_t kLeastGathered = 3;          // steps, fewer of which do not make up for the copies
  static constexpr int kWeightBytes = kSigns ? 8 : 64;  // of a row of a tile, or of 8 filters' words
  // Of sums that wait for their epilogue.
  static constexpr int kSumStride = kPair * 4;

  struct Step {
    int64_t input;  // bytes from a position to what it multiplies
    int64_t row;    // of the weights,
    int32_t rows;   // and how many there are
    int32_t tail;   // its number among those with fewer than 16, or -1
  };

  // Four bytes of a tile's row must not be of two runs; and it must cost little more than to copy the windows.
  bool reads_in_place() const {
    const Window& w = c_.window;
    if (w.stride_x != 1 || w.stride_y != 1 || c_.in.row_stride % c_.in.pixel_stride != 0 || run_bytes_ % 4 != 0) {
      return false;
    }
    const int64_t steps = runs_ * ((elements_ + 15) / 16), dense = (runs_ * elements_ + 15) / 16;
    const int64_t pitch = c_.in.row_stride / c_.in.pixel_stride;
    return 4 * steps * pitch <= 6 * dense * c_.width;
  }

  // Of the expanded input: rows of all phases.
  int64_t row_bytes() const { return phases() * pitch_ * position_; }
  int64_t phases() const { return int64_t{c_.window.stride_y} * c_.window.stride_x; }
  int64_t band_rows(int64_t rows) const {
    return rows + (c_.window.kernel_h - 1) * int64_t{c_.window.dilate_y} / c_.window.stride_y;
  }

  // Divides the scratch memory; returns its size.
  int64_t layout(uint8_t* memory) const {
    int64_t size = 0;
    const auto take = [&](auto*& pointer, int64_t bytes) {
      using T = std::remove_reference_t<decltype(*pointer)>;
      pointer = memory == nullptr ? nullptr : reinterpret_cast<T*>(memory + size);
      size += (bytes + 63) / 64 * 64;
    };
    take(table_, steps_ * static_cast<int64_t>(sizeof(Step)));
    take(run_offsets_, gather_ ? runs_ * static_cast<int64_t>(sizeof(int64_t)) : 0);
    take(sums_[0], kPair * kSumStride);
    take(sums_[1], kPair * kSumStride);
    take(weights_, slots_ * 2 * kTileBytes);
    take(tails_, num_tails_ * (c_.filters + kBlock - 1) / kBlock * kTileBytes);
    take(image_, kBinary ? band_rows(band_) * row_bytes() : gather_ ? 2 * panel_bytes() : 0);
    return size;
  }

  void band(int64_t first, int64_t last, int32_t first_filter, int32_t last_filter) {
    const Window& w = c_.window;
    y_ = static_cast<int32_t>(first / c_.width), x_ = static_cast<int32_t>(first % c_.width);
    const int64_t last_y = (last - 1) / c_.width, last_x = (last - 1) % c_.width;
    positions_ = (last_y - y_) * pitch_ + last_x - x_ + 1;
    if constexpr (kBinary) {
      expand_input(static_cast<int32_t>(last_y) + 1 - y_);
      origin_ = image_ + x_ * position_;
    } else if (!gather_) {
      origin_ = c_.in.data + (y_ - w.pad_y) * c_.in.row_stride + (x_ - w.pad_x) * c_.in.pixel_stride;
    }
    fill_table(static_cast<int32_t>(last_y) + 1 - y_);

    const int rows0 = static_cast<int>(std::min<int64_t>(positions_, kTileRows));
    const int rows1 = positions_ >= kPair ? kTileRows : static_cast<int>(std::max<int64_t>(positions_ - kTileRows, 0));
    TileConfig config;
    config.set(0, rows0, 64).set(1, rows0, 64).set(4, rows0, 64).set(6, kTileRows, 64).set(7, kTileRows, 64);
    if (rows1 > 0) config.set(2, rows1, 64).set(3, rows1, 64).set(5, rows1, 64);
    Unit unit(config);
    pending_.rows = 0;
    copy_tails();
    if (resident_) {
      for (int32_t f = first_filter; f < last_filter; f += kPair) {
        for (int64_t s = 0; s < steps_; ++s) expand(weights_ + s * 2 * kTileBytes, filters(f), table_[s]);
        for_each_pair([&](int64_t p) { sums(unit, p, f, last_filter, f); });
      }
    } else {
      slot_ = 0;
      for (uint32_t s = 0; kExpands && s < kAhead; ++s) {
        expand(weights_ + s * 2 * kTileBytes, filters(first_filter), table_[s]);
      }
      for_each_pair([&](int64_t p) {
        for (int32_t f = first_filter; f < last_filter; f += kPair) {
          sums(unit, p, f, last_filter, f + kPair < last_filter ? f + kPair : first_filter);
        }
      });
    }
    while (pending_.rows > 0) finish_some();
  }

  // Where each step's bytes are, from a position on.
  void fill_table(int32_t rows) {
    const Window& w = c_.window;
    Step* step = table_;
    int32_t tails = 0;
    const auto add = [&](int64_t input, int64_t row, int64_t rows) {
      const auto most = static_cast<int32_t>(std::min<int64_t>(16, rows));
      *step++ = {input, row, most, kExpands || most == 16 ? -1 : tails++};
    };
    for (int32_t r = 0; gather_ && r < runs_; ++r) {
      const int32_t taps = c_.run ? 1 : w.kernel_w;
      run_offsets_[r] = r / taps * w.dilate_y * c_.in.row_stride + r % taps * w.dilate_x * c_.in.pixel_stride;
    }
    for (int64_t s = 0; gather_ && s < steps_; ++s) add(64 * s, 16 * s, runs_ * elements_ - 16 * s);
    for (int32_t r = 0; !gather_ && r < runs_; ++r) {
      const int32_t taps = kBinary || !c_.run ? w.kernel_w : 1;
      const int64_t y = r / taps * int64_t{w.dilate_y}, x = r % taps * int64_t{w.dilate_x};
      if constexpr (kBinary) {
        const int64_t phase = y % w.stride_y * w.stride_x + x % w.stride_x;
        const int64_t at = ((phase * band_rows(rows) + y / w.stride_y) * pitch_ + x / w.stride_x) * position_;
        for (int64_t e = 0; e < elements_; ++e) add(at + 64 * e, r * elements_ + e, 16);
      } else {
        const int64_t at = y * c_.in.row_stride + x * c_.in.pixel_stride;
        for (int64_t e = 0; e < elements_; e += 16) add(at + 4 * e, r * elements_ + e, elements_ - e);
      }
    }
  }

  void expand_input(int32_t rows) {
    const Window& w = c_.window;
    const int64_t last_y = int64_t{rows - 1} * w.stride_y + int64_t{w.kernel_h - 1} * w.dilate_y;
    const int64_t last_x = int64_t{c_.width - 1} * w.stride_x + int64_t{w.kernel_w - 1} * w.dilate_x;
    const uint8_t* corner =
        c_.in.data + (int64_t{y_} * w.stride_y - w.pad_y) * c_.in.row_stride - w.pad_x * c_.in.pixel_stride;
    for (int32_t phase = 0; phase < phases(); ++phase) {
      const int32_t phase_y = phase / w.stride_x, phase_x = phase % w.stride_x;
      if (!meets(phase_y, w.kernel_h, w.dilate_y, w.stride_y) || !meets(phase_x, w.kernel_w, w.dilate_x, w.stride_x)) {
        continue;
      }
      uint8_t* out = image_ + phase * band_rows(rows) * pitch_ * position_;
      for (int64_t y = phase_y; y <= last_y; y += w.stride_y, out += pitch_ * position_) {
        const uint8_t* from = corner + y * c_.in.row_stride + phase_x * c_.in.pixel_stride;
        const int64_t pixels = (last_x - phase_x) / w.stride_x + 1;
        if (w.stride_x == 1 && c_.in.pixel_stride == 8 * elements_) {
          Isa::expand_input(out, from, pixels * elements_);
          continue;
        }
        for (int64_t x = 0; x < pixels; ++x) {
          Isa::expand_input(out + x * position_, from + x * w.stride_x * c_.in.pixel_stride, elements_);
        }
      }
    }
  }

  // Whether a tap is at such a place.
  static bool meets(int32_t phase, int32_t kernel, int32_t dilate, int32_t stride) {
    for (int32_t k = 0; k < kernel; ++k) {
      if (k * int64_t{dilate} % stride == phase) return true;
    }
    return false;
  }

  // f(first position) of two tiles of positions each. Windows are gathered one pair ahead: what was just stored is slow
  // to load as a tile.
  template <class F>
  void for_each_pair(F f) {
    if (gather_) gather(0);
    for (int64_t p = 0; p < positions_; p += kPair) {
      panel_ = image_ + p / kPair % 2 * panel_bytes();
      if (gather_ && p + kPair < positions_) gather(p + kPair);
      f(p);
    }
  }

  int64_t panel_bytes() const { return kPair * position_ + 64; }

  // The windows of the pixels from `p` on, to rows of a panel.
  void gather(int64_t p) {
    uint8_t* out = image_ + p / kPair % 2 * panel_bytes();
    p = start_of(p);
    const int64_t last = std::min(positions_, p + kPair);
    const Window& w = c_.window;
    const int64_t* const end = run_offsets_ + runs_;
    const int64_t run_stride = 4 * elements_, bytes = run_bytes_;
    int64_t pixel = int64_t{y_} * c_.width + x_ + p;
    auto y = static_cast<int32_t>(pixel / c_.width), x = static_cast<int32_t>(pixel % c_.width);
    for (; p < last; ++p, out += position_) {
      const uint8_t* row = c_.in.data + (int64_t{y} * w.stride_y - w.pad_y) * c_.in.row_stride +
                           (int64_t{x} * w.stride_x - w.pad_x) * c_.in.pixel_stride;
      uint8_t* to = out;
      for (const int64_t* run = run_offsets_; run < end; ++run, to += run_stride) {
        Isa::copy(to, row + *run, bytes);
        if constexpr (kSigns) std::memset(to + bytes, 0, run_stride - bytes);  // no sign is 0
      }
      if (++x == c_.width) x = 0, ++y;
    }
  }

  // The weights of two tiles of filters, at a step's row 0. Where there are fewer filters, the last blocks stand for
  // those that are missing: their sums are not used.
  struct Filters {
    const uint8_t* blocks[kPair / kBlock];
  };
  Filters filters(int32_t filter) const {
    Filters f;
    const int32_t last = (c_.filters - 1) / kBlock;
    for (int32_t i = 0; i < kPair / kBlock; ++i) {
      f.blocks[i] = c_.weights + std::min(filter / kBlock + i, last) * block_bytes_;
    }
    return f;
  }

  // As two tiles.
  BMX_INLINE static void expand(uint8_t* out, const Filters& f, const Step& step) {
    const int64_t at = step.row * kWeightBytes;
    if constexpr (kBinary) {
      Isa::expand_filters(out, f.blocks[0] + at, f.blocks[1] + at);
      Isa::expand_filters(out + kTileBytes, f.blocks[2] + at, f.blocks[3] + at);
    } else if constexpr (kSigns) {
      Isa::expand_signs(out, f.blocks[0] + at, step.rows);
      Isa::expand_signs(out + kTileBytes, f.blocks[1] + at, step.rows);
    }
  }

  // Bytes are read where they lie, but for a run's last ones, fewer than a tile has.
  void copy_tails() {
    if constexpr (kExpands) return;
    const int64_t blocks = (c_.filters + kBlock - 1) / kBlock;
    for (int64_t s = 0; s < steps_; ++s) {
      const Step& step = table_[s];
      if (step.tail < 0) continue;
      for (int64_t i = 0; i < blocks; ++i) {
        uint8_t* out = tails_ + (i * num_tails_ + step.tail) * kTileBytes;
        std::memcpy(out, c_.weights + i * block_bytes_ + step.row * 64, step.rows * 64);
        std::memset(out + step.rows * 64, 0, (16 - step.rows) * 64);
      }
    }
  }

  // Where the two tiles with a position begin: the last ones so that they end with the last position.
  int64_t start_of(int64_t p) const {
    if (positions_ - p >= kPair || positions_ < kPair) return p;
    return positions_ - (positions_ - p > kTileRows ? kPair : kTileRows);
  }

  void sums(Unit& unit, int64_t p, int32_t filter, int32_t last_filter, int32_t next_filter) {
    const bool two = positions_ - p > kTileRows, both = last_filter - filter > 16;
    if (two) {
      both ? sums<2, 2>(unit, p, filter, last_filter, next_filter)
           : sums<2, 1>(unit, p, filter, last_filter, next_filter);
    } else {
      both ? sums<1, 2>(unit, p, filter, last_filter, next_filter)
           : sums<1, 1>(unit, p, filter, last_filter, next_filter);
    }
  }

  template <int M, int N>
  void sums(Unit& unit, int64_t p, int32_t filter, int32_t last_filter, int32_t next_filter) {
    const int64_t start = start_of(p);
    const uint8_t* a = gather_ ? panel_ : origin_ + start * position_;
    unit.template zero<0>();
    if constexpr (N > 1) unit.template zero<1>();
    if constexpr (M > 1) unit.template zero<2>();
    if constexpr (M > 1 && N > 1) unit.template zero<3>();
    if (!kExpands || resident_) {
      steps<M, N, false>(unit, a, filter, {}, 0, steps_);
    } else {
      // The last ones expand the first of the next sums.
      steps<M, N, true>(unit, a, filter, filters(filter), 0, steps_ - kAhead);
      steps<M, N, true>(unit, a, filter, filters(next_filter), steps_ - kAhead, steps_);
    }
    while (pending_.rows > 0) finish_some();
    uint8_t* out = sums_[current_];
    unit.template store<0>(out, kSumStride);
    if constexpr (N > 1) unit.template store<1>(out + 64, kSumStride);
    if constexpr (M > 1) unit.template store<2>(out + 16 * kSumStride, kSumStride);
    if constexpr (M > 1 && N > 1) unit.template store<3>(out + 16 * kSumStride + 64, kSumStride);
    pend(start, p, filter, std::min(last_filter - filter, 16 * N));
  }

  // The unit does not wait for what is beside it, as long as that is not more instructions than the processor looks
  // ahead: nothing here is read from memory that need not be.
  template <int M, int N, bool kFromRing>
  BMX_INLINE void steps(Unit& unit, const uint8_t* a, int32_t filter, const Filters ahead, int64_t first,
                        int64_t last) {
    const int64_t stride = position_, below = 16 * stride;
    const Step* step = table_ + first;
    const Step* const end = table_ + last;
    const Step* expanded = table_ + (first + kAhead) % steps_;
    uint8_t* const weights = weights_;
    uint32_t slot = kFromRing ? slot_ : static_cast<uint32_t>(first);
    [[maybe_unused]] const uint8_t* const in_place = c_.weights + filter / 16 * block_bytes_;
    [[maybe_unused]] const uint8_t* const tails = tails_ + filter / 16 * num_tails_ * kTileBytes;
    [[maybe_unused]] const int64_t next_in_place = block_bytes_, next_tail = num_tails_ * kTileBytes;
    const int64_t many = pause_, calls = calls_;
    while (step < end) {
      for (const Step* const pause = std::min(end, step + many); step < pause; ++step) {
        const uint8_t* b = weights + int64_t{slot} * (2 * kTileBytes);
        int64_t next = kTileBytes;
        if constexpr (!kExpands) {
          const bool whole = step->tail < 0;
          b = whole ? in_place + step->row * 64 : tails + step->tail * kTileBytes;
          next = whole ? next_in_place : next_tail;
        }
        unit.template load<6>(b, 64);
        unit.template load<4>(a + step->input, stride);
        multiply<0, 4, 6>(unit);
        if constexpr (N > 1) {
          unit.template load<7>(b + next, 64);
          multiply<1, 4, 7>(unit);
        }
        if constexpr (M > 1) {
          unit.template load<5>(a + step->input + below, stride);
          multiply<2, 5, 6>(unit);
          if constexpr (N > 1) multiply<3, 5, 7>(unit);
        }
        if constexpr (kFromRing) {
          expand(weights + int64_t{(slot + kAhead) % kRing} * (2 * kTileBytes), ahead, *expanded++);
          slot = (slot + 1) % kRing;
        } else {
          ++slot;
        }
      }
      for (int64_t i = 0; i < calls && pending_.rows > 0; ++i) finish_some();
    }
    if constexpr (kFromRing) slot_ = slot;
  }

  template <int Sum, int A, int B>
  BMX_INLINE static void multiply(Unit& unit) {
    if constexpr (kBinary) {
      unit.template dot_s8_s8<Sum, A, B>();
    } else {
      unit.template dot_u8_s8<Sum, A, B>();
    }
  }

  // The sums of positions from `start` on, of which those from `p` on are new, are to become results.
  void pend(int64_t start, int64_t p, int32_t filter, int32_t filters) {
    const int64_t column = x_ + p;
    pending_.sums = sums_[current_] + (p - start) * kSumStride;
    pending_.rows = static_cast<int32_t>(std::min<int64_t>(positions_ - p, kPair));
    pending_.y = static_cast<int32_t>(y_ + column / pitch_);
    pending_.x = static_cast<int32_t>(column % pitch_);
    pending_.filter = filter;
    pending_.filters = filters;
    current_ = 1 - current_;
    skip_columns();
  }

  // Positions between the rows are no pixels.
  BMX_INLINE void skip_columns() {
    if (pending_.x < c_.width) return;
    const auto columns = static_cast<int32_t>(pitch_ - pending_.x);
    pending_.rows -= columns;
    pending_.sums += columns * kSumStride;
    pending_.x = 0;
    ++pending_.y;
  }

  // Four pixels, or one.
  BMX_INLINE void finish_some() {
    const int32_t columns = c_.width - pending_.x;
    if (pending_.rows >= 4 && columns >= 4) {
      finish<4>();
    } else {
      finish<1>();
    }
  }

  template <int Rows>
  [[gnu::noinline]] void finish() {
    const int32_t y = pending_.y, x = pending_.x;
    if (pending_.filters == kPair) {
      results<Rows, kPair / kLanes, true>(y, x, 0, kPair);
    } else {
      int32_t f = 0;
      for (; pending_.filters - f >= kLanes; f += kLanes) results<Rows, 1, true>(y, x, f, kLanes);
      if (f < pending_.filters) results<Rows, 1, false>(y, x, f, pending_.filters - f);
    }
    pending_.rows -= Rows;
    pending_.sums += Rows * kSumStride;
    pending_.x += Rows;
    skip_columns();
  }

  template <int Rows, int Vectors, bool Full>
  BMX_INLINE void results(int32_t y0, int32_t x0, int32_t f, int32_t count) const {
    using Epilogue = EpilogueTile<Isa, Rows, Vectors, Full>;
    const Channels channels = Channels::of(pending_.filter + f, count, c_.filters);
    const Pixels<Rows> pixels(y0, x0, c_.width);
    typename Isa::Ints sums[Rows][Vectors];
    Epilogue::each([&](int r, int v) {
      sums[r][v] = Isa::load(reinterpret_cast<const int32_t*>(pending_.sums + r * kSumStride) + f + v * kLanes);
    });
    typename Isa::Floats y[Rows][Vectors];
    if constexpr (kBinary) {
      const auto all = static_cast<int32_t>(64 * steps_);
      Epilogue::each([&](int r, int v) { sums[r][v] = Isa::half(Isa::add_int(sums[r][v], all)); });
      if (c_.epilogue->count_bits.data != nullptr) return Epilogue::run_counts(*c_.epilogue, sums, pixels, channels);
      const auto most = Isa::splat(c_.all), step = Isa::splat(-c_.step);
      Epilogue::each([&](int r, int v) { y[r][v] = Isa::fma(Isa::to_floats(sums[r][v]), step, most); });
    } else {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const auto start = Isa::load(c_.start + channels.first + v * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) y[r][v] = Isa::to_floats(Isa::add_ints(sums[r][v], start));
      }
    }
    Epilogue::run(*c_.epilogue, y, pixels, channels);
  }

  const Conv& c_;
  bool gather_ = false, resident_;
  int64_t element_, runs_, run_bytes_ = 0, elements_;  // of a run, of `element_` bytes each
  int64_t steps_, block_bytes_, slots_, num_tails_;
  int64_t pause_, calls_;     // steps until some results are made, and how often four pixels of them
  int64_t pitch_, position_;  // positions from one row to the next; bytes from one position to the next
  int32_t band_;              // rows of the output

  mutable Step* table_ = nullptr;
  mutable int64_t* run_offsets_ = nullptr;  // of windows that are gathered
  mutable uint8_t *sums_[2] = {}, *weights_ = nullptr, *tails_ = nullptr, *image_ = nullptr;

  // Of a band.
  int32_t y_ = 0, x_ = 0;  // its first pixel
  int64_t positions_ = 0;
  const uint8_t *origin_ = nullptr, *panel_ = nullptr;
  int current_ = 0;  // sums_ that are next
  uint32_t slot_ = 0;
  struct {
    const uint8_t* sums;
    int32_t rows, y, x, filter, filters;
  } pending_{};
};

template <class Isa, class Unit, TileArithmetic kArithmetic>
int64_t tile_conv_scratch(const Conv& c) {
  using Driver = TileConvDriver<Isa, Unit, kArithmetic>;
  return Driver::takes(c) ? Driver(c).scratch() : -1;
}

template <class Isa, class Unit, TileArithmetic kArithmetic>
bool tile_conv_is_faster(const Conv& c) {
  return TileConvDriver<Isa, Unit, kArithmetic>(c).faster();
}

template <class Isa, class Unit, TileArithmetic kArithmetic>
void tile_conv(const Conv& c, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter,
               uint8_t* scratch) {
  TileConvDriver<Isa, Unit, kArithmetic>(c).run(first, last, first_filter, last_filter, scratch);
}

template <class Isa, class Unit, TileArithmetic kArithmetic>
constexpr TileConv make_tile_conv() {
  return {tile_conv_scratch<Isa, Unit, kArithmetic>, tile_conv_is_faster<Isa, Unit, kArithmetic>,
          tile_conv<Isa, Unit, kArithmetic>};
}

}  // namespace bmx::nhwc
