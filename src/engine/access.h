// Which bytes of the arena a step reads and writes: what must not overlap within a step, and what one step does with
// the bytes of another.
#pragma once

#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// A tensor of a step.
struct Access {
  enum class Part { kImage, kBorder, kAll };
  int tensor;
  Part part;
  bool write;
  bool operand = false;  // of ADD or MULTIPLY
};

std::vector<Access> accesses(const Step& step);

// False only if no byte is in both.
bool overlap(const Program& program, const Access& x, const Access& y);

// Throws Refusal if what a step stores overlaps what it reads or another of its stores, unless it is ADD or MULTIPLY in
// place.
void check_overlap(const Program& program, const Step& step);

// Bytes of tensors that a step reads and writes.
int64_t tensor_bytes(const Program& program, const Step& step);

}  // namespace bmx::engine
