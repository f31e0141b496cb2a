// A product of three tiles, as any unit makes it: the model on every machine, the processor's where there is one.
#pragma once

#include <cstdint>

#include "kernels/tile_model.h"

namespace tile_test {

enum class Product { kS8S8, kS8U8, kU8S8, kU8U8, kBf16 };

// The sum has `rows` rows of `columns` numbers, A `rows` rows of `depth` times four bytes, B `depth` rows.
struct Case {
  Product product;
  int rows, columns, depth;
  const uint8_t *a, *b, *sum;
  int64_t a_stride, b_stride, sum_stride;
};

template <int Sum, int A, int B, class Unit>
void multiply(Unit& unit, const Case& c) {
  unit.template load<Sum>(c.sum, c.sum_stride);
  unit.template load<A>(c.a, c.a_stride);
  unit.template load<B>(c.b, c.b_stride);
  switch (c.product) {
    case Product::kS8S8:
      return unit.template dot_s8_s8<Sum, A, B>();
    case Product::kS8U8:
      return unit.template dot_s8_u8<Sum, A, B>();
    case Product::kU8S8:
      return unit.template dot_u8_s8<Sum, A, B>();
    case Product::kU8U8:
      return unit.template dot_u8_u8<Sum, A, B>();
    case Product::kBf16:
      return unit.template dot_bf16<Sum, A, B>();
  }
}

// Into `out`, at the sum's stride; and then the same in other tiles, zeroed before, into `zeroed`.
template <class Unit>
void run(const Case& c, uint8_t* out, uint8_t* zeroed) {
  bmx::TileConfig config;
  for (int tile : {0, 7}) config.set(tile, c.rows, 4 * c.columns);
  for (int tile : {1, 6}) config.set(tile, c.rows, 4 * c.depth);
  for (int tile : {2, 5}) config.set(tile, c.depth, 4 * c.columns);
  Unit unit(config);
  multiply<0, 1, 2>(unit, c);
  multiply<7, 6, 5>(unit, c);
  unit.template zero<7>();
  unit.template store<0>(out, c.sum_stride);
  unit.template store<7>(zeroed, c.sum_stride);
}

// By the processor: test_tiles_amx.cpp, whose code only processors with AMX run.
void run_amx(const Case& c, uint8_t* out, uint8_t* zeroed);

}  // namespace tile_test
