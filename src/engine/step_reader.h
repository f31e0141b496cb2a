// Reads the steps of a file and checks each against the tensors and the data that it names.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/program.h"
#include "engine/strings.h"

namespace bmx::engine {

// Sizes of tensors, windows and borders: their sums and products of two fit 64 bits, places in an image 32.
constexpr int32_t kLargestSize = 1 << 24;

struct Part {
  const uint8_t* bytes;
  size_t size;
};

// Appends `count` steps to a program that has its arrays and tensors. Throws Refusal.
void read_steps(Part code, uint32_t count, const Strings& strings, Part data, Program* program);

}  // namespace bmx::engine
