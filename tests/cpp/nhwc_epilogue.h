// Any epilogue, and its definition number by number (docs/format.md), for the tests of the engine's kernels.
#pragma once

#include <algorithm>
#include <iterator>

#include "kernels/engine/function.h"
#include "nhwc_tensor.h"

namespace nhwc_test {

// Functions and their definitions. Those that bmx has besides are tested in Python, with every instruction set.
struct FunctionDefinition {
  Function function;
  bool rounds_differently;  // by a few units in the last place
  double (*of)(double x);
};

constexpr FunctionDefinition kFunctionDefinitions[] = {
    {Function::kRound, false, [](double x) { return std::round(x); }},
    {Function::kTanh, true, [](double x) { return std::tanh(x); }},
    {Function::kSigmoid, true, [](double x) { return 1 / (1 + std::exp(-x)); }},
    {Function::kSoftplus, true, [](double x) { return x > 100 ? x : std::log1p(std::exp(x)); }},
    {Function::kSoftsign, true, [](double x) { return x / (1 + std::fabs(x)); }},
    {Function::kExp, true, [](double x) { return std::exp(x); }},
    {Function::kLog, true, [](double x) { return std::log(x); }},
    {Function::kSqrt, false, [](double x) { return std::sqrt(x); }},
    {Function::kSquare, false, [](double x) { return x * x; }},
    {Function::kAbs, false, [](double x) { return std::fabs(x); }},
    {Function::kSign1, false, [](double x) { return x < 0 ? -1.0 : 1.0; }},
    {Function::kGelu, true, [](double x) { return x * (0.5 + 0.5 * std::erf(x / std::sqrt(2.0))); }},
    {Function::kElu, true, [](double x) { return x > 0 ? x : std::expm1(x); }},
    {Function::kSelu, true,
     [](double x) { return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x)); }},
    {Function::kReciprocal, false, [](double x) { return 1 / x; }},
    {Function::kNegate, false, [](double x) { return -x; }},
    {Function::kSignum, false, [](double x) { return x > 0   ? 1
                                                     : x < 0 ? -1
                                                             : x; }},
};

inline const FunctionDefinition& definition_of(Function function) {
  const auto* found = std::find_if(std::begin(kFunctionDefinitions), std::end(kFunctionDefinitions),
                                   [&](const FunctionDefinition& d) { return d.function == function; });
  return *found;
}

// An epilogue with all that it reads and writes; for each kernel, and for the definition, on memory of its own.
class AnyEpilogue {
 public:
  // `most`: the largest count of differing bits, where they go to integer thresholds, else 0.
  AnyEpilogue(Random& random, int32_t height, int32_t width, int32_t channels, int64_t most = 0) : channels_(channels) {
    const auto tensor = [&](Type type) {
      return Tensor(random, type, height, width, channels, {0, 0, 0, 0}, random.between(0, 2) == 0 ? 2 : 0);
    };
    if (most > 0) {
      outputs_.count_bits = tensor(Type::kBit);
      count_threshold_.resize(round_up(channels, 32));
      flip_.resize(round_up(channels, 512) / 8);
      const int32_t always = std::numeric_limits<int32_t>::max();
      for (int32_t& t : count_threshold_) {
        const int64_t about = most / 2 + random.between(-1, 1) * (most / 16);
        t = static_cast<int32_t>(about + random.between(-2, 2));
        if (random.between(0, 9) == 0) t = random.between(0, 1) ? always : -always - 1;
      }
      for (int32_t c = 0; c < channels; ++c) flip_[c / 8] |= random.between(0, 1) << (c % 8);
      return;
    }
    add_stores(random, random.between(1, 7), tensor);
    for (int64_t n = random.between(0, 3); n > 0; --n) {
      add(random, height, width, static_cast<Operation>(random.between(1, kOperations)));
    }
  }

  // `count` of these operations, to floats and bytes without gaps between pixels.
  template <size_t N>
  AnyEpilogue(Random& random, int32_t height, int32_t width, int32_t channels, const Operation (&operations)[N],
              int count)
      : channels_(channels) {
    static const int64_t kStores[] = {1, 4, 5};
    add_stores(random, kStores[random.between(0, 2)],
               [&](Type type) { return Tensor(random, type, height, width, channels); });
    for (int i = 0; i < count; ++i) add(random, height, width, operations[random.between(0, N - 1)]);
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
        case Operation::kMaximum:
          value = std::isnan(value) || value > operand() ? value : operand();
          break;
        case Operation::kMinimum:
          value = std::isnan(value) || value < operand() ? value : operand();
          break;
        case Operation::kPRelu:
          value = value > 0 ? value : value * op.arrays[0][c];
          break;
        case Operation::kClip:
          value = value < op.low ? op.low : (value > op.high ? op.high : value);
          break;
        case Operation::kFunction:
          value = static_cast<float>(definition_of(op.function).of(value));
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

  // `make(type)` is a tensor for a store; bits of `stores` as in the file.
  template <class F>
  void add_stores(Random& random, int64_t stores, F make) {
    if (stores & 1) outputs_.f32 = make(Type::kF32);
    if (stores & 2) {
      outputs_.bits = make(Type::kBit);
      threshold_ = numbers(random);
      for (int32_t c = 0; c < channels_; ++c) {
        if (random.between(0, 7) == 0) threshold_[c] = random.between(0, 1) ? kInfinity : -kInfinity;
        sign_.push_back(random.between(0, 1) ? 0x80000000u : 0);
      }
      sign_.resize(round_up(channels_, 32));
    }
    if (stores & 4) {
      outputs_.u8 = make(Type::kU8);
      inverse_scale_ = static_cast<float>(random.between(1, 64)) / 4;  // ties
      zero_point_ = static_cast<int32_t>(random.between(0, 255));
    }
  }

  void add(Random& random, int32_t height, int32_t width, Operation operation) {
    Op op;
    op.operation = operation;
    for (auto& array : op.arrays) array = numbers(random);
    op.low = static_cast<float>(random.between(-20, 0)) / 4;
    op.high = random.between(0, 2) == 0 ? kInfinity : static_cast<float>(random.between(0, 20)) / 4;
    if (op.operation == Operation::kFunction) {
      const FunctionDefinition* definition;
      do {
        definition = &kFunctionDefinitions[random.between(0, std::size(kFunctionDefinitions) - 1)];
      } while (definition->rounds_differently);
      op.function = definition->function;
    }
    if (operands_of(operation).tensor) {
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

}  // namespace nhwc_test
