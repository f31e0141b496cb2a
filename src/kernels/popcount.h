// Counts the bits of a word in plain C++.
#pragma once

#include <cstdint>

namespace bmx {

// Counts bits in parallel inside the word (Hacker's Delight, section 5-1). It needs no instructions beyond the baseline
// and can be vectorised, unlike a library's table lookup.
static inline uint64_t popcount(uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  x += x >> 8;
  x += x >> 16;
  x += x >> 32;
  return x & 0x7f;
}

}  // namespace bmx
