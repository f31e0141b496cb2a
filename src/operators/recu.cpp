// bmx_ReCU: the rectified clamp unit for latent weights (kernels/training/recu.h).
#include "kernels/training/recu.h"

#include <algorithm>

#include "operators/attributes.h"
#include "operators/mxnet.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

constexpr const char* kOperator = "bmx_ReCU";
enum Input { kWeight, kTau };

Filters filters_of(const MXTensor& weight) {
  Filters filters{weight.shape.at(0), 1};
  for (size_t i = 1; i < weight.shape.size(); ++i) filters.inputs *= weight.shape[i];
  return filters;
}

float tau_of(MXTensor& tau) {
  const float value = *floats(tau);
  if (!(value > 0.5f && value < 1)) {
    throw std::invalid_argument("tau is " + std::to_string(value) + "; allowed: more than 0.5 and less than 1");
  }
  return value;
}

MXReturnValue forward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                      const OpResource&) {
  return guarded(kOperator, [&] {
    MXTensor* in = inputs->data();
    rectified_clamp(filters_of(in[kWeight]), floats(in[kWeight]), tau_of(in[kTau]), floats(outputs->at(0)),
                    num_threads());
  });
}

MXReturnValue backward(const AttributeMap&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                       const OpResource&) {
  return guarded(kOperator, [&] {
    MXTensor* in = inputs->data() + 1;  // after the gradient of the output
    rectified_clamp_backward(filters_of(in[kWeight]), floats(inputs->at(0)), floats(in[kWeight]), tau_of(in[kTau]),
                             floats(outputs->at(kWeight)), num_threads());
    *floats(outputs->at(kTau)) = 0;
  });
}

MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded(kOperator, [&] {
    refuse_attributes(kOperator, attributes);
    *num_inputs = 2;
    *num_outputs = 1;
  });
}

MXReturnValue infer_type(const AttributeMap&, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded(kOperator, [&] { infer_float32({"weight", "tau"}, false, in_types, out_types); });
}

MXReturnValue infer_shape(const AttributeMap&, std::vector<Shape>* in_shapes, std::vector<Shape>* out_shapes) {
  return guarded(kOperator, [&] {
    const Shape& weight = in_shapes->at(kWeight);
    if (weight.empty() || std::find(weight.begin(), weight.end(), kUnknown) != weight.end()) {
      throw std::invalid_argument("the shape of weight is not known; give the layer in_channels or in_units");
    }
    if (weight.size() == 1) throw std::invalid_argument("weight has one dimension; it must have at least 2");
    assign_shape("tau", {1}, &in_shapes->at(kTau));
    out_shapes->at(0) = weight;
  });
}

[[maybe_unused]] const bool kRegistered =
    register_operator({"bmx_ReCU"}, forward, backward, {parse_attributes, infer_type, infer_shape});

}  // namespace
