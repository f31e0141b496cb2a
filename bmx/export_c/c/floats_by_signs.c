/*@ floats_by_signs_pixel: conv load32 */
/* Sums with a sign for a weight: an element is 4 floats and a word, bit 4 f + i of which is the sign of float i in
   filter f, 1 is +. All 16 sums of the 4 are computed once for the 8 filters. */
static const uint8_t *floats_by_signs_pixel(const struct conv *c, const uint8_t *in, const uint8_t *w, int32_t width,
                                            union values *v, int32_t first)
{
    float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int32_t i, j, k, f;
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const float *a = (const float *)(const void *)run(c, in, i, j);
            for (k = 0; k < c->length; k += 4, w += 4) {
                const int32_t left = c->length - k;
                const float a1 = left > 1 ? a[k + 1] : 0, a2 = left > 2 ? a[k + 2] : 0, a3 = left > 3 ? a[k + 3] : 0;
                const float plus = a[k] + a1, minus = a[k] - a1, high_plus = a2 + a3, high_minus = a2 - a3;
                const float low[4] = {-plus, minus, -minus, plus};
                const float high[4] = {-high_plus, high_minus, -high_minus, high_plus};
                uint32_t bits = load32(w);
                float table[16];
                for (f = 0; f < 16; f++) table[f] = low[f & 3] + high[f >> 2];
                for (f = 0; f < width; f++, bits >>= 4) sums[f] += table[bits & 15];
            }
        }
    }
    memcpy(v->f + first, sums, sizeof sums);
    return w;
}

/*@ floats_by_signs_tile: floats_by_signs_pixel multiply_add */
#if NET_X86
enum { floats_by_signs_rows = 8 };

INLINED const uint8_t *floats_by_signs_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                            const uint8_t *w, union values *v, int32_t first)
{
    const __m256i bit = _mm256_setr_epi32(1, 1 << 4, 1 << 8, 1 << 12, 1 << 16, 1 << 20, 1 << 24, 1 << 28);
    const __m256 minus_one = _mm256_set1_ps(-1.0f), one = _mm256_set1_ps(1.0f);
    __m256 sums[floats_by_signs_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) sums[r] = _mm256_setzero_ps();
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const float *a[floats_by_signs_rows];
            UNROLLED
            for (r = 0; r < n; r++) a[r] = (const float *)(const void *)run(c, in[r], i, j);
            for (k = 0; k < c->length; k++) {
                const __m256i word = _mm256_set1_epi32((int32_t)(load32(w) >> (k & 3)));
                const __m256i plus = _mm256_cmpeq_epi32(_mm256_and_si256(word, bit), bit);
                const __m256 b = _mm256_blendv_ps(minus_one, one, _mm256_castsi256_ps(plus));
                UNROLLED
                for (r = 0; r < n; r++) sums[r] = _mm256_fmadd_ps(_mm256_broadcast_ss(a[r] + k), b, sums[r]);
                if ((k & 3) == 3 || k + 1 == c->length) w += 4;
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) _mm256_storeu_ps(v[r].f + first, sums[r]);
    return w;
}
#elif NET_VECTORS == NET_SIMD_neon
enum { floats_by_signs_rows = 4 };

INLINED const uint8_t *floats_by_signs_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                            const uint8_t *w, union values *v, int32_t first)
{
    static const uint32_t bits[8] = {1, 1u << 4, 1u << 8, 1u << 12, 1u << 16, 1u << 20, 1u << 24, 1u << 28};
    const uint32x4_t bit = vld1q_u32(bits), high_bit = vld1q_u32(bits + 4);
    const float32x4_t minus_one = vdupq_n_f32(-1), one = vdupq_n_f32(1);
    float32x4_t low[floats_by_signs_rows], high[floats_by_signs_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) low[r] = high[r] = vdupq_n_f32(0);
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const float *a[floats_by_signs_rows];
            UNROLLED
            for (r = 0; r < n; r++) a[r] = (const float *)(const void *)run(c, in[r], i, j);
            for (k = 0; k < c->length; k++) {
                const uint32x4_t word = vdupq_n_u32(load32(w) >> (k & 3));
                const float32x4_t b = vbslq_f32(vtstq_u32(word, bit), one, minus_one);
                const float32x4_t d = vbslq_f32(vtstq_u32(word, high_bit), one, minus_one);
                UNROLLED
                for (r = 0; r < n; r++) {
                    const float32x4_t x = vld1q_dup_f32(a[r] + k);
                    low[r] = multiply_add(low[r], x, b);
                    high[r] = multiply_add(high[r], x, d);
                }
                if ((k & 3) == 3 || k + 1 == c->length) w += 4;
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) {
        vst1q_f32(v[r].f + first, low[r]);
        vst1q_f32(v[r].f + first + 4, high[r]);
    }
    return w;
}
#endif
