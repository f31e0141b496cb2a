// The operations of an epilogue: their numbers in a file, and what a file has of each. docs/format.md defines them;
// bmx/program/operations.py is the same table in Python, and tests/program/test_operations.py compares the three.
#pragma once

#include <cstdint>

namespace bmx::nhwc {

enum class Operation : uint32_t { kAffine = 1, kAdd, kMultiply, kPRelu, kClip, kFunction, kNorm, kMaximum, kMinimum };

enum class Function : uint32_t;  // function.h

// What follows the number of an operation in a file.
struct Operands {
  const char* numbers[3] = {};  // names of arrays of one number a channel; null behind the last
  bool tensor = false;
  bool limits = false;  // two floats, the first not above the second
  bool function = false;
};

// Of each operation, from number 1 on.
constexpr Operands kOperands[] = {
    /* kAffine */ {{"scale", "bias"}},
    /* kAdd */ {{}, true},
    /* kMultiply */ {{}, true},
    /* kPRelu */ {{"slope"}},
    /* kClip */ {{}, false, true},
    /* kFunction */ {{}, false, false, true},
    /* kNorm */ {{"mean", "scale", "bias"}},
    /* kMaximum */ {{}, true},
    /* kMinimum */ {{}, true},
};
constexpr int kOperations = sizeof(kOperands) / sizeof(kOperands[0]);

constexpr const Operands& operands_of(Operation operation) { return kOperands[static_cast<int>(operation) - 1]; }

}  // namespace bmx::nhwc
