// A single use of oneDNN by an operator: a stream, and memory from the operator's workspace.
#pragma once

#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "operators/float_layer.h"
#include "operators/workspace.h"

namespace bmx {
namespace onednn {

using dnnl::memory;
using Tag = memory::format_tag;
using Type = memory::data_type;

// Threads share primitives, so each call brings its own scratchpad.
inline dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

// The type of the operands of gradients. oneDNN has bfloat16 kernels for AVX-512 only.
inline Type operand_type(GradientType type) {
  return type == GradientType::kBfloat16 && dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core &&
                 dnnl::get_effective_cpu_isa() != dnnl::cpu_isa::avx2_vnni_2
             ? Type::bf16
             : Type::f32;
}

// An operator keeps primitives for at most this many shapes. A layer of a usual network needs fewer; the limit stops
// growth if every image has another size.
constexpr size_t kMostPrepared = 16;

// Bytes that an array takes up in the workspace.
inline size_t bytes(const memory::desc& desc) { return Workspace::bytes<char>(desc.get_size()); }

class Call {
 public:
  Call(const dnnl::engine& engine, Workspace* workspace) : engine_(engine), stream_(engine), workspace_(workspace) {}

  memory allocate(const memory::desc& desc) { return memory(desc, engine_, workspace_->take<char>(desc.get_size())); }

  // Copies `values`, whose layout is `plain`, into the layout and type of `target`.
  memory reordered(const float* values, const memory::desc& plain, memory target) {
    memory source(plain, engine_, const_cast<float*>(values));
    dnnl::reorder(source, target).execute(stream_, source, target);
    return target;
  }

  memory input(const float* values, const memory::desc& plain, const memory::desc& wanted) {
    if (plain != wanted) return reordered(values, plain, allocate(wanted));
    return memory(plain, engine_, const_cast<float*>(values));
  }

  // The memory that a primitive writes to. `finish` then copies the result to `values`.
  memory output(float* values, const memory::desc& plain, const memory::desc& wanted) {
    return plain == wanted ? memory(plain, engine_, values) : allocate(wanted);
  }

  void run(const dnnl::primitive& primitive, const memory::desc& scratchpad,
           std::unordered_map<int, memory> arguments) {
    memory scratch = allocate(scratchpad);
    // oneDNN's bfloat16 weight gradients multiply unwritten parts of the scratchpad by zero. An earlier operator may
    // have left NaN there.
    std::memset(scratch.get_data_handle(), 0, scratchpad.get_size());
    arguments.insert({DNNL_ARG_SCRATCHPAD, scratch});
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
  const dnnl::engine& engine_;
  dnnl::stream stream_;
  Workspace* workspace_;
};

}  // namespace onednn
}  // namespace bmx
