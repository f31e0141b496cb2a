/*@ dot: base */
/* Converts counts of differing bits to dot products. */
static void dot(union values *v, const struct at *at, float all, float step)
{
    int32_t i;
    for (i = 0; i < at->count; i++) v->f[i] = fmaf((float)v->i[i], -step, all);
}

/*@ sums: base */
/* Converts sums of products to floats. `start` removes the effect of the input's zero point. */
static void sums(union values *v, const struct at *at, const int32_t *start)
{
    int32_t i;
    for (i = 0; i < at->count; i++) v->f[i] = (float)(v->i[i] + start[at->first + i]);
}

/*@ to_floats: base */
static void to_floats(union values *v, const struct at *at)
{
    int32_t i;
    for (i = 0; i < at->count; i++) v->f[i] = (float)v->i[i];
}

/*@ affine: base */
static void affine(float *restrict v, const struct at *at, const float *restrict factor, const float *restrict bias)
{
    int32_t i;
    for (i = 0; i < at->count; i++) v[i] = fmaf(v[i], factor[at->first + i], bias[at->first + i]);
}

/*@ norm: base */
static void norm(float *restrict v, const struct at *at, const float *restrict mean, const float *restrict factor,
                 const float *restrict bias)
{
    int32_t i;
    for (i = 0; i < at->count; i++) {
        const float centred = v[i] - mean[at->first + i];
        v[i] = fmaf(centred, factor[at->first + i], bias[at->first + i]);
    }
}

/*@ OPERAND: floats_at */
static void OPERAND(float *restrict v, const struct at *at, const float *restrict other)
{
    int32_t i;
    for (i = 0; i < at->count; i++) {
        const float y = v[i], t = other[i];
        v[i] = EXPRESSION;
    }
}

/*@ OPERAND_pixel: floats_at */
/* The operand is one number t for all channels of a pixel. */
static void OPERAND_pixel(float *v, const struct at *at, float t)
{
    int32_t i;
    for (i = 0; i < at->count; i++) {
        const float y = v[i];
        v[i] = EXPRESSION;
    }
}

/*@ prelu: base */
static void prelu(float *restrict v, const struct at *at, const float *restrict slope)
{
    int32_t i;
    for (i = 0; i < at->count; i++) v[i] = v[i] > 0 ? v[i] : v[i] * slope[at->first + i];
}

/*@ clip: base */
/* NaN stays NaN. */
static void clip(float *v, const struct at *at, float low, float high)
{
    int32_t i;
    for (i = 0; i < at->count; i++) v[i] = v[i] < low ? low : v[i] > high ? high : v[i];
}

/*@ relu: base */
static void relu(float *v, const struct at *at)
{
    int32_t i;
    for (i = 0; i < at->count; i++) v[i] = v[i] < 0 ? 0 : v[i];
}

/*@ FUNCTION: base */
static void apply_FUNCTION(float *v, const struct at *at)
{
    int32_t i;
    for (i = 0; i < at->count; i++) {
        const float y = v[i];
        v[i] = EXPRESSION;
    }
}

/*@ store_f32: floats_at */
static void store_f32(const float *v, const struct at *at, float *to)
{
    memcpy(to, v, (size_t)at->count * sizeof *v);
}

/*@ store_u8: pixel */
/* Clamps first, so that every result fits an integer. NaN becomes the lowest. */
static void store_u8(const float *restrict v, const struct at *at, uint8_t *restrict to, float inverse_scale,
                     int32_t zero_point)
{
    const float low = (float)-zero_point, high = (float)(255 - zero_point);
    int32_t i;
    for (i = 0; i < at->count; i++) {
        float y = v[i] * inverse_scale;
        y = y > low ? y : low;
        y = y < high ? y : high;
        to[i] = (uint8_t)((int32_t)rintf(y) + zero_point);
    }
}

/*@ put_bits: pixel */
/* Stores bits of a pixel, one byte for 8 channels. After the last channels it clears the rest of their word. */
static void put_bits(uint8_t *p, const struct at *at, const uint8_t *bits)
{
    const int32_t bytes = (at->count + 7) / 8;
    p += at->first / 8;
    memcpy(p, bits, (size_t)bytes);
    if (at->first + at->count == at->all) {
        const int32_t clear = (at->all + 63) / 64 * 8 - at->first / 8 - bytes;
        memset(p + bytes, 0, (size_t)clear);
    }
}

/*@ not_less: base */
/* Bit i: not v[i] < t[i], for 8 or fewer. */
static inline uint8_t not_less(const float *v, const float *t, int32_t count)
{
    uint32_t bits = 0;
    int32_t i;
#if NET_X86
    if (count == 8) {
        const __m256 less = _mm256_cmp_ps(_mm256_loadu_ps(v), _mm256_loadu_ps(t), _CMP_NLT_UQ);
        return (uint8_t)_mm256_movemask_ps(less);
    }
#elif NET_VECTORS == NET_SIMD_neon
    if (count == 8) {
        static const uint32_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
        const uint32x4_t low = vbicq_u32(vld1q_u32(weights), vcltq_f32(vld1q_f32(v), vld1q_f32(t)));
        const uint32x4_t high = vbicq_u32(vld1q_u32(weights + 4), vcltq_f32(vld1q_f32(v + 4), vld1q_f32(t + 4)));
        const uint64x2_t sum = vpaddlq_u32(vorrq_u32(low, high));
        return (uint8_t)(vgetq_lane_u64(sum, 0) + vgetq_lane_u64(sum, 1));
    }
#endif
    for (i = 0; i < count; i++) bits |= (uint32_t)!(v[i] < t[i]) << i;
    return (uint8_t)bits;
}

/*@ store_bits: put_bits not_less */
static void store_bits(const float *v, const struct at *at, uint8_t *to, const float *threshold)
{
    uint8_t bits[CHUNK / 8];
    int32_t i;
    for (i = 0; i < at->count; i += 8) {
        bits[i / 8] = not_less(v + i, threshold + at->first + i, at->count - i < 8 ? at->count - i : 8);
    }
    put_bits(to, at, bits);
}

/*@ store_signs: put_bits not_less */
static void store_signs(const float *v, const struct at *at, uint8_t *to)
{
    static const float zeros[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    uint8_t bits[CHUNK / 8];
    int32_t i;
    for (i = 0; i < at->count; i += 8) bits[i / 8] = not_less(v + i, zeros, at->count - i < 8 ? at->count - i : 8);
    put_bits(to, at, bits);
}

/*@ store_bits_below: put_bits not_less */
/* Where `below`, bit 1 is not v > threshold. */
static void store_bits_below(const float *v, const struct at *at, uint8_t *to, const float *threshold,
                             const uint8_t *below)
{
    uint8_t bits[CHUNK / 8];
    int32_t i;
    for (i = 0; i < at->count; i += 8) {
        const int32_t count = at->count - i < 8 ? at->count - i : 8;
        const float *t = threshold + at->first + i;
        const uint8_t flip = below[(at->first + i) / 8];
        const uint8_t over = not_less(v + i, t, count), under = not_less(t, v + i, count);
        bits[i / 8] = (uint8_t)((over & ~flip) | (under & flip));
    }
    put_bits(to, at, bits);
}

/*@ at_most: base */
/* Bit i: v[i] <= t[i], for 8 or fewer. */
static inline uint8_t at_most(const int32_t *v, const int32_t *t, int32_t count)
{
    uint32_t bits = 0;
    int32_t i;
#if NET_X86
    if (count == 8) {
        const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)v);
        const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)t);
        return (uint8_t)~_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b)));
    }
#elif NET_VECTORS == NET_SIMD_neon
    if (count == 8) {
        static const uint32_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
        const uint32x4_t low = vandq_u32(vld1q_u32(weights), vcleq_s32(vld1q_s32(v), vld1q_s32(t)));
        const uint32x4_t high = vandq_u32(vld1q_u32(weights + 4), vcleq_s32(vld1q_s32(v + 4), vld1q_s32(t + 4)));
        const uint64x2_t sum = vpaddlq_u32(vorrq_u32(low, high));
        return (uint8_t)(vgetq_lane_u64(sum, 0) + vgetq_lane_u64(sum, 1));
    }
#endif
    for (i = 0; i < count; i++) bits |= (uint32_t)(v[i] <= t[i]) << i;
    return (uint8_t)bits;
}

/*@ store_counts: put_bits at_most */
/* Differing bits against integer thresholds. */
static void store_counts(const int32_t *v, const struct at *at, uint8_t *to, const int32_t *threshold)
{
    uint8_t bits[CHUNK / 8];
    int32_t i;
    for (i = 0; i < at->count; i += 8) {
        bits[i / 8] = at_most(v + i, threshold + at->first + i, at->count - i < 8 ? at->count - i : 8);
    }
    put_bits(to, at, bits);
}

/*@ store_counts_flipped: put_bits at_most */
static void store_counts_flipped(const int32_t *v, const struct at *at, uint8_t *to, const int32_t *threshold,
                                 const uint8_t *flip)
{
    uint8_t bits[CHUNK / 8];
    int32_t i;
    for (i = 0; i < at->count; i += 8) {
        const int32_t first = at->first + i;
        const uint8_t most = at_most(v + i, threshold + first, at->count - i < 8 ? at->count - i : 8);
        bits[i / 8] = (uint8_t)(most ^ flip[first / 8]);
    }
    put_bits(to, at, bits);
}
