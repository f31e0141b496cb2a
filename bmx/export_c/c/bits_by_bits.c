/*@ popcount: base */
static inline int32_t popcount(uint64_t x)
{
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__POPCNT__) || defined(__riscv_zbb))
    return __builtin_popcountll(x);
#elif UINTPTR_MAX > 0xffffffffu
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int32_t)((x * 0x0101010101010101u) >> 56);
#else
    uint32_t a = (uint32_t)x, b = (uint32_t)(x >> 32);
    a -= (a >> 1) & 0x55555555u;
    b -= (b >> 1) & 0x55555555u;
    a = (a & 0x33333333u) + ((a >> 2) & 0x33333333u);
    a += (b & 0x33333333u) + ((b >> 2) & 0x33333333u);
    a = (a & 0x0f0f0f0fu) + ((a >> 4) & 0x0f0f0f0fu);
    return (int32_t)((a * 0x01010101u) >> 24);
#endif
}

/*@ bits_by_bits_pixel: conv popcount load32 load64 */
/* Numbers of differing bits. A run is elements of 64 channels and, if its number of words is odd, one of 32; in each
   the filters lie side by side. */
static inline const uint8_t *bits_of_filters(const struct conv *c, const uint8_t *in, const uint8_t *w, int32_t width,
                                             int32_t *result)
{
    int32_t sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int32_t i, j, k, f;
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const uint8_t *a = run(c, in, i, j);
            for (k = c->length; k >= 2; k -= 2, a += 8) {
                const uint64_t x = load64(a);
                for (f = 0; f < width; f++, w += 8) sums[f] += popcount(x ^ load64(w));
            }
            if (k != 0) {
                const uint64_t x = load32(a);
                for (f = 0; f < width; f++, w += 4) sums[f] += popcount(x ^ load32(w));
            }
        }
    }
    memcpy(result, sums, sizeof sums);
    return w;
}

static const uint8_t *bits_by_bits_pixel(const struct conv *c, const uint8_t *in, const uint8_t *w, int32_t width,
                                         union values *v, int32_t first)
{
    if (width == 8) return bits_of_filters(c, in, w, 8, v->i + first);
    return bits_of_filters(c, in, w, width, v->i + first);
}

/*@ bits_by_bits_tile: bits_by_bits_pixel */
#if NET_VECTORS == NET_SIMD_avx512
enum { bits_by_bits_rows = 8 };

INLINED const uint8_t *bits_by_bits_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                         const uint8_t *w, union values *v, int32_t first)
{
    __m512i sums[bits_by_bits_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) sums[r] = _mm512_setzero_si512();
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k + 1 < c->length; k += 2, w += 64) {
                const __m512i b = _mm512_loadu_si512(w);
                UNROLLED
                for (r = 0; r < n; r++) {
                    const __m512i a = _mm512_set1_epi64((int64_t)load64(run(c, in[r], i, j) + 4 * k));
                    sums[r] = _mm512_add_epi64(sums[r], _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
                }
            }
            if (k < c->length) {
                const __m512i b = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(const void *)w));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const __m512i a = _mm512_set1_epi64((int64_t)load32(run(c, in[r], i, j) + 4 * k));
                    sums[r] = _mm512_add_epi64(sums[r], _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
                }
                w += 32;
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        _mm256_storeu_si256((__m256i *)(void *)(v[r].i + first), _mm512_cvtepi64_epi32(sums[r]));
    }
    return w;
}
#elif NET_VECTORS == NET_SIMD_avx2
enum { bits_by_bits_rows = 4 };

/* Bits of each 64, from a table of those of 4. */
INLINED __m256i popcounts(__m256i x)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
    const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
    return _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
}

INLINED const uint8_t *bits_by_bits_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                         const uint8_t *w, union values *v, int32_t first)
{
    __m256i low[bits_by_bits_rows], high[bits_by_bits_rows]; /* filters 0 to 3, and 4 to 7 */
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) low[r] = high[r] = _mm256_setzero_si256();
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k + 1 < c->length; k += 2, w += 64) {
                const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)w);
                const __m256i d = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const __m256i a = _mm256_set1_epi64x((int64_t)load64(run(c, in[r], i, j) + 4 * k));
                    low[r] = _mm256_add_epi64(low[r], popcounts(_mm256_xor_si256(a, b)));
                    high[r] = _mm256_add_epi64(high[r], popcounts(_mm256_xor_si256(a, d)));
                }
            }
            if (k < c->length) {
                const __m256i b = _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(const void *)w));
                const __m256i d = _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(const void *)(w + 16)));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const __m256i a = _mm256_set1_epi64x((int64_t)load32(run(c, in[r], i, j) + 4 * k));
                    low[r] = _mm256_add_epi64(low[r], popcounts(_mm256_xor_si256(a, b)));
                    high[r] = _mm256_add_epi64(high[r], popcounts(_mm256_xor_si256(a, d)));
                }
                w += 32;
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        const __m256 a = _mm256_castsi256_ps(low[r]), b = _mm256_castsi256_ps(high[r]);
        const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)); /* 0 1 4 5, 2 3 6 7 */
        _mm256_storeu_si256((__m256i *)(void *)(v[r].i + first), _mm256_permute4x64_epi64(even, 0xd8));
    }
    return w;
}
#elif NET_VECTORS == NET_SIMD_neon
#if defined(__aarch64__)
enum { bits_by_bits_rows = 4 };
#else
enum { bits_by_bits_rows = 2 };
#endif

INLINED uint32x4_t add_bits(uint32x4_t sum, uint64x2_t a, uint8x16_t b)
{
    return vpadalq_u16(sum, vpaddlq_u8(vcntq_u8(veorq_u8(vreinterpretq_u8_u64(a), b))));
}

INLINED const uint8_t *bits_by_bits_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                         const uint8_t *w, union values *v, int32_t first)
{
    uint32x4_t sums[bits_by_bits_rows][4]; /* the halves of two filters each */
    int32_t i, j, k, r, q;
    UNROLLED
    for (r = 0; r < n; r++) {
        UNROLLED
        for (q = 0; q < 4; q++) sums[r][q] = vdupq_n_u32(0);
    }
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k + 1 < c->length; k += 2, w += 64) {
                uint8x16_t b[4];
                UNROLLED
                for (q = 0; q < 4; q++) b[q] = vld1q_u8(w + 16 * q);
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint64x2_t a = vdupq_n_u64(load64(run(c, in[r], i, j) + 4 * k));
                    UNROLLED
                    for (q = 0; q < 4; q++) sums[r][q] = add_bits(sums[r][q], a, b[q]);
                }
            }
            if (k < c->length) {
                uint8x16_t b[4];
                UNROLLED
                for (q = 0; q < 4; q++) b[q] = vreinterpretq_u8_u64(vmovl_u32(vreinterpret_u32_u8(vld1_u8(w + 8 * q))));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint64x2_t a = vdupq_n_u64(load32(run(c, in[r], i, j) + 4 * k));
                    UNROLLED
                    for (q = 0; q < 4; q++) sums[r][q] = add_bits(sums[r][q], a, b[q]);
                }
                w += 32;
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        UNROLLED
        for (q = 0; q < 4; q++) {
            const uint32x2_t pair = vpadd_u32(vget_low_u32(sums[r][q]), vget_high_u32(sums[r][q]));
            vst1_s32(v[r].i + first + 2 * q, vreinterpret_s32_u32(pair));
        }
    }
    return w;
}
#endif
