// Scratch memory, aligned for vector loads, freed at the end of its scope.
#pragma once

#include <stdlib.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace bmx {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : size_(count) {
    if (count == 0) return;
    constexpr size_t kAlignment = 64;
    const size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    void* memory = nullptr;  // not std::aligned_alloc: older Android and iOS lack it
    if (posix_memalign(&memory, kAlignment, bytes) != 0) throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
  }
  ~Buffer() { std::free(data_); }
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  Buffer& operator=(Buffer&& other) noexcept {
    T* data = other.data_;
    const size_t size = other.size_;
    other.data_ = data_;
    other.size_ = size_;
    data_ = data;
    size_ = size;
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* get() { return data_; }
  const T* get() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace bmx
