// A small network with every kind of step, operation and store, and memory that is used more than once.
#pragma once

#include <algorithm>

#include "program_builder.h"

namespace test {

inline int any_weight(int f, int c, int ky, int kx) { return (f * 13 + c * 7 + ky * 5 + kx * 3) % 5 - 2; }

inline int any_sign(int f, int c, int ky, int kx) { return any_weight(f, c, ky, kx) > 0 ? 1 : -1; }

inline Builder sample_network(int channels = 70) {
  Builder b;
  const std::vector<float> ones(channels, 1.0f), halves(channels, 0.5f), zeros(channels, 0.0f);
  const std::vector<uint32_t> flips(channels, 0x80000000u);
  Window three, two, one, whole;
  three.kernel_h = three.kernel_w = 3, three.pad_y = three.pad_x = 1;
  two.kernel_h = two.kernel_w = two.stride_y = two.stride_x = 2;
  whole.kernel_h = whole.kernel_w = 4;

  b.input("image", {3, 8, 8});
  b.input("shift", {uint32_t(channels)});
  b.output("probabilities", {10});
  b.output("map", {uint32_t(channels), 4, 4});

  const uint32_t pixels = b.tensor(U8, 8, 8, 3, 1, 128, 1 / 127.0f, 128), shift = b.tensor(F32, 1, 1, channels);
  const uint32_t first = b.tensor(F32, 8, 8, channels), bits = b.tensor(BIT, 8, 8, channels, 1, 1);
  b.step(FILL, "border").u(pixels);
  b.step(LOAD, "image").u(0).u(0).u(STORE_U8).u(pixels).f(127);
  b.step(LOAD, "shift").u(1).u(0).u(STORE_F32).u(shift);
  b.step(FILL, "border of bits").u(bits);
  const auto int8 = pack_weights(2, 1, channels, 3, three, true, any_weight);
  b.step(CONV, "first").u(2).u(pixels).window(three).u(1).u(channels).u(1).u(b.data(int8, 1));
  b.u(b.data(start_of(128, 1, channels, 3, three, any_weight)))
      .f(0)
      .f(0)
      .u(2)
      .u(AFFINE)
      .u(b.data(halves))
      .u(b.data(ones));
  b.u(ADD).u(shift).u(STORE_F32 | STORE_BITS).u(first).u(bits).u(b.data(zeros)).u(b.data(flips));

  const auto binary = pack_weights(0, 1, channels, channels, three, true, any_weight);
  b.step(CONV, "binary").u(0).u(bits).window(three).u(1).u(channels).u(1).u(b.data(binary, 1)).u(kAbsent);
  b.f(9.0f * static_cast<float>(channels)).f(2).u(3).u(NORM).u(b.data(ones)).u(b.data(halves)).u(b.data(zeros));
  b.u(PRELU).u(b.data(halves)).u(ADD).u(first).u(STORE_F32).u(first);

  const uint32_t small = b.tensor(F32, 4, 4, channels, 1), small_bits = b.tensor(BIT, 4, 4, channels);
  b.step(FILL, "border of floats").u(small);
  b.step(POOL, "pool").u(first).window(two).u(0).u(1).u(CLIP).f(-100).f(100).u(STORE_F32).u(small);
  const int padded = (channels + 31) / 32 * 32;
  std::vector<float> filters(9 * padded, 0.0f);
  for (int i = 0; i < 9 * padded; ++i) filters[i] = i % padded < channels ? 0.25f : 0.0f;
  const uint32_t deep = b.tensor(F32, 4, 4, channels);
  b.step(DEPTHWISE, "depthwise").u(small).window(three).u(b.data(filters)).u(1).u(FUNCTION).u(2).u(STORE_F32).u(deep);
  b.step(STORE, "map").u(deep).u(1);
  const uint32_t more_floats = b.tensor(F32, 4, 4, 16), few = b.tensor(U8, 4, 4, 16, 0, 0, 0.25f, 90);
  const auto of_floats = pack_weights(3, 1, 16, channels, three, true, any_weight);
  b.step(CONV, "float x binary").u(3).u(small).window(three).u(1).u(16).u(1).u(b.data(of_floats, 1)).u(kAbsent);
  b.f(0).f(0).u(0).u(STORE_F32 | STORE_U8).u(more_floats).u(few).f(4);
  const auto of_bytes = pack_weights(4, 2, 16, 8, one, false, any_weight);
  b.step(CONV, "int8 x binary").u(4).u(few).window(one).u(2).u(16).u(0).u(b.data(of_bytes, 1));
  b.u(b.data(start_of(90, 2, 16, 8, one, any_sign))).f(0).f(0).u(1).u(ADD).u(more_floats).u(STORE_F32).u(more_floats);

  // The first floats are dead: what follows uses their memory.
  const uint64_t arena = b.arena;
  b.arena = b.tensors[first].offset;
  const uint32_t counted = b.tensor(BIT, 8, 8, channels), more = b.tensor(BIT, 4, 4, channels);
  b.step(CONV, "counted").u(0).u(bits).window(three).u(1).u(channels).u(1).u(b.data(binary, 1)).u(kAbsent).f(0).f(0);
  b.u(0).u(STORE_COUNT_BITS).u(counted).u(b.data(std::vector<int32_t>(channels, 300)));
  b.u(b.data(std::vector<uint8_t>((channels + 7) / 8, 0), 64));
  b.step(POOL_BITS, "pool of bits").u(counted).u(more).window(two).u(kAbsent);
  b.step(MAP, "signs").u(deep).u(2).u(MULTIPLY).u(shift).u(FUNCTION).u(3);
  b.u(STORE_BITS).u(small_bits).u(b.data(halves)).u(b.data(zeros));
  const uint32_t mixed = b.tensor(F32, 4, 4, 16), moved = b.tensor(F32, 4, 4, 16);
  const auto pointwise = pack_weights(0, 1, 16, channels, one, false, any_weight);
  for (uint32_t in : {small_bits, more}) {
    b.step(CONV, "pointwise").u(0).u(in).window(one).u(1).u(16).u(0).u(b.data(pointwise, 1)).u(kAbsent).f(1).f(0.5f);
    b.u(1).u(ADD).u(in == more ? mixed : more_floats).u(STORE_F32).u(mixed);
  }
  b.step(COPY, "transposition").u(mixed).u(moved).u(3).u(4).u(256).u(64).u(4).u(64).u(256).u(16).u(4).u(4);
  const uint32_t classes = b.tensor(F32, 1, 1, 10), result = b.tensor(F32, 1, 1, 10);
  const auto dense = pack_weights(1, 1, 10, 16, whole, true, any_weight);
  b.step(CONV, "dense").u(1).u(moved).window(whole).u(1).u(10).u(1).u(b.data(dense, 1)).u(kAbsent).f(0).f(0);
  b.u(1).u(FUNCTION).u(5).u(STORE_F32).u(classes);
  b.step(SOFTMAX, "softmax").u(classes).u(result);
  b.step(STORE, "probabilities").u(result).u(0);
  b.arena = std::max(arena, b.arena);
  return b;
}

}  // namespace test
