#include "kernels/training/interchange.h"

#include <algorithm>
#include <cstring>

namespace bmx {
namespace {

uint64_t read_word(const void* words, int word_bits, size_t i) {
  if (word_bits == 64) {
    uint64_t word;
    std::memcpy(&word, static_cast<const char*>(words) + i * sizeof(word), sizeof(word));
    return word;
  }
  uint32_t word;
  std::memcpy(&word, static_cast<const char*>(words) + i * sizeof(word), sizeof(word));
  return word;
}

}  // namespace

size_t interchange_conv_words(const ConvShape& s, int word_bits) {
  const int64_t filter_words = (s.inputs() + word_bits - 1) / word_bits;  // no gaps: inputs is a multiple
  return static_cast<size_t>(s.filters * filter_words);
}

size_t interchange_dense_words(size_t units, size_t inputs, int word_bits) {
  return (inputs + word_bits - 1) / word_bits * units;
}

void unpack_conv_weight(const ConvShape& s, const void* words, int word_bits, uint64_t* weight) {
  const int64_t taps = s.taps(), filter_words = (s.inputs() + word_bits - 1) / word_bits;
  std::fill(weight, weight + s.filters * s.filter_words(), uint64_t{0});
  for (int64_t f = 0; f < s.filters; ++f) {
    uint64_t* row = weight + f * s.filter_words();
    int64_t channel = 0, tap = 0;
    for (int64_t w = 0; w < filter_words; ++w) {
      uint64_t word = read_word(words, word_bits, f * filter_words + w);
      const int64_t count = std::min<int64_t>(word_bits, s.inputs() - w * word_bits);
      for (int64_t b = 0; b < count; ++b, word >>= 1) {
        row[channel / 64 * taps + tap] |= (word & 1) << (channel % 64);
        if (++tap == taps) {
          tap = 0;
          ++channel;
        }
      }
    }
  }
}

void unpack_dense_weight(size_t units, size_t inputs, const void* words, int word_bits, uint64_t* weight) {
  const size_t depth = (inputs + 63) / 64, word_rows = (inputs + word_bits - 1) / word_bits;
  std::fill(weight, weight + units * depth, uint64_t{0});
  for (size_t y = 0; y < word_rows; ++y) {
    const size_t first = y * word_bits, count = std::min<size_t>(word_bits, inputs - first);
    const uint64_t used = count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    for (size_t x = 0; x < units; ++x) {
      weight[x * depth + first / 64] |= (read_word(words, word_bits, y * units + x) & used) << (first % 64);
    }
  }
}

}  // namespace bmx
