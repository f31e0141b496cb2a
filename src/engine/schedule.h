// In which order and together with what the steps of a program run.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/program.h"

namespace bmx::engine {

// A step; or a convolution together with the pooling that alone reads what it gives, in bands of rows: the convolution
// of a large image gives megabytes, which then never leave the second-level cache.
struct Item {
  int step;
  int pool = kNone;
  int band_rows = 0;     // of what the convolution gives, that a thread has in memory
  bool barrier = false;  // all threads must be done with all items before it
};

// For this number of threads, each with bands of its own in the memory of what the convolution gives.
std::vector<Item> make_schedule(const Program& program, int threads);

}  // namespace bmx::engine
