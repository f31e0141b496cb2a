#include "engine/plain_steps.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace bmx::engine {
namespace {

const float* pixel(const nhwc::View& view, int64_t p) {
  return reinterpret_cast<const float*>(view.data + p / view.width * view.row_stride +
                                        p % view.width * view.pixel_stride);
}

}  // namespace

void store(const nhwc::View& in, float* out, int64_t first, int64_t last) {
  const int64_t plane = int64_t{in.height} * in.width;
  for (int64_t p = first; p < last; ++p) {
    const float* from = pixel(in, p);
    for (int64_t c = 0; c < in.channels; ++c) out[c * plane + p] = from[c];
  }
}

void fill(const Tensor& t, uint8_t* origin, int64_t first, int64_t last) {
  const int64_t words = t.type == nhwc::Type::kBit ? t.pixel_bytes() / 8 : 0;
  const int used = (t.channels - 1) % 64 + 1;
  const uint64_t tail = used == 64 ? ~uint64_t{0} : (uint64_t{1} << used) - 1;
  const auto fill_pixels = [&](uint8_t* row, int64_t from, int64_t to) {
    for (int64_t x = from; x < to; ++x) {
      uint8_t* at = row + x * t.pixel_stride;
      if (words == 0) {
        std::memset(at, static_cast<int>(t.border), t.pixel_bytes());  // f32: 0
      } else {
        std::memset(at, t.border != 0 ? 0xFF : 0, t.pixel_bytes());
        const uint64_t end = t.border != 0 ? tail : 0;
        std::memcpy(at + 8 * (words - 1), &end, 8);
      }
    }
  };
  for (int64_t r = first; r < last; ++r) {
    const int64_t y = r - t.above;
    uint8_t* row = origin + y * t.row_stride;
    if (y < 0 || y >= t.height) {
      fill_pixels(row, -int64_t{t.left}, int64_t{t.width} + t.right);
    } else {
      fill_pixels(row, -int64_t{t.left}, 0);
      fill_pixels(row, t.width, int64_t{t.width} + t.right);
    }
  }
}

void softmax(const nhwc::View& in, const nhwc::View& out, int64_t first, int64_t last) {
  for (int64_t p = first; p < last; ++p) {
    const float* x = pixel(in, p);
    auto* y = const_cast<float*>(pixel(out, p));
    float largest = x[0];
    for (int64_t c = 1; c < in.channels; ++c) largest = x[c] > largest ? x[c] : largest;
    double sum = 0;  // double: there may be millions of terms
    for (int64_t c = 0; c < in.channels; ++c) {
      y[c] = std::exp(x[c] - largest);
      sum += y[c];
    }
    for (int64_t c = 0; c < in.channels; ++c) y[c] = static_cast<float>(y[c] / sum);
  }
}

int64_t copy_items(const std::vector<CopyAxis>& axes) {
  int64_t items = 1;
  for (size_t i = 0; i + 1 < axes.size(); ++i) items *= axes[i].size;
  return items;
}

void copy(const std::vector<CopyAxis>& axes, const uint8_t* in, uint8_t* out, int64_t first, int64_t last) {
  if (first >= last) return;
  const CopyAxis inner = axes.empty() ? CopyAxis{1, 4, 4} : axes.back();
  const int outer = std::max<int>(0, static_cast<int>(axes.size()) - 1);
  std::array<int64_t, kCopyAxes> index{};
  int64_t rest = first;
  for (int i = outer - 1; i >= 0; --i) {
    index[i] = rest % axes[i].size;
    rest /= axes[i].size;
    in += index[i] * axes[i].stride_in;
    out += index[i] * axes[i].stride_out;
  }
  for (int64_t item = first; item < last; ++item) {
    if (inner.stride_in == 4 && inner.stride_out == 4) {
      std::memcpy(out, in, inner.size * sizeof(float));
    } else {
      for (int64_t i = 0; i < inner.size; ++i) {
        std::memcpy(out + i * inner.stride_out, in + i * inner.stride_in, sizeof(float));
      }
    }
    for (int i = outer - 1; i >= 0; --i) {  // the next combination
      in += axes[i].stride_in;
      out += axes[i].stride_out;
      if (++index[i] < axes[i].size) break;
      in -= index[i] * axes[i].stride_in;
      out -= index[i] * axes[i].stride_out;
      index[i] = 0;
    }
  }
}

}  // namespace bmx::engine
