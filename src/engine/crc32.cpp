#include "engine/crc32.h"

#include <array>
#include <cstring>

namespace bmx::engine {
namespace {

constexpr int kSlices = 16;
using Table = std::array<std::array<uint32_t, 256>, kSlices>;

// table[k][b] is the checksum of byte b followed by k zeros, without the inversions: the contribution of a byte that k
// more bytes follow.
constexpr Table make_table() {
  Table table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t sum = byte;
    for (int bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ ((sum & 1) != 0 ? 0xEDB88320u : 0u);
    table[0][byte] = sum;
  }
  for (int k = 1; k < kSlices; ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = table[k - 1][byte];
      table[k][byte] = (before >> 8) ^ table[0][before & 255];
    }
  }
  return table;
}

constexpr Table kTable = make_table();

}  // namespace

uint32_t crc32(const uint8_t* data, size_t size) {
  uint32_t sum = 0xFFFFFFFFu;
  for (; size >= kSlices; size -= kSlices, data += kSlices) {
    uint8_t block[kSlices];
    std::memcpy(block, data, kSlices);
    for (int i = 0; i < 4; ++i) block[i] ^= static_cast<uint8_t>(sum >> (8 * i));
    sum = 0;
    for (int i = 0; i < kSlices; ++i) sum ^= kTable[kSlices - 1 - i][block[i]];
  }
  for (; size != 0; --size, ++data) sum = (sum >> 8) ^ kTable[0][(sum ^ *data) & 255];
  return ~sum;
}

}  // namespace bmx::engine
