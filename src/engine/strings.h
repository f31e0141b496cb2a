// The names of a file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bmx::engine {

// UTF-8, each followed by a 0 byte, the empty name first. The constructor and `at` throw Refusal where they are not so.
class Strings {
 public:
  Strings(const uint8_t* bytes, size_t size);
  // The name that begins at an offset.
  const char* at(uint32_t offset) const;

 private:
  const char* first_;
  size_t size_;
};

}  // namespace bmx::engine
