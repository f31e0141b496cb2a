#include "engine/banded_pool.h"

#include <algorithm>
#include <cstring>

namespace bmx::engine {

// The band holds rows begin <= r < end of what the convolution gives. Rows that two windows share are moved to its
// beginning; only where two threads meet are some computed twice.
void BandedPool::run(int64_t first, int64_t last, int part) const {
  nhwc::Conv conv = conv_.conv();
  nhwc::Epilogue to_band = *conv.epilogue;
  conv.epilogue = &to_band;
  nhwc::Pool pool = pool_.pool();
  const nhwc::View whole = to_band.f32;
  const nhwc::Window& w = pool.window;
  uint8_t* const band = whole.data + part * band_rows_ * whole.row_stride;
  const int64_t row_bytes = (whole.width - 1) * whole.pixel_stride + whole.channels * int64_t{sizeof(float)};
  const auto clamp = [&](int64_t row) { return std::clamp<int64_t>(row, 0, whole.height); };
  const int64_t rows_a_turn = (band_rows_ - w.kernel_h) / w.stride_y + 1;
  int64_t begin = 0, end = 0;
  for (int64_t row = first; row < last; row += rows_a_turn) {
    const int64_t after = std::min(row + rows_a_turn, last);
    const int64_t from = clamp(row * w.stride_y - w.pad_y), to = clamp((after - 1) * w.stride_y - w.pad_y + w.kernel_h);
    for (int64_t r = from; r < end; ++r) {
      std::memmove(band + (r - from) * whole.row_stride, band + (r - begin) * whole.row_stride, row_bytes);
    }
    uint8_t* const origin = band - from * whole.row_stride;  // of row 0, if it were there
    to_band.f32.data = pool.in.data = origin;
    const int64_t next = std::max(from, end);
    conv_.run_conv(conv, {next * whole.width, to * whole.width, 0, conv.filters});
    pool_.run_pool(pool, {row * pool.width, after * pool.width, 0, 0});
    begin = from, end = std::max(to, next);
  }
}

}  // namespace bmx::engine
