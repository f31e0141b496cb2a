#include "engine/strings.h"

#include <string>

#include "engine/file.h"

namespace bmx::engine {
namespace {

// The length of the first character in bytes, 0 if it is not valid UTF-8 (RFC 3629): it must be the shortest form of a
// number up to 0x10FFFF that is not a UTF-16 surrogate.
size_t character(const uint8_t* bytes, size_t size) {
  constexpr uint32_t kLowest[] = {0, 0, 0x80, 0x800, 0x10000};
  const uint8_t first = bytes[0];
  if (first < 0x80) return 1;
  const size_t length = first >> 5 == 6 ? 2 : (first >> 4 == 14 ? 3 : (first >> 3 == 30 ? 4 : 0));
  if (length == 0 || length > size) return 0;
  uint32_t number = first & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if (bytes[i] >> 6 != 2) return 0;
    number = number << 6 | (bytes[i] & 0x3F);
  }
  return number < kLowest[length] || number > 0x10FFFF || number >> 11 == 0xD800 >> 11 ? 0 : length;
}

bool is_utf8(const uint8_t* bytes, size_t size) {
  for (size_t at = 0; at < size;) {
    const size_t length = character(bytes + at, size - at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

}  // namespace

Strings::Strings(const uint8_t* bytes, size_t size) : first_(reinterpret_cast<const char*>(bytes)), size_(size) {
  if (size == 0 || bytes[0] != 0 || bytes[size - 1] != 0) throw Refusal("its names do not begin and end with a 0 byte");
  if (!is_utf8(bytes, size)) throw Refusal("its names are not UTF-8");
}

const char* Strings::at(uint32_t offset) const {
  if (offset >= size_)
    throw Refusal("a name lies at " + std::to_string(offset) + ", but the part of names has only " +
                  std::to_string(size_) + " bytes");
  if (offset != 0 && first_[offset - 1] != 0) {
    throw Refusal("a name lies at " + std::to_string(offset) + ", where none begins");
  }
  return first_ + offset;
}

}  // namespace bmx::engine
