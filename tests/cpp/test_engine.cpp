// Each kind of step in the engine, from the bytes of a file to numbers, against its definition in docs/format.md
// written with loops. Tensors of one step come from LOAD and go out by STORE.
#include <algorithm>
#include <cmath>

#include "engine_run.h"
#include "program_builder.h"
#include "test.h"

namespace {

using namespace test;

constexpr int kBatch = 4;

// One image, H x W x C.
struct Image {
  int height, width, channels;
  std::vector<float> values;

  Image(int h, int w, int c) : height(h), width(w), channels(c), values(size_t(h) * w * c) {}
  float& at(int y, int x, int c) { return values[(size_t(y) * width + x) * channels + c]; }
  float at(int y, int x, int c) const { return const_cast<Image*>(this)->at(y, x, c); }
  bool inside(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }
};

// Image `n` of an array (batch, C, H, W).
Image image_of(const std::vector<float>& array, int n, int height, int width, int channels) {
  Image image(height, width, channels);
  const float* planes = array.data() + n * image.values.size();
  for (int c = 0; c < channels; ++c) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) image.at(y, x, c) = *planes++;
    }
  }
  return image;
}

Image map(Image image, const std::function<float(float)>& f) {
  for (float& value : image.values) value = f(value);
  return image;
}

float sign(float x) { return x < 0 ? -1.0f : 1.0f; }
float byte_of(float x, float inverse_scale, int zero_point) {
  const float y = std::nearbyintf(x * inverse_scale) + static_cast<float>(zero_point);
  return y > 255 ? 255.0f : (y > 0 ? y : 0.0f);  // NaN gives 0
}

void check_close(const Image& expected, const Image& got, double tolerance, const std::string& what) {
  CHECK(expected.values.size() == got.values.size(), what);
  for (size_t i = 0; i < got.values.size(); ++i) {
    const double e = expected.values[i], g = got.values[i];
    const bool equal = (std::isnan(e) && std::isnan(g)) || e == g || std::fabs(e - g) <= tolerance;
    CHECK(equal, what + " at " + std::to_string(i) + ": " + std::to_string(g) + " for " + std::to_string(e));
  }
}

// A network of one step: `add` takes the input's tensor, f32 without a border, and gives the tensor (f32) of the
// result. `expect` gives that from the input. Both are images of any size.
void check_step(int height, int width, int channels, const std::function<uint32_t(Builder&, uint32_t)>& add,
                const std::function<Image(const Image&)>& expect, double tolerance, const std::string& what,
                const std::function<void(float&)>& prepare = nullptr) {
  Builder b;
  b.input("x", {uint32_t(channels), uint32_t(height), uint32_t(width)});
  const uint32_t in = b.tensor(F32, height, width, channels);
  b.step(LOAD).u(0).u(0).u(STORE_F32).u(in);
  const uint32_t out = add(b, in);
  const TensorRecord& t = b.tensors[out];
  b.output("y", {uint32_t(t.channels), uint32_t(t.height), uint32_t(t.width)});
  b.step(STORE).u(out).u(0);
  Random random(height * 1000 + width * 100 + channels);
  std::vector<float> x = random.values(size_t(kBatch) * height * width * channels);
  if (prepare) std::for_each(x.begin(), x.end(), prepare);
  const Arrays y = run_everywhere(b.file(), {x}, kBatch);
  for (int n = 0; n < kBatch; ++n) {
    const Image expected = expect(image_of(x, n, height, width, channels));
    check_close(expected, image_of(y[0], n, expected.height, expected.width, expected.channels), tolerance, what);
  }
}

void finite(float& x) {
  if (!(std::fabs(x) < 100)) x = 0.25f;
}

// --- tensors of other types ---

// The signs of a tensor, as bits with a border.
uint32_t bits_of_tensor(Builder& b, uint32_t in, int border = 0, uint32_t holds = 0) {
  const TensorRecord t = b.tensors[in];
  const uint32_t bits = b.tensor(BIT, t.height, t.width, t.channels, border, holds);
  b.step(FILL).u(bits);
  const std::vector<float> zeros(t.channels, 0.0f);
  b.step(MAP).u(in).u(0).u(STORE_BITS).u(bits).u(b.data(zeros)).u(b.data(zeros));
  return bits;
}

uint32_t bytes_of_tensor(Builder& b, uint32_t in, float scale, uint32_t zero_point, int border = 0) {
  const TensorRecord t = b.tensors[in];
  const uint32_t bytes = b.tensor(U8, t.height, t.width, t.channels, border, zero_point, scale, zero_point);
  b.step(FILL).u(bytes);
  b.step(MAP).u(in).u(0).u(STORE_U8).u(bytes).f(1 / scale);
  return bytes;
}

uint32_t conv(Builder& b, uint32_t arithmetic, uint32_t in, const Window& w, int groups, int filters, bool run,
              uint32_t weights, uint32_t start, float all, float step) {
  b.step(CONV).u(arithmetic).u(in).window(w).u(groups).u(filters).u(run).u(weights).u(start).f(all).f(step);
  return in;
}

// Bits as -1 and 1. Filter c of a 1x1 convolution has bit c only: it differs from n bits that have bit c set in n - 1
// places, else in n + 1; one more filter without bits counts n.
uint32_t reveal(Builder& b, uint32_t bits) {
  const TensorRecord t = b.tensors[bits];
  const int c = t.channels, filters = c + 1;
  const auto weights =
      pack_weights(0, 1, filters, c, {}, false, [](int f, int i, int, int) { return f == i ? 1 : -1; });
  const uint32_t counts = b.tensor(F32, t.height, t.width, filters), out = b.tensor(F32, t.height, t.width, c);
  conv(b, 0, bits, {}, 1, filters, false, b.data(weights, 1), kAbsent, 0, -1);
  b.u(0).u(STORE_F32).u(counts);
  b.tensors.push_back(b.tensors[counts]);  // the last channel: n
  const auto total = static_cast<uint32_t>(b.tensors.size() - 1);
  b.tensors[total].channels = 1;
  b.tensors[total].offset += 4 * c;
  const uint32_t each = b.slice(counts, 0, c), minus = b.tensor(F32, t.height, t.width, 1);
  b.step(MAP).u(total).u(1).u(FUNCTION).u(16).u(STORE_F32).u(minus);
  // p - n is -1 where the bit is set, else 1.
  b.step(MAP).u(each).u(2).u(ADD).u(minus).u(FUNCTION).u(16).u(STORE_F32).u(out);
  return out;
}

int out_size(int size, int kernel, int stride, int dilate, int before, int after) {
  return (size + before + after - dilate * (kernel - 1) - 1) / stride + 1;
}

// A convolution with the padding `pad`, whose pixels are all `padding`.
template <class F>
Image slow_conv(const Image& x, const Window& w, int border, int groups, int filters, double padding, F weight) {
  Image y(out_size(x.height, w.kernel_h, w.stride_y, w.dilate_y, w.pad_y, border),
          out_size(x.width, w.kernel_w, w.stride_x, w.dilate_x, w.pad_x, border), filters);
  const int group_channels = x.channels / groups;
  for (int oy = 0; oy < y.height; ++oy) {
    for (int ox = 0; ox < y.width; ++ox) {
      for (int f = 0; f < filters; ++f) {
        double sum = 0;
        for (int c = 0; c < group_channels; ++c) {
          for (int ky = 0; ky < int(w.kernel_h); ++ky) {
            for (int kx = 0; kx < int(w.kernel_w); ++kx) {
              const int iy = oy * int(w.stride_y) - w.pad_y + ky * int(w.dilate_y);
              const int ix = ox * int(w.stride_x) - w.pad_x + kx * int(w.dilate_x);
              const int channel = f / (filters / groups) * group_channels + c;
              sum += (x.inside(iy, ix) ? x.at(iy, ix, channel) : padding) * weight(f, c, ky, kx);
            }
          }
        }
        y.at(oy, ox, f) = static_cast<float>(sum);
      }
    }
  }
  return y;
}

// Any numbers, the same for the packed weights and the slow convolution.
int number(int f, int c, int ky, int kx) { return (f * 31 + c * 17 + ky * 7 + kx * 5 + f * c % 11) % 23 - 11; }
int bit_weight(int f, int c, int ky, int kx) { return number(f, c, ky, kx) > 0 ? 1 : -1; }

struct ConvCase {
  int height, width, channels, filters, groups, kernel, stride, dilate, border;
  bool run;
};

const ConvCase kConvCases[] = {{1, 1, 1, 1, 1, 1, 1, 1, 0, false},    {5, 7, 3, 9, 1, 3, 1, 1, 1, true},
                               {8, 6, 65, 20, 1, 3, 2, 1, 1, true},   {6, 6, 70, 130, 1, 2, 1, 2, 1, false},
                               {9, 5, 4, 8, 1, 3, 3, 1, 2, false},    {1, 1, 200, 70, 1, 1, 1, 1, 0, true},
                               {4, 4, 128, 32, 2, 3, 1, 1, 1, false}, {7, 7, 64, 64, 1, 3, 1, 1, 1, true},
                               {3, 40, 16, 24, 1, 3, 1, 1, 1, true},  {10, 10, 192, 24, 3, 1, 2, 1, 0, false}};

Window window_of(const ConvCase& c) {
  Window w;
  w.kernel_h = w.kernel_w = c.kernel, w.stride_y = w.stride_x = c.stride, w.dilate_y = w.dilate_x = c.dilate;
  w.pad_y = w.pad_x = c.border;
  return w;
}

std::string describe(const char* what, const ConvCase& c) {
  return std::string(what) + ": " + std::to_string(c.height) + "x" + std::to_string(c.width) + "x" +
         std::to_string(c.channels) + " to " + std::to_string(c.filters) + " kernel " + std::to_string(c.kernel);
}

uint32_t result(Builder& b, const ConvCase& c) {
  return b.tensor(F32, out_size(c.height, c.kernel, c.stride, c.dilate, c.border, c.border),
                  out_size(c.width, c.kernel, c.stride, c.dilate, c.border, c.border), c.filters);
}

TEST(engine_binary_convolution_counts_differing_bits) {
  for (const ConvCase& c : kConvCases) {
    for (uint32_t holds : {0u, 1u}) {
      const Window w = window_of(c);
      const float inputs = static_cast<float>(c.channels / c.groups * c.kernel * c.kernel);
      check_step(
          c.height, c.width, c.channels,
          [&](Builder& b, uint32_t in) {
            const uint32_t bits = bits_of_tensor(b, in, c.border, holds), out = result(b, c);
            const auto weights = pack_weights(0, c.groups, c.filters, c.channels / c.groups, w, c.run, bit_weight);
            conv(b, 0, bits, w, c.groups, c.filters, c.run, b.data(weights, 1), kAbsent, inputs, 2);
            b.u(0).u(STORE_F32).u(out);
            return out;
          },
          [&](const Image& x) {
            return slow_conv(map(x, sign), w, c.border, c.groups, c.filters, holds ? 1 : -1, bit_weight);
          },
          0, describe("binary", c));
    }
  }
}

template <class F>
void check_float_convolution(uint32_t arithmetic, const char* what, F weight) {
  for (const ConvCase& c : kConvCases) {
    const Window w = window_of(c);
    check_step(
        c.height, c.width, c.channels,
        [&](Builder& b, uint32_t in) {
          const uint32_t padded = b.tensor(F32, c.height, c.width, c.channels, c.border), out = result(b, c);
          b.step(FILL).u(padded);
          b.step(MAP).u(in).u(0).u(STORE_F32).u(padded);
          const auto weights = pack_weights(arithmetic, c.groups, c.filters, c.channels / c.groups, w, c.run, weight);
          conv(b, arithmetic, padded, w, c.groups, c.filters, c.run, b.data(weights, 1), kAbsent, 0, 0);
          b.u(0).u(STORE_F32).u(out);
          return out;
        },
        [&](const Image& x) { return slow_conv(x, w, c.border, c.groups, c.filters, 0, weight); }, 2e-3,
        describe(what, c), finite);
  }
}

TEST(engine_float_convolution_sums_products) {
  check_float_convolution(1, "float", [](int f, int c, int ky, int kx) { return number(f, c, ky, kx) / 8.0f; });
  check_float_convolution(3, "float x binary", bit_weight);
}

template <class F>
void check_int8_convolution(uint32_t arithmetic, const char* what, F number) {
  const int zero_point = 100;
  const float scale = 1 / 64.0f;
  for (const ConvCase& c : kConvCases) {
    const Window w = window_of(c);
    check_step(
        c.height, c.width, c.channels,
        [&](Builder& b, uint32_t in) {
          const uint32_t bytes = bytes_of_tensor(b, in, scale, zero_point, c.border), out = result(b, c);
          const int channels = c.channels / c.groups;
          const auto weights = pack_weights(arithmetic, c.groups, c.filters, channels, w, c.run, number);
          const auto start = start_of(zero_point, c.groups, c.filters, channels, w, number);
          conv(b, arithmetic, bytes, w, c.groups, c.filters, c.run, b.data(weights, 1), b.data(start), 0, 0);
          b.u(0).u(STORE_F32).u(out);
          return out;
        },
        [&](const Image& x) {
          const auto centred = [&](float v) { return byte_of(v, 1 / scale, zero_point) - float(zero_point); };
          return slow_conv(map(x, centred), w, c.border, c.groups, c.filters, 0, number);
        },
        0, describe(what, c));
  }
}

TEST(engine_int8_convolution_is_exact) {
  check_int8_convolution(2, "int8", number);
  check_int8_convolution(4, "int8 x binary", bit_weight);
}

TEST(engine_counts_become_bits) {
  const ConvCase c{6, 5, 70, 37, 1, 3, 1, 1, 1, true};
  const Window w = window_of(c);
  check_step(
      c.height, c.width, c.channels,
      [&](Builder& b, uint32_t in) {
        const uint32_t bits = bits_of_tensor(b, in, 1), out = b.tensor(BIT, c.height, c.width, c.filters);
        std::vector<int32_t> threshold(c.filters);
        std::vector<uint8_t> flip((c.filters + 7) / 8, 0);
        for (int f = 0; f < c.filters; ++f) {
          threshold[f] = 315 + f % 5 - 2;
          flip[f / 8] |= (f % 3 == 0) << (f % 8);
        }
        const auto weights = pack_weights(0, 1, c.filters, c.channels, w, true, bit_weight);
        conv(b, 0, bits, w, 1, c.filters, true, b.data(weights, 1), kAbsent, 0, 0);
        b.u(0).u(STORE_COUNT_BITS).u(out).u(b.data(threshold)).u(b.data(flip, 64));
        return reveal(b, out);
      },
      [&](const Image& x) {
        Image y = slow_conv(map(x, sign), w, 1, 1, c.filters, -1, bit_weight);  // K - 2 p
        for (size_t i = 0; i < y.values.size(); ++i) {
          const int f = static_cast<int>(i) % c.filters, p = (630 - int(y.values[i])) / 2;
          y.values[i] = (p <= 315 + f % 5 - 2) != (f % 3 == 0) ? 1.0f : -1.0f;
        }
        return y;
      },
      0, "counts");
}

TEST(engine_thresholds_become_bits) {
  const float nan = std::nanf("");
  for (int channels : {1, 31, 64, 100, 129}) {
    std::vector<float> threshold(channels);
    std::vector<uint32_t> flip(channels);
    for (int c = 0; c < channels; ++c) {
      threshold[c] = c % 7 == 6 ? nan : static_cast<float>(c % 5 - 2) / 2;
      flip[c] = c % 2 == 0 ? 0 : 0x80000000u;
    }
    check_step(
        3, 4, channels,
        [&](Builder& b, uint32_t in) {
          const uint32_t bits = b.tensor(BIT, 3, 4, channels);
          b.step(MAP).u(in).u(0).u(STORE_BITS).u(bits).u(b.data(threshold)).u(b.data(flip));
          return reveal(b, bits);
        },
        [&](Image x) {
          for (size_t i = 0; i < x.values.size(); ++i) {
            const size_t c = i % channels;
            const float y = flip[c] == 0 ? x.values[i] : -x.values[i];
            x.values[i] = y < threshold[c] ? -1.0f : 1.0f;
          }
          return x;
        },
        0, "thresholds of " + std::to_string(channels));
  }
}

TEST(engine_depthwise_convolution_has_a_filter_a_channel) {
  for (int channels : {1, 20, 32, 75}) {
    Window w;
    w.kernel_h = 3, w.kernel_w = 2, w.stride_y = 2, w.pad_y = 1, w.pad_x = 1;
    const auto weight = [](int c, int ky, int kx) { return static_cast<float>(number(c, 1, ky, kx)) / 4; };
    check_step(
        7, 5, channels,
        [&](Builder& b, uint32_t in) {
          const uint32_t padded = b.tensor(F32, 7, 5, channels, 1), out = b.tensor(F32, 4, 6, channels);
          b.step(FILL).u(padded);
          b.step(MAP).u(in).u(0).u(STORE_F32).u(padded);
          const int rounded = (channels + 31) / 32 * 32;
          std::vector<float> weights(6 * rounded, 0.0f);
          for (int i = 0; i < 6 * channels; ++i) {
            weights[i / channels * rounded + i % channels] = weight(i % channels, i / channels / 2, i / channels % 2);
          }
          b.step(DEPTHWISE).u(padded).window(w).u(b.data(weights)).u(0).u(STORE_F32).u(out);
          return out;
        },
        [&](const Image& x) {
          return slow_conv(x, w, 1, channels, channels, 0,
                           [&](int f, int, int ky, int kx) { return weight(f, ky, kx); });
        },
        1e-3, "depthwise", finite);
  }
}

// Kernel, stride and padding of poolings, some with windows that have no pixel.
const int kPools[][3] = {{2, 2, 0}, {3, 2, 1}, {3, 1, 2}, {7, 7, 0}, {1, 1, 1}, {4, 3, 2}};

Image slow_pool(const Image& x, const Window& w, int height, int width, int mode) {
  Image y(height, width, x.channels);
  for (int oy = 0; oy < height; ++oy) {
    for (int ox = 0; ox < width; ++ox) {
      const int y0 = oy * int(w.stride_y) - w.pad_y, x0 = ox * int(w.stride_x) - w.pad_x;
      const int rows = std::min(y0 + int(w.kernel_h), x.height + w.pad_y) - y0;
      const int columns = std::min(x0 + int(w.kernel_w), x.width + w.pad_x) - x0;
      for (int c = 0; c < x.channels; ++c) {
        float largest = -HUGE_VALF;
        double sum = 0;
        int count = 0;
        for (int iy = y0; iy < y0 + int(w.kernel_h); ++iy) {
          for (int ix = x0; ix < x0 + int(w.kernel_w); ++ix) {
            if (!x.inside(iy, ix)) continue;
            largest = std::max(largest, x.at(iy, ix, c));
            sum += x.at(iy, ix, c);
            ++count;
          }
        }
        if (mode == 2) count = rows * columns;
        y.at(oy, ox, c) = mode == 0 ? largest : static_cast<float>(sum / count);
      }
    }
  }
  return y;
}

TEST(engine_pools_over_the_pixels_inside) {
  for (const auto& pool : kPools) {
    for (int mode = 0; mode < 3; ++mode) {
      Window w;
      w.kernel_h = w.kernel_w = pool[0], w.stride_y = w.stride_x = pool[1], w.pad_y = w.pad_x = pool[2];
      const int height = out_size(8, pool[0], pool[1], 1, pool[2], pool[2]);
      const int width = out_size(9, pool[0], pool[1], 1, pool[2], pool[2]);
      if (mode == 1 && pool[0] == 1) continue;  // windows of padding alone
      check_step(
          8, 9, 19,
          [&](Builder& b, uint32_t in) {
            const uint32_t out = b.tensor(F32, height, width, 19);
            b.step(POOL).u(in).window(w).u(mode).u(0).u(STORE_F32).u(out);
            return out;
          },
          [&](const Image& x) { return slow_pool(x, w, height, width, mode); }, 1e-6,
          "pool " + std::to_string(pool[0]) + " mode " + std::to_string(mode), finite);
    }
  }
}

TEST(engine_pools_bits) {
  for (int channels : {5, 64, 90}) {
    Window w;
    w.kernel_h = w.kernel_w = 3, w.stride_y = w.stride_x = 2, w.pad_y = w.pad_x = 1;
    for (bool flips : {false, true}) {
      check_step(
          6, 7, channels,
          [&](Builder& b, uint32_t in) {
            const uint32_t bits = bits_of_tensor(b, in), out = b.tensor(BIT, 3, 4, channels);
            std::vector<uint64_t> flip((channels + 63) / 64, 0);
            for (int c = 0; c < channels; c += 3) flip[c / 64] |= uint64_t{1} << (c % 64);
            b.step(POOL_BITS).u(bits).u(out).window(w).u(flips ? b.data(flip, 1) : kAbsent);
            return reveal(b, out);
          },
          [&](const Image& x) {
            Image y = slow_pool(map(x, sign), w, 3, 4, 0);
            for (size_t i = 0; i < y.values.size(); ++i) {
              if (flips && i % channels % 3 == 0) y.values[i] = -y.values[i];
            }
            return y;
          },
          0, "pool of bits");
    }
  }
}

TEST(engine_maps_bytes_back) {
  check_step(
      3, 5, 37,
      [](Builder& b, uint32_t in) {
        const uint32_t bytes = bytes_of_tensor(b, in, 0.125f, 7), out = b.tensor(F32, 3, 5, 37);
        b.step(MAP).u(bytes).u(0).u(STORE_F32).u(out);
        return out;
      },
      [](const Image& x) { return map(x, [](float v) { return 0.125f * (byte_of(v, 8, 7) - 7); }); }, 0, "bytes");
}

TEST(engine_epilogues_do_operations_in_order) {
  const int channels = 45;
  std::vector<float> a(channels), c(channels), slope(channels);
  for (int i = 0; i < channels; ++i)
    a[i] = 0.5f + float(i % 3), c[i] = float(i % 7) - 3, slope[i] = 0.25f * float(i % 4);
  check_step(
      4, 6, channels,
      [&](Builder& b, uint32_t in) {
        const uint32_t out = b.tensor(F32, 4, 6, channels), vector = b.tensor(F32, 1, 1, channels);
        const uint32_t plane = b.tensor(F32, 4, 6, 1), first = b.slice(in, 0, 1);
        Window all;
        all.kernel_h = 4, all.kernel_w = 6;
        b.step(POOL).u(in).window(all).u(0).u(0).u(STORE_F32).u(vector);
        b.step(MAP).u(first).u(1).u(FUNCTION).u(10).u(STORE_F32).u(plane);
        b.step(MAP).u(in).u(8);
        b.u(AFFINE).u(b.data(a)).u(b.data(c));
        b.u(ADD).u(in).u(MULTIPLY).u(vector).u(MULTIPLY).u(plane).u(PRELU).u(b.data(slope)).u(CLIP).f(-3).f(4);
        b.u(NORM).u(b.data(c)).u(b.data(a)).u(b.data(slope)).u(FUNCTION).u(9).u(STORE_F32).u(out);
        // In place.
        b.step(MAP).u(in).u(1).u(ADD).u(out).u(STORE_F32).u(out);
        return out;
      },
      [&](const Image& x) {
        Image y = x;
        for (int c0 = 0; c0 < channels; ++c0) {
          float largest = -HUGE_VALF;
          for (int p = 0; p < 24; ++p) largest = std::max(largest, x.at(p / 6, p % 6, c0));
          for (int p = 0; p < 24; ++p) {
            float v = x.at(p / 6, p % 6, c0);
            v = std::fma(v, a[c0], c[c0]) + v;
            v = v * largest * std::fabs(x.at(p / 6, p % 6, 0));
            v = v > 0 ? v : v * slope[c0];
            v = v < -3 ? -3 : (v > 4 ? 4 : v);
            v = std::fma(v - c[c0], a[c0], slope[c0]);
            y.at(p / 6, p % 6, c0) = v * v + x.at(p / 6, p % 6, c0);
          }
        }
        return y;
      },
      1e-4, "epilogue", finite);
}

TEST(engine_softmax_is_over_channels) {
  for (int channels : {1, 10, 1000}) {
    check_step(
        channels == 10 ? 3 : 1, 1, channels,
        [&](Builder& b, uint32_t in) {
          const uint32_t out = b.tensor(F32, b.tensors[in].height, 1, channels);
          b.step(SOFTMAX).u(in).u(out);
          return out;
        },
        [&](Image x) {
          for (int y = 0; y < x.height; ++y) {
            double sum = 0;
            for (int c = 0; c < channels; ++c) sum += std::exp(double(x.at(y, 0, c)));
            for (int c = 0; c < channels; ++c) x.at(y, 0, c) = float(std::exp(double(x.at(y, 0, c))) / sum);
          }
          return x;
        },
        1e-6, "softmax", finite);
  }
}

TEST(engine_copies_along_any_axes) {
  // H x W x C to W x C x H, and into the middle of a larger image.
  check_step(
      3, 4, 5,
      [](Builder& b, uint32_t in) {
        const uint32_t out = b.tensor(F32, 4, 5, 3);
        b.step(COPY).u(in).u(out).u(3).u(3).u(80).u(4).u(4).u(20).u(60).u(5).u(4).u(12);
        return out;
      },
      [](const Image& x) {
        Image y(4, 5, 3);
        for (int i = 0; i < 60; ++i) y.at(i / 15, i / 3 % 5, i % 3) = x.at(i % 3, i / 15, i / 3 % 5);
        return y;
      },
      0, "transposed");
  check_step(
      2, 3, 4,
      [](Builder& b, uint32_t in) {
        const uint32_t out = b.tensor(F32, 4, 5, 4);
        const std::vector<float> zero(32, 0.0f);
        const uint32_t middle = b.slice(out, 0, 4);
        Window all;
        all.kernel_h = 2, all.kernel_w = 3, all.pad_y = 1, all.pad_x = 1;
        b.step(POOL).u(in).window(all).u(2).u(1).u(AFFINE).u(b.data(zero)).u(b.data(zero)).u(STORE_F32).u(out);
        b.tensors[middle].offset += 80 + 16;
        b.tensors[middle].height = 2, b.tensors[middle].width = 3;
        b.step(COPY).u(in).u(middle).u(2).u(2).u(48).u(80).u(12).u(4).u(4);
        return out;
      },
      [](const Image& x) {
        Image y(4, 5, 4);
        for (int i = 0; i < 24; ++i) y.at(1 + i / 12, 1 + i / 4 % 3, i % 4) = x.at(i / 12, i / 4 % 3, i % 4);
        return y;
      },
      0, "padded", finite);
}

TEST(engine_reads_and_gives_arrays_in_the_order_of_mxnet) {
  const std::vector<std::vector<uint32_t>> shapes = {{7}, {3, 5}, {2, 3, 4}, {2, 3, 4, 5}};
  for (const auto& shape : shapes) {
    uint32_t size = 1;
    for (uint32_t s : shape) size *= s;
    const uint32_t width = shape.size() > 1 ? shape.back() : 1;
    const uint32_t height = shape.size() > 2 ? shape[shape.size() - 2] : 1, channels = size / width / height;
    Builder b;
    b.input("x", shape);
    b.input("unused", {1});
    b.output("same", shape);
    b.output("first", {1, height, width});
    const uint32_t t = b.tensor(F32, height, width, channels), first = b.slice(t, 0, 1);
    b.step(LOAD).u(0).u(0).u(STORE_F32).u(t);
    b.step(STORE).u(first).u(1);
    b.step(STORE).u(t).u(0);
    Random random(size);
    const std::vector<float> x = random.values(size * 3);
    const Arrays y = run_everywhere(b.file(), {x, {0, 0, 0}}, 3);
    CHECK(std::memcmp(y[0].data(), x.data(), 4 * x.size()) == 0, "the same");
    for (uint32_t i = 0; i < 3 * height * width; ++i) {
      const float expected = x[i / (height * width) * size + i % (height * width)];
      CHECK(std::memcmp(&y[1][i], &expected, 4) == 0, "the first channel");
    }
  }
}

TEST(engine_channels_of_several_steps_lie_side_by_side) {
  check_step(
      5, 5, 64,
      [](Builder& b, uint32_t in) {
        const uint32_t all = b.tensor(F32, 5, 5, 128 + 30), left = b.slice(all, 0, 64);
        const uint32_t middle = b.slice(all, 64, 30), right = b.slice(all, 94, 64), some = b.slice(in, 7, 30);
        b.step(MAP).u(in).u(1).u(FUNCTION).u(16).u(STORE_F32).u(left);
        b.step(MAP).u(some).u(0).u(STORE_F32).u(middle);
        b.step(MAP).u(left).u(1).u(FUNCTION).u(9).u(STORE_F32).u(right);
        return all;
      },
      [](const Image& x) {
        Image y(5, 5, 158);
        for (int p = 0; p < 25; ++p) {
          for (int c = 0; c < 64; ++c) {
            const float v = x.at(p / 5, p % 5, c);
            y.at(p / 5, p % 5, c) = -v;
            y.at(p / 5, p % 5, 94 + c) = v * v;
            if (c >= 7 && c < 37) y.at(p / 5, p % 5, 64 + c - 7) = v;
          }
        }
        return y;
      },
      0, "concatenation");
}

}  // namespace
