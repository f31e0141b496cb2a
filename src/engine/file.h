// Reads .bmx files, as docs/format.md defines them. A file is hostile until it is read: whatever the steps will touch,
// in the file or in the arena, is checked here, and nothing afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "engine/program.h"

namespace bmx::engine {

// Why a file is refused, in one line; the file's name is put before it.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A number as a refusal says it.
std::string real(float number);

// The program points into `bytes`, which start at a multiple of 64. Throws Refusal.
Program read_program(const uint8_t* bytes, size_t size);

}  // namespace bmx::engine
