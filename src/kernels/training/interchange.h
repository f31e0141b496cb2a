// BMXNet's packed weights as files hold them, to rows of bits for the kernels. bmx/checkpoints/interchange.py describes
// the format byte by byte, and writes it.
#pragma once

#include "kernels/training/conv_shape.h"

namespace bmx {

// Words of `word_bits` (32 or 64) bits that the weight of a convolution takes in a file: bits in the order
// (filter, channel, kernel), without gaps where channels / groups is a multiple of word_bits, otherwise
// every filter begins a new word.
size_t interchange_conv_words(const ConvShape& shape, int word_bits);

// The same for a fully connected layer: (ceil(inputs / word_bits), units), word (y, x) holding inputs
// y * word_bits ... of unit x.
size_t interchange_dense_words(size_t units, size_t inputs, int word_bits);

// To (filters, channel_words, taps) as pack_conv_weight writes, and to (units, ceil(inputs / 64)).
void unpack_conv_weight(const ConvShape& shape, const void* words, int word_bits, uint64_t* weight);
void unpack_dense_weight(size_t units, size_t inputs, const void* words, int word_bits, uint64_t* weight);

}  // namespace bmx
