/*@ load: base */
/* Reads an input of planes, channels first, and applies an epilogue. */
static void load(const struct net *net, const float *in, int32_t height, int32_t width, int32_t channels,
                 finish_fn *finish)
{
    const int32_t plane = height * width;
    struct at at;
    int32_t i;
    at.all = channels;
    for (at.y = 0; at.y < height; at.y++) {
        for (at.x = 0; at.x < width; at.x++) {
            for (at.first = 0; at.first < channels; at.first += at.count) {
                const float *p = in + at.first * plane + at.y * width + at.x;
                union values v;
                at.count = channels - at.first < CHUNK ? channels - at.first : CHUNK;
                for (i = 0; i < at.count; i++) v.f[i] = p[i * plane];
                finish(net, &at, &v);
            }
        }
    }
}

/*@ store: pixel */
/* Writes a tensor to an output of planes. */
static void store(const struct net *net, const struct view *t, int32_t height, int32_t width, int32_t channels,
                  float *out)
{
    int32_t y, x, c;
    for (y = 0; y < height; y++) {
        for (x = 0; x < width; x++) {
            const float *p = (const float *)(const void *)pixel(net, t, y, x);
            for (c = 0; c < channels; c++) out[(c * height + y) * width + x] = p[c];
        }
    }
}

/*@ map_f32: floats_at */
static void map_f32(const struct net *net, const struct view *t, int32_t height, int32_t width, int32_t channels,
                    finish_fn *finish)
{
    struct at at;
    at.all = channels;
    for (at.y = 0; at.y < height; at.y++) {
        for (at.x = 0; at.x < width; at.x++) {
            for (at.first = 0; at.first < channels; at.first += at.count) {
                union values v;
                at.count = channels - at.first < CHUNK ? channels - at.first : CHUNK;
                memcpy(v.f, floats_at(net, t, &at), (size_t)at.count * sizeof(float));
                finish(net, &at, &v);
            }
        }
    }
}

/*@ map_u8: pixel */
/* Converts bytes to the numbers that they mean and applies an epilogue. */
static void map_u8(const struct net *net, const struct view *t, int32_t height, int32_t width, int32_t channels,
                   float factor, int32_t zero_point, finish_fn *finish)
{
    struct at at;
    int32_t i;
    at.all = channels;
    for (at.y = 0; at.y < height; at.y++) {
        for (at.x = 0; at.x < width; at.x++) {
            const uint8_t *p = pixel(net, t, at.y, at.x);
            for (at.first = 0; at.first < channels; at.first += at.count) {
                union values v;
                at.count = channels - at.first < CHUNK ? channels - at.first : CHUNK;
                for (i = 0; i < at.count; i++) v.f[i] = (float)(p[at.first + i] - zero_point) * factor;
                finish(net, &at, &v);
            }
        }
    }
}

/*@ border: base */
/* Rows and columns of a border around an image. */
struct border {
    int32_t above, left, below, right;
};

/*@ fill_bytes: pixel border */
static void fill_bytes(const struct net *net, const struct view *t, int32_t height, int32_t width,
                       const struct border *b, int32_t bytes, int value)
{
    int32_t y, x;
    for (y = -b->above; y < height + b->below; y++) {
        const int inside = y >= 0 && y < height;
        for (x = -b->left; x < width + b->right; x++) {
            if (inside && x == 0) x = width;
            if (x < width + b->right) memset(pixel(net, t, y, x), value, (size_t)bytes);
        }
    }
}

/*@ fill_words: pixel border */
/* Fills a border with bits 1. `last_low` and `last_high` are the halves of a pixel's last 64-bit word. */
static void fill_words(const struct net *net, const struct view *t, int32_t height, int32_t width,
                       const struct border *b, int32_t words, uint32_t last_low, uint32_t last_high)
{
    const int32_t bytes = 8 * (words - 1);
    int32_t y, x;
    for (y = -b->above; y < height + b->below; y++) {
        const int inside = y >= 0 && y < height;
        for (x = -b->left; x < width + b->right; x++) {
            if (inside && x == 0) x = width;
            if (x < width + b->right) {
                uint8_t *p = pixel(net, t, y, x);
                memset(p, 255, (size_t)bytes);
                memcpy(p + bytes, &last_low, 4);
                memcpy(p + bytes + 4, &last_high, 4);
            }
        }
    }
}

/*@ pool: base */
/* Pooling: its window and the sizes of its input and output. */
struct pool {
    const struct view *in;
    int32_t in_height, in_width, channels;
    int32_t kernel_h, kernel_w, stride_y, stride_x, pad_y, pad_x;
    int32_t height, width;
};

/* The part of a window inside the image: `count` pixels of the input from `first` on. */
struct inside {
    int32_t first, count, with_padding;
};

static struct inside inside_of(int32_t at, int32_t stride, int32_t kernel, int32_t pad, int32_t size)
{
    const int32_t start = at * stride - pad;
    const int32_t end = start + kernel < size ? start + kernel : size;
    struct inside r;
    r.first = start < 0 ? 0 : start;
    r.count = end > r.first ? end - r.first : 0;
    r.with_padding = (start + kernel < size + pad ? start + kernel : size + pad) - start;
    return r;
}

/*@ pool_max: pool pixel */
static void pool_max(const struct net *net, const struct pool *p, finish_fn *finish)
{
    struct at at;
    int32_t i, j, k;
    at.all = p->channels;
    for (at.y = 0; at.y < p->height; at.y++) {
        const struct inside ys = inside_of(at.y, p->stride_y, p->kernel_h, p->pad_y, p->in_height);
        for (at.x = 0; at.x < p->width; at.x++) {
            const struct inside xs = inside_of(at.x, p->stride_x, p->kernel_w, p->pad_x, p->in_width);
            for (at.first = 0; at.first < p->channels; at.first += at.count) {
                union values v;
                at.count = p->channels - at.first < CHUNK ? p->channels - at.first : CHUNK;
                for (k = 0; k < at.count; k++) v.f[k] = -INFINITY;
                for (i = 0; i < ys.count; i++) {
                    for (j = 0; j < xs.count; j++) {
                        const uint8_t *from = pixel(net, p->in, ys.first + i, xs.first + j);
                        const float *x = (const float *)(const void *)from + at.first;
                        for (k = 0; k < at.count; k++) v.f[k] = x[k] > v.f[k] ? x[k] : v.f[k];
                    }
                }
                finish(net, &at, &v);
            }
        }
    }
}

/*@ pool_average: pool pixel */
/* With `padded`, the divisor counts padding. */
static void pool_average(const struct net *net, const struct pool *p, int padded, finish_fn *finish)
{
    struct at at;
    int32_t i, j, k;
    at.all = p->channels;
    for (at.y = 0; at.y < p->height; at.y++) {
        const struct inside ys = inside_of(at.y, p->stride_y, p->kernel_h, p->pad_y, p->in_height);
        for (at.x = 0; at.x < p->width; at.x++) {
            const struct inside xs = inside_of(at.x, p->stride_x, p->kernel_w, p->pad_x, p->in_width);
            const int32_t size = padded ? ys.with_padding * xs.with_padding : ys.count * xs.count;
            const float divisor = ys.count * xs.count > 0 ? (float)size : 1.0f;
            for (at.first = 0; at.first < p->channels; at.first += at.count) {
                union values v;
                at.count = p->channels - at.first < CHUNK ? p->channels - at.first : CHUNK;
                for (k = 0; k < at.count; k++) v.f[k] = 0;
                for (i = 0; i < ys.count; i++) {
                    for (j = 0; j < xs.count; j++) {
                        const uint8_t *from = pixel(net, p->in, ys.first + i, xs.first + j);
                        const float *x = (const float *)(const void *)from + at.first;
                        for (k = 0; k < at.count; k++) v.f[k] += x[k];
                    }
                }
                for (k = 0; k < at.count; k++) v.f[k] /= divisor;
                finish(net, &at, &v);
            }
        }
    }
}

/*@ pool_bits: pool pixel load32 */
/* The maximum of bits is their OR. If `flip` is not NULL, the result is flipped where its bits are 1. */
static void pool_bits(const struct net *net, const struct pool *p, const struct view *out, const uint8_t *flip)
{
    const int32_t bytes = (p->channels + 63) / 64 * 8;
    int32_t y, x, i, j, k;
    for (y = 0; y < p->height; y++) {
        const struct inside ys = inside_of(y, p->stride_y, p->kernel_h, p->pad_y, p->in_height);
        for (x = 0; x < p->width; x++) {
            const struct inside xs = inside_of(x, p->stride_x, p->kernel_w, p->pad_x, p->in_width);
            uint8_t *to = pixel(net, out, y, x);
            for (k = 0; k < bytes; k += 4) {
                uint32_t bits = 0;
                for (i = 0; i < ys.count; i++) {
                    for (j = 0; j < xs.count; j++) bits |= load32(pixel(net, p->in, ys.first + i, xs.first + j) + k);
                }
                if (flip != NULL) bits ^= load32(flip + k);
                memcpy(to + k, &bits, sizeof bits);
            }
        }
    }
}

/*@ depthwise: window pixel numbers */
/* One filter per channel. */
static void depthwise(const struct net *net, const struct conv *c, finish_fn *finish)
{
    const float *weights = numbers(net, c->weights);
    struct at at;
    int32_t i, j, k;
    at.all = c->filters;
    for (at.y = 0; at.y < c->height; at.y++) {
        for (at.x = 0; at.x < c->width; at.x++) {
            const int32_t y = at.y * c->stride_y - c->pad_y, x = at.x * c->stride_x - c->pad_x;
            for (at.first = 0; at.first < c->filters; at.first += at.count) {
                const float *w = weights + at.first;
                union values v;
                at.count = c->filters - at.first < CHUNK ? c->filters - at.first : CHUNK;
                for (k = 0; k < at.count; k++) v.f[k] = 0;
                for (i = 0; i < c->kernel_h; i++) {
                    for (j = 0; j < c->kernel_w; j++, w += c->filters) {
                        const uint8_t *from = pixel(net, c->in, y + i * c->dilate_y, x + j * c->dilate_x);
                        const float *a = (const float *)(const void *)from + at.first;
                        for (k = 0; k < at.count; k++) v.f[k] = MADD(a[k], w[k], v.f[k]);
                    }
                }
                finish(net, &at, &v);
            }
        }
    }
}

/*@ softmax: pixel */
/* Softmax over the channels of each pixel. */
static void softmax(const struct net *net, const struct view *in, const struct view *out, int32_t height,
                    int32_t width, int32_t channels)
{
    int32_t y, x, c;
    for (y = 0; y < height; y++) {
        for (x = 0; x < width; x++) {
            const float *a = (const float *)(const void *)pixel(net, in, y, x);
            float *b = (float *)(void *)pixel(net, out, y, x);
            float largest = a[0];
            double sum = 0;
            for (c = 1; c < channels; c++) largest = a[c] > largest ? a[c] : largest;
            for (c = 0; c < channels; c++) {
                b[c] = expf(a[c] - largest);
                sum += (double)b[c];
            }
            for (c = 0; c < channels; c++) b[c] = (float)((double)b[c] / sum);
        }
    }
}
