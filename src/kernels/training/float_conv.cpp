#include "kernels/training/float_conv.h"

#include <algorithm>

#include "kernels/buffer.h"
#include "kernels/thread_number.h"

namespace bmx {
namespace {

// Calls f(column row, offset in the padded image of its first element) for each (channel, tap) of a group.
template <class F>
void for_each_tap(const ConvShape& s, F f) {
  int64_t row = 0;
  for (int64_t c = 0; c < s.group_channels(); ++c) {
    for (int64_t kd = 0; kd < s.kernel[0]; ++kd) {
      for (int64_t kh = 0; kh < s.kernel[1]; ++kh) {
        for (int64_t kw = 0; kw < s.kernel[2]; ++kw, ++row) {
          f(row, c * s.padded_pixels() + (kd * s.dilate[0] * s.padded(1) + kh * s.dilate[1]) * s.padded(2) +
                     kw * s.dilate[2]);
        }
      }
    }
  }
}

// Calls f(output pixel, offset in the padded image, length) for each row of output pixels.
template <class F>
void for_each_row(const ConvShape& s, F f) {
  int64_t pixel = 0;
  for (int64_t od = 0; od < s.out(0); ++od) {
    for (int64_t oh = 0; oh < s.out(1); ++oh, pixel += s.out(2)) {
      f(pixel, (od * s.stride[0] * s.padded(1) + oh * s.stride[1]) * s.padded(2), s.out(2));
    }
  }
}

void image_to_columns(const ConvShape& s, const float* image, float* columns) {
  const int64_t pixels = s.out_pixels(), step = s.stride[2];
  for_each_tap(s, [&](int64_t row, int64_t tap) {
    for_each_row(s, [&](int64_t pixel, int64_t start, int64_t length) {
      const float* source = image + tap + start;
      float* target = columns + row * pixels + pixel;
      for (int64_t i = 0; i < length; ++i) target[i] = source[i * step];
    });
  });
}

void add_columns_to_image(const ConvShape& s, const float* columns, float* image) {
  const int64_t pixels = s.out_pixels(), step = s.stride[2];
  for_each_tap(s, [&](int64_t row, int64_t tap) {
    for_each_row(s, [&](int64_t pixel, int64_t start, int64_t length) {
      const float* source = columns + row * pixels + pixel;
      float* target = image + tap + start;
      for (int64_t i = 0; i < length; ++i) target[i * step] += source[i];
    });
  });
}

// Column buffers and scratch of matrix products, one each a thread, made before the threads start: nothing may fail
// inside a parallel region.
class Scratch {
 public:
  Scratch(size_t columns, int threads)
      : columns_size_(columns), columns_(columns * threads), gemm_(kFloatGemmScratch * threads) {}
  float* columns() { return columns_.get() + thread_number() * columns_size_; }
  float* gemm() { return gemm_.get() + thread_number() * kFloatGemmScratch; }

 private:
  size_t columns_size_;
  Buffer<float> columns_, gemm_;
};

// Calls f(row of the image, row of the padded image) for each row of pixels of the batch.
template <class F>
void for_each_image_row(const ConvShape& s, int threads, F f) {
#pragma omp parallel for num_threads(threads)
  for (int64_t plane = 0; plane < s.batch * s.channels; ++plane) {
    for (int64_t d = 0; d < s.in[0]; ++d) {
      for (int64_t h = 0; h < s.in[1]; ++h) {
        f(((plane * s.in[0] + d) * s.in[1] + h) * s.in[2],
          plane * s.padded_pixels() + ((d + s.pad[0]) * s.padded(1) + h + s.pad[1]) * s.padded(2) + s.pad[2]);
      }
    }
  }
}

}  // namespace

void pad_input(const ConvShape& s, const float* data, float pad_value, float* padded, int threads) {
  if (s.padded_pixels() != s.in_pixels()) {
    std::fill(padded, padded + s.batch * s.channels * s.padded_pixels(), pad_value);
  }
  for_each_image_row(s, threads, [&](int64_t row, int64_t padded_row) {
    std::copy(data + row, data + row + s.in[2], padded + padded_row);
  });
}

void crop_input(const ConvShape& s, const float* padded, float* data, int threads) {
  for_each_image_row(s, threads, [&](int64_t row, int64_t padded_row) {
    std::copy(padded + padded_row, padded + padded_row + s.in[2], data + row);
  });
}

void float_conv(const Kernels& kernels, const ConvShape& s, const float* padded, const float* weight, float* out,
                int threads) {
  const int64_t inputs = s.inputs(), pixels = s.out_pixels(), filters = s.group_filters();
  Scratch scratch(inputs * pixels, threads);
#pragma omp parallel num_threads(threads)
  {
    float* const columns = scratch.columns();
#pragma omp for
    for (int64_t image = 0; image < s.batch * s.groups; ++image) {
      const int64_t group = image % s.groups;
      image_to_columns(s, padded + image * s.group_channels() * s.padded_pixels(), columns);
      kernels.float_gemm(filters, pixels, inputs, weight + group * filters * inputs, inputs, 1, columns, pixels, 1,
                         out + image * filters * pixels, pixels, false, scratch.gemm());
    }
  }
}

void float_conv_backward_data(const Kernels& kernels, const ConvShape& s, const float* out_grad, const float* weight,
                              float* padded_grad, int threads) {
  const int64_t inputs = s.inputs(), pixels = s.out_pixels(), filters = s.group_filters();
  const int64_t image_size = s.group_channels() * s.padded_pixels();
  Scratch scratch(inputs * pixels, threads);
#pragma omp parallel num_threads(threads)
  {
    float* const columns = scratch.columns();
#pragma omp for
    for (int64_t image = 0; image < s.batch * s.groups; ++image) {
      const int64_t group = image % s.groups;
      kernels.float_gemm(inputs, pixels, filters, weight + group * filters * inputs, 1, inputs,
                         out_grad + image * filters * pixels, pixels, 1, columns, pixels, false, scratch.gemm());
      std::fill(padded_grad + image * image_size, padded_grad + (image + 1) * image_size, 0.0f);
      add_columns_to_image(s, columns, padded_grad + image * image_size);
    }
  }
}

void float_conv_backward_weight(const Kernels& kernels, const ConvShape& s, const float* out_grad, const float* padded,
                                float* weight_grad, int threads) {
  const int64_t inputs = s.inputs(), pixels = s.out_pixels(), filters = s.group_filters();
  const int64_t size = s.filters * inputs;
  std::fill(weight_grad, weight_grad + size, 0.0f);
  // Each part sums its share of the batch; the parts are added in order, so that a number of threads always
  // gives the same result.
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, s.batch));
  Buffer<float> sums((parts - 1) * size);
  if (parts > 1) std::fill(sums.get(), sums.get() + sums.size(), 0.0f);
  Scratch scratch(inputs * pixels, static_cast<int>(parts));
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) {
    float* sum = part == 0 ? weight_grad : sums.get() + (part - 1) * size;
    float* const columns = scratch.columns();
    for (int64_t n = s.batch * part / parts; n < s.batch * (part + 1) / parts; ++n) {
      for (int64_t group = 0; group < s.groups; ++group) {
        const int64_t image = n * s.groups + group;
        image_to_columns(s, padded + image * s.group_channels() * s.padded_pixels(), columns);
        kernels.float_gemm(filters, inputs, pixels, out_grad + image * filters * pixels, pixels, 1, columns, 1, pixels,
                           sum + group * filters * inputs, inputs, true, scratch.gemm());
      }
    }
  }
  for (int64_t part = 1; part < parts; ++part) {
    const float* sum = sums.get() + (part - 1) * size;
    for (int64_t i = 0; i < size; ++i) weight_grad[i] += sum[i];
  }
}

void bias_backward(const float* out_grad, int64_t batch, int64_t filters, int64_t pixels, float* bias_grad) {
  for (int64_t f = 0; f < filters; ++f) {
    double sum = 0;
    for (int64_t n = 0; n < batch; ++n) {
      const float* row = out_grad + (n * filters + f) * pixels;
      for (int64_t p = 0; p < pixels; ++p) sum += row[p];
    }
    bias_grad[f] = static_cast<float>(sum);
  }
}

}  // namespace bmx
