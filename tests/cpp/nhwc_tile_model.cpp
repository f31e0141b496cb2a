// The convolutions on tiles with portable vectors and the model of the unit: what they do is tested on every machine.
#include "kernels/engine/portable.h"
#include "kernels/engine/tile_conv.h"
#include "kernels/tile_model.h"
#include "nhwc_tensor.h"

namespace bmx::nhwc {
namespace {

struct PortableTiles : Portable {
  static Ints half(const Ints& a) {
    return make<I32x4, 2>([&](int i) { return a.part[i] / 2; });
  }
  static Ints add_ints(const Ints& a, const Ints& b) {
    return make<I32x4, 2>([&](int i) { return a.part[i] + b.part[i]; });
  }
  static void expand_input(uint8_t* out, const uint8_t* bits, int64_t words) {
    for (int64_t i = 0; i < 64 * words; ++i) out[i] = (bits[i / 8] >> (i % 8)) & 1 ? 1 : 0xff;
  }
  static void expand_filters(uint8_t* out, const uint8_t* a, const uint8_t* b) {
    for (int f = 0; f < 16; ++f) {
      const auto word = read<uint64_t>((f < 8 ? a : b) + f % 8 * 8);
      for (int i = 0; i < 64; ++i) out[i / 4 * 64 + 4 * f + i % 4] = (word >> i) & 1 ? 0xff : 1;
    }
  }
  static void expand_signs(uint8_t* out, const uint8_t* masks, int32_t rows) {
    for (int i = 0; i < 16 * 64; ++i) {
      out[i] = i / 64 >= rows ? 0 : (masks[i / 8] >> (i % 8)) & 1 ? 1 : 0xff;
    }
  }
  static void copy(uint8_t* out, const uint8_t* from, int64_t bytes) {
    std::memcpy(out, from, bytes);
    std::memset(out + bytes, 0xA5, 64);
  }
};

constexpr Kernels make_tile_model() {
  Kernels kernels = make_kernels<PortableTiles>("tile_model");
  kernels.tile_binary = make_tile_conv<PortableTiles, TileModel, TileArithmetic::kBinary>();
  kernels.tile_u8 = make_tile_conv<PortableTiles, TileModel, TileArithmetic::kInt8>();
  kernels.tile_u8_signs = make_tile_conv<PortableTiles, TileModel, TileArithmetic::kInt8Signs>();
  return kernels;
}

}  // namespace
}  // namespace bmx::nhwc

const bmx::nhwc::Kernels nhwc_test::kTileModelKernels = bmx::nhwc::make_tile_model();
