// Float convolutions on oneDNN. Primitives choose their own layouts and are kept for each shape.
//
// oneDNN pads with zeros, but a quantized layer pads with the quantized pad value v. By linearity
//   conv(data padded with v) = conv(data padded with 0) + v * conv(zeros padded with 1).
// So the forward pass adds v times the sum of the weights whose tap falls outside the image. The gradient of the weight
// adds v times the sum of the output gradients whose windows read the padding there. (Padding the image beforehand
// would avoid this, but on the small images of deep layers oneDNN then takes up to twice the time.)
#include <omp.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/training/kernels.h"
#include "kernels/training/quantize.h"
#include "operators/float_layer.h"
#include "operators/onednn_call.h"

namespace bmx {
namespace {

using onednn::bytes;
using onednn::memory;
using onednn::Tag;
using onednn::Type;
using onednn::user_scratchpad;
using OnednnCall = onednn::Call;

// The spatial dimensions in use, at least one. Depth and height are left out if they are 1 everywhere.
int first_axis(const ConvShape& s) {
  int axis = 0;
  while (axis < 2 && s.in[axis] == 1 && s.kernel[axis] == 1 && s.pad[axis] == 0 && s.stride[axis] == 1) ++axis;
  return axis;
}

// Plain layouts of data and weights by the number of spatial dimensions.
Tag data_tag(int dims) { return dims == 3 ? Tag::ncdhw : (dims == 2 ? Tag::nchw : Tag::ncw); }
Tag weight_tag(int dims) { return dims == 3 ? Tag::goidhw : (dims == 2 ? Tag::goihw : Tag::goiw); }

struct Descriptors {
  int dims;
  memory::dims data, weight, out, stride, dilate, pad, pad_end;

  explicit Descriptors(const ConvShape& s) {
    const int first = first_axis(s);
    dims = 3 - first;
    data = {s.batch, s.channels};
    weight = {s.groups, s.group_filters(), s.group_channels()};
    out = {s.batch, s.filters};
    for (int axis = first; axis < 3; ++axis) {
      data.push_back(s.in[axis]);
      weight.push_back(s.kernel[axis]);
      out.push_back(s.out(axis));
      stride.push_back(s.stride[axis]);
      dilate.push_back(s.dilate[axis] - 1);
      pad.push_back(s.pad[axis]);
      // A stride may leave pixels at the end unread. oneDNN wants the padding that fits exactly.
      pad_end.push_back((s.out(axis) - 1) * s.stride[axis] + s.dilate[axis] * (s.kernel[axis] - 1) + 1 - s.in[axis] -
                        s.pad[axis]);
    }
  }

  memory::desc plain_data() const { return {data, Type::f32, data_tag(dims)}; }
  memory::desc plain_weight() const { return {weight, Type::f32, weight_tag(dims)}; }
  memory::desc plain_out() const { return {out, Type::f32, data_tag(dims)}; }
  memory::desc any_data(Type type) const { return {data, type, Tag::any}; }
  memory::desc any_weight(Type type) const { return {weight, type, Tag::any}; }
  memory::desc any_out(Type type) const { return {out, type, Tag::any}; }
};

}  // namespace

namespace {

// Faults of oneDNN 2023.2, found by comparing random geometries with a definition. Of 40 000 geometries, half of them
// dilated, none that these rules let pass crashes or is wrong.
//
// With bfloat16 on AMX, oneDNN crashes on dilated windows whose taps all miss the image (height 1, dilation 2, padding
// 3, stride 3), and gradients of data are wrong if no window reads the last planes (depth 6, 5 taps, padding 1, stride
// 4). With bfloat16 on AVX-512, the gradient of a tap that never meets the image is NaN (width 2, 2 taps, padding 1,
// stride 5), and gradients of three-dimensional weights are wrong (depth 2, 3 taps, padding 1). Such geometries are too
// rare to be worth narrower rules.
bool fails_in_bfloat16(const ConvShape& s) {
  const int64_t read = (s.out(0) - 1) * s.stride[0] + s.dilate[0] * (s.kernel[0] - 1) + 1;
  const bool amx = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core_amx;
  return (s.kernel[0] > 1 && !amx) || !s.windows_meet_image() || !s.taps_meet_image() || read < s.in[0] + s.pad[0];
}

// On AVX-512, oneDNN's gradients of three-dimensional weights are wrong if the stride in depth is more than 1 and the
// padding in depth is larger than it. For these the images are padded in depth beforehand.
bool padded_beforehand(const ConvShape& s) {
  return dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core && s.stride[0] > 1 && s.pad[0] > s.stride[0];
}

ConvShape shape_for_weights(const ConvShape& s) {
  ConvShape padded = s;
  if (padded_beforehand(s)) {
    padded.in[0] = s.padded(0);
    padded.pad[0] = 0;
  }
  return padded;
}

}  // namespace

struct FloatConvolution::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};

  struct Prepared {
    dnnl::convolution_forward::primitive_desc forward_desc;
    dnnl::convolution_backward_data::primitive_desc data_desc;
    dnnl::convolution_backward_weights::primitive_desc weight_desc;
    dnnl::primitive forward, backward_data, backward_weight;
  };
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, ConvShape::Dims, ConvShape::Dims, ConvShape::Dims,
                         ConvShape::Dims, ConvShape::Dims, GradientType, int>;
  std::mutex mutex;
  std::map<Key, std::shared_ptr<const Prepared>> prepared;

  std::shared_ptr<const Prepared> prepare(const ConvShape& s, GradientType type, int threads) {
    const Key key{s.batch, s.channels, s.filters, s.groups, s.in, s.kernel, s.stride, s.dilate, s.pad, type, threads};
    std::lock_guard<std::mutex> lock(mutex);
    if (prepared.size() >= onednn::kMostPrepared) prepared.clear();
    auto& entry = prepared[key];
    if (entry == nullptr) {
      const Descriptors d(s);
      const Type operands = fails_in_bfloat16(s) ? Type::f32 : onednn::operand_type(type);
      const auto direct = dnnl::algorithm::convolution_direct;
      const dnnl::primitive_attr attr = user_scratchpad();
      auto p = std::make_shared<Prepared>();
      // clang-format off
      p->forward_desc = {engine, dnnl::prop_kind::forward_training, direct,
                         d.any_data(operands), d.any_weight(operands), d.any_out(operands),
                         d.stride, d.dilate, d.pad, d.pad_end, attr};
      p->data_desc = {engine, direct,
                      d.any_data(Type::f32), d.any_weight(operands), d.any_out(operands),
                      d.stride, d.dilate, d.pad, d.pad_end, p->forward_desc, attr};
      p->weight_desc = {engine, direct,
                        d.any_data(operands), d.any_weight(Type::f32), d.any_out(operands),
                        d.stride, d.dilate, d.pad, d.pad_end, p->forward_desc, attr};
      // clang-format on
      p->forward = dnnl::convolution_forward(p->forward_desc);
      p->backward_data = dnnl::convolution_backward_data(p->data_desc);
      p->backward_weight = dnnl::convolution_backward_weights(p->weight_desc);
      entry = std::move(p);
    }
    return entry;
  }
};

namespace {

// Quantizing needs a plain array in between, except for signs in the layouts that `expand_signs` writes.
size_t quantized_bytes(const Descriptors& d, const memory::desc& wanted) {
  return bytes(d.plain_data()) + bytes(wanted);
}

// Writes the signs of NCHW floats directly into oneDNN's blocks of 16 channels. The packed bits in between stay in the
// first-level cache. Returns false if `target` has another layout.
bool expand_signs(const ConvShape& s, const float* values, const memory& target, int threads) {
  const Descriptors d(s);
  const Type type = target.get_desc().get_data_type();
  const Tag blocked = d.dims == 3 ? Tag::nCdhw16c : (d.dims == 2 ? Tag::nChw16c : Tag::nCw16c);
  if (target.get_desc() != memory::desc(d.data, type, blocked)) return false;
  const Kernels& k = kernels();
  constexpr int64_t kChunk = 128;  // pixels: 1 KiB of words, 32 KiB of floats
  const int64_t pixels = s.in_pixels(), blocks = (s.channels + 15) / 16, words = (s.channels + 63) / 64;
  void* out = target.get_data_handle();
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < s.batch * words; ++i) {
    const int64_t n = i / words, first = i % words * 64;
    const int channels = static_cast<int>(std::min<int64_t>(64, s.channels - first));
    for (int64_t p = 0; p < pixels; p += kChunk) {
      uint64_t bits[kChunk];
      const int64_t count = std::min(kChunk, pixels - p);
      k.pack_channels(values + (n * s.channels + first) * pixels + p, pixels, channels, count, bits);
      const int64_t start = (n * blocks + first / 16) * pixels * 16 + p * 16;
      if (type == Type::bf16) {
        k.expand_signs_bf16(bits, count, channels, pixels * 16, 16, static_cast<uint16_t*>(out) + start);
      } else {
        k.expand_signs(bits, count, channels, pixels * 16, 16, static_cast<float*>(out) + start);
      }
    }
  }
  return true;
}

float* plain_quantized(const ConvShape& s, const QuantizedData& data, int threads, Workspace* workspace) {
  const size_t size = s.batch * s.channels * s.in_pixels();
  float* quantized = workspace->take<float>(size);
  quantize_activation(data.values, quantized, size, data.bits, threads);
  return quantized;
}

memory quantized(OnednnCall* call, const ConvShape& s, const QuantizedData& data, const memory::desc& wanted,
                 int threads, Workspace* workspace) {
  const Descriptors d(s);
  if (data.bits == 1) {
    memory target = call->allocate(wanted);
    if (expand_signs(s, data.values, target, threads)) return target;
    return call->reordered(plain_quantized(s, data, threads, workspace), d.plain_data(), target);
  }
  const float* values = data.bits == 32 ? data.values : plain_quantized(s, data, threads, workspace);
  return call->input(values, d.plain_data(), wanted);
}

// Quantized data, padded with zeros in depth.
float* padded_in_depth(const ConvShape& s, const QuantizedData& data, int threads, Workspace* workspace) {
  const int64_t size = s.in_pixels(), padded = s.in_pixels() / s.in[0] * s.padded(0);
  const int64_t before = s.in_pixels() / s.in[0] * s.pad[0];
  const float* values = data.bits == 32 ? data.values : plain_quantized(s, data, threads, workspace);
  float* out = workspace->take<float>(s.batch * s.channels * padded);
  std::fill(out, out + s.batch * s.channels * padded, 0.0f);
  for (int64_t i = 0; i < s.batch * s.channels; ++i) {
    std::copy(values + i * size, values + (i + 1) * size, out + i * padded + before);
  }
  return out;
}

// The (tap, output pixel) pairs that read outside the image.
std::vector<std::pair<int64_t, int64_t>> padding_pairs(const ConvShape& s) {
  std::vector<std::pair<int64_t, int64_t>> pairs;
  int64_t tap = 0;
  for (int64_t kd = 0; kd < s.kernel[0]; ++kd) {
    for (int64_t kh = 0; kh < s.kernel[1]; ++kh) {
      for (int64_t kw = 0; kw < s.kernel[2]; ++kw, ++tap) {
        int64_t pixel = 0;
        for (int64_t od = 0; od < s.out(0); ++od) {
          for (int64_t oh = 0; oh < s.out(1); ++oh) {
            for (int64_t ow = 0; ow < s.out(2); ++ow, ++pixel) {
              const int64_t d = od * s.stride[0] - s.pad[0] + kd * s.dilate[0];
              const int64_t h = oh * s.stride[1] - s.pad[1] + kh * s.dilate[1];
              const int64_t w = ow * s.stride[2] - s.pad[2] + kw * s.dilate[2];
              if (d < 0 || d >= s.in[0] || h < 0 || h >= s.in[1] || w < 0 || w >= s.in[2])
                pairs.emplace_back(tap, pixel);
            }
          }
        }
      }
    }
  }
  return pairs;
}

// Adds to the output the effect of padding with `pad` instead of 0. It is the same for every image.
void add_padding(const ConvShape& s, float pad, const float* weight, float* out, int threads) {
  if (pad == 0) return;
  const auto pairs = padding_pairs(s);
  if (pairs.empty()) return;
  const int64_t taps = s.taps(), pixels = s.out_pixels(), size = s.filters * pixels;
  std::vector<float> image(size, 0.0f), sums(taps);
  for (int64_t f = 0; f < s.filters; ++f) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int64_t i = 0; i < s.inputs(); ++i) sums[i % taps] += weight[f * s.inputs() + i];
    for (const auto& [tap, pixel] : pairs) image[f * pixels + pixel] += pad * sums[tap];
  }
#pragma omp parallel for num_threads(threads)
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t i = 0; i < size; ++i) out[n * size + i] += image[i];
  }
}

// Adds the same effect to the gradient of the weight. It is the same for every channel.
void add_padding_to_gradient(const ConvShape& s, float pad, const float* out_grad, float* weight_grad, int threads) {
  if (pad == 0) return;
  const auto pairs = padding_pairs(s);
  if (pairs.empty()) return;
  const Kernels& k = kernels();
  const int64_t taps = s.taps(), pixels = s.out_pixels();
  std::vector<float> scratch((pixels + taps) * threads);
#pragma omp parallel num_threads(threads)
  {
    float* const image = scratch.data() + omp_get_thread_num() * (pixels + taps);
    float* const sums = image + pixels;
#pragma omp for
    for (int64_t f = 0; f < s.filters; ++f) {
      std::fill(image, image + pixels + taps, 0.0f);
      for (int64_t n = 0; n < s.batch; ++n) {
        k.arrays.combine(out_grad + (n * s.filters + f) * pixels, image, 1, 1, 0, image, pixels);
      }
      for (const auto& [tap, pixel] : pairs) sums[tap] += pad * image[pixel];
      float* row = weight_grad + f * s.inputs();
      for (int64_t c = 0; c < s.group_channels(); ++c) {
        for (int64_t t = 0; t < taps; ++t) *row++ += sums[t];
      }
    }
  }
}

}  // namespace

bool faster_than_lookups(GradientType type) {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  if (type == GradientType::kBfloat16 && isa >= dnnl::cpu_isa::avx512_core_amx) return true;
  const SignLookup* lookup =
      kernels().sign_lookup;  // AVX2's if AVX-512 lacks instructions that the binary kernels need
  return lookup != nullptr && lookup->lanes < 16 && isa >= dnnl::cpu_isa::avx512_core;
}

FloatConvolution::FloatConvolution() : state_(new State) {}
FloatConvolution::~FloatConvolution() = default;

size_t FloatConvolution::forward_bytes(const ConvShape& s, int threads) {
  if (s.batch == 0) return 0;
  const auto p = state_->prepare(s, GradientType::kFloat32, threads);
  const auto& desc = p->forward_desc;
  return quantized_bytes(Descriptors(s), desc.src_desc()) + bytes(desc.weights_desc()) + bytes(desc.dst_desc()) +
         bytes(desc.scratchpad_desc());
}

size_t FloatConvolution::backward_bytes(const ConvShape& s, GradientType type, int threads) {
  if (s.batch == 0) return 0;
  const ConvShape t = shape_for_weights(s);
  const auto p = state_->prepare(s, type, threads), q = state_->prepare(t, type, threads);
  const auto& data = p->data_desc;
  const auto& weight = q->weight_desc;
  const size_t quantized = padded_beforehand(s) ? bytes(Descriptors(s).plain_data()) : 0;
  return bytes(data.diff_dst_desc()) + bytes(data.weights_desc()) + bytes(data.diff_src_desc()) +
         bytes(data.scratchpad_desc()) + bytes(weight.diff_dst_desc()) + quantized +
         quantized_bytes(Descriptors(t), weight.src_desc()) + bytes(weight.diff_weights_desc()) +
         bytes(weight.scratchpad_desc());
}

void FloatConvolution::forward(const ConvShape& s, const QuantizedData& data, const float* weight, float* out,
                               int threads, Workspace* workspace) {
  if (s.batch == 0) return;
  const auto p = state_->prepare(s, GradientType::kFloat32, threads);
  const Descriptors d(s);
  const auto& desc = p->forward_desc;
  OnednnCall call(state_->engine, workspace);
  memory x = quantized(&call, s, data, desc.src_desc(), threads, workspace);
  memory w = call.input(weight, d.plain_weight(), desc.weights_desc());
  memory y = call.output(out, d.plain_out(), desc.dst_desc());
  call.run(p->forward, desc.scratchpad_desc(), {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
  call.finish(y, out, d.plain_out());
  add_padding(s, data.pad, weight, out, threads);
}

void FloatConvolution::backward(const ConvShape& s, const float* out_grad, const QuantizedData& data,
                                const float* weight, float* data_grad, float* weight_grad, GradientType type,
                                int threads, Workspace* workspace) {
  if (s.batch == 0) {
    if (weight_grad != nullptr) std::fill(weight_grad, weight_grad + s.filters * s.inputs(), 0.0f);
    return;
  }
  const ConvShape t = shape_for_weights(s);
  const auto p = state_->prepare(s, type, threads), q = state_->prepare(t, type, threads);
  const Descriptors d(s);
  const auto& for_data = p->data_desc;
  const auto& for_weight = q->weight_desc;
  OnednnCall call(state_->engine, workspace);
  memory g;
  if (data_grad != nullptr) {
    g = call.input(out_grad, d.plain_out(), for_data.diff_dst_desc());
    memory w = call.input(weight, d.plain_weight(), for_data.weights_desc());
    memory dx = call.output(data_grad, d.plain_data(), for_data.diff_src_desc());
    call.run(p->backward_data, for_data.scratchpad_desc(),
             {{DNNL_ARG_DIFF_DST, g}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DIFF_SRC, dx}});
    call.finish(dx, data_grad, d.plain_data());
  }
  if (weight_grad == nullptr) return;

  if (data_grad == nullptr || for_weight.diff_dst_desc() != for_data.diff_dst_desc()) {
    g = call.input(out_grad, d.plain_out(), for_weight.diff_dst_desc());
  }
  memory x = padded_beforehand(s) ? call.input(padded_in_depth(s, data, threads, workspace),
                                               Descriptors(t).plain_data(), for_weight.src_desc())
                                  : quantized(&call, s, data, for_weight.src_desc(), threads, workspace);
  memory dw = call.output(weight_grad, d.plain_weight(), for_weight.diff_weights_desc());
  call.run(q->backward_weight, for_weight.scratchpad_desc(),
           {{DNNL_ARG_DIFF_DST, g}, {DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_WEIGHTS, dw}});
  call.finish(dw, weight_grad, d.plain_weight());
  add_padding_to_gradient(s, data.pad, out_grad, weight_grad, threads);
}

}  // namespace bmx
