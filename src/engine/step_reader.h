// Reads the steps of a file and checks each against the tensors and the data that it refers to.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/program.h"
#include "engine/strings.h"

namespace bmx::engine {

// Largest size of tensors, windows and borders. Sums and products of two sizes then fit 64 bits, coordinates in an
// image 32.
constexpr int32_t kLargestSize = 1 << 24;

struct Part {
  const uint8_t* bytes;
  size_t size;
};

// Appends `count` steps to a program whose arrays and tensors are read already. Throws Refusal.
void read_steps(Part code, uint32_t count, const Strings& strings, Part data, Program* program);

}  // namespace bmx::engine
