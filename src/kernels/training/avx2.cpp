// The kernels of training for AVX2 and FMA.
#include <immintrin.h>

#include "kernels/popcount_avx2.h"
#include "kernels/training/elementwise.h"
#include "kernels/training/float_gemm_tile.h"
#include "kernels/training/gemm_tile.h"
#include "kernels/training/sign_check.h"

namespace bmx {
namespace {

struct Avx2 {
  static constexpr int kLanes = 4;
  static constexpr int kMaxRows = 4;
  static constexpr int kMaxVectors = 2;
  static constexpr int kChunk = PopcountAvx2::kChunk;
  using Words = __m256i;
  using Sums = __m256i;
  using Partial = __m256i;
  using Floats = __m256;

  static Partial zero_partial() { return _mm256_setzero_si256(); }
  static Sums zero_sums() { return _mm256_setzero_si256(); }
  static Words load(const uint64_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static Words broadcast(const uint64_t* p) { return _mm256_set1_epi64x(static_cast<int64_t>(*p)); }
  static Partial add_popcount(Partial acc, Words a, Words b) { return PopcountAvx2::add(acc, a, b); }
  static Sums fold(Sums sums, Partial bytes) { return PopcountAvx2::fold(sums, bytes); }
  // The sums are below 2^31: their low halves are all of them.
  static Floats to_floats(Sums a, Sums b) {
    const __m256i low_a = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    const __m256i low_b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    return _mm256_cvtepi32_ps(_mm256_blend_epi32(low_a, low_b, 0xf0));
  }
  static Floats splat(float x) { return _mm256_set1_ps(x); }
  static __m256i first(int lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Floats load_floats(const float* p, int lanes) { return _mm256_maskload_ps(p, first(lanes)); }
  // a - b * c
  static Floats minus_product(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(b, c, a); }
  static Floats plus(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats times(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static void store(float* p, Floats y, int lanes) {
    if (lanes == 2 * kLanes) {
      _mm256_storeu_ps(p, y);
    } else {
      _mm256_maskstore_ps(p, first(lanes), y);
    }
  }
};

constexpr int kPanelColumns = Avx2::kLanes * Avx2::kMaxVectors;

// Gathers sign_difference of sign_check.h.
struct SignCheck {
  __m256i others = _mm256_setzero_si256();

  void add(__m256 x) {
    const __m256i one = _mm256_castps_si256(_mm256_set1_ps(1));
    others = _mm256_or_si256(others, _mm256_xor_si256(_mm256_castps_si256(x), one));
  }
  bool passed() const { return _mm256_testz_si256(others, _mm256_set1_epi32(kMagnitudeBits)) != 0; }
};

// Eight pixels a step: the comparison's mask selects the channel's bit in 32-bit lanes.
inline __m256i collect(const float* data, size_t channel_stride, int channels, SignCheck* check) {
  __m256i bits = _mm256_setzero_si256();
  for (int c = 0; c < channels; ++c) {
    const __m256 x = _mm256_loadu_ps(data + c * channel_stride);
    check->add(x);
    const __m256 set = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NLT_UQ);
    const __m256i bit = _mm256_set1_epi32(static_cast<int>(1u << c));
    bits = _mm256_or_si256(bits, _mm256_and_si256(_mm256_castps_si256(set), bit));
  }
  return bits;
}

bool pack_channels(const float* data, size_t channel_stride, int channels, size_t pixels, uint64_t* words) {
  SignCheck check;
  size_t p = 0;
  for (; p + 8 <= pixels; p += 8) {
    const __m256i low = collect(data + p, channel_stride, channels < 32 ? channels : 32, &check);
    const __m256i high = channels > 32 ? collect(data + p + 32 * channel_stride, channel_stride, channels - 32, &check)
                                       : _mm256_setzero_si256();
    const __m256i even = _mm256_unpacklo_epi32(low, high);  // pixels 0 1 4 5
    const __m256i odd = _mm256_unpackhi_epi32(low, high);   // pixels 2 3 6 7
    auto* target = reinterpret_cast<__m256i*>(words + p);
    _mm256_storeu_si256(target, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256(target + 1, _mm256_permute2x128_si256(even, odd, 0x31));
  }
  const bool rest =
      p == pixels || kPortableKernels.pack_channels(data + p, channel_stride, channels, pixels - p, words + p);
  return check.passed() && rest;
}

// Eight channels at a time: each lane keeps its own bit, and a comparison makes it all ones or none.
void expand_signs(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride,
                  float* out) {
  if (channels % 16 != 0) {
    kPortableKernels.expand_signs(words, pixels, channels, block_stride, pixel_stride, out);
    return;
  }
  const __m256i own_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256 plus = _mm256_set1_ps(1), minus = _mm256_set1_ps(-1);
  for (int c = 0; c < channels; c += 8) {
    for (size_t p = 0; p < pixels; ++p) {
      const __m256i byte = _mm256_set1_epi32(static_cast<int>(words[p] >> c & 0xff));
      const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(byte, own_bit), own_bit);
      _mm256_storeu_ps(out + c / 16 * block_stride + p * pixel_stride + c % 16,
                       _mm256_blendv_ps(minus, plus, _mm256_castsi256_ps(set)));
    }
  }
}

void expand_signs_bf16(const uint64_t* words, size_t pixels, int channels, size_t block_stride, size_t pixel_stride,
                       uint16_t* out) {
  kPortableKernels.expand_signs_bf16(words, pixels, channels, block_stride, pixel_stride, out);
}

bool pack_row(const float* data, size_t length, uint64_t* words) {
  SignCheck check;
  size_t i = 0;
  for (; i + 64 <= length; i += 64) {
    uint64_t word = 0;
    for (int part = 0; part < 8; ++part) {
      const __m256 x = _mm256_loadu_ps(data + i + 8 * part);
      check.add(x);
      const int set = _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NLT_UQ));
      word |= static_cast<uint64_t>(static_cast<unsigned>(set)) << (8 * part);
    }
    words[i / 64] = word;
  }
  const bool rest = i == length || kPortableKernels.pack_row(data + i, length - i, words + i / 64);
  return check.passed() && rest;
}

void gather_panel(const uint64_t* words, const int64_t* column_offset, int columns, const int64_t* depth_offset,
                  size_t depth, uint64_t* panel) {
  for (size_t k = 0; k < depth; ++k, panel += kPanelColumns) {
    const uint64_t* source = words + depth_offset[k];
    for (int j = 0; j < columns; ++j) panel[j] = source[column_offset[j]];
    for (int j = columns; j < kPanelColumns; ++j) panel[j] = 0;
  }
}

}  // namespace

const Kernels kAvx2Kernels = {"avx2",           Avx2::kLanes,
                              kPanelColumns,    pack_channels,
                              expand_signs,     expand_signs_bf16,
                              pack_row,         gather_panel,
                              gemm<Avx2>,       Elementwise<Avx2>::kernels(),
                              float_gemm<Avx2>, &kAvx2Lookup};

}  // namespace bmx
