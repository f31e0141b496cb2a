// CRC-32 as in zlib and PNG, 16 bytes at a time: the checksum of 4 MB takes about a millisecond.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bmx::engine {

uint32_t crc32(const uint8_t* data, size_t size);

}  // namespace bmx::engine
