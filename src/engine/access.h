// Which bytes of the arena a step reads and writes: what must not overlap within a step, and what steps do not depend
// on each other.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/program.h"

namespace bmx::engine {

enum class Extent { kImage, kBorder, kAll };

struct Access {
  int tensor;
  Extent extent;
  bool write;
  bool operand = false;  // of ADD or MULTIPLY
};

std::vector<Access> accesses(const Step& step);

// Throws Refusal if what a step stores overlaps what it reads or another of its stores, unless it is ADD or MULTIPLY in
// place.
void check_overlap(const Program& program, const Step& step);

// Whether one of `a` writes what one of `b` reads or writes, or reads what one of `b` writes. Sometimes true where
// tensors only lie between each other.
bool conflict(const Program& program, const std::vector<Access>& a, const std::vector<Access>& b);

bool independent(const Program& program, const Step& a, const Step& b);

// How many of the tensors that a step reads overlap a tensor's image.
int reads(const Program& program, const Step& step, int tensor);

bool stores_to_what_is_read(const Program& program, const Step& writer, const Step& reader);

// Whether a step from number `first` on may read what is in a tensor's image now.
bool is_read_later(const Program& program, int tensor, size_t first);

// Bytes of tensors that a step reads and writes.
int64_t tensor_bytes(const Program& program, const Step& step);

}  // namespace bmx::engine
