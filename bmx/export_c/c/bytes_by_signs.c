/*@ bytes_by_signs_pixel: conv load32 some_bytes */
/* Sums with a sign for a weight: an element is 4 bytes and a word, bit 4 f + i of which is the sign of byte i in filter
   f, 1 is +. All 16 sums of the 4 are computed once for the 8 filters. */
static const uint8_t *bytes_by_signs_pixel(const struct conv *c, const uint8_t *in, const uint8_t *w, int32_t width,
                                           union values *v, int32_t first)
{
    int32_t sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int32_t i, j, k, f;
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const uint8_t *a = run(c, in, i, j);
            for (k = 0; k < c->length; k += 4, w += 4) {
                const uint32_t x = some_bytes(a + k, c->length - k);
                const int32_t a0 = (int32_t)(x & 255), a1 = (int32_t)(x >> 8 & 255);
                const int32_t a2 = (int32_t)(x >> 16 & 255), a3 = (int32_t)(x >> 24);
                const int32_t low[4] = {-a0 - a1, a0 - a1, a1 - a0, a0 + a1};
                const int32_t high[4] = {-a2 - a3, a2 - a3, a3 - a2, a2 + a3};
                uint32_t bits = load32(w);
                int32_t table[16];
                for (f = 0; f < 16; f++) table[f] = low[f & 3] + high[f >> 2];
                for (f = 0; f < width; f++, bits >>= 4) sums[f] += table[bits & 15];
            }
        }
    }
    memcpy(v->i + first, sums, sizeof sums);
    return w;
}

/*@ bytes_by_signs_tile: bytes_by_signs_pixel */
#if NET_X86
/* A word's bits as bytes -1 and 1. */
INLINED __m256i bytes_of_signs(uint32_t word)
{
#if NET_VECTORS == NET_SIMD_avx512
    return _mm256_mask_blend_epi8(word, _mm256_set1_epi8(-1), _mm256_set1_epi8(1));
#else
    const __m256i place = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                           3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    const __m256i bits = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)word), place), bit);
    return _mm256_or_si256(_mm256_cmpeq_epi8(bits, _mm256_setzero_si256()), _mm256_set1_epi8(1));
#endif
}

INLINED __m256i add_products(__m256i sum, __m256i a, __m256i b)
{
#if NET_VECTORS == NET_SIMD_avx512
    return _mm256_dpbusd_epi32(sum, a, b);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
#endif
}

enum { bytes_by_signs_rows = 8 };

INLINED const uint8_t *bytes_by_signs_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                           const uint8_t *w, union values *v, int32_t first)
{
    __m256i sums[bytes_by_signs_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) sums[r] = _mm256_setzero_si256();
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k < c->length; k += 4, w += 4) {
                const __m256i b = bytes_of_signs(load32(w));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint32_t x = some_bytes(run(c, in[r], i, j) + k, c->length - k);
                    sums[r] = add_products(sums[r], _mm256_set1_epi32((int32_t)x), b);
                }
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) _mm256_storeu_si256((__m256i *)(void *)(v[r].i + first), sums[r]);
    return w;
}
#elif NET_VECTORS == NET_SIMD_neon
enum { bytes_by_signs_rows = 4 };

/* Bytes 0 where the sign is -, 255 where it is +, of 4 filters. */
INLINED uint8x16_t masks_of_signs(uint32_t bits)
{
    static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t word = vcombine_u8(vdup_n_u8((uint8_t)(bits & 255)), vdup_n_u8((uint8_t)(bits >> 8 & 255)));
    return vtstq_u8(word, vld1q_u8(places));
}

/* Twice the sum of those with +, minus the sum of all. */
INLINED const uint8_t *bytes_by_signs_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                           const uint8_t *w, union values *v, int32_t first)
{
    uint32x4_t low[bytes_by_signs_rows], high[bytes_by_signs_rows], all[bytes_by_signs_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) low[r] = high[r] = all[r] = vdupq_n_u32(0);
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k < c->length; k += 4, w += 4) {
                const uint32_t word = load32(w);
                const uint8x16_t b = masks_of_signs(word), d = masks_of_signs(word >> 16);
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint32_t x = some_bytes(run(c, in[r], i, j) + k, c->length - k);
                    const uint8x16_t a = vreinterpretq_u8_u32(vdupq_n_u32(x));
                    low[r] = vpadalq_u16(low[r], vpaddlq_u8(vandq_u8(a, b)));
                    high[r] = vpadalq_u16(high[r], vpaddlq_u8(vandq_u8(a, d)));
                    all[r] = vpadalq_u16(all[r], vpaddlq_u8(a));
                }
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        vst1q_s32(v[r].i + first, vreinterpretq_s32_u32(vsubq_u32(vshlq_n_u32(low[r], 1), all[r])));
        vst1q_s32(v[r].i + first + 4, vreinterpretq_s32_u32(vsubq_u32(vshlq_n_u32(high[r], 1), all[r])));
    }
    return w;
}
#endif
