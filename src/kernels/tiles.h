// The tile instructions of x86 (AMX). There are eight registers, "tiles", of up to 16 rows of 64 bytes; a product of
// two tiles is added to a third. This is the unit itself. tile_model.h has a portable model of it with the same
// interface, so that kernels on tiles run and are tested on every machine. A kernel is a template over the two:
//
//   template <class Unit>
//   void multiply(...) {
//     const TileConfig config =
//         TileConfig().set(0, rows, columns * 4).set(1, rows, depth).set(2, depth / 4, columns * 4);
//     Unit unit(config);
//     unit.template zero<0>();
//     unit.template load<1>(a, a_stride);  // depth bytes per row
//     unit.template load<2>(b, b_stride);  // a row has four bytes (two bfloat16) of each column, side by side
//     unit.template dot_s8_s8<0, 1, 2>();  // tile 0 += tile 1 * tile 2
//     unit.template store<0>(out, out_stride);
//   }  // the tiles are free again
//
// A thread may have one such object at a time, and only during one call: tiles belong to the thread, and oneDNN in the
// same process configures them for itself. Released tiles also make thread switches cheaper.
//
// Only files compiled for AMX (cmake/instruction_sets.cmake) have the class AmxTiles. Use it only if
// InstructionSet::kAmx is available.
#pragma once

#include <cstdint>

#include "kernels/inline.h"

namespace bmx {

constexpr int kTiles = 8;
constexpr int kTileRows = 16;
constexpr int kTileRowBytes = 64;

// The shapes of all tiles, as the processor reads them. A tile without rows cannot be used.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr TileConfig& set(int tile, int number_of_rows, int bytes_of_a_row) {
    rows[tile] = static_cast<uint8_t>(number_of_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes_of_a_row);
    return *this;
  }
};
static_assert(sizeof(TileConfig) == 64, "as the processor reads it");

// clang before 15 writes the names with one underscore less.
#if (defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)) || \
    (defined(__AMXTILE__) && defined(__AMXINT8__) && defined(__AMXBF16__))

// Written in assembly: the compilers' intrinsics do not declare that a load reads memory, so the compiler may move
// earlier stores behind it.
class AmxTiles {
 public:
  BMX_INLINE explicit AmxTiles(const TileConfig& config) { asm volatile("ldtilecfg %0" : : "m"(config)); }
  BMX_INLINE ~AmxTiles() { asm volatile("tilerelease"); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  // Rows begin at `p`, `stride` bytes apart.
  template <int Tile>
  BMX_INLINE void load(const void* p, int64_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(Tile), "r"(p), "r"(stride) : "memory");
  }
  template <int Tile>
  BMX_INLINE void store(void* p, int64_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(Tile), "r"(p), "r"(stride) : "memory");
  }
  template <int Tile>
  BMX_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
  }

  // Sum += A * B for signed (s8) or unsigned (u8) bytes. The sums have 32 bits and wrap around.
  template <int Sum, int A, int B>
  BMX_INLINE void dot_s8_s8() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }
  template <int Sum, int A, int B>
  BMX_INLINE void dot_s8_u8() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }
  template <int Sum, int A, int B>
  BMX_INLINE void dot_u8_s8() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }
  template <int Sum, int A, int B>
  BMX_INLINE void dot_u8_u8() {
    asm volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }
  // The same for bfloat16, with float32 sums. tile_model.h shows the roundings.
  template <int Sum, int A, int B>
  BMX_INLINE void dot_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }
};

#endif

}  // namespace bmx
