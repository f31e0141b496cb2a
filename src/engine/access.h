// Which bytes of the arena a step reads and writes: what must not overlap within a step, and where threads that share
// the steps of an image must wait for each other.
#pragma once

#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// Throws Refusal if what a step stores overlaps what it reads or another of its stores, unless it is ADD or MULTIPLY in
// place.
void check_overlap(const Program& program, const Step& step);

// For each step, whether all steps before must be complete when it begins.
std::vector<bool> find_barriers(const Program& program);

// Bytes of tensors that a step reads and writes.
int64_t tensor_bytes(const Program& program, const Step& step);

}  // namespace bmx::engine
