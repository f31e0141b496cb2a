// The gradient of the data: pixel (y, x) of channel c is the sum over filters f and taps t of
//   out_grad[f] at the output that reads (y, x) at t, times the sign of weight[f][c][t].
//
// Tables are of four filters at an output pixel, columns of signs are channels. Pixels from where the same taps reach
// an output (inside an image all taps do, at its border some do not, with a stride every second) are rows of common
// tiles; no tap is multiplied in vain.
#include <algorithm>
#include <vector>

#include "kernels/thread_number.h"
#include "kernels/training/lookup_gradients.h"

namespace bmx {
namespace {

// Tables of one task, to stay in a second-level cache where a row's do.
constexpr int64_t kTableBytes = 384 << 10;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What positions of the input along one axis have in common: the taps that reach an output from there, and how far
// that output lies from that of the first of these taps.
struct Reach {
  std::vector<int64_t> taps, steps;
  bool operator==(const Reach& other) const { return taps == other.taps && steps == other.steps; }
};

struct Axis {
  std::vector<Reach> kinds;
  std::vector<size_t> kind;            // of each position
  std::vector<int64_t> first_reached;  // the output of its first tap, or -1

  Axis(const ConvShape& s, int axis) {
    for (int64_t at = 0; at < s.in[axis]; ++at) {
      Reach reach;
      int64_t first = -1;
      for (int64_t tap = 0; tap < s.kernel[axis]; ++tap) {
        const int64_t from = at + s.pad[axis] - tap * s.dilate[axis];
        if (from < 0 || from % s.stride[axis] != 0 || from / s.stride[axis] >= s.out(axis)) continue;
        if (reach.taps.empty()) first = from / s.stride[axis];
        reach.taps.push_back(tap);
        reach.steps.push_back(from / s.stride[axis] - first);
      }
      const auto same = std::find(kinds.begin(), kinds.end(), reach);
      kind.push_back(same - kinds.begin());
      if (same == kinds.end()) kinds.push_back(reach);
      first_reached.push_back(first);
    }
  }
};

// Rows of the image that are worked on at a time, and the rows of the output that they read.
struct Band {
  int64_t begin, end, first_out, last_out;
  int64_t rows() const { return end - begin; }
  int64_t out_rows() const { return std::max<int64_t>(0, last_out - first_out + 1); }
};

struct Plan {
  const ConvShape s;
  const SignLookup& lookup;
  const Axis vertical, horizontal;
  const int64_t lookups;   // of a tap
  const int64_t channels;  // in whole vectors
  std::vector<Band> bands;
  int64_t images = 1;  // worked on at a time

  Plan(const Kernels& kernels, const ConvShape& shape, int threads)
      : s(shape),
        lookup(*kernels.sign_lookup),
        vertical(s, 1),
        horizontal(s, 2),
        lookups(divide_up(s.filters, kSignsPerLookup)),
        channels(divide_up(s.channels, lookup.lanes) * lookup.lanes) {
    const int64_t fitting = kTableBytes / static_cast<int64_t>(sizeof(float)) / table_row();
    Band band{0, 0, s.out(1), -1};
    for (int64_t y = 0; y < s.in[1]; ++y) {
      const Band longer = extended(band, y);
      if (band.rows() > 0 && longer.out_rows() > fitting) {
        bands.push_back(band);
        band = extended({y, y, s.out(1), -1}, y);
      } else {
        band = longer;
      }
    }
    bands.push_back(band);
    if (bands.size() == 1) {
      const int64_t most = std::min(fitting / std::max<int64_t>(1, band.out_rows()), divide_up(s.batch, threads));
      images = std::max<int64_t>(1, std::min(most, s.batch));
    }
  }

  // Floats of the tables of one row of the output.
  int64_t table_row() const { return s.out(2) * lookups * lookup.table; }
  int64_t tables() const {
    int64_t rows = 0;
    for (const Band& band : bands) rows = std::max(rows, band.out_rows());
    return images * rows * table_row();
  }
  int64_t sums() const {
    int64_t rows = 0;
    for (const Band& band : bands) rows = std::max(rows, band.rows());
    return images * rows * s.in[2] * channels;
  }
  // Indices lie as (block of columns, tap, 32 filters, column).
  int64_t tap_indices(int64_t columns) const { return divide_up(s.filters, kSignsPerIndex) * columns; }
  int64_t indices() const { return s.taps() * tap_indices(channels); }

 private:
  Band extended(Band band, int64_t y) const {
    band.end = y + 1;
    const int64_t first = vertical.first_reached[y];
    for (int64_t step : vertical.kinds[vertical.kind[y]].steps) {
      band.first_out = std::min(band.first_out, first + step);
      band.last_out = std::max(band.last_out, first + step);
    }
    return band;
  }
};

void make_indices(const Plan& plan, const uint64_t* weight, uint32_t* indices, int threads) {
  const ConvShape& s = plan.s;
  const int64_t taps = s.taps(), filter_words = s.filter_words();
#pragma omp parallel for num_threads(threads)
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t c = 0; c < plan.channels; c += plan.lookup.columns) {
      const int columns = static_cast<int>(std::min<int64_t>(plan.lookup.columns, plan.channels - c));
      uint32_t* target = indices + taps * plan.tap_indices(c) + tap * plan.tap_indices(columns);
      for (int64_t f = 0; f < s.filters; f += kSignsPerIndex, target += columns) {
        const int count = static_cast<int>(std::min<int64_t>(kSignsPerIndex, s.filters - f));
        int64_t offsets[kSignsPerIndex];
        for (int k = 0; k < count; ++k) offsets[k] = (f + k) * filter_words + c / 64 * taps + tap;
        plan.lookup.make_indices(weight, offsets, count, static_cast<int>(c % 64), columns, target);
      }
    }
  }
}

// (row, column, four filters) of one image.
void make_tables(const Plan& plan, const Band& band, const float* out_grad, float* tables) {
  const ConvShape& s = plan.s;
  const int64_t pixels = s.out(1) * s.out(2), table = plan.lookup.table;
  for (int64_t l = 0; l < plan.lookups; ++l) {
    const int64_t f = l * kSignsPerLookup;
    const int live = static_cast<int>(std::min<int64_t>(kSignsPerLookup, s.filters - f));
    plan.lookup.make_tables(out_grad + f * pixels + band.first_out * s.out(2), pixels, 1, live,
                            band.out_rows() * s.out(2), tables + l * table, plan.lookups * table);
  }
}

// One kind of rows and one of columns: the pixels of an image, and the taps that reach an output from them.
class PixelKind {
 public:
  PixelKind(const Plan& plan, const Band& band, size_t vertical, size_t horizontal) : plan_(plan) {
    const ConvShape& s = plan.s;
    const int64_t table = plan.lookups * plan.lookup.table;
    for (int64_t y = band.begin; y < band.end; ++y) {
      if (plan.vertical.kind[y] != vertical) continue;
      for (int64_t x = 0; x < s.in[2]; ++x) {
        if (plan.horizontal.kind[x] != horizontal) continue;
        const int64_t out_row = plan.vertical.first_reached[y] - band.first_out;
        pixels_.push_back((y - band.begin) * s.in[2] + x);
        const bool reached = plan.vertical.first_reached[y] >= 0 && plan.horizontal.first_reached[x] >= 0;
        tables_.push_back(reached ? (out_row * s.out(2) + plan.horizontal.first_reached[x]) * table : 0);
      }
    }
    const Reach &v = plan.vertical.kinds[vertical], &h = plan.horizontal.kinds[horizontal];
    for (size_t i = 0; i < v.taps.size(); ++i) {
      for (size_t j = 0; j < h.taps.size(); ++j) {
        index_rows_.push_back((v.taps[i] * s.kernel[2] + h.taps[j]) * plan.tap_indices(1));
        offsets_.push_back((v.steps[i] * s.out(2) + h.steps[j]) * table);
      }
    }
  }

  // The channels from `first` on, of `images` images whose tables and sums lie `table_stride` and `sum_stride` apart.
  void multiply(int64_t images, const float* tables, int64_t table_stride, const uint32_t* indices, int64_t first,
                float* sums, int64_t sum_stride) const {
    const int columns = static_cast<int>(std::min<int64_t>(plan_.lookup.columns, plan_.channels - first));
    const auto count = static_cast<int64_t>(pixels_.size());
    const int64_t rows = images * count, tiles = divide_up(rows, plan_.lookup.rows);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = rows * tile / tiles, end = rows * (tile + 1) / tiles;
      const float* row_tables[kMostTileRows];
      float* row_sums[kMostTileRows];
      for (int64_t row = begin; row < end; ++row) {
        const int64_t image = row / count, i = row % count;
        row_tables[row - begin] = tables + image * table_stride + tables_[i];
        row_sums[row - begin] = sums + image * sum_stride + pixels_[i] * plan_.channels + first;
      }
      plan_.lookup.product({row_tables, static_cast<int>(end - begin), columns, static_cast<int>(offsets_.size()),
                            plan_.lookups, offsets_.data(), indices + plan_.s.taps() * plan_.tap_indices(first),
                            index_rows_.data(), row_sums, false});
    }
  }

 private:
  const Plan& plan_;
  std::vector<int64_t> pixels_, tables_;       // of each pixel
  std::vector<int64_t> offsets_, index_rows_;  // of each tap
};

}  // namespace

size_t lookup_data_gradient_floats(const Kernels& kernels, const ConvShape& shape, int threads) {
  const Plan plan(kernels, shape, threads);
  return static_cast<size_t>(plan.indices() + threads * (plan.tables() + plan.sums()));
}

void lookup_data_gradient(const Kernels& kernels, const ConvShape& s, const float* out_grad, const uint64_t* weight,
                          float factor, const SignWindow* window, float* data_grad, int threads, float* scratch) {
  const Plan plan(kernels, s, threads);
  auto* indices = reinterpret_cast<uint32_t*>(scratch);
  make_indices(plan, weight, indices, threads);
  std::vector<std::vector<PixelKind>> kinds(plan.bands.size());
  for (size_t b = 0; b < plan.bands.size(); ++b) {
    const auto rows = plan.vertical.kind.begin();
    for (size_t v = 0; v < plan.vertical.kinds.size(); ++v) {
      const auto last = rows + plan.bands[b].end;
      if (std::find(rows + plan.bands[b].begin, last, v) == last) continue;
      for (size_t h = 0; h < plan.horizontal.kinds.size(); ++h) kinds[b].emplace_back(plan, plan.bands[b], v, h);
    }
  }
  const auto bands = static_cast<int64_t>(plan.bands.size());
  const int64_t in_pixels = s.in_pixels(), out_pixels = s.out_pixels();
#pragma omp parallel num_threads(threads)
  {
    float* const tables = scratch + plan.indices() + thread_number() * (plan.tables() + plan.sums());
    float* const sums = tables + plan.tables();
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < divide_up(s.batch, plan.images) * bands; ++task) {
      const int64_t image = task / bands * plan.images, images = std::min(plan.images, s.batch - image);
      const Band& band = plan.bands[task % bands];
      const int64_t table_stride = band.out_rows() * plan.table_row();
      const int64_t pixels = band.rows() * s.in[2], sum_stride = pixels * plan.channels;
      for (int64_t n = 0; n < images; ++n) {
        make_tables(plan, band, out_grad + (image + n) * s.filters * out_pixels, tables + n * table_stride);
      }
      for (int64_t c = 0; c < plan.channels; c += plan.lookup.columns) {
        for (const PixelKind& kind : kinds[task % bands]) {
          kind.multiply(images, tables, table_stride, indices, c, sums, sum_stride);
        }
      }
      for (int64_t n = 0; n < images; ++n) {
        const int64_t at = (image + n) * s.channels * in_pixels + band.begin * s.in[2];
        float* target = data_grad + at;
        plan.lookup.transpose(sums + n * sum_stride, plan.channels, pixels, s.channels, factor, target, in_pixels);
        for (int64_t c = 0; c < (window == nullptr ? 0 : s.channels); ++c, target += in_pixels) {
          kernels.arrays.sign_backward(target, window->data + at + c * in_pixels, target, pixels, window->threshold,
                                       window->estimator);
        }
      }
    }
  }
}

}  // namespace bmx
