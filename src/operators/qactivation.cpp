// QActivation quantizes its input. The gradient passes straight through; with one bit, only inside a window.
#include <algorithm>

#include "kernels/training/quantize.h"
#include "operators/attributes.h"
#include "operators/mxnet.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded("QActivation", [&] {
    QActivationParam param(attributes);
    *num_inputs = *num_outputs = 1;
  });
}

MXReturnValue infer_type(const AttributeMap&, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded("QActivation", [&] { infer_float32({"data"}, false, in_types, out_types); });
}

MXReturnValue infer_shape(const AttributeMap&, std::vector<Shape>* in_shapes, std::vector<Shape>* out_shapes) {
  return guarded("QActivation", [&] {
    known_data_shape(in_shapes->at(0));  // MXNet would take an unknown size for a large one
    out_shapes->at(0) = in_shapes->at(0);
  });
}

MXReturnValue forward(const AttributeMap& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                      const OpResource&) {
  return guarded("QActivation", [&] {
    const QActivationParam param(attributes);
    const float* x = floats(inputs->at(0));
    float* y = floats(outputs->at(0));
    const size_t size = inputs->at(0).size();
    if (!param.backward_only) {
      quantize_activation(x, y, size, param.act_bit, num_threads());
    } else if (x != y) {
      std::copy(x, x + size, y);
    }
  });
}

MXReturnValue backward(const AttributeMap& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                       const OpResource&) {
  return guarded("QActivation", [&] {
    const QActivationParam param(attributes);
    const float* g = floats(inputs->at(0));
    const float* x = floats(inputs->at(1));
    float* dx = floats(outputs->at(0));
    const size_t size = inputs->at(0).size();
    if (param.act_bit == 1) {
      sign_backward(g, x, dx, size, param.gradient_cancel_threshold, param.estimator, num_threads());
    } else if (g != dx) {
      std::copy(g, g + size, dx);
    }
  });
}

[[maybe_unused]] const bool kRegistered =
    register_operator({"QActivation"}, forward, backward, {parse_attributes, infer_type, infer_shape});

}  // namespace
