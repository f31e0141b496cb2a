/*@ floats_by_floats_pixel: conv */
/* Sums of products: in each element, a float, the filters lie side by side. */
static inline const uint8_t *products_of_filters(const struct conv *c, const uint8_t *in, const uint8_t *w,
                                                 int32_t width, float *result)
{
    const float *b = (const float *)(const void *)w;
    float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int32_t i, j, k, f;
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const float *a = (const float *)(const void *)run(c, in, i, j);
            for (k = 0; k < c->length; k++, b += width) {
                ROLLED
                for (f = 0; f < width; f++) sums[f] = MADD(a[k], b[f], sums[f]);
            }
        }
    }
    memcpy(result, sums, sizeof sums);
    return (const uint8_t *)b;
}

static const uint8_t *floats_by_floats_pixel(const struct conv *c, const uint8_t *in, const uint8_t *w, int32_t width,
                                             union values *v, int32_t first)
{
    if (width == 8) return products_of_filters(c, in, w, 8, v->f + first);
    return products_of_filters(c, in, w, width, v->f + first);
}

/*@ multiply_add: base */
#if NET_VECTORS == NET_SIMD_neon
INLINED float32x4_t multiply_add(float32x4_t sum, float32x4_t a, float32x4_t b)
{
#if defined(__ARM_FEATURE_FMA)
    return vfmaq_f32(sum, a, b);
#else
    return vmlaq_f32(sum, a, b);
#endif
}
#endif

/*@ floats_by_floats_tile: floats_by_floats_pixel multiply_add */
#if NET_X86
enum { floats_by_floats_rows = 8 };

INLINED const uint8_t *floats_by_floats_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                             const uint8_t *w, union values *v, int32_t first)
{
    __m256 sums[floats_by_floats_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) sums[r] = _mm256_setzero_ps();
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const float *a[floats_by_floats_rows];
            UNROLLED
            for (r = 0; r < n; r++) a[r] = (const float *)(const void *)run(c, in[r], i, j);
            for (k = 0; k < c->length; k++, w += 32) {
                const __m256 b = _mm256_loadu_ps((const float *)(const void *)w);
                UNROLLED
                for (r = 0; r < n; r++) sums[r] = _mm256_fmadd_ps(_mm256_broadcast_ss(a[r] + k), b, sums[r]);
            }
        }
    }
    UNROLLED
    for (r = 0; r < n; r++) _mm256_storeu_ps(v[r].f + first, sums[r]);
    return w;
}
#elif NET_VECTORS == NET_SIMD_neon
enum { floats_by_floats_rows = 4 };

INLINED const uint8_t *floats_by_floats_tile(const struct conv *c, const uint8_t *const *in, int32_t n,
                                             const uint8_t *w, union values *v, int32_t first)
{
    float32x4_t low[floats_by_floats_rows], high[floats_by_floats_rows];
    int32_t i, j, k, r;
    UNROLLED
    for (r = 0; r < n; r++) low[r] = high[r] = vdupq_n_f32(0);
    for (i = 0; i < c->kernel_h; i++) {
        for (j = 0; j < c->taps; j++) {
            const float *a[floats_by_floats_rows];
            UNROLLED
            for (r = 0; r < n; r++) a[r] = (const float *)(const void *)run(c, in[r], i, j);
            for (k = 0; k < c->length; k++, w += 32) {
                const float32x4_t b = vld1q_f32((const float *)(const void *)w);
                const float32x4_t d = vld1q_f32((const float *)(const void *)(w + 16));
                UNROLLED
                for (r = 0; r < n; r++) {
                    const float32x4_t x = vld1q_dup_f32(a[r] + k);
                    low[r] = multiply_add(low[r], x, b);
                    high[r] = multiply_add(high[r], x, d);
                }
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
