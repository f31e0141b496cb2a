// Kernels in plain C++, for every machine: 4 lanes of 64 bits that the compiler may vectorise.
#include "kernels/popcount.h"
#include "kernels/training/elementwise.h"
#include "kernels/training/float_gemm_tile.h"
#include "kernels/training/gemm_tile.h"
#include "kernels/training/sign_check.h"

namespace bmx {
namespace {

struct Portable {
  static constexpr int kLanes = 4;
  static constexpr int kMaxRows = 2;
  static constexpr int kMaxVectors = 4;
  static constexpr int kChunk = 0;
  struct Words {
    uint64_t lane[kLanes];
  };
  struct Floats {
    float lane[2 * kLanes];
  };
  using Sums = Words;
  using Partial = Words;

  static Partial zero_partial() { return {}; }
  static Words load(const uint64_t* p) {
    Words w;
    for (int i = 0; i < kLanes; ++i) w.lane[i] = p[i];
    return w;
  }
  static uint64_t broadcast(const uint64_t* p) { return *p; }
  static Partial add_popcount(Partial acc, uint64_t a, const Words& b) {
    for (int i = 0; i < kLanes; ++i) acc.lane[i] += popcount(a ^ b.lane[i]);
    return acc;
  }
  static Floats to_floats(const Sums& a, const Sums& b) {
    Floats f;
    for (int i = 0; i < kLanes; ++i) {
      f.lane[i] = static_cast<float>(static_cast<int64_t>(a.lane[i]));
      f.lane[kLanes + i] = static_cast<float>(static_cast<int64_t>(b.lane[i]));
    }
    return f;
  }
  static Floats splat(float x) {
    Floats f;
    for (float& lane : f.lane) lane = x;
    return f;
  }
  static Floats load_floats(const float* p, int lanes) {
    Floats f{};
    for (int i = 0; i < lanes; ++i) f.lane[i] = p[i];
    return f;
  }
  static Floats minus_product(const Floats& a, const Floats& b, const Floats& c) {
    Floats y;
    for (int i = 0; i < 2 * kLanes; ++i) y.lane[i] = a.lane[i] - b.lane[i] * c.lane[i];
    return y;
  }
  static Floats plus(const Floats& a, const Floats& b) {
    Floats y;
    for (int i = 0; i < 2 * kLanes; ++i) y.lane[i] = a.lane[i] + b.lane[i];
    return y;
  }
  static Floats times(const Floats& a, const Floats& b) {
    Floats y;
    for (int i = 0; i < 2 * kLanes; ++i) y.lane[i] = a.lane[i] * b.lane[i];
    return y;
  }
  static void store(float* p, const Floats& y, int lanes) {
    for (int i = 0; i < lanes; ++i) p[i] = y.lane[i];
  }
};

constexpr int kPanelColumns = Portable::kLanes * Portable::kMaxVectors;

bool pack_channels(const float* data, size_t channel_stride, int channels, size_t pixels, uint64_t* words) {
  uint32_t others = 0;
  for (size_t p = 0; p < pixels; ++p) words[p] = 0;
  for (int c = 0; c < channels; ++c) {
    const float* channel = data + c * channel_stride;
    for (size_t p = 0; p < pixels; ++p) {
      words[p] |= static_cast<uint64_t>(!(channel[p] < 0)) << c;
      others |= sign_difference(channel[p]);
    }
  }
  return only_signs(others);
}

template <class T>
void expand(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride, T plus,
            T minus, T* out) {
  for (int block = 0; block * 16 < channels; ++block) {
    for (size_t p = 0; p < pixels; ++p) {
      T* target = out + block * block_stride + p * pixel_stride;
      for (int i = 0; i < 16; ++i) {
        const int c = block * 16 + i;
        target[i] = c >= channels ? T{0} : ((words[p] >> c) & 1 ? plus : minus);
      }
    }
  }
}

void expand_signs(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride,
                  float* out) {
  expand(words, pixels, channels, block_stride, pixel_stride, 1.0f, -1.0f, out);
}

void expand_signs_bf16(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride,
                       uint16_t* out) {
  expand<uint16_t>(words, pixels, channels, block_stride, pixel_stride, 0x3f80, 0xbf80, out);
}

bool pack_row(const float* data, size_t length, uint64_t* words) {
  uint32_t others = 0;
  for (size_t i = 0; i < length; i += 64) {
    uint64_t word = 0;
    for (size_t j = 0; j < 64 && i + j < length; ++j) {
      word |= static_cast<uint64_t>(!(data[i + j] < 0)) << j;
      others |= sign_difference(data[i + j]);
    }
    words[i / 64] = word;
  }
  return only_signs(others);
}

void gather_panel(const uint64_t* words, const int64_t* column_offset, int columns, const int64_t* depth_offset,
                  size_t depth, uint64_t* panel) {
  for (size_t k = 0; k < depth; ++k, panel += kPanelColumns) {
    const uint64_t* source = words + depth_offset[k];
    for (int j = 0; j < columns; ++j) panel[j] = source[column_offset[j]];
    for (int j = columns; j < kPanelColumns; ++j) panel[j] = 0;
  }
}

}  // namespace

constexpr Kernels kPortableKernels = {
    "portable",           Portable::kLanes, kPanelColumns, pack_channels,  expand_signs,
    expand_signs_bf16,    pack_row,         gather_panel,  gemm<Portable>, Elementwise<Portable>::kernels(),
    float_gemm<Portable>, nullptr};

}  // namespace bmx
