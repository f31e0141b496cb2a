// Temporary memory for one call of an operator. It is taken from MXNet in one piece.
//
// MXNet keeps this memory between calls. Memory that is new to the process costs a page fault per 4 KiB at its first
// touch. For the arrays of a training step that costs more than reading and writing them.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "kernels/buffer.h"

namespace bmx {

class Workspace {
 public:
  // Bytes that `count` elements take up in a workspace.
  template <class T>
  static size_t bytes(size_t count) {
    return (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }

  // `allocate(int bytes)` is MXNet's. If a size does not fit an int, we allocate the memory ourselves.
  template <class Allocate>
  Workspace(size_t size, Allocate allocate) : left_(size) {
    if (size + kAlignment <= INT_MAX) {
      const auto address = reinterpret_cast<uintptr_t>(allocate(static_cast<int>(size + kAlignment)));
      next_ = reinterpret_cast<char*>((address + kAlignment - 1) / kAlignment * kAlignment);
    } else {
      own_ = Buffer<char>(size);
      next_ = own_.get();
    }
  }

  template <class T>
  T* take(size_t count) {
    const size_t size = bytes<T>(count);
    if (size > left_) throw std::logic_error("workspace too small");
    T* result = reinterpret_cast<T*>(next_);
    next_ += size;
    left_ -= size;
    return result;
  }

 private:
  static constexpr size_t kAlignment = 64;
  Buffer<char> own_;
  char* next_;
  size_t left_;
};

}  // namespace bmx
