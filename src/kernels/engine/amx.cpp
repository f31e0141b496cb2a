
// The engine's kernels for AMX: those of AVX-512, and convolutions on tiles.
#include "kernels/engine/avx512.h"
#include "kernels/engine/tile_conv.h"

namespace bmx::nhwc {
namespace {

struct Amx : Avx512 {
  BMX_INLINE static Ints half(Ints a) { return _mm512_srai_epi32(a, 1); }
  BMX_INLINE static Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }

  BMX_INLINE static void expand_input(uint8_t* out, const uint8_t* bits, int64_t words) {
    for (int64_t i = 0; i < words; ++i) {
      _mm512_store_si512(out + 64 * i, choose(read<uint64_t>(bits + 8 * i), 1, -1));
    }
  }

  // A row of the tile is four bits of each filter. With the halves of two filters' words in 64 bits, an instruction
  // collects those of all sixteen.
  BMX_INLINE static void expand_filters(uint8_t* out, const uint8_t* a, const uint8_t* b) {
    const __m512i first = _mm512_load_si512(a), second = _mm512_load_si512(b);
    const __m512i low = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i halves[2] = {_mm512_permutex2var_epi32(first, low, second),
                               _mm512_permutex2var_epi32(first, _mm512_add_epi32(low, _mm512_set1_epi32(1)), second)};
    __m512i bit = _mm512_set1_epi64(0x2322212003020100);
    asm("" : "+v"(bit));
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        _mm512_store_si512(out + 64 * (8 * h + r), choose(_mm512_bitshuffle_epi64_mask(halves[h], bit), -1, 1));
      }
      bit = _mm512_add_epi8(bit, _mm512_set1_epi8(4));
    }
  }

  BMX_INLINE static void expand_signs(uint8_t* out, const uint8_t* masks, int32_t rows) {
    for (int32_t r = 0; r < 16; ++r) {
      const __m512i bytes = r < rows ? choose(read<uint64_t>(masks + 8 * r), 1, -1) : _mm512_setzero_si512();
      _mm512_store_si512(out + 64 * r, bytes);
    }
  }

  BMX_INLINE static void copy(uint8_t* out, const uint8_t* from, int64_t bytes) {
    if (bytes <= 32) {  // of which few cross a cache line
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
      return;
    }
    for (; bytes > 0; bytes -= 64, out += 64, from += 64) _mm512_storeu_si512(out, _mm512_loadu_si512(from));
  }

 private:
  BMX_INLINE static __m512i choose(__mmask64 mask, int8_t one, int8_t zero) {
    return _mm512_mask_blend_epi8(mask, _mm512_set1_epi8(zero), _mm512_set1_epi8(one));
  }
};

constexpr Kernels make_amx_kernels() {
  Kernels kernels = make_avx512_kernels("amx");
  kernels.tile_binary = make_tile_conv<Amx, AmxTiles, TileArithmetic::kBinary>();
  kernels.tile_u8 = make_tile_conv<Amx, AmxTiles, TileArithmetic::kInt8>();
  kernels.tile_u8_signs = make_tile_conv<Amx, AmxTiles, TileArithmetic::kInt8Signs>();
  return kernels;
}

}  // namespace

const Kernels kAmxKernels = make_amx_kernels();

}  // namespace bmx::nhwc
