// The table of one instruction set.
#pragma once

#include "kernels/nhwc_conv.h"
#include "kernels/nhwc_load.h"
#include "kernels/nhwc_pool.h"
#include "kernels/nhwc_variants.h"

namespace bmx::nhwc {

template <class Isa>
constexpr Kernels make_kernels(const char* name) {
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
