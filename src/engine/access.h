// Which bytes of the arena a step reads and writes. The check of overlaps within a step uses this, and so does the
// order of steps that share bytes.
#pragma once

#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// A step's use of a tensor.
struct Access {
  enum class Part { kImage, kBorder, kAll };
  int tensor;
  Part part;
  bool write;
  bool operand = false;  // read by an operation of the epilogue
};

std::vector<Access> accesses(const Step& step);

// False only if the two share no byte.
bool overlap(const Program& program, const Access& x, const Access& y);

// Throws Refusal if a store of a step overlaps one of its inputs or another store. An operand of the epilogue may be
// overwritten in place.
void check_overlap(const Program& program, const Step& step);

// Bytes of the tensors that a step reads and writes.
int64_t tensor_bytes(const Program& program, const Step& step);

}  // namespace bmx::engine
