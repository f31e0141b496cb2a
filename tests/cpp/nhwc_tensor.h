// Images for the tests of the engine's kernels, in memories that show what a kernel must not touch.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "kernels/engine/kernels.h"
#include "test.h"

namespace nhwc_test {

using namespace bmx::nhwc;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Those whose convolutions on tiles run on the model of the unit.
extern const Kernels kTileModelKernels;

template <class F>
void for_each_kernels(F f) {
  for (const char* name : {"portable", "avx2", "avx512", "amx", "neon", "neon_dot", "neon_fma"}) {
    if (const Kernels* k = find_kernels(name)) f(*k);
  }
  f(kTileModelKernels);
}

inline int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

struct Border {
  int32_t above, left, below, right;
};

// An image somewhere in a memory of its own, aligned to nothing more than its type.
class Tensor {
 public:
  Tensor() = default;
  // `gap`: channels of other tensors between this one's pixels (whole words of bits).
  Tensor(Random& random, Type type, int32_t height, int32_t width, int32_t channels, Border border = {0, 0, 0, 0},
         int gap = 0)
      : type_(type), shape_{nullptr, height, width, channels, 0, 0} {
    const int64_t unit = type == Type::kBit ? 8 : type == Type::kF32 ? 4 : 1;
    const int64_t pixel = type == Type::kBit ? (channels + 63) / 64 : channels;
    shape_.pixel_stride = (pixel + gap) * unit;
    shape_.row_stride = (border.left + width + border.right) * shape_.pixel_stride + random.between(0, 2) * unit;
    const int64_t rows = border.above + height + border.below;
    const int64_t misaligned = random.between(0, 7) * unit;
    begin_ = misaligned + border.above * shape_.row_stride + border.left * shape_.pixel_stride;
    // 64 bytes beyond the end may be read; 64 more would show if they were written.
    memory_ = std::shared_ptr<uint8_t[]>(new uint8_t[size_ = misaligned + rows * shape_.row_stride + 128]);
    for (size_t i = 0; i < size_; ++i) memory_[i] = static_cast<uint8_t>(random.bits());
    if (type == Type::kF32) {
      for (size_t i = 0; i + 4 <= size_; i += 4) set(i, random.value());
    }
  }

  // As kernels find what they read: bits beyond the channels are 0. (Where they write, memory holds anything.)
  Tensor& as_input(Border border = {0, 0, 0, 0}) {
    if (type_ != Type::kBit) return *this;
    for (int32_t y = -border.above; y < shape_.height + border.below; ++y) {
      for (int32_t x = -border.left; x < shape_.width + border.right; ++x) clear_tail(y, x);
    }
    return *this;
  }

  View view() const {
    View v = shape_;
    v.data = memory_.get() + begin_;
    return v;
  }
  Tensor copy() const {
    Tensor t = *this;
    t.memory_ = std::shared_ptr<uint8_t[]>(new uint8_t[size_]);
    std::memcpy(t.memory_.get(), memory_.get(), size_);
    return t;
  }
  explicit operator bool() const { return memory_ != nullptr; }

  float number(int32_t y, int32_t x, int32_t c) const {
    float value;
    std::memcpy(&value, at(y, x) + 4 * c, 4);
    return value;
  }
  void set_number(int32_t y, int32_t x, int32_t c, float value) { std::memcpy(at(y, x) + 4 * c, &value, 4); }
  int byte(int32_t y, int32_t x, int32_t c) const { return at(y, x)[c]; }
  void set_byte(int32_t y, int32_t x, int32_t c, int value) { at(y, x)[c] = static_cast<uint8_t>(value); }
  bool bit(int32_t y, int32_t x, int32_t c) const { return (at(y, x)[c / 8] >> (c % 8)) & 1; }
  void set_bit(int32_t y, int32_t x, int32_t c, bool value) {
    uint8_t& byte = at(y, x)[c / 8];
    byte = static_cast<uint8_t>((byte & ~(1 << (c % 8))) | (value << (c % 8)));
    if (c == shape_.channels - 1) clear_tail(y, x);
  }

  // Numbers of few binary digits, whose sums of products are exact.
  void make_exact(Random& random) {
    for (size_t i = begin_ % 4; i + 4 <= size_; i += 4) set(i, static_cast<float>(random.between(-16, 16)) / 8);
  }

  // Equal in all bytes; NaNs are equal to each other, and `tolerance` is one of the numbers.
  void check_equal(const Tensor& expected, float tolerance, const std::string& what) const {
    for (size_t i = 0; i < size_; ++i) {
      if (memory_[i] == expected.memory_[i]) continue;
      const size_t start = i - i % 4;
      float a, b;
      std::memcpy(&a, &memory_[start], 4);
      std::memcpy(&b, &expected.memory_[start], 4);
      const bool close = type_ == Type::kF32 && ((a != a && b != b) || std::fabs(a - b) <= tolerance * std::fabs(b) ||
                                                 (tolerance > 0 && std::fabs(a - b) <= 1e-37f));
      const int64_t offset = static_cast<int64_t>(i) - begin_;
      CHECK(close, what + " type " + std::to_string(static_cast<int>(type_)) + " row " +
                       std::to_string(offset / shape_.row_stride) + " pixel " +
                       std::to_string(offset % shape_.row_stride / shape_.pixel_stride) + " byte " +
                       std::to_string(offset % shape_.row_stride % shape_.pixel_stride) + ": " +
                       std::to_string(memory_[i]) + " for " + std::to_string(expected.memory_[i]) + " (" +
                       std::to_string(a) + " for " + std::to_string(b) + ")");
      i = start + 3;
    }
  }

 private:
  uint8_t* at(int32_t y, int32_t x) const {
    return memory_.get() + begin_ + y * shape_.row_stride + x * shape_.pixel_stride;
  }
  void set(size_t i, float value) { std::memcpy(memory_.get() + i, &value, 4); }
  void clear_tail(int32_t y, int32_t x) {
    for (int64_t c = shape_.channels; c < round_up(shape_.channels, 64); ++c) {
      at(y, x)[c / 8] &= static_cast<uint8_t>(~(1 << (c % 8)));
    }
  }

  Type type_ = Type::kF32;
  View shape_;
  int64_t begin_ = 0;
  size_t size_ = 0;
  std::shared_ptr<uint8_t[]> memory_;
};

// An input whose border holds all that the windows of such an output meet.
inline Tensor make_input(Random& random, Type type, int32_t channels, int32_t height, int32_t width, const Window& w,
                         int gap) {
  const auto least = [](int32_t out, int32_t stride, int32_t pad, int32_t kernel, int32_t dilate) {
    return (out - 1) * stride - pad + (kernel - 1) * dilate + 1;
  };
  const int32_t rows = least(height, w.stride_y, w.pad_y, w.kernel_h, w.dilate_y);
  const int32_t columns = least(width, w.stride_x, w.pad_x, w.kernel_w, w.dilate_x);
  const int32_t inside_h = static_cast<int32_t>(random.between(1, rows > 0 ? rows : 1));
  const int32_t inside_w = static_cast<int32_t>(random.between(1, columns > 0 ? columns : 1));
  const Border border{w.pad_y, w.pad_x, rows > inside_h ? rows - inside_h : 0,
                      columns > inside_w ? columns - inside_w : 0};
  return Tensor(random, type, inside_h, inside_w, channels, border, gap).as_input(border);
}

inline Window any_window(Random& random, int32_t largest) {
  const auto number = [&](int low, int high) { return static_cast<int32_t>(random.between(low, high)); };
  return {number(1, largest), number(1, largest), number(1, 3), number(1, 3),
          number(1, 2),       number(1, 2),       number(0, 2), number(0, 2)};
}

}  // namespace nhwc_test
