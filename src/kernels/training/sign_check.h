// Whether floats are exactly -1 and +1: checked bit by bit while they are packed, at the cost of a few bit operations.
//
// The difference from 1 in all bits but the sign is 0 for -1 and +1 only. The differences of all values are or-ed, and
// the result is looked at once.
#pragma once

#include <cstdint>
#include <cstring>

namespace bmx {

constexpr uint32_t kMagnitudeBits = 0x7fffffff;

inline uint32_t sign_difference(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits ^ 0x3f800000;
}

// `differences`: those of all values, or-ed.
inline bool only_signs(uint32_t differences) { return (differences & kMagnitudeBits) == 0; }

}  // namespace bmx
