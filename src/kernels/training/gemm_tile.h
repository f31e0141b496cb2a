// The binary matrix product, written once for all instruction sets.
//
// A tile is Rows x Vectors accumulators that stay in registers: each step of the depth loop loads Vectors
// vectors of the panel, broadcasts one word of each row, and adds popcount(row ^ panel). Lanes are columns,
// so that nothing is summed across lanes, any depth works, and results are stored as they stand.
//
// Isa provides:
//   Words, Sums     vectors of kLanes 64-bit words / of sums of popcounts
//   Floats          2 * kLanes floats
//   kLanes, kMaxRows, kMaxVectors
//   kChunk          how many steps `Partial` can add before it must be folded into Sums (0: never)
//   Partial         cheap accumulator of at most kChunk steps (same as Sums if kChunk is 0)
// and the operations used below.
#pragma once

#include "kernels/training/kernels.h"

namespace bmx {

template <class Isa, int Rows, int Vectors>
struct GemmTile {
  using Partial = typename Isa::Partial;
  using Sums = typename Isa::Sums;
  static constexpr int kPanelColumns = Isa::kLanes * Isa::kMaxVectors;

  static inline void multiply(const uint64_t* rows, size_t row_stride, const uint64_t* panel, size_t depth,
                              Partial (&acc)[Rows][Vectors]) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) acc[r][v] = Isa::zero_partial();
    }
    for (size_t k = 0; k < depth; ++k) {
      typename Isa::Words b[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) b[v] = Isa::load(panel + k * kPanelColumns + v * Isa::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const auto a = Isa::broadcast(rows + r * row_stride + k);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) acc[r][v] = Isa::add_popcount(acc[r][v], a, b[v]);
      }
    }
  }

  // The branches of the epilogue are taken once a tile, not once a vector: a tile of the shallowest layers is
  // only some 140 cycles of arithmetic. Sums are stored two vectors at a time, as they fill one of floats.
  template <bool AlongRows, bool Full, bool Plain>
  static inline void finish(Sums (&sums)[Rows][Vectors], size_t row, int columns, const Epilogue& epilogue, float* out,
                            size_t out_stride) {
    const auto all = Isa::splat(epilogue.all), step = Isa::splat(epilogue.step);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; v += 2) {
        const int first = v * Isa::kLanes, width = (v + 1 < Vectors ? 2 : 1) * Isa::kLanes;
        const int lanes = Full || columns - first > width ? width : columns - first;
        auto y = Isa::minus_product(all, step, Isa::to_floats(sums[r][v], sums[r][v + 1 < Vectors ? v + 1 : v]));
        if (!Plain) {
          const auto bias =
              AlongRows ? Isa::splat(epilogue.bias[row + r]) : Isa::load_floats(epilogue.bias + first, lanes);
          const auto scale =
              AlongRows ? Isa::splat(epilogue.scale[row + r]) : Isa::load_floats(epilogue.scale + first, lanes);
          y = Isa::times(Isa::plus(y, bias), scale);
        }
        Isa::store(out + r * out_stride + first, y, lanes);
      }
    }
  }

  template <bool AlongRows, bool Full>
  static inline void finish(Sums (&sums)[Rows][Vectors], size_t row, int columns, const Epilogue& epilogue, float* out,
                            size_t out_stride) {
    epilogue.bias == nullptr ? finish<AlongRows, Full, true>(sums, row, columns, epilogue, out, out_stride)
                             : finish<AlongRows, Full, false>(sums, row, columns, epilogue, out, out_stride);
  }

  static void run(const uint64_t* rows, size_t row_stride, const uint64_t* panel, size_t depth, size_t row, int columns,
                  const Epilogue& epilogue, float* out, size_t out_stride) {
    Sums sums[Rows][Vectors];
    if constexpr (Isa::kChunk == 0) {
      multiply(rows, row_stride, panel, depth, sums);
    } else {
      for (auto& r : sums) {
        for (auto& s : r) s = Isa::zero_sums();
      }
      for (size_t k = 0; k < depth; k += Isa::kChunk) {
        Partial partial[Rows][Vectors];
        const size_t left = depth - k, steps = left < Isa::kChunk ? left : Isa::kChunk;
        multiply(rows + k, row_stride, panel + k * kPanelColumns, steps, partial);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
          for (int v = 0; v < Vectors; ++v) sums[r][v] = Isa::fold(sums[r][v], partial[r][v]);
        }
      }
    }
    if (columns == Vectors * Isa::kLanes) {
      epilogue.along_rows ? finish<true, true>(sums, row, columns, epilogue, out, out_stride)
                          : finish<false, true>(sums, row, columns, epilogue, out, out_stride);
    } else {
      epilogue.along_rows ? finish<true, false>(sums, row, columns, epilogue, out, out_stride)
                          : finish<false, false>(sums, row, columns, epilogue, out, out_stride);
    }
  }
};

template <class Isa, int Rows, int Vectors>
void gemm_rows(const uint64_t* rows, size_t row_stride, size_t num_rows, const uint64_t* panel, size_t depth,
               int columns, const Epilogue& epilogue, float* out, size_t out_stride, size_t row = 0) {
  for (; row + Rows <= num_rows; row += Rows) {
    GemmTile<Isa, Rows, Vectors>::run(rows + row * row_stride, row_stride, panel, depth, row, columns, epilogue,
                                      out + row * out_stride, out_stride);
  }
  if constexpr (Rows > 1) {
    if (row < num_rows) {
      gemm_rows<Isa, Rows - 1, Vectors>(rows, row_stride, num_rows, panel, depth, columns, epilogue, out, out_stride,
                                        row);
    }
  }
}

template <class Isa, int Vectors = Isa::kMaxVectors>
void gemm(const uint64_t* rows, size_t row_stride, size_t num_rows, const uint64_t* panel, size_t depth, int columns,
          const Epilogue& epilogue, float* out, size_t out_stride) {
  if constexpr (Vectors > 1) {
    if (columns <= (Vectors - 1) * Isa::kLanes) {
      return gemm<Isa, Vectors - 1>(rows, row_stride, num_rows, panel, depth, columns, epilogue, out, out_stride);
    }
  }
  gemm_rows<Isa, Isa::kMaxRows, Vectors>(rows, row_stride, num_rows, panel, depth, columns, epilogue, out, out_stride);
}

}  // namespace bmx
