// The functions of sign_tiles.h, a template over the unit: AmxTiles, or TileModel on any machine.
#pragma once

#include "kernels/tiles.h"
#include "kernels/training/sign_tiles.h"

namespace bmx {

// Conversion has split_columns, split_row, expand and join: in portable C++, or for AVX-512.
template <class Unit, class Conversion>
struct SignTileKernels {
  static constexpr int64_t kRowBytes = 64;

  static constexpr TileConfig all_tiles() {
    TileConfig config;
    for (int tile = 0; tile < kTiles; ++tile) config.set(tile, kTileSide, kRowBytes);
    return config;
  }

  static void product(const TileProduct& p) {
    static constexpr TileConfig kConfig = all_tiles();
    constexpr int64_t kStride = kBlock * sizeof(float);
    Unit unit(kConfig);
    for (int64_t b = 0; b < p.blocks; ++b) {
      float* const sums = p.sums + b * kBlockSums;
      if (p.accumulate) {
        unit.template load<0>(sums, kStride);
        unit.template load<1>(sums + kTileSide, kStride);
        unit.template load<2>(sums + kTileSide * kBlock, kStride);
        unit.template load<3>(sums + kTileSide * kBlock + kTileSide, kStride);
      } else {
        unit.template zero<0>();
        unit.template zero<1>();
        unit.template zero<2>();
        unit.template zero<3>();
      }
      const uint16_t* signs = p.signs;
      for (int64_t s = 0; s < p.steps; ++s, signs += kBlockNumbers) {
        const uint16_t* floats = p.floats + b * p.block_stride + p.offsets[s];
        unit.template load<6>(signs, kRowBytes);
        unit.template load<7>(signs + kTileNumbers, kRowBytes);
        for (int t = 0; t < p.terms; ++t, floats += p.term_stride) {
          unit.template load<4>(floats, kRowBytes);
          unit.template load<5>(floats + kTileNumbers, kRowBytes);
          // Four sums in turn: none waits for its last product.
          unit.template dot_bf16<0, 4, 6>();
          unit.template dot_bf16<1, 4, 7>();
          unit.template dot_bf16<2, 5, 6>();
          unit.template dot_bf16<3, 5, 7>();
        }
      }
      unit.template store<0>(sums, kStride);
      unit.template store<1>(sums + kTileSide, kStride);
      unit.template store<2>(sums + kTileSide * kBlock, kStride);
      unit.template store<3>(sums + kTileSide * kBlock + kTileSide, kStride);
    }
  }

  static constexpr SignTiles table() {
    return {product, Conversion::split_columns, Conversion::split_row, Conversion::expand, Conversion::join};
  }
};

}  // namespace bmx
