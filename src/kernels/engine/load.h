// From planes of C x H x W floats to NHWC, through an epilogue.
#pragma once

#include "kernels/engine/pool.h"

namespace bmx::nhwc {

// Any number of channels: lanes are collected one by one.
template <class Isa>
struct Planes {
  static constexpr int kRows = 4, kVectors = 1;
  using Floats = typename Isa::Floats;
  View in;  // the first of them
  int64_t plane;

  template <int Rows, int Vectors, bool Full>
  BMX_INLINE void fill(Floats (&y)[Rows][Vectors], const Pixels<Rows>& pixels, Channels c) const {
    const float* p[Rows];
    pixels.find(in, 0, p);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      float lanes[Isa::kLanes] = {};
      for (int i = 0; i < (Full ? Isa::kLanes : c.count); ++i) lanes[i] = p[r][(c.first + i) * plane];
      y[r][0] = Isa::load(lanes);
    }
  }
};

// Images of few channels, whose pixels would leave most lanes empty: kLanes pixels side by side are one with
// kLanes * C channels, and the numbers of each channel are repeated.
template <class Isa, int C>
class FewPlanes {
 public:
  static bool fits(const Epilogue& e) {
    if (e.num_ops > kMaxOps || e.bits.data != nullptr || (e.f32.data != nullptr && e.f32.pixel_stride != 4 * C) ||
        (e.u8.data != nullptr && e.u8.pixel_stride != C)) {
      return false;
    }
    for (int i = 0; i < e.num_ops; ++i) {
      if (e.ops[i].operation == Operation::kAdd || e.ops[i].operation == Operation::kMultiply) return false;
    }
    return true;
  }

  FewPlanes(const View& in, int64_t plane, const Epilogue& epilogue) : in_(in), plane_(plane), epilogue_(epilogue) {
    epilogue_.ops = ops_;
    for (int i = 0; i < epilogue.num_ops; ++i) {
      ops_[i] = epilogue.ops[i];
      repeat(ops_[i].a, numbers_[i][0]);
      repeat(ops_[i].b, numbers_[i][1]);
      repeat(ops_[i].c, numbers_[i][2]);
    }
    for (int i = 0; i < C * kLanes; ++i) {
      for (int c = 0; c < C; ++c) pixel_[c][i] = i % C == c ? i / C : -1;
    }
  }

  // kLanes pixels from (y, x) on.
  BMX_INLINE void run(int32_t y, int32_t x) const {
    const auto* p = reinterpret_cast<const float*>(in_.data + y * in_.row_stride) + x;
    typename Isa::Floats tile[1][C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const auto from = Isa::load(p + c * plane_);
#pragma GCC unroll 8
      for (int v = 0; v < C; ++v) {
        tile[0][v] = Isa::insert(c == 0 ? from : tile[0][v], from, Isa::load(pixel_[c] + v * kLanes));
      }
    }
    EpilogueTile<Isa, 1, C, true>::run(epilogue_, tile, Pixels<1>(y, x, in_.width), {0, C * kLanes, 0});
  }

 private:
  static constexpr int kLanes = Isa::kLanes, kMaxOps = 4;

  static void repeat(const float*& numbers, float (&repeated)[C * kLanes]) {
    if (numbers == nullptr) return;
    for (int i = 0; i < C * kLanes; ++i) repeated[i] = numbers[i % C];
    numbers = repeated;
  }

  View in_;
  int64_t plane_;
  Epilogue epilogue_;
  EpilogueOp ops_[kMaxOps];
  float numbers_[kMaxOps][3][C * kLanes];
  int32_t pixel_[C][C * kLanes];  // whose number of channel c each lane takes, or -1
};

template <class Isa, int C>
void load_few(const View& in, int64_t plane, const Epilogue& epilogue, int64_t first, int64_t last) {
  const FewPlanes<Isa, C> few(in, plane, epilogue);
  const Planes<Isa> planes{in, plane};
  const ChannelDriver<Isa, Planes<Isa>> single(planes, epilogue, in.width, C);
  while (first < last) {  // the rest of a row
    const auto y = static_cast<int32_t>(first / in.width);
    auto x = static_cast<int32_t>(first % in.width);
    const int32_t end = last - first < in.width - x ? x + static_cast<int32_t>(last - first) : in.width;
    first += end - x;
    if (end - x < Isa::kLanes) {
      single.run(first - (end - x), first);
    } else {
      for (; end - x > Isa::kLanes; x += Isa::kLanes) few.run(y, x);
      few.run(y, end - Isa::kLanes);  // some pixels a second time
    }
  }
}

template <class Isa, int C = 4>
void load(const View& in, int64_t plane, const Epilogue& epilogue, int64_t first, int64_t last) {
  if constexpr (C == 0) {
    const Planes<Isa> source{in, plane};
    ChannelDriver<Isa, Planes<Isa>>(source, epilogue, in.width, in.channels).run(first, last);
  } else if (in.channels == C && FewPlanes<Isa, C>::fits(epilogue)) {
    load_few<Isa, C>(in, plane, epilogue, first, last);
  } else {
    load<Isa, C - 1>(in, plane, epilogue, first, last);
  }
}

template <class Isa>
void load_planes(const float* in, int32_t height, int32_t width, int32_t channels, const Epilogue& epilogue,
                 int64_t first, int64_t last) {
  View view;
  view.data = reinterpret_cast<uint8_t*>(const_cast<float*>(in));  // which is only read
  view.height = height;
  view.width = width;
  view.channels = channels;
  view.pixel_stride = sizeof(float);
  view.row_stride = width * view.pixel_stride;
  load<Isa>(view, int64_t{height} * width, epilogue, first, last);
}

}  // namespace bmx::nhwc
