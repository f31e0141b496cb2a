#include "engine/step_fields.h"

#include <cstring>

#include "engine/checked.h"
#include "engine/file.h"

namespace bmx::engine {
namespace {

const char* type_name(nhwc::Type type) {
  return type == nhwc::Type::kF32 ? "f32" : (type == nhwc::Type::kBit ? "bit" : "u8");
}

}  // namespace

std::string text(int64_t number) { return std::to_string(number); }

std::string quoted(const Tensor& t) { return "tensor '" + std::string(t.name) + "'"; }

std::string shape(int64_t height, int64_t width, int64_t channels) {
  return text(height) + " x " + text(width) + " x " + text(channels);
}

std::string bits_not_zero(const char* what) { return std::string(what) + ": bits that must be 0 are not 0"; }

uint32_t StepFields::u32() {
  uint32_t value;
  if (fields_.size < sizeof(value)) throw Refusal("it ends before its fields do");
  std::memcpy(&value, fields_.bytes, sizeof(value));
  fields_.bytes += sizeof(value), fields_.size -= sizeof(value);
  return value;
}

float StepFields::f32() {
  const uint32_t bits = u32();
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

int32_t StepFields::between(int64_t low, int64_t high, const char* what) {
  const auto value = static_cast<int32_t>(u32());
  if (value < low || value > high) {
    throw Refusal(std::string(what) + " is " + text(value) + "; allowed: " + text(low) + " to " + text(high));
  }
  return value;
}

int StepFields::tensor(const char* what) {
  const uint32_t index = u32();
  if (index >= program_.tensors.size()) throw Refusal(std::string(what) + " is not in the table of tensors");
  return static_cast<int>(index);
}

int StepFields::tensor(const char* what, nhwc::Type type) {
  const int index = tensor(what);
  if (at(index).type != type) {
    throw Refusal(std::string(what) + ", " + quoted(at(index)) + ", is " + type_name(at(index).type) + "; it must be " +
                  type_name(type));
  }
  return index;
}

const uint8_t* StepFields::bytes_at(uint32_t place, int64_t count, int64_t size, const char* what) {
  if (place == kAbsent) throw Refusal("it has no " + std::string(what));
  const int64_t begin = int64_t{place} * 64, bytes = times(count, size);
  if (plus(begin, bytes) > static_cast<int64_t>(data_.size)) {
    throw Refusal(std::string(what) + ": " + text(bytes) + " bytes from " + text(begin) + " are not within the " +
                  text(static_cast<int64_t>(data_.size)) + " bytes of data");
  }
  step_.bytes += bytes;
  return data_.bytes + begin;
}

const uint8_t* StepFields::channels_at(uint32_t place, int64_t times, int64_t size, const char* what) {
  const int64_t padded = round_up(step_.channels, kPadding) * size, used = step_.channels * size;
  const uint8_t* bytes = bytes_at(place, times, padded, what);
  for (int64_t i = 0; i < times; ++i) {
    if (!all_zero(bytes + i * padded + used, padded - used)) throw Refusal(bits_not_zero(what));
  }
  return bytes;
}

const uint8_t* StepFields::bits_at(uint32_t place, int64_t multiple, const char* what) {
  const int64_t size = round_up(step_.channels, multiple) / 8, whole = step_.channels / 8;
  const uint8_t* bytes = bytes_at(place, 1, size, what);
  const bool part = step_.channels % 8 != 0;
  const bool zeros =
      (!part || bytes[whole] >> step_.channels % 8 == 0) && all_zero(bytes + whole + part, size - whole - part);
  if (!zeros) throw Refusal(bits_not_zero(what));
  return bytes;
}

void StepFields::window(int64_t lowest_pad) {
  nhwc::Window& w = step_.window;
  int32_t* const positive[] = {&w.kernel_h, &w.kernel_w, &w.stride_y, &w.stride_x, &w.dilate_y, &w.dilate_x};
  const char* const names[] = {"kernel height", "kernel width", "stride y", "stride x", "dilate y", "dilate x"};
  for (int i = 0; i < 6; ++i) *positive[i] = between(1, kLargestSize, names[i]);
  w.pad_y = between(lowest_pad, kLargestSize, "pad above");
  w.pad_x = between(lowest_pad, kLargestSize, "pad left");
}

void StepFields::give(const Tensor& t) {
  if (step_.height == 0) step_.height = t.height, step_.width = t.width;
  if (t.height != step_.height || t.width != step_.width || t.channels != step_.channels) {
    throw Refusal(quoted(t) + " is " + shape(t.height, t.width, t.channels) + ", the result is " +
                  shape(step_.height, step_.width, step_.channels));
  }
}

}  // namespace bmx::engine
