#include "kernels/training/binary_conv.h"

#include <algorithm>

#include "kernels/buffer.h"
#include "kernels/thread_number.h"

namespace bmx {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// `begin` of share i when `total` things are dealt to `shares` as evenly as possible.
int64_t share(int64_t total, int64_t shares, int64_t i) { return total * i / shares; }

// How a product is cut into tasks: blocks of columns of at most a panel, in whole vectors and of nearly equal
// width, and, where these are too few for the threads, chunks of rows.
struct Tasks {
  int64_t columns, lanes, vectors, blocks, chunks;

  Tasks(const Kernels& kernels, int64_t columns_, int64_t rows, int64_t repeats, int threads)
      : columns(columns_),
        lanes(kernels.lanes),
        vectors(divide_up(columns_, kernels.lanes)),
        blocks(divide_up(vectors, kernels.panel_columns / kernels.lanes)),
        chunks(1) {
    const int64_t whole = blocks * repeats;
    if (whole % threads != 0 && whole < 4 * threads)
      chunks = std::max<int64_t>(1, std::min<int64_t>(threads, rows / 8));
  }
  int64_t begin(int64_t block) const { return std::min(columns, lanes * share(vectors, blocks, block)); }
};

// Threads are not worth their start for less than about 20 microseconds of work.
int useful_threads(int threads, double popcounts) { return popcounts < 30e3 ? 1 : threads; }

}  // namespace

size_t packed_input_words(const ConvShape& s) {
  return static_cast<size_t>(s.batch * s.groups * s.channel_words() * s.padded_pixels());
}

size_t packed_weight_words(const ConvShape& s) { return static_cast<size_t>(s.filters * s.filter_words()); }

bool pack_conv_input(const Kernels& kernels, const ConvShape& s, const float* data, bool pad_bit, uint64_t* words,
                     int threads, OtherValues others) {
  const int64_t channel_words = s.channel_words(), pixels = s.in_pixels(), padded = s.padded_pixels();
  if (padded == 1) return pack_rows(kernels, data, s.batch * s.groups, s.group_channels(), words, threads, others);
  const int64_t planes = s.batch * s.groups * channel_words;
  const bool pads = padded != pixels;
  threads = useful_threads(threads, static_cast<double>(planes * pixels));
  const int64_t stride = (pixels + 7) / 8 * 8;
  Buffer<uint64_t> scratch(pads ? threads * stride : 0);  // before the threads start: nothing may fail inside
  bool signs = true;
#pragma omp parallel num_threads(threads)
  {
    uint64_t* const plane = scratch.get() + (pads ? thread_number() * stride : 0);
#pragma omp for reduction(&& : signs)
    for (int64_t i = 0; i < planes; ++i) {
      if (!signs && others == OtherValues::kGiveUp) continue;
      const int64_t first = i % channel_words * 64;
      const int channels = static_cast<int>(std::min<int64_t>(64, s.group_channels() - first));
      const float* source = data + (i / channel_words * s.group_channels() + first) * pixels;
      uint64_t* target = words + i * padded;
      signs = kernels.pack_channels(source, pixels, channels, pixels, pads ? plane : target) && signs;
      if (!pads) continue;
      const uint64_t all = channels == 64 ? ~uint64_t{0} : (uint64_t{1} << channels) - 1;
      const uint64_t fill = pad_bit ? all : 0;
      const uint64_t* row = plane;
      for (int64_t d = 0; d < s.padded(0); ++d) {
        const bool inside_d = d >= s.pad[0] && d < s.pad[0] + s.in[0];
        for (int64_t h = 0; h < s.padded(1); ++h, target += s.padded(2)) {
          if (!inside_d || h < s.pad[1] || h >= s.pad[1] + s.in[1]) {
            std::fill(target, target + s.padded(2), fill);
            continue;
          }
          std::fill(target, target + s.pad[2], fill);
          std::copy(row, row + s.in[2], target + s.pad[2]);
          std::fill(target + s.pad[2] + s.in[2], target + s.padded(2), fill);
          row += s.in[2];
        }
      }
    }
  }
  return signs;
}

void pack_conv_weight(const Kernels& kernels, const ConvShape& s, const float* weight, uint64_t* words, int threads) {
  const int64_t taps = s.taps(), channel_words = s.channel_words();
  if (taps == 1) {
    pack_rows(kernels, weight, s.filters, s.group_channels(), words, threads);
    return;
  }
  threads = useful_threads(threads, static_cast<double>(s.filters * s.filter_words()));
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < s.filters * channel_words; ++i) {
    const int64_t first = i % channel_words * 64;
    const int channels = static_cast<int>(std::min<int64_t>(64, s.group_channels() - first));
    const float* source = weight + (i / channel_words * s.group_channels() + first) * taps;
    kernels.pack_channels(source, taps, channels, taps, words + i * taps);
  }
}

void binary_conv(const Kernels& kernels, const ConvShape& s, const uint64_t* input, const uint64_t* weight,
                 const Epilogue& epilogue, float* out, int threads) {
  const int64_t pixels = s.out_pixels(), filters = s.group_filters(), depth = s.filter_words();
  const int64_t plane = s.padded_pixels(), images = s.batch * s.groups;
  if (images == 0 || pixels == 0 || filters == 0) return;

  // Word (channel word, tap) of an output pixel lies at column_offset[pixel] + depth_offset[word]: this alone
  // carries stride, dilation, and every border, for a bit image is padded when it is packed.
  Buffer<int64_t> depth_offset(depth), column_offset(pixels);
  int64_t* next = depth_offset.get();
  for (int64_t word = 0; word < s.channel_words(); ++word) {
    for (int64_t kd = 0; kd < s.kernel[0]; ++kd) {
      for (int64_t kh = 0; kh < s.kernel[1]; ++kh) {
        const int64_t row = word * plane + (kd * s.dilate[0] * s.padded(1) + kh * s.dilate[1]) * s.padded(2);
        for (int64_t kw = 0; kw < s.kernel[2]; ++kw) *next++ = row + kw * s.dilate[2];
      }
    }
  }
  next = column_offset.get();
  for (int64_t od = 0; od < s.out(0); ++od) {
    for (int64_t oh = 0; oh < s.out(1); ++oh) {
      const int64_t row = (od * s.stride[0] * s.padded(1) + oh * s.stride[1]) * s.padded(2), width = s.out(2);
      for (int64_t ow = 0; ow < width; ++ow) next[ow] = row + ow * s.stride[2];
      next += width;
    }
  }

  const double popcounts = static_cast<double>(images) * pixels * filters * depth;
  threads = useful_threads(threads, popcounts);
  const Tasks tasks(kernels, pixels, filters, images, threads);
  const int64_t panel_words = depth * kernels.panel_columns;
  Buffer<uint64_t> panels(threads * panel_words);
#pragma omp parallel num_threads(threads)
  {
    uint64_t* const panel = panels.get() + thread_number() * panel_words;
#pragma omp for schedule(static)
    for (int64_t task = 0; task < images * tasks.blocks * tasks.chunks; ++task) {
      const int64_t chunk = task % tasks.chunks, block = task / tasks.chunks % tasks.blocks;
      const int64_t image = task / tasks.chunks / tasks.blocks, group = image % s.groups;
      const int64_t begin = tasks.begin(block), columns = tasks.begin(block + 1) - begin;
      kernels.gather_panel(input + image * s.channel_words() * plane, column_offset.get() + begin,
                           static_cast<int>(columns), depth_offset.get(), depth, panel);
      const int64_t row = share(filters, tasks.chunks, chunk), rows = share(filters, tasks.chunks, chunk + 1) - row;
      const int64_t filter = group * filters + row;
      kernels.gemm(weight + filter * depth, depth, rows, panel, depth, static_cast<int>(columns), epilogue.from(filter),
                   out + (image / s.groups * s.filters + filter) * pixels + begin, pixels);
    }
  }
}

void binary_matmul(const Kernels& kernels, const uint64_t* a, const uint64_t* b, size_t rows, size_t columns,
                   size_t depth, const Epilogue& epilogue, float* out, int threads) {
  if (rows == 0 || columns == 0) return;
  Buffer<int64_t> column_offset(columns), depth_offset(depth);
  for (size_t j = 0; j < columns; ++j) column_offset[j] = static_cast<int64_t>(j * depth);
  for (size_t k = 0; k < depth; ++k) depth_offset[k] = static_cast<int64_t>(k);
  threads = useful_threads(threads, static_cast<double>(rows) * columns * depth);
  const Tasks tasks(kernels, columns, rows, 1, threads);
  const int64_t panel_words = depth * kernels.panel_columns;
  Buffer<uint64_t> panels(threads * panel_words);
#pragma omp parallel num_threads(threads)
  {
    uint64_t* const panel = panels.get() + thread_number() * panel_words;
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks.blocks * tasks.chunks; ++task) {
      const int64_t chunk = task % tasks.chunks, block = task / tasks.chunks;
      const int64_t begin = tasks.begin(block), width = tasks.begin(block + 1) - begin;
      kernels.gather_panel(b, column_offset.get() + begin, static_cast<int>(width), depth_offset.get(), depth, panel);
      const int64_t row = share(rows, tasks.chunks, chunk), count = share(rows, tasks.chunks, chunk + 1) - row;
      kernels.gemm(a + row * depth, depth, count, panel, depth, static_cast<int>(width),
                   epilogue.from(epilogue.along_rows ? row : begin), out + row * columns + begin, columns);
    }
  }
}

bool pack_rows(const Kernels& kernels, const float* data, size_t rows, size_t length, uint64_t* words, int threads,
               OtherValues others) {
  const size_t depth = (length + 63) / 64;
  threads = useful_threads(threads, static_cast<double>(rows * length) / 8);
  bool signs = true;
#pragma omp parallel for num_threads(threads) reduction(&& : signs)
  for (size_t r = 0; r < rows; ++r) {
    if (!signs && others == OtherValues::kGiveUp) continue;
    signs = kernels.pack_row(data + r * length, length, words + r * depth) && signs;
  }
  return signs;
}

}  // namespace bmx
