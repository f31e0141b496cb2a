// What sign_tiles.h has besides products, in portable C++: its definition, for the model of the tile instructions.
#pragma once

#include <cstring>

#include "kernels/training/sign_tiles.h"

namespace bmx {

struct PortableTileConversion {
  // A term is the upper half of a float. All but the last are cut off: what is left is exact, and below the float. The
  // last is rounded to nearest even.
  class Terms {
   public:
    explicit Terms(float x) : x_(x), finite_((bits_of(x) & 0x7f800000u) != 0x7f800000u) {
      if (x != x) x_ = from_bits(bits_of(x) | 0x400000u);  // its upper half alone could be infinity
    }
    uint16_t next(bool last) {
      const uint32_t bits = bits_of(x_);
      if (last) return static_cast<uint16_t>((finite_ ? bits + 0x7fff + (bits >> 16 & 1) : bits) >> 16);
      x_ = finite_ ? x_ - from_bits(bits & 0xffff0000u) : 0;
      return static_cast<uint16_t>(bits >> 16);
    }

   private:
    static uint32_t bits_of(float x) {
      uint32_t bits;
      std::memcpy(&bits, &x, sizeof(bits));
      return bits;
    }
    static float from_bits(uint32_t bits) {
      float x;
      std::memcpy(&x, &bits, sizeof(x));
      return x;
    }
    float x_;
    bool finite_;
  };

  static void split_columns(const float* values, int64_t stride, int depth, int64_t count, int terms,
                            const int64_t* rows, uint16_t* out, int64_t term_stride) {
    for (int64_t i = 0; i < count; ++i) {
      for (int k = 0; k < kTileDepth; ++k) {
        Terms x(k < depth ? values[k * stride + i] : 0.0f);
        for (int t = 0; t < terms; ++t) out[t * term_stride + rows[i] * kTileDepth + k] = x.next(t + 1 == terms);
      }
    }
  }

  static void split_row(const float* values, int64_t count, int terms, uint16_t* out, int64_t term_stride,
                        int64_t step_stride) {
    for (int64_t i = 0; i < count; ++i) {
      Terms x(values[i]);
      for (int t = 0; t < terms; ++t) {
        out[i / kTileDepth * step_stride + t * term_stride + i % kTileDepth] = x.next(t + 1 == terms);
      }
    }
  }

  static void expand(const uint64_t* words, const int64_t* offsets, int64_t count, int first, uint16_t* signs) {
    for (int64_t i = 0; i < count; ++i) {
      uint16_t* step = signs + i / kTileDepth * kBlockNumbers + i % kTileDepth / 2 * kTileDepth + i % 2;
      for (int c = 0; c < kBlock; ++c) {
        step[c / kTileSide * kTileNumbers + c % kTileSide * 2] = words[offsets[i]] >> (first + c) & 1 ? 0x3f80 : 0xbf80;
      }
    }
  }

  static void join(const float* sums, const int64_t* rows, int64_t count, int columns, float factor, float* out,
                   int64_t out_stride) {
    for (int c = 0; c < columns; ++c) {
      for (int64_t i = 0; i < count; ++i) out[c * out_stride + i] = factor * sums[rows[i] * kBlock + c];
    }
  }
};

}  // namespace bmx
