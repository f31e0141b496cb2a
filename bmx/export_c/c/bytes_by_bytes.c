/*@ some_bytes: load32 */
/* The next 4 bytes, or zeros after `count`. */
static inline uint32_t some_bytes(const uint8_t *p, int32_t count)
{
    uint32_t x;
    if (count >= 4) return load32(p);
    x = p[0];
    if (count > 1) x |= (uint32_t)p[1] << 8;
    if (count > 2) x |= (uint32_t)p[2] << 16;
    return x;
}

/*@ bytes_by_bytes_pixel: conv some_bytes */
/* Sums of products: in each element, 4 bytes, the filters lie side by side. */
static inline const uint8_t *byte_products_of_filters(const struct conv *c, const uint8_t *in, const uint8_t *w,
                                                      int32_t width, int32_t *result)
{
    const int8_t *b = (const int8_t *)w;
    int32_t sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int32_t i, j, k, f;
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const uint8_t *a = run(c, in, i, j);
            for (k = 0; k < c->length; k += 4) {
                const uint32_t x = some_bytes(a + k, c->length - k);
                const int32_t x0 = (int32_t)(x & 255), x1 = (int32_t)(x >> 8 & 255);
                const int32_t x2 = (int32_t)(x >> 16 & 255), x3 = (int32_t)(x >> 24);
                for (f = 0; f < width; f++, b += 4) sums[f] += x0 * b[0] + x1 * b[1] + x2 * b[2] + x3 * b[3];
            }
        }
    }
    memcpy(result, sums, sizeof sums);
    return (const uint8_t *)b;
}

static const uint8_t *bytes_by_bytes_pixel(const struct conv *c, const uint8_t *in, const uint8_t *w, int32_t width,
                                           union values *v, int32_t first)
{
    if (width == 8) return byte_products_of_filters(c, in, w, 8, v->i + first);
    return byte_products_of_filters(c, in, w, width, v->i + first);
}

/*@ bytes_by_bytes_tile: bytes_by_bytes_pixel */
#if NET_VECTORS == NET_SIMD_avx512
enum { bytes_by_bytes_rows = 8 };

INLINED const uint8_t *bytes_by_bytes_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                           const uint8_t *w, union values *v, int32_t first)
{
    __m256i sums[bytes_by_bytes_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) sums[r] = _mm256_setzero_si256();
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k < c->length; k += 4, w += 32) {
                const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)w);
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint32_t x = some_bytes(run(c, in[r], i, j) + k, c->length - k);
                    sums[r] = _mm256_dpbusd_epi32(sums[r], _mm256_set1_epi32((int32_t)x), b);
                }
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) _mm256_storeu_si256((__m256i *)(void *)(v[r].i + first), sums[r]);
    return w;
}
#elif NET_VECTORS == NET_SIMD_avx2
enum { bytes_by_bytes_rows = 4 };

INLINED const uint8_t *bytes_by_bytes_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                           const uint8_t *w, union values *v, int32_t first)
{
    __m256i low[bytes_by_bytes_rows], high[bytes_by_bytes_rows]; /* two halves of filters 0 to 3, and of 4 to 7 */
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) low[r] = high[r] = _mm256_setzero_si256();
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k < c->length; k += 4, w += 32) {
                const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
                const __m256i d = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + 16)));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint32_t x = some_bytes(run(c, in[r], i, j) + k, c->length - k);
                    const __m256i a = _mm256_cvtepu8_epi16(_mm_set1_epi32((int32_t)x));
                    low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(a, b));
                    high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(a, d));
                }
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        const __m256i pairs = _mm256_hadd_epi32(low[r], high[r]); /* 0 1 4 5, 2 3 6 7 */
        _mm256_storeu_si256((__m256i *)(void *)(v[r].i + first), _mm256_permute4x64_epi64(pairs, 0xd8));
    }
    return w;
}
#elif NET_VECTORS == NET_SIMD_neon && defined(__ARM_FEATURE_DOTPROD)
enum { bytes_by_bytes_rows = 4 };

/* Both unsigned: sum a b = sum a (b + 128) - 128 sum a, where b + 128 is b with its highest bit flipped. */
INLINED const uint8_t *bytes_by_bytes_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                           const uint8_t *w, union values *v, int32_t first)
{
    const uint8x16_t sign = vdupq_n_u8(128);
    uint32x4_t low[bytes_by_bytes_rows], high[bytes_by_bytes_rows], sums[bytes_by_bytes_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) low[r] = high[r] = sums[r] = vdupq_n_u32(0);
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k < c->length; k += 4, w += 32) {
                const uint8x16_t b = veorq_u8(vld1q_u8(w), sign), d = veorq_u8(vld1q_u8(w + 16), sign);
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint32_t x = some_bytes(run(c, in[r], i, j) + k, c->length - k);
                    const uint8x16_t a = vreinterpretq_u8_u32(vdupq_n_u32(x));
                    low[r] = vdotq_u32(low[r], a, b);
                    high[r] = vdotq_u32(high[r], a, d);
                    sums[r] = vdotq_u32(sums[r], a, sign);
                }
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        vst1q_s32(v[r].i + first, vreinterpretq_s32_u32(vsubq_u32(low[r], sums[r])));
        vst1q_s32(v[r].i + first + 4, vreinterpretq_s32_u32(vsubq_u32(high[r], sums[r])));
    }
    return w;
}
#elif NET_VECTORS == NET_SIMD_neon
#if defined(__aarch64__)
enum { bytes_by_bytes_rows = 4 };
#else
enum { bytes_by_bytes_rows = 2 };
#endif

INLINED const uint8_t *bytes_by_bytes_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                           const uint8_t *w, union values *v, int32_t first)
{
    int32x4_t sums[bytes_by_bytes_rows][4]; /* the halves of two filters each */
    int32_t i, j, k, r, q;
    UNROLLED
    for (r = 0; r < n; r++) {
        UNROLLED
        for (q = 0; q < 4; q++) sums[r][q] = vdupq_n_s32(0);
    }
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            for (k = 0; k < c->length; k += 4, w += 32) {
                int16x8_t b[4];
                UNROLLED
                for (q = 0; q < 4; q++) b[q] = vmovl_s8(vld1_s8((const int8_t *)w + 8 * q));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const uint32_t x = some_bytes(run(c, in[r], i, j) + k, c->length - k);
                    const int16x8_t a = vreinterpretq_s16_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(x))));
                    UNROLLED
                    for (q = 0; q < 4; q++) sums[r][q] = vpadalq_s16(sums[r][q], vmulq_s16(a, b[q])); /* fits 16 bits */
                }
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        UNROLLED
        for (q = 0; q < 4; q++) {
            const int32x2_t pair = vpadd_s32(vget_low_s32(sums[r][q]), vget_high_s32(sums[r][q]));
            vst1_s32(v[r].i + first + 2 * q, pair);
        }
    }
    return w;
}
#endif
