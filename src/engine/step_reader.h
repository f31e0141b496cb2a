// Reads the steps of a file and checks each against the tensors and the data that it names.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/program.h"

namespace bmx::engine {

// Sizes of tensors, windows and borders: their sums and products of two fit 64 bits, places in an image 32.
constexpr int32_t kLargestSize = 1 << 24;

struct Part {
  const uint8_t* bytes;
  size_t size;
};

// Names: offset 0 is the empty one, and the last ends with the part. Throws Refusal otherwise.
class Strings {
 public:
  Strings(const uint8_t* bytes, size_t size);
  const char* at(uint32_t offset) const;

 private:
  const char* first_;
  size_t size_;
};

// Appends `count` steps to a program that has its arrays and tensors. Throws Refusal.
void read_steps(Part code, uint32_t count, const Strings& strings, Part data, Program* program);

}  // namespace bmx::engine
