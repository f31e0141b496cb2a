// Binary convolution and binary matrix product on packed bits.
#pragma once

#include "kernels/training/conv_shape.h"
#include "kernels/training/kernels.h"

namespace bmx {

// Layouts in 64-bit words:
//   input   (batch, groups, channel_words, padded depth, padded height, padded width): the bits of 64
//           channels of one pixel are one word, so that a row of pixels is contiguous;
//   weight  (filters, channel_words, taps): the same order as the input is walked in.
// Channels beyond the last are 0 bits on both sides, also where the input is padded.
size_t packed_input_words(const ConvShape& shape);
size_t packed_weight_words(const ConvShape& shape);

// What happens to values other than -1 and +1 when floats are packed: their sign is taken, or packing ends as soon as
// it meets one, and the words are of no use.
enum class OtherValues { kTakeSign, kGiveUp };

// NCHW floats to bits. Pixels outside the image are +1 bits if `pad_bit`, otherwise -1. Returns whether every value is
// exactly -1 or +1.
bool pack_conv_input(const Kernels& kernels, const ConvShape& shape, const float* data, bool pad_bit, uint64_t* words,
                     int threads, OtherValues others = OtherValues::kTakeSign);

// (filters, channels / groups, kernel) floats to bits.
void pack_conv_weight(const Kernels& kernels, const ConvShape& shape, const float* weight, uint64_t* words,
                      int threads);

// out (batch, filters, out pixels) = epilogue(popcount), the epilogue along rows: one entry a filter.
void binary_conv(const Kernels& kernels, const ConvShape& shape, const uint64_t* input, const uint64_t* weight,
                 const Epilogue& epilogue, float* out, int threads);

// out (rows, columns) = epilogue(popcount(a ^ b)) for a (rows, depth) and b (columns, depth) words.
void binary_matmul(const Kernels& kernels, const uint64_t* a, const uint64_t* b, size_t rows, size_t columns,
                   size_t depth, const Epilogue& epilogue, float* out, int threads);

// (rows, length) floats to (rows, ceil(length / 64)) words. Returns as pack_conv_input.
bool pack_rows(const Kernels& kernels, const float* data, size_t rows, size_t length, uint64_t* words, int threads,
               OtherValues others = OtherValues::kTakeSign);

}  // namespace bmx
