/*@ simd */
/* The vector instructions: NET_SIMD (none, avx2, avx512 or neon) if defined, else those of the compiler's options. */
#define NET_SIMD_none 1
#define NET_SIMD_avx2 2
#define NET_SIMD_avx512 3
#define NET_SIMD_neon 4
#define NET_PASTE(a, b) a##b
#define NET_LEVEL(name) NET_PASTE(NET_SIMD_, name)
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__) && \
    defined(__AVX512VPOPCNTDQ__) && defined(__FMA__)
#define NET_COMPILED NET_SIMD_avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define NET_COMPILED NET_SIMD_avx2
#elif defined(__ARM_NEON) && (defined(__GNUC__) || defined(__clang__))
#define NET_COMPILED NET_SIMD_neon
#else
#define NET_COMPILED NET_SIMD_none
#endif
#ifdef NET_SIMD
#define NET_VECTORS NET_LEVEL(NET_SIMD)
#else
#define NET_VECTORS NET_COMPILED
#endif
#if NET_VECTORS < NET_SIMD_none || NET_VECTORS > NET_SIMD_neon
#error "NET_SIMD is none, avx2, avx512 or neon"
#elif NET_VECTORS != NET_SIMD_none && NET_VECTORS > NET_COMPILED
#error "NET_SIMD needs the compiler's option for these instructions, such as -march=native or -mavx2 -mfma"
#elif (NET_VECTORS == NET_SIMD_neon) != (NET_COMPILED == NET_SIMD_neon) && NET_VECTORS != NET_SIMD_none
#error "NET_SIMD names instructions of another processor"
#endif
#define NET_X86 (NET_VECTORS == NET_SIMD_avx2 || NET_VECTORS == NET_SIMD_avx512)
#if NET_X86
#include <immintrin.h>
#elif NET_VECTORS == NET_SIMD_neon
#include <arm_neon.h>
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* the same numbers with all options; gcc needs -std=c99 for that */
#endif

/* a * b + c, with a single rounding where that is as fast. */
#if defined(FP_FAST_FMAF) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MADD(a, b, c) fmaf(a, b, c)
#else
#define MADD(a, b, c) ((a) * (b) + (c))
#endif

/* UNROLLED is for loops over vectors in registers, ROLLED for loops that the compiler should vectorise. */
#if defined(__GNUC__) && !defined(__clang__)
#define UNROLLED _Pragma("GCC unroll 8")
#define ROLLED _Pragma("GCC unroll 1")
#else
#define UNROLLED
#define ROLLED
#endif
#if defined(__GNUC__) || defined(__clang__)
#define INLINED static inline __attribute__((always_inline))
#else
#define INLINED static inline
#endif

/*@ base: simd */
enum { CHUNK = 64 }; /* channels that are processed together */

struct net {
    const uint8_t *weights;
    uint8_t *scratch;
};

/* A tensor in the scratch memory, with the channels of a pixel side by side: the offset of pixel (0, 0), and the
   distances to the next row and pixel, in bytes. */
struct view {
    int32_t offset, row, pixel;
};

/* The place of results: pixel (y, x), channels `first` to `first` + `count` - 1 of `all`. */
struct at {
    int32_t y, x, first, count, all;
};

/* The results at a place: floats, or sums of integers. */
union values {
    float f[CHUNK];
    int32_t i[CHUNK];
};

/* The epilogue of a layer: it processes and stores results. */
typedef void finish_fn(const struct net *net, const struct at *at, union values *v);

/*@ pixel: base */
static inline uint8_t *pixel(const struct net *net, const struct view *t, int32_t y, int32_t x)
{
    return net->scratch + t->offset + y * t->row + x * t->pixel;
}

/*@ floats_at: pixel */
static inline float *floats_at(const struct net *net, const struct view *t, const struct at *at)
{
    return (float *)(void *)pixel(net, t, at->y, at->x) + at->first;
}

/*@ channels_at: pixel */
/* For a tensor whose numbers apply to all pixels. */
static inline const float *channels_at(const struct net *net, const struct view *t, const struct at *at)
{
    return (const float *)(void *)pixel(net, t, 0, 0) + at->first;
}

/*@ float_at: pixel */
/* For a tensor whose numbers apply to all channels. */
static inline float float_at(const struct net *net, const struct view *t, const struct at *at)
{
    return *(const float *)(void *)pixel(net, t, at->y, at->x);
}

/*@ numbers: base */
static inline const float *numbers(const struct net *net, int32_t offset)
{
    return (const float *)(const void *)(net->weights + offset);
}

/*@ integers: base */
static inline const int32_t *integers(const struct net *net, int32_t offset)
{
    return (const int32_t *)(const void *)(net->weights + offset);
}

/*@ load32: base */
static inline uint32_t load32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/*@ load64: base */
static inline uint64_t load64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
