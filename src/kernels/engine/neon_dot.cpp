// The engine's kernels for AArch64 with dot products of bytes (Cortex-A55 and A75, Apple A13 and later).
#include "kernels/engine/neon.h"

namespace bmx::nhwc {
namespace {

struct NeonDot : Neon {
  // Few pixels: the sums of weights are found beside those of the products.
  struct Int8 : Neon::SignedInt8 {
    static constexpr int kRows = 2, kAccumulators = 2, kSingle = 2;
    struct Sum {
      Ints products, weights;  // 128 times the weights, negated
    };
    using Partial = Sum;
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) {
      return {load(start + filter), ints([](int) { return vdupq_n_s32(0); })};
    }
    BMX_INLINE static int8x8_t broadcast(const uint8_t* p) {
      const uint32x2_t four = vset_lane_u32(read<uint32_t>(p), vdup_n_u32(0), 0);
      return vreinterpret_s8_u8(veor_u8(vreinterpret_u8_u32(four), vdup_n_u8(0x80)));
    }
    BMX_INLINE static Ints dot(const Ints& acc, int8x8_t a, const Weight& b) {
      return ints([&](int i) { return vdotq_lane_s32(acc.part[i], b.part[i], a, 0); });
    }
    BMX_INLINE static Sum madd(const Sum& acc, int8x8_t a, const Weight& b) {
      return {dot(acc.products, a, b), dot(acc.weights, vdup_n_s8(-128), b)};
    }
    BMX_INLINE static Floats result(const Sum& a) {
      return to_floats(ints([&](int i) { return vsubq_s32(a.products.part[i], a.weights.part[i]); }));
    }
  };

  // 4 vectors of filters, so that making signed bytes takes a small part of the time.
  struct SignedInt8 : Int8 {
    static constexpr int kRows = 3, kAccumulators = 4, kSingle = 4;
    using Sum = Ints;
    using Partial = Sum;
    BMX_INLINE static Sum start(const int32_t* start, int32_t filter) { return load(start + filter); }
    BMX_INLINE static Sum madd(const Sum& acc, int8x8_t a, const Weight& b) { return dot(acc, a, b); }
    BMX_INLINE static Floats result(const Sum& a) { return to_floats(a); }
  };

  struct Int8Signs : Int8 {
    static constexpr int kWeightBytes = 8;
    BMX_INLINE static Weight weight(const uint8_t* p) { return signs(p); }
  };

  struct SignedInt8Signs : SignedInt8 {
    static constexpr int kWeightBytes = 8;
    BMX_INLINE static Weight weight(const uint8_t* p) { return signs(p); }
  };
};

}  // namespace

const Kernels kNeonDotKernels = make_neon_kernels<NeonDot>("neon_dot");

}  // namespace bmx::nhwc
