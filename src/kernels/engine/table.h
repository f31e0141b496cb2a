// The table of one instruction set.
#pragma once

#include "kernels/engine/conv.h"
#include "kernels/engine/isa.h"
#include "kernels/engine/load.h"
#include "kernels/engine/pool.h"

namespace bmx::nhwc {

template <class Isa>
constexpr Kernels make_kernels(const char* name) {
  static_assert(kHasLanes<Isa>, "isa.h");
  return {name,
          conv<Isa, typename Isa::Binary>,
          conv<Isa, typename Isa::Float>,
          conv<Isa, typename Isa::Int8>,
          conv<Isa, typename Isa::FloatSigns>,
          conv<Isa, typename Isa::Int8Signs>,
          depthwise<Isa>,
          pool<Isa>,
          pool_bits<Isa>,
          map_f32<Isa>,
          map_u8<Isa>,
          load_planes<Isa>};
}

}  // namespace bmx::nhwc
