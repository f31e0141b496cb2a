// The gradient of the weights: that of tap t of channel c of filter f is the sum over output pixels p of all images of
//   out_grad[f][p] times the sign of channel c of the pixel that p reads at t.
//
// Tables are of four consecutive pixels of a filter, columns of signs are channels. Pixels are taken in chunks whose
// indices, made once for all filters, stay in a second-level cache.
#include <algorithm>

#include "kernels/thread_number.h"
#include "kernels/training/lookup_gradients.h"

namespace bmx {
namespace {

constexpr int64_t kIndexBytes = 384 << 10;
// Of which the tables of one tile, 6 x 64 x 64 bytes, stay in a first-level cache.
constexpr int64_t kTilePixels = 256;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

struct Plan {
  const ConvShape s;
  const SignLookup& lookup;
  const int64_t image_pixels, pixels;  // of an image, of all
  const int64_t channels;              // in whole vectors
  const int64_t blocks;                // of columns
  int64_t chunk;                       // pixels

  Plan(const Kernels& kernels, const ConvShape& shape)
      : s(shape),
        lookup(*kernels.sign_lookup),
        image_pixels(s.out_pixels()),
        pixels(s.batch * image_pixels),
        channels(round_up(s.channels, lookup.lanes)),
        blocks(divide_up(channels, lookup.columns)) {
    const int64_t fitting = kIndexBytes * 8 / (s.taps() * blocks * lookup.columns);
    chunk = std::max(kTilePixels, std::min(fitting, pixels) / kTilePixels * kTilePixels);
  }

  int columns(int64_t block) const {
    return static_cast<int>(std::min<int64_t>(lookup.columns, channels - block * lookup.columns));
  }
  // Indices lie as (tap, block of columns, 32 pixels, column).
  int64_t block_indices() const { return chunk / kSignsPerIndex * lookup.columns; }
  int64_t indices() const { return s.taps() * blocks * block_indices(); }
  // The gradient lies as (filter, tap, channel) while it is summed, if that is not how it shall lie.
  bool direct() const { return s.taps() == 1 && channels == s.channels; }
  int64_t sums() const { return direct() ? 0 : s.taps() * s.filters * channels; }
  int64_t tables() const { return lookup.rows * kTilePixels / kSignsPerLookup * lookup.table; }
  int64_t thread_floats() const { return tables() + kTilePixels; }
};

// Where pixel p, first of all, reads the packed data; and how far from there tap t lies.
int64_t pixel_offset(const ConvShape& s, int64_t p) {
  const int64_t image = p / s.out_pixels(), at = p % s.out_pixels();
  return image * s.channel_words() * s.padded_pixels() + at / s.out(2) * s.stride[1] * s.padded(2) +
         at % s.out(2) * s.stride[2];
}

int64_t tap_offset(const ConvShape& s, int64_t t) {
  return t / s.kernel[2] * s.dilate[1] * s.padded(2) + t % s.kernel[2] * s.dilate[2];
}

// The indices of one (tap, block) for `count` pixels from `begin` on.
void make_indices(const Plan& plan, const uint64_t* data, int64_t begin, int64_t count, int64_t item,
                  uint32_t* indices) {
  const ConvShape& s = plan.s;
  const int64_t first = item % plan.blocks * plan.lookup.columns;
  const int columns = plan.columns(item % plan.blocks);
  const uint64_t* words = data + tap_offset(s, item / plan.blocks) + first / 64 * s.padded_pixels();
  indices += item * plan.block_indices();
  for (int64_t p = 0; p < count; p += kSignsPerIndex, indices += columns) {
    const int live = static_cast<int>(std::min<int64_t>(kSignsPerIndex, count - p));
    int64_t offsets[kSignsPerIndex];
    for (int k = 0; k < live; ++k) offsets[k] = pixel_offset(s, begin + p + k);
    plan.lookup.make_indices(words, offsets, live, static_cast<int>(first % 64), columns, indices);
  }
}

// The floats of one filter for `count` pixels from `begin` on: where they lie, or side by side in `line`.
const float* pixels_of(const Plan& plan, const float* out_grad, int64_t filter, int64_t begin, int64_t count,
                       float* line) {
  int64_t filled = 0;
  while (filled < count) {
    const int64_t image = (begin + filled) / plan.image_pixels, at = (begin + filled) % plan.image_pixels;
    const int64_t run = std::min(count - filled, plan.image_pixels - at);
    const float* source = out_grad + (image * plan.s.filters + filter) * plan.image_pixels + at;
    if (run == count) return source;
    std::copy(source, source + run, line + filled);
    filled += run;
  }
  return line;
}

void make_tables(const SignLookup& lookup, const float* values, int64_t count, float* tables) {
  const int64_t whole = count / kSignsPerLookup;
  lookup.make_tables(values, 1, kSignsPerLookup, kSignsPerLookup, whole, tables, lookup.table);
  if (whole * kSignsPerLookup < count) {
    lookup.make_tables(values + whole * kSignsPerLookup, 1, 0, static_cast<int>(count % kSignsPerLookup), 1,
                       tables + whole * lookup.table, lookup.table);
  }
}

}  // namespace

size_t lookup_weight_gradient_floats(const Kernels& kernels, const ConvShape& shape, int threads) {
  const Plan plan(kernels, shape);
  return static_cast<size_t>(plan.indices() + round_up(plan.sums(), 16) + threads * plan.thread_floats());
}

void lookup_weight_gradient(const Kernels& kernels, const ConvShape& s, const float* out_grad, const uint64_t* data,
                            float factor, float* weight_grad, int threads, float* scratch) {
  const Plan plan(kernels, s);
  auto* const indices = reinterpret_cast<uint32_t*>(scratch);
  float* const sums = plan.direct() ? weight_grad : scratch + plan.indices();
  float* const own = scratch + plan.indices() + round_up(plan.sums(), 16);
  const int64_t taps = s.taps(), items = taps * plan.blocks;
  const int64_t tiles = threads * divide_up(divide_up(s.filters, threads), plan.lookup.rows);
  if (plan.pixels == 0) std::fill(weight_grad, weight_grad + s.filters * s.channels * taps, 0.0f);
#pragma omp parallel num_threads(threads)
  {
    float* const tables = own + thread_number() * plan.thread_floats();
    float* const line = tables + plan.tables();
    for (int64_t begin = 0; begin < plan.pixels; begin += plan.chunk) {
      const int64_t count = std::min(plan.chunk, plan.pixels - begin);
#pragma omp for schedule(static)
      for (int64_t item = 0; item < items; ++item) make_indices(plan, data, begin, count, item, indices);
#pragma omp for schedule(static)
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t f = s.filters * tile / tiles, rows = s.filters * (tile + 1) / tiles - f;
        if (rows == 0) continue;
        const int64_t table_stride = kTilePixels / kSignsPerLookup * plan.lookup.table;
        for (int64_t p = 0; p < count; p += kTilePixels) {
          const int64_t live = std::min(kTilePixels, count - p);
          const float* row_tables[kMostTileRows];
          float* row_sums[kMostTileRows];
          for (int64_t r = 0; r < rows; ++r) {
            const float* values = pixels_of(plan, out_grad, f + r, begin + p, live, line);
            make_tables(plan.lookup, values, live, tables + r * table_stride);
            row_tables[r] = tables + r * table_stride;
          }
          for (int64_t item = 0; item < items; ++item) {
            const int64_t tap = item / plan.blocks, block = item % plan.blocks, none = 0;
            const int columns = plan.columns(block);
            const uint32_t* part = indices + item * plan.block_indices() + p / kSignsPerIndex * columns;
            for (int64_t r = 0; r < rows; ++r) {
              row_sums[r] = sums + ((f + r) * taps + tap) * plan.channels + block * plan.lookup.columns;
            }
            plan.lookup.product({row_tables, static_cast<int>(rows), columns, 1, divide_up(live, kSignsPerLookup),
                                 &none, part, &none, row_sums, begin + p > 0});
          }
        }
      }
    }
#pragma omp for schedule(static)
    for (int64_t f = 0; f < (plan.pixels == 0 ? 0 : s.filters); ++f) {
      const int64_t size = s.channels * taps;
      if (plan.direct()) {
        for (int64_t i = 0; i < size; ++i) weight_grad[f * size + i] *= factor;
      } else {
        plan.lookup.transpose(sums + f * taps * plan.channels, plan.channels, taps, s.channels, factor,
                              weight_grad + f * size, taps);
      }
    }
  }
}

}  // namespace bmx
