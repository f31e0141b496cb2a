// The tile instructions in portable C++, with the interface of AmxTiles (tiles.h) and the processor's results bit for
// bit. If the processor would raise an exception for a shape or register, this throws std::logic_error.
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG, TILELOADD, TDPBSSD,
// TDPBF16PS.
#pragma once

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "kernels/tiles.h"

namespace bmx {

class TileModel {
 public:
  explicit TileModel(const TileConfig& config) : config_(config) {
    check(config.palette == 1 && config.start_row == 0, "palette 1 and start row 0 only");
    for (int tile = 0; tile < 16; ++tile) {
      const int rows = config.rows[tile], row_bytes = config.row_bytes[tile];
      check(tile < kTiles || (rows == 0 && row_bytes == 0), "there are eight tiles");
      check(rows <= kTileRows && row_bytes <= kTileRowBytes, "a tile has at most 16 rows of 64 bytes");
      check((rows == 0) == (row_bytes == 0), "a tile has rows and bytes or neither");
    }
  }
  TileModel(const TileModel&) = delete;
  TileModel& operator=(const TileModel&) = delete;

  template <int Tile>
  void load(const void* p, int64_t stride) {
    zero<Tile>();
    for (int r = 0; r < config_.rows[Tile]; ++r) {
      std::memcpy(tiles_[Tile].rows[r], static_cast<const uint8_t*>(p) + r * stride, config_.row_bytes[Tile]);
    }
  }

  template <int Tile>
  void store(void* p, int64_t stride) const {
    check_tile(Tile);
    for (int r = 0; r < config_.rows[Tile]; ++r) {
      std::memcpy(static_cast<uint8_t*>(p) + r * stride, tiles_[Tile].rows[r], config_.row_bytes[Tile]);
    }
  }

  template <int Tile>
  void zero() {
    check_tile(Tile);
    tiles_[Tile] = {};
  }

  template <int Sum, int A, int B>
  void dot_s8_s8() {
    dot_bytes<int8_t, int8_t>(Sum, A, B);
  }
  template <int Sum, int A, int B>
  void dot_s8_u8() {
    dot_bytes<int8_t, uint8_t>(Sum, A, B);
  }
  template <int Sum, int A, int B>
  void dot_u8_s8() {
    dot_bytes<uint8_t, int8_t>(Sum, A, B);
  }
  template <int Sum, int A, int B>
  void dot_u8_u8() {
    dot_bytes<uint8_t, uint8_t>(Sum, A, B);
  }

  // The even and the odd elements of a row are summed separately, with one rounding per multiply-add. Then the two sums
  // are added, and their sum to the tile. Rounding is to nearest even. Numbers below 2^-126 count as 0, as inputs and
  // as results.
  template <int Sum, int A, int B>
  void dot_bf16() {
    check_product(Sum, A, B);
    for (int m = 0; m < config_.rows[Sum]; ++m) {
      for (int n = 0; n < config_.row_bytes[Sum] / 4; ++n) {
        float sums[2] = {0, 0};
        for (int k = 0; k < config_.row_bytes[A] / 4; ++k) {
          for (int i = 0; i < 2; ++i) {
            const float a = flushed(read(at(A, m, 4 * k + 2 * i))), b = flushed(read(at(B, k, 4 * n + 2 * i)));
            sums[i] = flushed(std::fma(a, b, sums[i]));
          }
        }
        float old;
        std::memcpy(&old, at(Sum, m, 4 * n), 4);
        const float sum = flushed(flushed(old) + flushed(sums[0] + sums[1]));
        std::memcpy(at(Sum, m, 4 * n), &sum, 4);
      }
    }
  }

 private:
  struct Tile {
    uint8_t rows[kTileRows][kTileRowBytes] = {};
  };

  static void check(bool condition, const char* what) {
    if (!condition) throw std::logic_error(what);
  }
  void check_tile(int tile) const { check(config_.rows[tile] != 0, "the tile has no rows"); }
  void check_product(int sum, int a, int b) const {
    check_tile(sum);
    check_tile(a);
    check_tile(b);
    check(sum != a && sum != b && a != b, "a product takes three different tiles");
    check(config_.row_bytes[sum] % 4 == 0 && config_.row_bytes[a] % 4 == 0 && config_.row_bytes[b] % 4 == 0,
          "rows of a product are of whole 32 bits");
    check(config_.rows[sum] == config_.rows[a], "the sum has as many rows as A");
    check(config_.row_bytes[sum] == config_.row_bytes[b], "the sum has as many columns as B");
    check(config_.row_bytes[a] / 4 == config_.rows[b], "B has a row for each four bytes of A's");
  }

  uint8_t* at(int tile, int row, int byte) { return tiles_[tile].rows[row] + byte; }

  template <class TypeA, class TypeB>
  void dot_bytes(int sum, int a, int b) {
    check_product(sum, a, b);
    for (int m = 0; m < config_.rows[sum]; ++m) {
      for (int n = 0; n < config_.row_bytes[sum] / 4; ++n) {
        uint32_t total;
        std::memcpy(&total, at(sum, m, 4 * n), 4);
        for (int k = 0; k < config_.rows[b]; ++k) {
          for (int i = 0; i < 4; ++i) {
            const int32_t product = static_cast<TypeA>(*at(a, m, 4 * k + i)) * static_cast<TypeB>(*at(b, k, 4 * n + i));
            total += static_cast<uint32_t>(product);
          }
        }
        std::memcpy(at(sum, m, 4 * n), &total, 4);
      }
    }
  }

  // Reads a bfloat16 as float: it is the upper half of one.
  static float read(const uint8_t* p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  static float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

  const TileConfig config_;
  Tile tiles_[kTiles];
};

}  // namespace bmx
