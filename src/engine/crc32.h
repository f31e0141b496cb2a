// CRC-32 as in zlib and PNG, 16 bytes a turn: a file's checksum takes about a millisecond for 4 MB.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bmx::engine {

uint32_t crc32(const uint8_t* data, size_t size);

}  // namespace bmx::engine
