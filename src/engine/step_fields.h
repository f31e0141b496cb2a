// The fields of one step, read in order, and the checks that steps of several kinds need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/program.h"
#include "engine/step_reader.h"

namespace bmx::engine {

constexpr uint32_t kAbsent = 0xFFFFFFFF;  // instead of optional data that a step does not have
constexpr int64_t kPadding = 32;          // arrays with one number per channel are padded to a multiple of this

std::string text(int64_t number);
std::string quoted(const Tensor& t);
std::string shape(int64_t height, int64_t width, int64_t channels);
// The fault of data whose padding beyond the last filter, channel or end of a run is not 0.
std::string bits_not_zero(const char* what);

class StepFields {
 public:
  StepFields(const Program& program, Part fields, Part data, Step* step)
      : program_(program), fields_(fields), data_(data), step_(*step) {}

  uint32_t u32();
  float f32();
  int32_t between(int64_t low, int64_t high, const char* what);
  bool done() const { return fields_.size == 0; }

  // Reads the number of a tensor. With `type`, refuses tensors of another type.
  int tensor(const char* what);
  int tensor(const char* what, nhwc::Type type);
  const Tensor& at(int index) const { return program_.tensors[index]; }

  // `count` numbers at the place given by the next field, or at `place`. They count as bytes that the step reads.
  template <class T>
  const T* data(int64_t count, const char* what) {
    return data_at<T>(u32(), count, what);
  }
  template <class T>
  const T* data_at(uint32_t place, int64_t count, const char* what) {
    return reinterpret_cast<const T*>(bytes_at(place, count, sizeof(T), what));
  }
  // One number per channel of the result, `times` times. The padding after each must be 0.
  template <class T>
  const T* per_channel(const char* what, int64_t times = 1) {
    return reinterpret_cast<const T*>(channels_at(u32(), times, sizeof(T), what));
  }
  // One bit per channel, padded to words of `multiple` bits. The padding must be 0.
  template <class T>
  const T* bits(uint32_t place, int64_t multiple, const char* what) {
    return reinterpret_cast<const T*>(bits_at(place, multiple, what));
  }

  void window(int64_t lowest_pad);

  // Checks that a tensor which the step writes has the step's size. The first such tensor sets it.
  void give(const Tensor& t);

  // Reads operations and stores. The channels of the step must be known already; height and width may be.
  void epilogue();

 private:
  const uint8_t* bytes_at(uint32_t place, int64_t count, int64_t size, const char* what);
  const uint8_t* channels_at(uint32_t place, int64_t times, int64_t size, const char* what);
  const uint8_t* bits_at(uint32_t place, int64_t multiple, const char* what);
  Operation operation();
  void stores();
  int stored(nhwc::Type type);
  void check_operand(const Tensor& t) const;

  const Program& program_;
  Part fields_;
  const Part data_;
  Step& step_;
};

}  // namespace bmx::engine
