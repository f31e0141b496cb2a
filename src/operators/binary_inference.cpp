// BinaryInferenceConvolution and BinaryInferenceFullyConnected, the layers in files of BMXNet v2's converter. They are
// QConvolution and QFullyConnected with packed weights, under v2's names and with v2's attributes.
#include <algorithm>
#include <initializer_list>

#include "operators/attributes.h"
#include "operators/mxnet.h"
#include "operators/qlayers.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

// The attributes of the packed layer. Attributes that v2 does not have are refused.
AttributeMap packed_layer(const char* op, const AttributeMap& given, std::initializer_list<const char*> own) {
  AttributeMap attributes = given;
  for (const char* name : {"act_bit", "weight_bit", "binarized_weights_only", "scaling_mode", "gradient_update_mode",
                           "grad_dtype", "pad_value", "no_offset", "true_gradient", "float_input",
                           "gradient_cancel_threshold", "estimator", "cudnn_tune", "cudnn_off", "scaling_factor"}) {
    if (given.count(name) == 0) continue;
    std::string allowed;
    for (const char* known : own) allowed += (allowed.empty() ? "" : ", ") + std::string(known);
    throw std::invalid_argument(std::string(op) + ": no attribute is called '" + name + "'; there are: " + allowed);
  }
  attributes["binarized_weights_only"] = "True";
  attributes["true_gradient"] = "True";  // as v2's layers before conversion; v2's own operator has no gradient
  return attributes;
}

struct Convolution {
  static constexpr const char* kName = "BinaryInferenceConvolution";
  static QConvolutionParam param(const AttributeMap& given) {
    return {kName, packed_layer(kName, given,
                                {"kernel", "num_filter", "stride", "dilate", "pad", "num_group", "no_bias", "workspace",
                                 "layout"})};
  }
  static constexpr auto create = create_qconvolution;
  static constexpr auto infer = infer_qconvolution;
};

struct FullyConnected {
  static constexpr const char* kName = "BinaryInferenceFullyConnected";
  static QFullyConnectedParam param(const AttributeMap& given) {
    return {kName, packed_layer(kName, given, {"num_hidden", "no_bias", "flatten"})};
  }
  static constexpr auto create = create_qfully_connected;
  static constexpr auto infer = infer_qfully_connected;
};

template <class Layer>
MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded(Layer::kName, [&] {
    *num_inputs = Layer::param(attributes).num_inputs();
    *num_outputs = 1;
  });
}

template <class Layer>
MXReturnValue infer_type(const AttributeMap&, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded(Layer::kName, [&] { infer_float32({"data", "weight", "bias"}, true, in_types, out_types); });
}

template <class Layer>
MXReturnValue infer_shape(const AttributeMap& attributes, std::vector<Shape>* in_shapes,
                          std::vector<Shape>* out_shapes) {
  return guarded(Layer::kName, [&] { Layer::infer(Layer::param(attributes), in_shapes, out_shapes); });
}

template <class Layer>
MXReturnValue create(const AttributeMap& attributes, const MXContext&, const std::vector<Shape>&,
                     const std::vector<int>, CustomStatefulOp** op) {
  return guarded(Layer::kName, [&] { *op = Layer::create(Layer::kName, Layer::param(attributes)); });
}

[[maybe_unused]] const bool kBinaryInferenceConvolutionRegistered =
    register_operator({"BinaryInferenceConvolution"}, create<Convolution>,
                      {parse_attributes<Convolution>, infer_type<Convolution>, infer_shape<Convolution>});

[[maybe_unused]] const bool kBinaryInferenceFullyConnectedRegistered =
    register_operator({"BinaryInferenceFullyConnected"}, create<FullyConnected>,
                      {parse_attributes<FullyConnected>, infer_type<FullyConnected>, infer_shape<FullyConnected>});

}  // namespace
