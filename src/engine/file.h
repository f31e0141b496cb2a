// Reads .bmx files, as docs/format.md defines them. Files may be hostile: this checks everything that the steps will
// touch in the file and in the arena, so nothing is checked afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "engine/program.h"

namespace bmx::engine {

// The reason why a file is refused, in one line. The caller puts the file's name before it.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A number as text for a Refusal.
std::string real(float number);

// The program points into `bytes`, which must be aligned to 64. Throws Refusal.
Program read_program(const uint8_t* bytes, size_t size);

}  // namespace bmx::engine
