// The bytes of a file, mapped into memory or copied, for as long as this object lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/buffer.h"

namespace bmx::engine {

class Bytes {
 public:
  // Throws std::runtime_error that names the path and the reason.
  static Bytes map(const std::string& path);
  static Bytes copy(const void* data, size_t size);

  Bytes(Bytes&& other) noexcept;
  Bytes& operator=(Bytes&&) = delete;
  ~Bytes();

  const uint8_t* data() const { return data_; }  // aligned to 64 bytes
  size_t size() const { return size_; }

 private:
  Bytes() = default;

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  Buffer<uint8_t> owned_;  // empty if the file is mapped
};

}  // namespace bmx::engine
