// What an instruction set must offer for the engine's kernels: the contract of the struct `Isa`, over which all of them
// are templates. portable.h has the plainest one; avx2.cpp, avx512.cpp, neon.h and neon32.h have the others. A file for
// an instruction set defines its Isa in an anonymous namespace, all functions BMX_INLINE, and ends with
//
//   const Kernels kAvx2Kernels = make_kernels<Avx2>("avx2");
//
// Vectors. Lanes are channels.
//   kLanes                    8 or 16; two or four vectors are 32 channels
//   Floats, Ints              vectors of kLanes floats / int32s
//   Mask                      a bit for each lane, in any type that join takes
//   load(const float*), load(const int32_t*)    with a second argument: the first lanes only, the others are 0
//   store(float*, Floats)     with a third argument: the first lanes only
//   splat(float)
//   fma(a, b, c)              a b + c, rounded once
//   add, sub, mul, div        rounded to nearest, never contracted
//   larger(a, b), smaller(a, b)     as a > b ? a : b and a < b ? a : b: of NaN, b
//   where_positive(a, b)      a where a > 0, else b
//   exclusive_or(a, b)        of the bits
//   insert(y, from, index)    y, with from[index[i]] in each lane i whose index is not negative
//   not_less(a, b)            Mask of !(a < b)
//   at_most(Ints a, Ints b)   Mask of a <= b
//   join(Mask (&m)[n])        a uint64_t: the masks of n consecutive vectors, the first lane is bit 0
//   to_floats(Ints), round(Floats)  round: ties to even, for numbers between -2^22 and 2^22
//   add_int(Ints, int32_t)
//   load_bytes(const uint8_t*)      kLanes bytes as Ints
//   store_bytes(uint8_t*, Ints, int lanes)
//
// Arithmetics of convolutions: Binary, Float, Int8, FloatSigns, Int8Signs, one struct each; conv.h says what these
// offer.
#pragma once

namespace bmx::nhwc {

// What else is missing, the compiler says where it is used; of a wrong number of lanes it would say nothing.
template <class Isa>
constexpr bool kHasLanes =
    (Isa::kLanes == 8 || Isa::kLanes == 16) && sizeof(typename Isa::Floats) == Isa::kLanes * sizeof(float) &&
    sizeof(typename Isa::Ints) == Isa::kLanes * sizeof(int);

}  // namespace bmx::nhwc
