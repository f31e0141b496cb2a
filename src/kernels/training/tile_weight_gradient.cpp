// The gradient of the weights: that of tap t of channel c of filter f is the sum over output pixels p of all images of
//   out_grad[f][p] times the sign of channel c of the pixel that p reads at t.
//
// The floats of some filters and pixels are split at a time and stay in a second-level cache; the signs that a tap
// reads at these pixels are expanded for some channels just before their use.
#include <algorithm>
#include <vector>

#include "kernels/thread_number.h"
#include "kernels/training/tile_gradients.h"

namespace bmx {
namespace {

constexpr int64_t kFloatBytes = 1 << 20;
constexpr int64_t kMostPixels = 1024;  // whose signs are 64 KiB

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

struct Plan {
  const ConvShape s;
  const int terms;
  const int64_t image_pixels, pixels;           // of an image, of all
  const int64_t filter_blocks, channel_blocks;  // of kBlock
  int64_t chunk;                                // pixels at a time
  int64_t group;                                // blocks of filters at a time

  Plan(const ConvShape& shape, int terms_)
      : s(shape),
        terms(terms_),
        image_pixels(s.out_pixels()),
        pixels(s.batch * image_pixels),
        filter_blocks(divide_up(s.filters, kBlock)),
        channel_blocks(divide_up(s.channels, kBlock)) {
    chunk = round_up(divide_up(pixels, std::max<int64_t>(1, divide_up(pixels, kMostPixels))), kTileDepth);
    const int64_t bytes = std::max<int64_t>(1, block_numbers() * static_cast<int64_t>(sizeof(uint16_t)));
    const int64_t most = std::max<int64_t>(1, kFloatBytes / bytes);
    group = divide_up(filter_blocks, divide_up(filter_blocks, most));
  }

  int64_t steps() const { return chunk / kTileDepth; }
  int64_t block_numbers() const { return steps() * terms * kBlockNumbers; }

  // In floats.
  int64_t offsets() const { return round_up(chunk * 2, 16); }
  int64_t floats() const { return group * block_numbers() / 2; }
  // Of (tap, block of channels, block of filters), filters and channels of these.
  int64_t sums() const { return s.taps() * channel_blocks * filter_blocks * kBlockSums; }
  int64_t signs() const { return steps() * kBlockNumbers / 2; }
  int64_t thread_floats() const { return signs() + chunk; }
};

// Where pixels first + i, i < count, of all images read the packed data; and how far from there tap t lies.
void pixel_offsets(const ConvShape& s, int64_t first, int64_t count, int64_t* offsets) {
  int64_t image = first / s.out_pixels(), y = first % s.out_pixels() / s.out(2), x = first % s.out(2);
  for (int64_t i = 0; i < count;) {
    const int64_t row = image * s.channel_words() * s.padded_pixels() + y * s.stride[1] * s.padded(2);
    for (; x < s.out(2) && i < count; ++x) offsets[i++] = row + x * s.stride[2];
    x = 0;
    if (++y == s.out(1)) y = 0, ++image;
  }
}

int64_t tap_offset(const ConvShape& s, int64_t t) {
  return t / s.kernel[2] * s.dilate[1] * s.padded(2) + t % s.kernel[2] * s.dilate[2];
}

// The floats of one filter for `count` pixels from `begin` on, and zeros up to a whole number of steps: where they lie,
// or side by side in `line`.
const float* pixels_of(const Plan& plan, const float* out_grad, int64_t filter, int64_t begin, int64_t count,
                       float* line) {
  int64_t filled = 0;
  while (filled < count) {
    const int64_t image = (begin + filled) / plan.image_pixels, at = (begin + filled) % plan.image_pixels;
    const int64_t run = std::min(count - filled, plan.image_pixels - at);
    const float* source = out_grad + (image * plan.s.filters + filter) * plan.image_pixels + at;
    if (run == count && count % kTileDepth == 0) return source;
    std::copy(source, source + run, line + filled);
    filled += run;
  }
  std::fill(line + count, line + round_up(count, kTileDepth), 0.0f);
  return line;
}

}  // namespace

size_t tile_weight_gradient_floats(const ConvShape& shape, int terms, int threads) {
  const Plan plan(shape, terms);
  return static_cast<size_t>(plan.offsets() + plan.floats() + plan.sums() + threads * plan.thread_floats());
}

void tile_weight_gradient(const Kernels& kernels, const ConvShape& s, const float* out_grad, const uint64_t* data,
                          float factor, float* weight_grad, int terms, int threads, float* scratch) {
  const Plan plan(s, terms);
  const SignTiles& tiles = *kernels.sign_tiles;
  const int64_t taps = s.taps(), size = s.channels * taps, items = taps * plan.channel_blocks;
  if (plan.pixels == 0) return std::fill(weight_grad, weight_grad + s.filters * size, 0.0f);
  auto* const offsets = reinterpret_cast<int64_t*>(scratch);
  auto* const floats = reinterpret_cast<uint16_t*>(scratch + plan.offsets());
  float* const sums = scratch + plan.offsets() + plan.floats();
  float* const own = sums + plan.sums();
  std::vector<int64_t> steps(plan.steps()), rows(taps);
  for (int64_t i = 0; i < plan.steps(); ++i) steps[i] = i * terms * kBlockNumbers;
  for (int64_t t = 0; t < taps; ++t) rows[t] = t * plan.channel_blocks * plan.filter_blocks * kBlock;
#pragma omp parallel num_threads(threads)
  {
    auto* const signs = reinterpret_cast<uint16_t*>(own + thread_number() * plan.thread_floats());
    float* const line = own + thread_number() * plan.thread_floats() + plan.signs();
    for (int64_t first = 0; first < plan.filter_blocks; first += plan.group) {
      const int64_t blocks = std::min(plan.group, plan.filter_blocks - first);
      for (int64_t begin = 0; begin < plan.pixels; begin += plan.chunk) {
        const int64_t count = std::min(plan.chunk, plan.pixels - begin), whole = round_up(count, kTileDepth);
#pragma omp single nowait
        {
          pixel_offsets(s, begin, count, offsets);
          std::fill(offsets + count, offsets + whole, offsets[0]);  // any signs: their floats are 0
        }
#pragma omp for schedule(static)
        for (int64_t f = 0; f < blocks * kBlock; ++f) {
          // (Beyond the last filter, any: their sums are not read.)
          const int64_t filter = std::min(first * kBlock + f, s.filters - 1);
          uint16_t* row = floats + f / kBlock * plan.block_numbers() + f % kBlock * kTileDepth;
          tiles.split_row(pixels_of(plan, out_grad, filter, begin, count, line), whole, terms, row, kBlockNumbers,
                          terms * kBlockNumbers);
        }
#pragma omp for schedule(static)
        for (int64_t item = 0; item < items; ++item) {
          const int64_t tap = item / plan.channel_blocks, c = item % plan.channel_blocks * kBlock;
          tiles.expand(data + tap_offset(s, tap) + c / 64 * s.padded_pixels(), offsets, whole, static_cast<int>(c % 64),
                       signs);
          tiles.product({floats, plan.block_numbers(), kBlockNumbers, terms, signs, steps.data(), whole / kTileDepth,
                         blocks, sums + (item * plan.filter_blocks + first) * kBlockSums, begin > 0});
        }
      }
    }
#pragma omp for schedule(static)
    for (int64_t f = 0; f < s.filters; ++f) {
      for (int64_t c = 0; c < s.channels; c += kBlock) {
        const float* source = sums + (c / kBlock * plan.filter_blocks + f / kBlock) * kBlockSums + f % kBlock * kBlock;
        tiles.join(source, rows.data(), taps, static_cast<int>(std::min<int64_t>(kBlock, s.channels - c)), factor,
                   weight_grad + f * size + c * taps, taps);
      }
    }
  }
}

}  // namespace bmx
