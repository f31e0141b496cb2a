// The gradient of the data: pixel (y, x) of channel c is the sum over filters f and taps t of
//   out_grad[f] at the output that reads (y, x) at t, times the sign of weight[f][c][t].
//
// With a stride, pixels whose coordinates leave the same remainders ("phases") are reached by the same taps, and each
// phase is a convolution of out_grad without a stride. The floats of some images lie as (row, column, image), with
// zeros between rows: the pixels of a row, of all images, are consecutive rows of a product, and a tap is a distance.
// Taps that reach no output row are left out; there are no zeros above and below.
#include <algorithm>
#include <vector>

#include "kernels/thread_number.h"
#include "kernels/training/tile_gradients.h"

namespace bmx {
namespace {

// Floats of one task, to stay in a second-level cache beside the signs.
constexpr int64_t kFloatBytes = 1 << 20;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Pixels first, first + stride, ... along one axis; pixel i of them reads output i + step at each tap. Steps descend.
struct Phase {
  int64_t count;
  std::vector<int64_t> taps, steps;
};

struct Axis {
  std::vector<Phase> phases;
  int64_t count = 0;              // pixels of the largest phase
  int64_t before = 0, after = 0;  // how far from its own number the output of a pixel may be
  int64_t gap = 0;                // how far a pixel may read before the first output, or behind the last

  Axis(const ConvShape& s, int axis) {
    for (int64_t first = 0; first < std::min(s.stride[axis], s.in[axis]); ++first) {
      Phase phase{divide_up(s.in[axis] - first, s.stride[axis]), {}, {}};
      for (int64_t tap = 0; tap < s.kernel[axis]; ++tap) {
        const int64_t from = first + s.pad[axis] - tap * s.dilate[axis];
        if (from % s.stride[axis] != 0) continue;
        const int64_t step = from / s.stride[axis];
        if (step >= s.out(axis) || step + phase.count <= 0) continue;  // from no pixel
        phase.taps.push_back(tap);
        phase.steps.push_back(step);
        before = std::max(before, -step);
        after = std::max(after, step);
        gap = std::max({gap, -step, phase.count + step - s.out(axis)});
      }
      count = std::max(count, phase.count);
      phases.push_back(phase);
    }
  }
};

struct Plan {
  const ConvShape s;
  const int terms;
  const Axis vertical, horizontal;
  const int64_t chunks;  // of kTileDepth filters
  const int64_t pitch;   // of a row of out_grad with its zeros
  int64_t rows;          // of a phase that are worked on at a time,
  int64_t images = 1;    // and images

  Plan(const ConvShape& shape, int terms_, int threads)
      : s(shape),
        terms(terms_),
        vertical(s, 1),
        horizontal(s, 2),
        chunks(divide_up(s.filters, kTileDepth)),
        pitch(s.out(2) + horizontal.gap),
        rows(vertical.count) {
    const int64_t row = pitch * chunks * kTileDepth * terms * static_cast<int64_t>(sizeof(uint16_t));
    const int64_t fitting = kFloatBytes / row;  // rows
    if (s.out(1) > fitting) {
      const int64_t most = std::max<int64_t>(4, fitting - vertical.before - vertical.after);
      rows = divide_up(rows, divide_up(rows, most));
    } else {
      const int64_t most = std::min(fitting / s.out(1), divide_up(s.batch, threads));
      int64_t even = 1;  // so many, or a multiple, fill blocks
      while (even * horizontal.count % kBlock != 0) even *= 2;
      images = std::max<int64_t>(1, most < even ? most : most / even * even);
    }
  }

  int64_t bands() const { return divide_up(vertical.count, rows); }
  int64_t out_rows() const { return std::min(s.out(1), rows + vertical.before + vertical.after); }
  int64_t row_blocks() const { return divide_up(horizontal.count * images, kBlock); }

  // Zeros of all images before the first row, and more than are read behind the last.
  int64_t head() const { return horizontal.gap * images; }
  int64_t tail() const { return horizontal.gap * images + row_blocks() * kBlock; }
  int64_t term_stride() const { return (head() + out_rows() * pitch * images + tail()) * kTileDepth; }
  int64_t chunk_stride() const { return terms * term_stride(); }
  // Of the sums of one phase, in rows.
  int64_t phase_rows() const { return rows * row_blocks() * kBlock; }

  // In floats.
  int64_t signs() const { return chunks * s.taps() * kBlockNumbers / 2; }
  int64_t floats() const { return chunks * chunk_stride() / 2; }
  int64_t sums() const {
    return static_cast<int64_t>(vertical.phases.size() * horizontal.phases.size()) * phase_rows() * kBlock;
  }
  int64_t thread_floats() const { return signs() + floats() + sums(); }
};

// Rows of each phase of some images.
struct Task {
  int64_t image, images, first, rows;
  int64_t first_out, last_out;  // the rows of out_grad that they read; none if last < first

  Task(const Plan& plan, int64_t index)
      : image(index / plan.bands() * plan.images),
        images(std::min(plan.images, plan.s.batch - image)),
        first(index % plan.bands() * plan.rows),
        rows(std::min(plan.rows, plan.vertical.count - first)),
        first_out(std::max<int64_t>(0, first - plan.vertical.before)),
        last_out(std::min(plan.s.out(1), first + rows + plan.vertical.after) - 1) {}
};

// Where the floats of an output pixel lie, and the sums of an input pixel; those of the first image.
std::vector<int64_t> float_rows(const Plan& plan) {
  std::vector<int64_t> rows;
  for (int64_t y = 0; y < plan.s.out(1); ++y) {
    for (int64_t x = 0; x < plan.s.out(2); ++x) rows.push_back((y * plan.pitch + x) * plan.images);
  }
  return rows;
}
std::vector<int64_t> sum_rows(const Plan& plan) {
  const ConvShape& s = plan.s;
  const auto phases = static_cast<int64_t>(plan.horizontal.phases.size());
  std::vector<int64_t> rows;
  for (int64_t y = 0; y < s.in[1]; ++y) {
    for (int64_t x = 0; x < s.in[2]; ++x) {
      const int64_t phase = y % s.stride[1] * phases + x % s.stride[2];
      rows.push_back(phase * plan.phase_rows() + y / s.stride[1] * plan.row_blocks() * kBlock +
                     x / s.stride[2] * plan.images);
    }
  }
  return rows;
}

void split(const Plan& plan, const SignTiles& tiles, const Task& task, const float* out_grad, const int64_t* rows,
           uint16_t* floats) {
  const ConvShape& s = plan.s;
  const int64_t begin = task.first_out * s.out(2), count = (task.last_out + 1) * s.out(2) - begin;
  for (int64_t n = 0; n < task.images && count > 0; ++n) {
    for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
      const int64_t f = chunk * kTileDepth;
      const int64_t first = plan.head() + n - task.first_out * plan.pitch * plan.images;
      tiles.split_columns(out_grad + ((task.image + n) * s.filters + f) * s.out_pixels() + begin, s.out_pixels(),
                          static_cast<int>(std::min<int64_t>(kTileDepth, s.filters - f)), count, plan.terms,
                          rows + begin, floats + chunk * plan.chunk_stride() + first * kTileDepth, plan.term_stride());
    }
  }
}

// A phase of rows with one of columns. Steps of its products: vertical tap, chunk of filters, horizontal tap.
class PixelPhase {
 public:
  PixelPhase(const Plan& plan, const Phase& down, const Phase& right) : plan_(plan), down_(down) {
    for (size_t i = 0; i < down.taps.size(); ++i) {
      for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
        for (size_t j = 0; j < right.taps.size(); ++j) {
          taps_.push_back(down.taps[i] * plan.s.kernel[2] + right.taps[j]);
          filters_.push_back(chunk * kTileDepth);
          const int64_t distance = (down.steps[i] * plan.pitch + right.steps[j]) * plan.images;
          offsets_.push_back(chunk * plan.chunk_stride() + (plan.head() + distance) * kTileDepth);
        }
      }
    }
  }

  // The signs of the channels from `first` on.
  void expand(const SignTiles& tiles, const uint64_t* weight, int64_t first, uint16_t* signs) const {
    const ConvShape& s = plan_.s;
    const uint64_t* words = weight + first / 64 * s.taps();
    for (size_t step = 0; step < taps_.size(); ++step, signs += kBlockNumbers) {
      int64_t rows[kTileDepth];
      // (Beyond the last filter, any signs: their floats are 0.)
      for (int k = 0; k < kTileDepth; ++k) {
        rows[k] = std::min(filters_[step] + k, s.filters - 1) * s.filter_words() + taps_[step];
      }
      tiles.expand(words, rows, kTileDepth, static_cast<int>(first % 64), signs);
    }
  }

  void multiply(const SignTiles& tiles, const Task& task, const uint16_t* floats, const uint16_t* signs,
                float* sums) const {
    const auto taps = static_cast<int64_t>(down_.taps.size());
    const int64_t tap_steps = taps == 0 ? 0 : static_cast<int64_t>(offsets_.size()) / taps;
    const int64_t row = plan_.row_blocks() * kBlockSums, out_row = plan_.pitch * plan_.images * kTileDepth;
    for (int64_t y = task.first; y < std::min(down_.count, task.first + task.rows); ++y, sums += row) {
      int64_t begin = 0, end = taps;  // taps whose output is none
      while (begin < end && y + down_.steps[begin] >= plan_.s.out(1)) ++begin;
      while (begin < end && y + down_.steps[end - 1] < 0) --end;
      tiles.product({floats + (y - task.first_out) * out_row, kBlockNumbers, plan_.term_stride(), plan_.terms,
                     signs + begin * tap_steps * kBlockNumbers, offsets_.data() + begin * tap_steps,
                     (end - begin) * tap_steps, plan_.row_blocks(), sums, false});
    }
  }

 private:
  const Plan& plan_;
  const Phase& down_;
  std::vector<int64_t> taps_, filters_, offsets_;  // of each step
};

}  // namespace

size_t tile_data_gradient_floats(const ConvShape& shape, int terms, int threads) {
  const Plan plan(shape, terms, threads);
  return static_cast<size_t>(threads * plan.thread_floats());
}

void tile_data_gradient(const Kernels& kernels, const ConvShape& s, const float* out_grad, const uint64_t* weight,
                        float factor, const SignWindow* window, float* data_grad, int terms, int threads,
                        float* scratch) {
  const Plan plan(s, terms, threads);
  const SignTiles& tiles = *kernels.sign_tiles;
  const std::vector<int64_t> of_floats = float_rows(plan), of_sums = sum_rows(plan);
  std::vector<PixelPhase> phases;
  for (const Phase& down : plan.vertical.phases) {
    for (const Phase& right : plan.horizontal.phases) phases.emplace_back(plan, down, right);
  }
  const int64_t tasks = divide_up(s.batch, plan.images) * plan.bands();
#pragma omp parallel num_threads(threads)
  {
    float* const own = scratch + thread_number() * plan.thread_floats();
    auto* const signs = reinterpret_cast<uint16_t*>(own);
    auto* const floats = reinterpret_cast<uint16_t*>(own + plan.signs());
    float* const sums = own + plan.signs() + plan.floats();
    std::fill(floats, floats + 2 * plan.floats(), uint16_t{0});  // between rows they stay 0
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < tasks; ++i) {
      const Task task(plan, i);
      const int64_t begin = task.first * s.stride[1] * s.in[2];
      const int64_t end = std::min(s.in[1], (task.first + task.rows) * s.stride[1]) * s.in[2];
      split(plan, tiles, task, out_grad, of_floats.data(), floats);
      for (int64_t c = 0; c < s.channels; c += kBlock) {
        for (size_t p = 0; p < phases.size(); ++p) {
          phases[p].expand(tiles, weight, c, signs);
          phases[p].multiply(tiles, task, floats, signs, sums + static_cast<int64_t>(p) * plan.phase_rows() * kBlock);
        }
        const int64_t channels = std::min<int64_t>(kBlock, s.channels - c);
        const float* source = sums - task.first * plan.row_blocks() * kBlockSums;
        for (int64_t n = 0; n < task.images; ++n, source += kBlock) {
          const int64_t at = ((task.image + n) * s.channels + c) * s.in_pixels() + begin;
          tiles.join(source, of_sums.data() + begin, end - begin, static_cast<int>(channels), factor, data_grad + at,
                     s.in_pixels());
          for (int64_t k = 0; window != nullptr && k < channels; ++k) {
            float* plane = data_grad + at + k * s.in_pixels();
            kernels.arrays.sign_backward(plane, window->data + at + k * s.in_pixels(), plane, end - begin,
                                         window->threshold, window->estimator);
          }
        }
      }
    }
  }
}

}  // namespace bmx
