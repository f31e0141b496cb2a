/*@ window: base */
/* A convolution: the sizes of its window, groups and output. Channels, filters and weights are per group. A row of the
   kernel has `taps` runs of `length` contiguous elements in the scratch memory: numbers, bytes or words of bits. */
struct conv {
    const struct view *in;
    int32_t kernel_h, kernel_w, stride_y, stride_x, dilate_y, dilate_x, pad_y, pad_x;
    int32_t groups, channel_bytes, filters;
    int32_t height, width;
    int32_t taps, length;
    int32_t weights;
};

/*@ conv: window pixel */
#if NET_X86
enum { TILE = 8 }; /* pixels computed together */
#elif NET_VECTORS == NET_SIMD_neon
enum { TILE = 4 };
#else
enum { TILE = 1 };
#endif

/* Multiplies the windows of n pixels, which begin at `in`, by `width` filters, at most 8. Stores the results in v from
   `first` on. Returns the end of the weights that it used. */
typedef const uint8_t *block_fn(const struct conv *c, const uint8_t *const *in, int32_t n, const uint8_t *w,
                                int32_t width, union values *v, int32_t first);

static void conv(const struct net *net, const struct conv *c, block_fn *block, finish_fn *finish)
{
    const int32_t pixels = c->height * c->width;
    const uint8_t *weights = net->weights + c->weights, *next = weights;
    const uint8_t *in[TILE];
    union values v[TILE];
    struct at at;
    int32_t group, filter, p, n, r, i;
    at.all = c->groups * c->filters;
    for (group = 0; group < c->groups; group++) {
        for (filter = 0; filter < c->filters; filter += at.count) {
            at.first = group * c->filters + filter;
            at.count = c->filters - filter < CHUNK ? c->filters - filter : CHUNK;
            for (p = 0; p < pixels; p += n) {
                n = pixels - p < TILE ? pixels - p : TILE;
                for (r = 0; r < n; r++) {
                    const int32_t y = (p + r) / c->width * c->stride_y - c->pad_y;
                    const int32_t x = (p + r) % c->width * c->stride_x - c->pad_x;
                    in[r] = pixel(net, c->in, y, x) + group * c->channel_bytes;
                }
                next = weights;
                for (i = 0; i < at.count; i += 8) {
                    next = block(c, in, n, next, at.count - i < 8 ? at.count - i : 8, v, i);
                }
                for (r = 0; r < n; r++) {
                    at.y = (p + r) / c->width;
                    at.x = (p + r) % c->width;
                    finish(net, &at, &v[r]);
                }
            }
            weights = next;
        }
    }
}

/* The begin of run j of row i in the window that begins at `in`. */
static inline const uint8_t *run(const struct conv *c, const uint8_t *in, int32_t i, int32_t j)
{
    return in + i * c->dilate_y * c->in->row + j * c->dilate_x * c->in->pixel;
}

/*@ KIND: conv */
static const uint8_t *KIND(const struct conv *c, const uint8_t *const *in, int32_t n, const uint8_t *w, int32_t width,
                           union values *v, int32_t first)
{
    const uint8_t *next = w;
    int32_t r = 0;
#if NET_VECTORS != NET_SIMD_none
    if (width == 8) {
        for (; n - r >= KIND_rows; r += KIND_rows) next = KIND_tile(c, in + r, KIND_rows, w, v + r, first);
        for (; r < n; r++) next = KIND_tile(c, in + r, 1, w, v + r, first);
        return next;
    }
#endif
    for (; r < n; r++) next = KIND_pixel(c, in[r], w, width, v + r, first);
    return next;
}
