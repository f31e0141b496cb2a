// The names of a file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bmx::engine {

// The names are UTF-8, each ends with a 0 byte, and the first is empty. The constructor and `at` throw Refusal
// otherwise.
class Strings {
 public:
  Strings(const uint8_t* bytes, size_t size);
  // The name that begins at `offset`.
  const char* at(uint32_t offset) const;

 private:
  const char* first_;
  size_t size_;
};

}  // namespace bmx::engine
