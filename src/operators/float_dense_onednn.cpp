// Fully connected layers on oneDNN's inner product, which reads plain arrays without reordering.
#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "operators/float_layer.h"
#include "operators/onednn_call.h"

namespace bmx {

using onednn::bytes;
using onednn::memory;
using onednn::Tag;
using onednn::Type;
using onednn::user_scratchpad;

struct FloatDense::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};

  struct Prepared {
    dnnl::inner_product_forward::primitive_desc forward_desc;
    dnnl::inner_product_backward_data::primitive_desc data_desc;
    dnnl::inner_product_backward_weights::primitive_desc weight_desc;
    dnnl::primitive forward, backward_data, backward_weight;
  };
  std::mutex mutex;
  std::map<std::tuple<int64_t, int64_t, int64_t, GradientType, int>, std::shared_ptr<const Prepared>> prepared;

  static memory::desc matrix(int64_t rows, int64_t columns, Type type) { return {{rows, columns}, type, Tag::ab}; }

  std::shared_ptr<const Prepared> prepare(const DenseShape& s, GradientType wanted, int threads) {
    std::lock_guard<std::mutex> lock(mutex);
    if (prepared.size() >= onednn::kMostPrepared) prepared.clear();
    auto& entry = prepared[{s.rows, s.units, s.inputs, wanted, threads}];
    if (entry == nullptr) {
      const Type operands = onednn::operand_type(wanted);
      const dnnl::primitive_attr attr = user_scratchpad();
      const memory::desc data = matrix(s.rows, s.inputs, operands), weight = matrix(s.units, s.inputs, operands),
                         out = matrix(s.rows, s.units, operands);
      auto p = std::make_shared<Prepared>();
      p->forward_desc = {engine, dnnl::prop_kind::forward_training, data, weight, out, attr};
      p->data_desc = {engine, matrix(s.rows, s.inputs, Type::f32), weight, out, p->forward_desc, attr};
      p->weight_desc = {engine, data, matrix(s.units, s.inputs, Type::f32), out, p->forward_desc, attr};
      p->forward = dnnl::inner_product_forward(p->forward_desc);
      p->backward_data = dnnl::inner_product_backward_data(p->data_desc);
      p->backward_weight = dnnl::inner_product_backward_weights(p->weight_desc);
      entry = std::move(p);
    }
    return entry;
  }

  static bool empty(const DenseShape& s) { return s.rows == 0; }
};

FloatDense::FloatDense() : state_(new State) {}
FloatDense::~FloatDense() = default;

size_t FloatDense::forward_bytes(const DenseShape& s, int threads) {
  if (State::empty(s)) return 0;
  return bytes(state_->prepare(s, GradientType::kFloat32, threads)->forward_desc.scratchpad_desc());
}

size_t FloatDense::backward_bytes(const DenseShape& s, GradientType type, int threads) {
  if (State::empty(s)) return 0;
  const auto p = state_->prepare(s, type, threads);
  return bytes(p->data_desc.scratchpad_desc()) + bytes(p->weight_desc.scratchpad_desc()) +
         bytes(p->data_desc.diff_dst_desc()) + bytes(p->data_desc.weights_desc()) + bytes(p->weight_desc.src_desc());
}

void FloatDense::forward(const DenseShape& s, const float* data, const float* weight, float* out, int threads,
                         Workspace* workspace) {
  if (State::empty(s)) return;
  const auto p = state_->prepare(s, GradientType::kFloat32, threads);
  const auto& desc = p->forward_desc;
  onednn::Call call(state_->engine, workspace);
  memory x = call.input(data, desc.src_desc(), desc.src_desc());
  memory w = call.input(weight, desc.weights_desc(), desc.weights_desc());
  memory y = call.output(out, desc.dst_desc(), desc.dst_desc());
  call.run(p->forward, desc.scratchpad_desc(), {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
  call.finish(y, out, desc.dst_desc());
}

void FloatDense::backward(const DenseShape& s, const float* out_grad, const float* data, const float* weight,
                          float* data_grad, float* weight_grad, GradientType type, int threads, Workspace* workspace) {
  if (State::empty(s)) {
    if (weight_grad != nullptr) std::fill(weight_grad, weight_grad + s.units * s.inputs, 0.0f);
    return;
  }
  const auto p = state_->prepare(s, type, threads);
  onednn::Call call(state_->engine, workspace);
  const auto& for_data = p->data_desc;
  const auto& for_weight = p->weight_desc;
  memory g = call.input(out_grad, State::matrix(s.rows, s.units, Type::f32), for_data.diff_dst_desc());
  if (data_grad != nullptr) {
    memory w = call.input(weight, State::matrix(s.units, s.inputs, Type::f32), for_data.weights_desc());
    memory dx = call.output(data_grad, for_data.diff_src_desc(), for_data.diff_src_desc());
    call.run(p->backward_data, for_data.scratchpad_desc(),
             {{DNNL_ARG_DIFF_DST, g}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DIFF_SRC, dx}});
    call.finish(dx, data_grad, for_data.diff_src_desc());
  }
  if (weight_grad == nullptr) return;

  memory x = call.input(data, State::matrix(s.rows, s.inputs, Type::f32), for_weight.src_desc());
  memory dw = call.output(weight_grad, for_weight.diff_weights_desc(), for_weight.diff_weights_desc());
  call.run(p->backward_weight, for_weight.scratchpad_desc(),
           {{DNNL_ARG_DIFF_DST, g}, {DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_WEIGHTS, dw}});
  call.finish(dw, weight_grad, for_weight.diff_weights_desc());
}

}  // namespace bmx
