// The engine's kernels of every instruction set of this machine against definitions written with loops over single
// numbers (docs/format.md). A definition writes into a copy of the memory that the kernel writes into, and the whole
// memory is compared: what a kernel must not touch is checked with what it must write. Sums of products are made of
// numbers for which they are exact, so that all comparisons are of equality, except of the transcendental functions.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "kernels/nhwc.h"
#include "test.h"

namespace {

using namespace bmx::nhwc;
using test::Random;

const float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

template <class F>
void for_each_kernels(F f) {
  for (const char* name : {"portable", "avx2", "avx512", "neon", "neon_dot"}) {
    if (const Kernels* k = find_kernels(name)) f(*k);
  }
}

int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

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
    if (type == Type::kBit && channels % 64 != 0) {  // bits beyond the channels are 0
      for (int32_t y = -border.above; y < height + border.below; ++y) {
        for (int32_t x = -border.left; x < width + border.right; ++x) clear_tail(y, x);
      }
    }
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
  bool owns(const Tensor& t) const { return memory_ == t.memory_; }

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

double slow_function(Function function, double x) {
  switch (function) {
    case Function::kRound:
      return std::round(x);
    case Function::kTanh:
      return std::tanh(x);
    case Function::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Function::kSoftplus:
      return x > 100 ? x : std::log1p(std::exp(x));
    case Function::kSoftsign:
      return x / (1 + std::fabs(x));
    case Function::kExp:
      return std::exp(x);
    case Function::kLog:
      return std::log(x);
    case Function::kSqrt:
      return std::sqrt(x);
    case Function::kSquare:
      return x * x;
    case Function::kAbs:
      return std::fabs(x);
    case Function::kSign1:
      return x < 0 ? -1 : 1;
    case Function::kGelu:
      return x * (0.5 + 0.5 * std::erf(x / std::sqrt(2.0)));
    case Function::kElu:
      return x > 0 ? x : std::expm1(x);
    case Function::kSelu:
      return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * (std::expm1(x)));
    case Function::kReciprocal:
      return 1 / x;
    case Function::kNegate:
      return -x;
    case Function::kSignum:
      return x > 0 ? 1 : x < 0 ? -1 : x;
  }
  return 0;
}

bool rounds_differently(Function f) {
  return f == Function::kTanh || f == Function::kSigmoid || f == Function::kSoftplus || f == Function::kExp ||
         f == Function::kLog || f == Function::kGelu || f == Function::kElu || f == Function::kSelu ||
         f == Function::kSoftsign;
}

// An epilogue with all that it reads and writes; for each kernel, and for the definition, on memory of its own.
class AnyEpilogue {
 public:
  enum class Kind { kAny, kCounts };

  AnyEpilogue(Random& random, int32_t height, int32_t width, int32_t channels, Kind kind) : channels_(channels) {
    const auto tensor = [&](Type type) {
      return Tensor(random, type, height, width, channels, {0, 0, 0, 0}, random.between(0, 2) == 0 ? 2 : 0);
    };
    if (kind == Kind::kCounts) {
      outputs_.count_bits = tensor(Type::kBit);
      count_threshold_.resize(round_up(channels, 32));
      flip_.resize(round_up(channels, 512) / 8);
      for (int32_t& t : count_threshold_) t = static_cast<int32_t>(random.between(-1, 90));
      for (int32_t c = 0; c < channels; ++c) flip_[c / 8] |= random.between(0, 1) << (c % 8);
      return;
    }
    const int64_t stores = random.between(1, 7);
    if (stores & 1) outputs_.f32 = tensor(Type::kF32);
    if (stores & 2) {
      outputs_.bits = tensor(Type::kBit);
      threshold_ = numbers(random);
      for (int32_t c = 0; c < channels; ++c) {
        if (random.between(0, 7) == 0) threshold_[c] = random.between(0, 1) ? kInfinity : -kInfinity;
        sign_.push_back(random.between(0, 1) ? 0x80000000u : 0);
      }
      sign_.resize(round_up(channels, 32));
    }
    if (stores & 4) {
      outputs_.u8 = tensor(Type::kU8);
      inverse_scale_ = static_cast<float>(random.between(1, 64)) / 4;  // ties
      zero_point_ = static_cast<int32_t>(random.between(0, 255));
    }
    for (int64_t n = random.between(0, 3); n > 0; --n) add(random, height, width);
  }

  void add(Random& random, int32_t height, int32_t width) {
    Op op;
    op.operation = static_cast<Operation>(random.between(1, 7));
    for (auto& array : op.arrays) array = numbers(random);
    op.low = static_cast<float>(random.between(-20, 0)) / 4;
    op.high = random.between(0, 2) == 0 ? kInfinity : static_cast<float>(random.between(0, 20)) / 4;
    if (op.operation == Operation::kFunction) {
      do {
        op.function = static_cast<Function>(random.between(1, 17));
      } while (rounds_differently(op.function));
    }
    if (op.operation == Operation::kAdd || op.operation == Operation::kMultiply) {
      const int64_t shape = random.between(0, 3);
      op.all_pixels = shape == 1;
      op.one_channel = shape == 2;
      op.in_place = shape == 3 && outputs_.f32;
      if (!op.in_place) {
        op.tensor = Tensor(random, Type::kF32, op.all_pixels ? 1 : height, op.all_pixels ? 1 : width,
                           op.one_channel ? 1 : channels_, {}, random.between(0, 2) == 0 ? 3 : 0);
      }
    }
    ops_.push_back(op);
  }

  struct Outputs {
    Tensor f32, bits, u8, count_bits;
    Outputs copy() const {
      Outputs o;
      if (f32) o.f32 = f32.copy();
      if (bits) o.bits = bits.copy();
      if (u8) o.u8 = u8.copy();
      if (count_bits) o.count_bits = count_bits.copy();
      return o;
    }
    void check_equal(const Outputs& e, float tolerance, const std::string& what) const {
      if (f32) f32.check_equal(e.f32, tolerance, what);
      if (bits) bits.check_equal(e.bits, 0, what);
      if (u8) u8.check_equal(e.u8, 0, what);
      if (count_bits) count_bits.check_equal(e.count_bits, 0, what);
    }
  };
  Outputs fresh_outputs() const { return outputs_.copy(); }

  // As kernels take it; `ops` keeps its operations.
  Epilogue on(const Outputs& o, std::vector<EpilogueOp>& ops) const {
    ops.clear();
    for (const Op& op : ops_) {
      EpilogueOp e;
      e.operation = op.operation;
      e.function = op.function;
      e.a = op.arrays[0].data();
      e.b = op.arrays[1].data();
      e.c = op.arrays[2].data();
      e.low = op.low;
      e.high = op.high;
      e.one_channel = op.one_channel;
      if (op.in_place) {
        e.tensor = o.f32.view();
      } else if (op.tensor) {
        e.tensor = op.tensor.view();
        if (op.all_pixels) e.tensor.row_stride = e.tensor.pixel_stride = 0;
      }
      ops.push_back(e);
    }
    Epilogue e;
    e.ops = ops.data();
    e.num_ops = static_cast<int>(ops.size());
    if (o.f32) e.f32 = o.f32.view();
    if (o.bits) e.bits = o.bits.view();
    e.threshold = threshold_.data();
    e.sign = sign_.data();
    if (o.u8) e.u8 = o.u8.view();
    e.inverse_scale = inverse_scale_;
    e.zero_point = zero_point_;
    if (o.count_bits) e.count_bits = o.count_bits.view();
    e.count_threshold = count_threshold_.data();
    e.flip = flip_.data();
    return e;
  }

  // The definition.
  void slow(float value, int32_t y, int32_t x, int32_t c, Outputs& o) const {
    for (const Op& op : ops_) {
      const auto operand = [&] {
        const Tensor& t = op.in_place ? o.f32 : op.tensor;
        return t.number(op.all_pixels ? 0 : y, op.all_pixels ? 0 : x, op.one_channel ? 0 : c);
      };
      switch (op.operation) {
        case Operation::kAffine:
          value = std::fma(value, op.arrays[0][c], op.arrays[1][c]);
          break;
        case Operation::kNorm:
          value = std::fma(value - op.arrays[0][c], op.arrays[1][c], op.arrays[2][c]);
          break;
        case Operation::kAdd:
          value = value + operand();
          break;
        case Operation::kMultiply:
          value = value * operand();
          break;
        case Operation::kPRelu:
          value = value > 0 ? value : value * op.arrays[0][c];
          break;
        case Operation::kClip:
          value = value < op.low ? op.low : (value > op.high ? op.high : value);
          break;
        case Operation::kFunction:
          value = static_cast<float>(slow_function(op.function, value));
          break;
      }
    }
    if (o.f32) o.f32.set_number(y, x, c, value);
    if (o.bits) {
      uint32_t pattern;
      std::memcpy(&pattern, &value, 4);
      pattern ^= sign_[c];
      float signed_value;
      std::memcpy(&signed_value, &pattern, 4);
      o.bits.set_bit(y, x, c, !(signed_value < threshold_[c]));
    }
    if (o.u8) {
      const float scaled = std::nearbyint(value * inverse_scale_) + static_cast<float>(zero_point_);
      o.u8.set_byte(y, x, c, scaled != scaled || scaled < 0 ? 0 : scaled > 255 ? 255 : static_cast<int>(scaled));
    }
  }
  void slow_count(int32_t p, int32_t y, int32_t x, int32_t c, Outputs& o) const {
    o.count_bits.set_bit(y, x, c, (p <= count_threshold_[c]) != ((flip_[c / 8] >> (c % 8)) & 1));
  }
  bool counts() const { return static_cast<bool>(outputs_.count_bits); }

 private:
  struct Op {
    Operation operation;
    Function function = Function::kRound;
    std::vector<float> arrays[3];
    Tensor tensor;
    bool all_pixels = false, one_channel = false, in_place = false;
    float low = 0, high = 0;
  };

  // One for each channel, exactly as many as promised: AddressSanitizer sees one too many read.
  std::vector<float> numbers(Random& random) const {
    std::vector<float> v(round_up(channels_, 32));
    for (int32_t c = 0; c < channels_; ++c) {
      v[c] = random.between(0, 3) == 0 ? random.value() : static_cast<float>(random.between(-20, 20)) / 4;
    }
    return v;
  }

  int32_t channels_;
  std::vector<Op> ops_;
  Outputs outputs_;
  std::vector<float> threshold_;
  std::vector<uint32_t> sign_;
  float inverse_scale_ = 0;
  int32_t zero_point_ = 0;
  std::vector<int32_t> count_threshold_;
  std::vector<uint8_t> flip_;
};

// Runs `fast(kernels, epilogue, first, last)` and the definition `slow(y, x, outputs)` on some parts of the pixels.
template <class Fast, class Slow>
void compare(Random& random, const AnyEpilogue& epilogue, int32_t height, int32_t width, float tolerance,
             const std::string& what, Fast fast, Slow slow) {
  std::vector<std::pair<int64_t, int64_t>> parts;
  const int64_t pixels = int64_t{height} * width;
  if (random.between(0, 1)) {
    parts.emplace_back(0, pixels);
  } else {
    const int64_t middle = random.between(0, pixels), end = random.between(middle, pixels);
    parts.emplace_back(0, middle);
    parts.emplace_back(middle, end);
  }
  AnyEpilogue::Outputs expected = epilogue.fresh_outputs();
  for (const auto& part : parts) {
    for (int64_t p = part.first; p < part.second; ++p) {
      slow(static_cast<int32_t>(p / width), static_cast<int32_t>(p % width), expected);
    }
  }
  for_each_kernels([&](const Kernels& k) {
    AnyEpilogue::Outputs outputs = epilogue.fresh_outputs();
    std::vector<EpilogueOp> ops;
    const Epilogue e = epilogue.on(outputs, ops);
    for (const auto& part : parts) fast(k, e, part.first, part.second);
    outputs.check_equal(expected, tolerance, std::string(k.name) + " " + what);
  });
}

enum class Arithmetic { kBinary, kFloat, kInt8 };

struct ConvShape {
  int32_t channels, filters, height, width;  // channels and filters of all groups; size of the output
  Window window;
  int32_t groups = 1;
  bool run = true;
  int gap = 0;

  std::string text(Arithmetic a) const {
    return "arithmetic " + std::to_string(static_cast<int>(a)) + " channels " + std::to_string(channels) + " filters " +
           std::to_string(filters) + " out " + std::to_string(height) + "x" + std::to_string(width) + " kernel " +
           std::to_string(window.kernel_h) + "x" + std::to_string(window.kernel_w) + " stride " +
           std::to_string(window.stride_y) + "," + std::to_string(window.stride_x) + " dilate " +
           std::to_string(window.dilate_y) + "," + std::to_string(window.dilate_x) + " groups " +
           std::to_string(groups) + (run ? " run" : "");
  }
};

// An input whose border holds all that the windows of such an output meet.
Tensor make_input(Random& random, Type type, int32_t channels, int32_t height, int32_t width, const Window& w,
                  int gap) {
  const auto least = [](int32_t out, int32_t stride, int32_t pad, int32_t kernel, int32_t dilate) {
    return (out - 1) * stride - pad + (kernel - 1) * dilate + 1;
  };
  const int32_t rows = least(height, w.stride_y, w.pad_y, w.kernel_h, w.dilate_y);
  const int32_t columns = least(width, w.stride_x, w.pad_x, w.kernel_w, w.dilate_x);
  const int32_t inside_h = static_cast<int32_t>(random.between(1, rows > 0 ? rows : 1));
  const int32_t inside_w = static_cast<int32_t>(random.between(1, columns > 0 ? columns : 1));
  return Tensor(random, type, inside_h, inside_w, channels,
                {w.pad_y, w.pad_x, rows > inside_h ? rows - inside_h : 0, columns > inside_w ? columns - inside_w : 0},
                gap);
}

// Weights of a convolution: [filter][ky][kx][channel of the group], packed as docs/format.md says.
struct Weights {
  std::vector<int> values;
  uint8_t* packed;
  std::vector<uint8_t> memory;
  std::vector<int32_t> start;

  Weights(Random& random, Arithmetic arithmetic, const ConvShape& s, int zero_point) {
    const Window& w = s.window;
    const int64_t channels = s.channels / s.groups, taps = int64_t{w.kernel_h} * w.kernel_w;
    const int64_t filters = s.filters / s.groups;
    for (int64_t i = 0; i < s.filters * taps * channels; ++i) {
      values.push_back(static_cast<int>(arithmetic == Arithmetic::kBinary  ? random.between(0, 1)
                                        : arithmetic == Arithmetic::kFloat ? random.between(-16, 16)
                                                                           : random.between(-128, 127)));
    }
    const int64_t block = arithmetic == Arithmetic::kBinary ? 8 : 16;
    const int64_t unit = arithmetic == Arithmetic::kBinary ? 64 : arithmetic == Arithmetic::kFloat ? 1 : 4;
    // Elements: a run's channels one after the other; pixels of bits begin with a word.
    const int64_t pixel = arithmetic == Arithmetic::kBinary ? round_up(channels, 64) : channels;
    const int64_t runs = w.kernel_h * (s.run ? 1 : w.kernel_w);
    const int64_t length = round_up(pixel * (s.run ? w.kernel_w : 1), unit) / unit;
    const int64_t blocks = round_up(filters, block) / block;
    memory.resize(s.groups * blocks * runs * length * 64 + 64);
    packed = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    start.resize(s.groups * round_up(filters, 32));
    for (int64_t f = 0; f < s.filters; ++f) {
      const int64_t g = f / filters, in_group = f % filters;
      for (int64_t ky = 0; ky < w.kernel_h; ++ky) {
        for (int64_t kx = 0; kx < w.kernel_w; ++kx) {
          for (int64_t c = 0; c < channels; ++c) {
            const int64_t position = (s.run ? kx * pixel : 0) + c, run = s.run ? ky : ky * w.kernel_w + kx;
            const int value = values[((f * w.kernel_h + ky) * w.kernel_w + kx) * channels + c];
            uint8_t* element = packed +
                               ((g * blocks + in_group / block) * runs * length + run * length + position / unit) * 64 +
                               in_group % block * (64 / block);
            if (arithmetic == Arithmetic::kBinary) {
              element[position % 64 / 8] |= static_cast<uint8_t>(value << (position % 8));
            } else if (arithmetic == Arithmetic::kFloat) {
              const float number = static_cast<float>(value) / 8;
              std::memcpy(element, &number, 4);
            } else {
              element[position % 4] = static_cast<uint8_t>(value);
              start[g * round_up(filters, 32) + in_group] -= zero_point * value;
            }
          }
        }
      }
    }
  }
};

void check_conv(Random& random, Arithmetic arithmetic, const ConvShape& s) {
  const Window& w = s.window;
  const Type type = arithmetic == Arithmetic::kBinary  ? Type::kBit
                    : arithmetic == Arithmetic::kFloat ? Type::kF32
                                                       : Type::kU8;
  Tensor in = make_input(random, type, s.channels, s.height, s.width, w, s.gap);
  if (arithmetic == Arithmetic::kFloat) in.make_exact(random);
  const int zero_point = static_cast<int>(random.between(0, 255));
  const Weights weights(random, arithmetic, s, zero_point);
  const int32_t channels = s.channels / s.groups, filters = s.filters / s.groups;
  const float all = static_cast<float>(channels * w.kernel_h * w.kernel_w), step = random.between(0, 1) ? 2 : 1;
  const bool counts = arithmetic == Arithmetic::kBinary && random.between(0, 1);
  const AnyEpilogue epilogue(random, s.height, s.width, s.filters,
                             counts ? AnyEpilogue::Kind::kCounts : AnyEpilogue::Kind::kAny);
  int32_t first_filter = 0, last_filter = s.filters;
  if (s.groups == 1 && s.filters > 64 && random.between(0, 1)) {
    if (random.between(0, 1)) {
      first_filter = 64;
    } else {
      last_filter = 64;
    }
  }
  const auto slow = [&](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
    for (int32_t f = first_filter; f < last_filter; ++f) {
      int64_t sum = 0;
      float number = 0;
      for (int32_t ky = 0; ky < w.kernel_h; ++ky) {
        for (int32_t kx = 0; kx < w.kernel_w; ++kx) {
          const int32_t in_y = y * w.stride_y - w.pad_y + ky * w.dilate_y,
                        in_x = x * w.stride_x - w.pad_x + kx * w.dilate_x;
          const int* weight = weights.values.data() + ((f * w.kernel_h + ky) * w.kernel_w + kx) * channels;
          for (int32_t c = 0; c < channels; ++c) {
            const int32_t channel = f / filters * channels + c;
            switch (arithmetic) {
              case Arithmetic::kBinary:
                sum += in.bit(in_y, in_x, channel) != weight[c];
                break;
              case Arithmetic::kFloat:
                number += in.number(in_y, in_x, channel) * (static_cast<float>(weight[c]) / 8);
                break;
              case Arithmetic::kInt8:
                sum += (in.byte(in_y, in_x, channel) - zero_point) * weight[c];
                break;
            }
          }
        }
      }
      if (counts) {
        epilogue.slow_count(static_cast<int32_t>(sum), y, x, f, outputs);
        continue;
      }
      if (arithmetic == Arithmetic::kBinary) number = all - step * static_cast<float>(sum);
      if (arithmetic == Arithmetic::kInt8) number = static_cast<float>(sum);
      epilogue.slow(number, y, x, f, outputs);
    }
  };
  const auto fast = [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
    const Conv conv{in.view(),
                    w,
                    s.height,
                    s.width,
                    s.groups,
                    s.filters,
                    s.run,
                    weights.packed,
                    arithmetic == Arithmetic::kInt8 ? weights.start.data() : nullptr,
                    all,
                    step,
                    &e};
    const auto kernel = arithmetic == Arithmetic::kBinary  ? k.conv_binary
                        : arithmetic == Arithmetic::kFloat ? k.conv_f32
                                                           : k.conv_u8;
    kernel(conv, first, last, first_filter, last_filter);
  };
  compare(random, epilogue, s.height, s.width, 0, s.text(arithmetic), fast, slow);
}

Window square(int32_t kernel, int32_t stride, int32_t dilate, int32_t pad) {
  return {kernel, kernel, stride, stride, dilate, dilate, pad, pad};
}

Window any_window(Random& random, int32_t largest) {
  const auto number = [&](int low, int high) { return static_cast<int32_t>(random.between(low, high)); };
  return {number(1, largest), number(1, largest), number(1, 3), number(1, 3),
          number(1, 2),       number(1, 2),       number(0, 2), number(0, 2)};
}

}  // namespace

TEST(nhwc_convolutions_equal_their_definition_on_a_grid) {
  Random random(1);
  for (Arithmetic arithmetic : {Arithmetic::kBinary, Arithmetic::kFloat, Arithmetic::kInt8}) {
    for (int32_t channels : {1, 3, 8, 31, 64, 65, 130}) {
      for (int32_t filters : {1, 5, 8, 10, 32, 40, 64, 100}) {
        for (int32_t kernel : {1, 3}) {
          for (bool run : {true, false}) {
            const int32_t height = static_cast<int32_t>(random.between(1, 4)),
                          width = static_cast<int32_t>(random.between(1, 5));
            check_conv(random, arithmetic,
                       {channels, filters, height, width, square(kernel, 1, 1, kernel / 2), 1, run});
          }
        }
      }
    }
  }
}

TEST(nhwc_convolutions_equal_their_definition_on_random_shapes) {
  Random random(2);
  for (Arithmetic arithmetic : {Arithmetic::kBinary, Arithmetic::kFloat, Arithmetic::kInt8}) {
    for (int i = 0; i < 300; ++i) {
      ConvShape s{};
      s.groups = random.between(0, 2) == 0 ? static_cast<int32_t>(random.between(2, 4)) : 1;
      const int32_t word = arithmetic == Arithmetic::kBinary ? 64 : 1;
      s.channels = static_cast<int32_t>(s.groups > 1 ? s.groups * word * random.between(1, word > 1 ? 2 : 20)
                                                     : random.between(1, 150));
      s.filters = static_cast<int32_t>(s.groups > 1 ? s.groups * 8 * random.between(1, 6) : random.between(1, 140));
      s.height = static_cast<int32_t>(random.between(1, 5));
      s.width = static_cast<int32_t>(random.between(1, 9));
      s.window = any_window(random, 3);
      s.gap = random.between(0, 1) ? static_cast<int>(random.between(1, 3)) : 0;
      s.run = s.groups == 1 && s.gap == 0 && s.window.dilate_x == 1 && random.between(0, 3) > 0;
      check_conv(random, arithmetic, s);
    }
  }
}

TEST(nhwc_convolutions_deeper_than_a_chunk) {
  Random random(3);
  for (Arithmetic arithmetic : {Arithmetic::kBinary, Arithmetic::kFloat, Arithmetic::kInt8}) {
    check_conv(random, arithmetic, {512, 40, 2, 3, square(3, 1, 1, 1)});
    check_conv(random, arithmetic, {300, 16, 2, 3, square(3, 2, 1, 1), 1, false});
    check_conv(random, arithmetic, {2100, 70, 1, 1, square(1, 1, 1, 0)});
    check_conv(random, arithmetic, {3, 64, 6, 7, square(7, 2, 1, 3)});
  }
}

// The largest numbers that bytes and weights make must not saturate anywhere.
TEST(nhwc_int8_sums_are_exact_at_their_extremes) {
  Random random(4);
  for (int value : {-128, 127}) {
    const int32_t channels = 1024, filters = 48;
    Tensor in(random, Type::kU8, 1, 3, channels);
    for (int32_t x = 0; x < 3; ++x) {
      for (int32_t c = 0; c < channels; ++c) in.set_byte(0, x, c, 255);
    }
    std::vector<uint8_t> memory(channels * filters + 64, static_cast<uint8_t>(value));
    const std::vector<int32_t> start(64, 1);
    Tensor out(random, Type::kF32, 1, 3, filters);
    Epilogue e;
    e.f32 = out.view();
    Conv c{in.view(), square(1, 1, 1, 0), 1, 3, 1, filters, true, memory.data(), start.data(), 0, 0, &e};
    c.weights += (64 - reinterpret_cast<uintptr_t>(c.weights) % 64) % 64;
    for_each_kernels([&](const Kernels& k) {
      k.conv_u8(c, 0, 3, 0, filters);
      for (int32_t x = 0; x < 3; ++x) {
        for (int32_t f = 0; f < filters; ++f) {
          CHECK(out.number(0, x, f) == static_cast<float>(1 + channels * 255 * value), k.name);
        }
      }
    });
  }
}

TEST(nhwc_depthwise_equals_its_definition) {
  Random random(5);
  for (int i = 0; i < 200; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, 100)),
                  height = static_cast<int32_t>(random.between(1, 6)),
                  width = static_cast<int32_t>(random.between(1, 9));
    const Window w = any_window(random, 4);
    Tensor in = make_input(random, Type::kF32, channels, height, width, w, static_cast<int>(random.between(0, 2)));
    in.make_exact(random);
    const int64_t padded = round_up(channels, 32);
    std::vector<float> weights(w.kernel_h * w.kernel_w * padded);
    for (size_t j = 0; j < weights.size(); ++j) {
      weights[j] = static_cast<int64_t>(j) % padded < channels ? static_cast<float>(random.between(-16, 16)) / 8 : 0;
    }
    const AnyEpilogue epilogue(random, height, width, channels, AnyEpilogue::Kind::kAny);
    compare(
        random, epilogue, height, width, 0, "depthwise",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          Conv c{in.view(), w, height, width, channels, channels, false, nullptr, nullptr, 0, 0, &e};
          c.weights = reinterpret_cast<const uint8_t*>(weights.data());
          k.depthwise(c, first, last);
        },
        [&](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
          for (int32_t c = 0; c < channels; ++c) {
            float sum = 0;
            for (int32_t ky = 0; ky < w.kernel_h; ++ky) {
              for (int32_t kx = 0; kx < w.kernel_w; ++kx) {
                sum += in.number(y * w.stride_y - w.pad_y + ky * w.dilate_y, x * w.stride_x - w.pad_x + kx * w.dilate_x,
                                 c) *
                       weights[(ky * w.kernel_w + kx) * padded + c];
              }
            }
            epilogue.slow(sum, y, x, c, outputs);
          }
        });
  }
}

namespace {

// Calls f(y, x) for the window's pixels inside of the image.
template <class F>
void for_each_inside(const View& in, const Window& w, int32_t y, int32_t x, F f) {
  for (int32_t ky = 0; ky < w.kernel_h; ++ky) {
    for (int32_t kx = 0; kx < w.kernel_w; ++kx) {
      const int32_t in_y = y * w.stride_y - w.pad_y + ky * w.dilate_y,
                    in_x = x * w.stride_x - w.pad_x + kx * w.dilate_x;
      if (in_y >= 0 && in_y < in.height && in_x >= 0 && in_x < in.width) f(in_y, in_x);
    }
  }
}

}  // namespace

TEST(nhwc_pooling_equals_its_definition) {
  Random random(6);
  for (int i = 0; i < 300; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, 100)),
                  height = static_cast<int32_t>(random.between(1, 5)),
                  width = static_cast<int32_t>(random.between(1, 6));
    const Window w = any_window(random, 5);
    const Tensor in(random, Type::kF32, static_cast<int32_t>(random.between(1, 9)),
                    static_cast<int32_t>(random.between(1, 9)), channels, {0, 0, 0, 0}, i % 2);
    const int mode = i % 3;
    const AnyEpilogue epilogue(random, height, width, channels, AnyEpilogue::Kind::kAny);
    compare(
        random, epilogue, height, width, 0, "pool mode " + std::to_string(mode),
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.pool({in.view(), w, height, width, mode, &e}, first, last);
        },
        [&](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
          const View v = in.view();
          for (int32_t c = 0; c < channels; ++c) {
            float largest = -kInfinity, sum = 0;
            int count = 0;
            for_each_inside(v, w, y, x, [&](int32_t in_y, int32_t in_x) {
              const float number = in.number(in_y, in_x, c);
              largest = number > largest ? number : largest;
              sum += number;
              ++count;
            });
            const int32_t y0 = y * w.stride_y - w.pad_y, x0 = x * w.stride_x - w.pad_x;
            const int32_t padded = (std::min(y0 + w.kernel_h, v.height + w.pad_y) - y0) *
                                   (std::min(x0 + w.kernel_w, v.width + w.pad_x) - x0);
            const float average = count == 0 ? 0 : sum / static_cast<float>(mode == 1 ? count : padded);
            epilogue.slow(mode == 0 ? largest : average, y, x, c, outputs);
          }
        });
  }
}

TEST(nhwc_pooling_of_bits_equals_its_definition) {
  Random random(7);
  for (int i = 0; i < 200; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, 200)),
                  height = static_cast<int32_t>(random.between(1, 5)),
                  width = static_cast<int32_t>(random.between(1, 6));
    const Window w = any_window(random, 4);
    const Tensor in(random, Type::kBit, static_cast<int32_t>(random.between(1, 9)),
                    static_cast<int32_t>(random.between(1, 9)), channels, {0, 0, 0, 0}, i % 2);
    const Tensor out(random, Type::kBit, height, width, channels, {0, 0, 0, 0}, i % 3);
    std::vector<uint64_t> flips((channels + 63) / 64);
    for (int32_t c = 0; c < channels; ++c) flips[c / 64] |= static_cast<uint64_t>(random.between(0, 1)) << (c % 64);
    const bool flipped = i % 4 != 0;
    const int64_t first = random.between(0, height * width - 1), last = random.between(first, height * width);
    Tensor expected = out.copy();
    for (int64_t p = first; p < last; ++p) {
      const auto y = static_cast<int32_t>(p / width), x = static_cast<int32_t>(p % width);
      for (int32_t c = 0; c < channels; ++c) {
        bool any = false;
        for_each_inside(in.view(), w, y, x, [&](int32_t in_y, int32_t in_x) { any |= in.bit(in_y, in_x, c); });
        expected.set_bit(y, x, c, any != (flipped && ((flips[c / 64] >> (c % 64)) & 1)));
      }
    }
    for_each_kernels([&](const Kernels& k) {
      const Tensor result = out.copy();
      k.pool_bits(in.view(), w, result.view(), flipped ? flips.data() : nullptr, first, last);
      result.check_equal(expected, 0, k.name);
    });
  }
}

TEST(nhwc_maps_equal_their_definition) {
  Random random(8);
  for (int i = 0; i < 300; ++i) {
    const int32_t channels = static_cast<int32_t>(random.between(1, i % 2 == 0 ? 9 : 150)),
                  height = static_cast<int32_t>(random.between(1, 5)),
                  width = static_cast<int32_t>(random.between(1, i % 4 < 2 ? 9 : 60));
    const AnyEpilogue epilogue(random, height, width, channels, AnyEpilogue::Kind::kAny);
    const Tensor floats(random, Type::kF32, height, width, channels, {0, 0, 0, 0}, i % 3 == 0),
        bytes(random, Type::kU8, height, width, channels, {0, 0, 0, 0}, i % 3 == 0);
    const std::vector<float> planes = random.values(int64_t{channels} * height * width);
    const float scale = static_cast<float>(random.between(1, 30)) / 7;
    const auto zero_point = static_cast<int32_t>(random.between(0, 255));
    const auto each = [&](auto value) {
      return [&epilogue, channels, value](int32_t y, int32_t x, AnyEpilogue::Outputs& outputs) {
        for (int32_t c = 0; c < channels; ++c) epilogue.slow(value(y, x, c), y, x, c, outputs);
      };
    };
    compare(
        random, epilogue, height, width, 0, "map of floats",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.map_f32(floats.view(), e, first, last);
        },
        each([&](int32_t y, int32_t x, int32_t c) { return floats.number(y, x, c); }));
    compare(
        random, epilogue, height, width, 0, "map of bytes",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.map_u8(bytes.view(), scale, zero_point, e, first, last);
        },
        each([&](int32_t y, int32_t x, int32_t c) {
          return scale * static_cast<float>(bytes.byte(y, x, c) - zero_point);
        }));
    compare(
        random, epilogue, height, width, 0, "load",
        [&](const Kernels& k, const Epilogue& e, int64_t first, int64_t last) {
          k.load(planes.data(), height, width, channels, e, first, last);
        },
        each([&](int32_t y, int32_t x, int32_t c) { return planes[(c * height + y) * width + x]; }));
  }
}

TEST(nhwc_functions_are_those_of_the_format) {
  Random random(9);
  const int32_t channels = 40, width = 25;
  for (int code = 1; code <= 17; ++code) {
    const auto function = static_cast<Function>(code);
    for (float range : {1e-3f, 1.0f, 20.0f, 200.0f, 1e30f}) {
      Tensor in(random, Type::kF32, 1, width, channels);
      for (int32_t x = 0; x < width; ++x) {
        for (int32_t c = 0; c < channels; ++c) in.set_number(0, x, c, random.value() * range);
      }
      EpilogueOp op;
      op.operation = Operation::kFunction;
      op.function = function;
      for_each_kernels([&](const Kernels& k) {
        const Tensor out(random, Type::kF32, 1, width, channels);
        Epilogue e;
        e.ops = &op;
        e.num_ops = 1;
        e.f32 = out.view();
        k.map_f32(in.view(), e, 0, width);
        for (int32_t x = 0; x < width; ++x) {
          for (int32_t c = 0; c < channels; ++c) {
            const float number = in.number(0, x, c), got = out.number(0, x, c);
            const auto expected = static_cast<float>(slow_function(function, number));
            // A few units in the last place; of the larger term where the definition subtracts.
            const bool subtracts =
                function == Function::kGelu || function == Function::kElu || function == Function::kSelu;
            const float magnitude =
                subtracts ? std::max(std::fabs(expected), std::min(std::fabs(number), 1.0f)) : std::fabs(expected);
            const float tolerance = rounds_differently(function) ? 4e-7f * magnitude + 2e-38f : 0;
            CHECK(got == expected || (got != got && expected != expected) || std::fabs(got - expected) <= tolerance,
                  std::string(k.name) + " function " + std::to_string(code) + " of " + std::to_string(number) + ": " +
                      std::to_string(got) + " for " + std::to_string(expected));
            CHECK(rounds_differently(function) || got != got || std::signbit(got) == std::signbit(expected), k.name);
          }
        }
      });
    }
  }
}
