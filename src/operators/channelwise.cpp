// bmx_Shift, bmx_Scale and bmx_RPReLU: a learned number per channel, and the activation of ReActNet (arXiv:2003.03488),
// for NCHW arrays on the CPU. MXNet's own broadcasts and PReLU take ten times as long, above all in the backward pass.
#include <algorithm>

#include "kernels/training/channelwise.h"
#include "operators/attributes.h"
#include "operators/mxnet.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

// The operators take the data first, then one number per channel for each further input. They have no attributes.
struct ShiftInputs {
  static constexpr const char* kOperator = "bmx_Shift";
  static constexpr std::initializer_list<const char*> kNames = {"data", "shift"};
};

struct ScaleInputs {
  static constexpr const char* kOperator = "bmx_Scale";
  static constexpr std::initializer_list<const char*> kNames = {"data", "scale"};
};

struct RPReLUInputs {
  static constexpr const char* kOperator = "bmx_RPReLU";
  static constexpr std::initializer_list<const char*> kNames = {"data", "shift", "slope", "offset"};
};

template <class Inputs>
MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded(Inputs::kOperator, [&] {
    refuse_attributes(Inputs::kOperator, attributes);
    *num_inputs = static_cast<int>(Inputs::kNames.size());
    *num_outputs = 1;
  });
}

template <class Inputs>
MXReturnValue infer_type(const AttributeMap&, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded(Inputs::kOperator, [&] { infer_float32(Inputs::kNames, false, in_types, out_types); });
}

template <class Inputs>
MXReturnValue infer_shape(const AttributeMap&, std::vector<Shape>* in_shapes, std::vector<Shape>* out_shapes) {
  return guarded(Inputs::kOperator, [&] {
    const Planes planes = planes_of(known_data_shape(in_shapes->at(0)));
    for (size_t i = 1; i < Inputs::kNames.size(); ++i) {
      assign_shape(Inputs::kNames.begin()[i], {planes.channels}, &in_shapes->at(i));
    }
    out_shapes->at(0) = in_shapes->at(0);
  });
}

MXReturnValue shift_forward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                            const OpResource&) {
  return guarded(ShiftInputs::kOperator, [&] {
    MXTensor* in = inputs->data();
    shift(kernels(), planes_of(in[0].shape), floats(in[0]), floats(in[1]), floats(outputs->at(0)), num_threads());
  });
}

MXReturnValue shift_backward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                             const OpResource&) {
  return guarded(ShiftInputs::kOperator, [&] {
    MXTensor& out_grad = inputs->at(0);
    const float* g = floats(out_grad);
    float* data_grad = floats(outputs->at(0));
    bmx::shift_backward(kernels(), planes_of(out_grad.shape), g, floats(outputs->at(1)), num_threads());
    if (g != data_grad) std::copy(g, g + out_grad.size(), data_grad);
  });
}

MXReturnValue scale_forward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                            const OpResource&) {
  return guarded(ScaleInputs::kOperator, [&] {
    MXTensor* in = inputs->data();
    scale(kernels(), planes_of(in[0].shape), floats(in[0]), floats(in[1]), floats(outputs->at(0)), num_threads());
  });
}

MXReturnValue scale_backward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                             const OpResource&) {
  return guarded(ScaleInputs::kOperator, [&] {
    MXTensor* in = inputs->data() + 1;  // after the gradient of the output
    bmx::scale_backward(kernels(), planes_of(in[0].shape), floats(inputs->at(0)), floats(in[0]), floats(in[1]),
                        floats(outputs->at(0)), floats(outputs->at(1)), num_threads());
  });
}

RPReLUParameters parameters_of(MXTensor* in) { return {floats(in[1]), floats(in[2]), floats(in[3])}; }

MXReturnValue rprelu_forward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                             const OpResource&) {
  return guarded(RPReLUInputs::kOperator, [&] {
    MXTensor* in = inputs->data();
    rprelu(kernels(), planes_of(in[0].shape), parameters_of(in), floats(in[0]), floats(outputs->at(0)), num_threads());
  });
}

MXReturnValue rprelu_backward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                              const OpResource&) {
  return guarded(RPReLUInputs::kOperator, [&] {
    MXTensor* in = inputs->data() + 1;  // after the gradient of the output
    MXTensor* out = outputs->data();
    bmx::rprelu_backward(kernels(), planes_of(in[0].shape), parameters_of(in), floats(inputs->at(0)), floats(in[0]),
                         {floats(out[0]), floats(out[1]), floats(out[2]), floats(out[3])}, num_threads());
  });
}

[[maybe_unused]] const bool kShiftRegistered =
    register_operator({"bmx_Shift"}, shift_forward, shift_backward,
                      {parse_attributes<ShiftInputs>, infer_type<ShiftInputs>, infer_shape<ShiftInputs>});

[[maybe_unused]] const bool kScaleRegistered =
    register_operator({"bmx_Scale"}, scale_forward, scale_backward,
                      {parse_attributes<ScaleInputs>, infer_type<ScaleInputs>, infer_shape<ScaleInputs>});

[[maybe_unused]] const bool kRPReLURegistered =
    register_operator({"bmx_RPReLU"}, rprelu_forward, rprelu_backward,
                      {parse_attributes<RPReLUInputs>, infer_type<RPReLUInputs>, infer_shape<RPReLUInputs>});

}  // namespace
