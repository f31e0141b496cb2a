// The part of StepFields that reads epilogues: operations and stores.
#include <algorithm>
#include <cmath>

#include "engine/checked.h"
#include "engine/file.h"
#include "engine/step_fields.h"
#include "kernels/engine/function.h"

namespace bmx::engine {
namespace {

constexpr int kMostOperations = 64;
constexpr uint32_t kSign = 0x80000000;  // sign bit of a float
enum Store : uint32_t { kF32 = 1, kBits = 2, kU8 = 4, kCountBits = 8 };

}  // namespace

void StepFields::epilogue() {
  const int count = between(0, kMostOperations, "number of operations");
  for (int i = 0; i < count; ++i) step_.epilogue.ops.push_back(operation());
  stores();
  for (const Operation& op : step_.epilogue.ops) {
    if (op.tensor != kNone) check_operand(at(op.tensor));
  }
}

Operation StepFields::operation() {
  Operation operation;
  nhwc::EpilogueOp& op = operation.op;
  op.operation = static_cast<nhwc::Operation>(between(1, nhwc::kOperations, "an operation"));
  const nhwc::Operands& operands = nhwc::operands_of(op.operation);
  const float** const arrays[] = {&op.a, &op.b, &op.c};
  for (int i = 0; i < 3 && operands.numbers[i] != nullptr; ++i) *arrays[i] = per_channel<float>(operands.numbers[i]);
  if (operands.tensor) operation.tensor = tensor("an operand", nhwc::Type::kF32);
  if (operands.limits) {
    op.low = f32();
    op.high = f32();
    // Written this way round, the test refuses NaN too.
    if (!(op.low <= op.high)) throw Refusal("it clips from " + real(op.low) + " to " + real(op.high));
  }
  if (operands.function) {
    constexpr auto kLast = static_cast<int64_t>(nhwc::kLastFunction);
    op.function = static_cast<nhwc::Function>(between(1, kLast, "a function"));
  }
  return operation;
}

void StepFields::stores() {
  Epilogue& e = step_.epilogue;
  const uint32_t which = u32();
  if (which == 0 || which > 15) throw Refusal("its stores are " + text(which) + "; allowed: 1 to 15");
  if ((which & kCountBits) != 0) {
    const bool binary = step_.kind == Kind::kConv && step_.arithmetic == Arithmetic::kBinary;
    if (!binary || which != kCountBits || !e.ops.empty()) {
      throw Refusal("only a binary convolution without operations and other stores compares counts");
    }
  }
  if ((which & kF32) != 0) e.f32 = stored(nhwc::Type::kF32);
  if ((which & kBits) != 0) {
    e.bits = stored(nhwc::Type::kBit);
    e.stores.threshold = per_channel<float>("threshold");
    e.stores.sign = per_channel<uint32_t>("sign");
    const auto is_sign = [](uint32_t bits) { return (bits & ~kSign) == 0; };
    if (!std::all_of(e.stores.sign, e.stores.sign + step_.channels, is_sign)) throw Refusal(bits_not_zero("sign"));
  }
  if ((which & kU8) != 0) {
    e.u8 = stored(nhwc::Type::kU8);
    e.stores.inverse_scale = f32();
    if (!(e.stores.inverse_scale > 0 && std::isfinite(e.stores.inverse_scale))) {
      throw Refusal("its inverse scale is " + real(e.stores.inverse_scale) + "; it must be positive and finite");
    }
    e.stores.zero_point = at(e.u8).zero_point;
  }
  if ((which & kCountBits) != 0) {
    e.count_bits = stored(nhwc::Type::kBit);
    e.stores.count_threshold = per_channel<int32_t>("threshold");
    e.stores.flip = bits<uint8_t>(u32(), 512, "flip");
  }
}

int StepFields::stored(nhwc::Type type) {
  const int index = tensor("its output", type);
  give(at(index));
  return index;
}

void StepFields::check_operand(const Tensor& t) const {
  const bool same_pixels = t.height == step_.height && t.width == step_.width;
  const bool same_channels = t.channels == step_.channels;
  if ((same_pixels && (same_channels || t.channels == 1)) || (t.pixels() == 1 && same_channels)) return;
  throw Refusal(quoted(t) + " is " + shape(t.height, t.width, t.channels) + ", which does not fit the result, " +
                shape(step_.height, step_.width, step_.channels));
}

}  // namespace bmx::engine
