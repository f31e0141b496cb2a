// The float layers on oneDNN. Primitives choose their own layouts; what is prepared for a shape is kept.
//
// oneDNN pads with zeros, a quantized layer with the quantized pad value. So what reads the data, the forward
// pass and the gradient of the weight, is given an image that is padded already: it is written anew anyway when
// it is quantized. The gradient of the data does not depend on the padding and leaves it to oneDNN.
#include <algorithm>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>

#include "kernels/float_conv.h"
#include "kernels/quantize.h"
#include "operators/float_layer.h"

namespace bmx {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Type = memory::data_type;

// Spatial dimensions that are in use; at least one. Depth and height of size 1 everywhere are left out.
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

  // Of the convolution of the image itself, or of the image padded beforehand.
  Descriptors(const ConvShape& s, bool padded) {
    const int first = first_axis(s);
    dims = 3 - first;
    data = {s.batch, s.channels};
    weight = {s.groups, s.group_filters(), s.group_channels()};
    out = {s.batch, s.filters};
    for (int axis = first; axis < 3; ++axis) {
      data.push_back(padded ? s.padded(axis) : s.in[axis]);
      weight.push_back(s.kernel[axis]);
      out.push_back(s.out(axis));
      stride.push_back(s.stride[axis]);
      dilate.push_back(s.dilate[axis] - 1);
      pad.push_back(padded ? 0 : s.pad[axis]);
      // What stride leaves over at the end is not read; oneDNN wants the padding that fits exactly.
      pad_end.push_back((s.out(axis) - 1) * s.stride[axis] + s.dilate[axis] * (s.kernel[axis] - 1) + 1 - data.back() -
                        pad.back());
    }
  }

  memory::desc plain_data() const { return {data, Type::f32, data_tag(dims)}; }
  memory::desc plain_weight() const { return {weight, Type::f32, weight_tag(dims)}; }
  memory::desc plain_out() const { return {out, Type::f32, data_tag(dims)}; }
  memory::desc any_data(Type type) const { return {data, type, Tag::any}; }
  memory::desc any_weight(Type type) const { return {weight, type, Tag::any}; }
  memory::desc any_out(Type type) const { return {out, type, Tag::any}; }
};

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // one for each call: primitives are shared by threads
  return attr;
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
    auto& entry = prepared[key];
    if (entry == nullptr) {
      const Descriptors image(s, false), padded(s, true);
      const Type operands = type == GradientType::kBfloat16 ? Type::bf16 : Type::f32;
      const auto direct = dnnl::algorithm::convolution_direct;
      const dnnl::primitive_attr attr = user_scratchpad();
      auto p = std::make_shared<Prepared>();
      // clang-format off
      p->forward_desc = {engine, dnnl::prop_kind::forward_training, direct,
                         padded.any_data(operands), padded.any_weight(operands), padded.any_out(operands),
                         padded.stride, padded.dilate, padded.pad, padded.pad_end, attr};
      p->weight_desc = {engine, direct,
                        padded.any_data(operands), padded.any_weight(Type::f32), padded.any_out(operands),
                        padded.stride, padded.dilate, padded.pad, padded.pad_end, p->forward_desc, attr};
      const dnnl::convolution_forward::primitive_desc hint = {
          engine, dnnl::prop_kind::forward_training, direct,
          image.any_data(operands), image.any_weight(operands), image.any_out(operands),
          image.stride, image.dilate, image.pad, image.pad_end, attr};
      p->data_desc = {engine, direct,
                      image.any_data(Type::f32), image.any_weight(operands), image.any_out(operands),
                      image.stride, image.dilate, image.pad, image.pad_end, hint, attr};
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

size_t bytes(const memory::desc& desc) { return Workspace::bytes<char>(desc.get_size()); }

// Quantizing and padding go by way of plain arrays, except for signs in the layouts that `expand_signs` writes.
size_t quantized_bytes(const ConvShape& s, const memory::desc& wanted) {
  const Descriptors image(s, false), padded(s, true);
  return bytes(image.plain_data()) + bytes(padded.plain_data()) + bytes(wanted);
}

// One call: a stream, and the workspace that its reorders and primitives need until it ends.
class Call {
 public:
  Call(const dnnl::engine& engine, Workspace* workspace) : engine_(engine), stream_(engine), workspace_(workspace) {}

  // `values`, which lie in memory as `plain`, in the layout and type `wanted`.
  memory input(const float* values, const memory::desc& plain, const memory::desc& wanted) {
    if (plain != wanted) return reordered(values, plain, allocate(wanted));
    return memory(plain, engine_, const_cast<float*>(values));
  }

  // The quantized data, padded.
  memory quantized(const ConvShape& s, const QuantizedData& data, const memory::desc& wanted, int threads) {
    const Descriptors padded(s, true);
    if (data.bits == 1) {
      memory target = allocate(wanted);
      if (expand_signs(s, data, padded, target, threads)) return target;
      return reordered(plain_quantized(s, data, threads), padded.plain_data(), target);
    }
    return input(plain_quantized(s, data, threads), padded.plain_data(), wanted);
  }

  // Where a primitive writes what `finish` then brings to `values`.
  memory output(float* values, const memory::desc& plain, const memory::desc& wanted) {
    return plain == wanted ? memory(plain, engine_, values) : allocate(wanted);
  }

  void run(const dnnl::primitive& primitive, const memory::desc& scratchpad,
           std::unordered_map<int, memory> arguments) {
    arguments.insert({DNNL_ARG_SCRATCHPAD, allocate(scratchpad)});
    primitive.execute(stream_, arguments);
  }

  void finish(memory result, float* values, const memory::desc& plain) {
    if (result.get_data_handle() != values) {
      memory target(plain, engine_, values);
      dnnl::reorder(result, target).execute(stream_, result, target);
    }
    stream_.wait();
  }

 private:
  memory reordered(const float* values, const memory::desc& plain, memory target) {
    memory source(plain, engine_, const_cast<float*>(values));
    dnnl::reorder(source, target).execute(stream_, source, target);
    return target;
  }

  memory allocate(const memory::desc& desc) { return memory(desc, engine_, workspace_->take<char>(desc.get_size())); }

  float* plain_quantized(const ConvShape& s, const QuantizedData& data, int threads) {
    const size_t size = s.batch * s.channels * s.in_pixels(), padded_size = s.batch * s.channels * s.padded_pixels();
    float* quantized = workspace_->take<float>(size);
    quantize_activation(data.values, quantized, size, data.bits, threads);
    if (padded_size == size) return quantized;
    float* padded = workspace_->take<float>(padded_size);
    pad_input(s, quantized, data.pad, padded, threads);
    return padded;
  }

  // Signs of NCHW floats straight into oneDNN's blocks of 16 channels, by way of packed bits that never leave the
  // first-level cache. False if `target` has another layout.
  bool expand_signs(const ConvShape& s, const QuantizedData& data, const Descriptors& d, const memory& target,
                    int threads) {
    const Type type = target.get_desc().get_data_type();
    const Tag blocked = d.dims == 3 ? Tag::nCdhw16c : (d.dims == 2 ? Tag::nChw16c : Tag::nCw16c);
    if (target.get_desc() != memory::desc(d.data, type, blocked)) return false;
    const Kernels& k = kernels();
    const int64_t pixels = s.in_pixels(), padded = s.padded_pixels();
    const int64_t blocks = (s.channels + 15) / 16, words = (s.channels + 63) / 64, width = s.padded(2);
    void* out = target.get_data_handle();
#pragma omp parallel num_threads(threads)
    {
      Buffer<uint64_t> image(pixels), row(width);
#pragma omp for
      for (int64_t i = 0; i < s.batch * words; ++i) {
        const int64_t n = i / words, first = i % words * 64;
        const int channels = static_cast<int>(std::min<int64_t>(64, s.channels - first));
        k.pack_channels(data.values + (n * s.channels + first) * pixels, pixels, channels, pixels, image.get());
        const int64_t start = (n * blocks + first / 16) * padded * 16;
        const uint64_t outside = data.pad < 0 ? 0 : ~uint64_t{0};
        const uint64_t* inside = image.get();
        for (int64_t r = 0; r < s.padded(0) * s.padded(1); ++r) {
          const int64_t depth = r / s.padded(1) - s.pad[0], height = r % s.padded(1) - s.pad[1];
          std::fill(row.get(), row.get() + width, outside);
          if (depth >= 0 && depth < s.in[0] && height >= 0 && height < s.in[1]) {
            std::copy(inside, inside + s.in[2], row.get() + s.pad[2]);
            inside += s.in[2];
          }
          const int64_t at = start + r * width * 16;
          if (type == Type::bf16) {
            k.expand_signs_bf16(row.get(), width, channels, padded * 16, 16, static_cast<uint16_t*>(out) + at);
          } else {
            k.expand_signs(row.get(), width, channels, padded * 16, 16, static_cast<float*>(out) + at);
          }
        }
      }
    }
    return true;
  }

  const dnnl::engine& engine_;
  dnnl::stream stream_;
  Workspace* workspace_;
};

}  // namespace

FloatConvolution::FloatConvolution() : state_(new State) {}
FloatConvolution::~FloatConvolution() = default;

size_t FloatConvolution::forward_bytes(const ConvShape& s, int threads) {
  if (s.batch == 0) return 0;
  const auto p = state_->prepare(s, GradientType::kFloat32, threads);
  const auto& desc = p->forward_desc;
  return quantized_bytes(s, desc.src_desc()) + bytes(desc.weights_desc()) + bytes(desc.dst_desc()) +
         bytes(desc.scratchpad_desc());
}

size_t FloatConvolution::backward_bytes(const ConvShape& s, GradientType type, int threads) {
  if (s.batch == 0) return 0;
  const auto p = state_->prepare(s, type, threads);
  const auto& data = p->data_desc;
  const auto& weight = p->weight_desc;
  return bytes(data.diff_dst_desc()) + bytes(data.weights_desc()) + bytes(data.diff_src_desc()) +
         bytes(data.scratchpad_desc()) + bytes(weight.diff_dst_desc()) + quantized_bytes(s, weight.src_desc()) +
         bytes(weight.diff_weights_desc()) + bytes(weight.scratchpad_desc());
}

void FloatConvolution::forward(const ConvShape& s, const QuantizedData& data, const float* weight, float* out,
                               int threads, Workspace* workspace) {
  if (s.batch == 0) return;
  const auto p = state_->prepare(s, GradientType::kFloat32, threads);
  const Descriptors d(s, true);
  const auto& desc = p->forward_desc;
  Call call(state_->engine, workspace);
  memory x = call.quantized(s, data, desc.src_desc(), threads);
  memory w = call.input(weight, d.plain_weight(), desc.weights_desc());
  memory y = call.output(out, d.plain_out(), desc.dst_desc());
  call.run(p->forward, desc.scratchpad_desc(), {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
  call.finish(y, out, d.plain_out());
}

void FloatConvolution::backward(const ConvShape& s, const float* out_grad, const QuantizedData& data,
                                const float* weight, float* data_grad, float* weight_grad, GradientType type,
                                int threads, Workspace* workspace) {
  if (s.batch == 0) {
    if (weight_grad != nullptr) std::fill(weight_grad, weight_grad + s.filters * s.inputs(), 0.0f);
    return;
  }
  const auto p = state_->prepare(s, type, threads);
  const Descriptors d(s, false);
  const auto& for_data = p->data_desc;
  const auto& for_weight = p->weight_desc;
  Call call(state_->engine, workspace);
  memory g = call.input(out_grad, d.plain_out(), for_data.diff_dst_desc());
  memory w = call.input(weight, d.plain_weight(), for_data.weights_desc());
  memory dx = call.output(data_grad, d.plain_data(), for_data.diff_src_desc());
  call.run(p->backward_data, for_data.scratchpad_desc(),
           {{DNNL_ARG_DIFF_DST, g}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DIFF_SRC, dx}});
  call.finish(dx, data_grad, d.plain_data());
  if (weight_grad == nullptr) return;

  if (for_weight.diff_dst_desc() != for_data.diff_dst_desc()) {
    g = call.input(out_grad, d.plain_out(), for_weight.diff_dst_desc());
  }
  memory x = call.quantized(s, data, for_weight.src_desc(), threads);
  memory dw = call.output(weight_grad, d.plain_weight(), for_weight.diff_weights_desc());
  call.run(p->backward_weight, for_weight.scratchpad_desc(),
           {{DNNL_ARG_DIFF_DST, g}, {DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_WEIGHTS, dw}});
  call.finish(dw, weight_grad, d.plain_weight());
}

}  // namespace bmx
