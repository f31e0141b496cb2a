// bmx_BatchNorm: MXNet's BatchNorm for plain NCHW arrays on the CPU. MXNet's own operator is fast only in oneDNN's
// layouts, which a binary network does not use. bmx.gluon.nn.BatchNorm builds on it.
//
// The inputs are data, gamma, beta, moving_mean, moving_var and mode. MXNet does not tell custom operators whether it
// trains, so `mode` does: an array of one element, which is 1 in inference and anything else in training.
#include <algorithm>
#include <cstring>

#include "kernels/buffer.h"
#include "kernels/training/batch_norm.h"
#include "operators/attributes.h"
#include "operators/mxnet.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

enum Input { kData, kGamma, kBeta, kMovingMean, kMovingVar, kMode, kInputs };

BatchNormParameters parameters_of(const BatchNormParam& param, MXTensor* inputs) {
  return {param.fix_gamma ? nullptr : floats(inputs[kGamma]), floats(inputs[kBeta]), param.eps};
}

bool uses_batch(const BatchNormParam& param, const Planes& s, MXTensor* inputs) {
  return !param.use_global_stats && *floats(inputs[kMode]) != 1.0f && s.batch * s.pixels > 0;
}

MXReturnValue forward(const AttributeMap& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                      const OpResource&) {
  return guarded("bmx_BatchNorm", [&] {
    const BatchNormParam param(attributes);
    MXTensor* in = inputs->data();
    const Planes s = planes_of(in[kData].shape);
    const BatchNormParameters parameters = parameters_of(param, in);
    float *moving_mean = floats(in[kMovingMean]), *moving_var = floats(in[kMovingVar]);
    float* out = floats(outputs->at(0));
    if (!uses_batch(param, s, in)) {
      batch_norm_fixed(kernels(), s, parameters, floats(in[kData]), moving_mean, moving_var, out, num_threads());
      return;
    }
    Buffer<float> mean(s.channels), variance(s.channels);
    batch_norm(kernels(), s, parameters, floats(in[kData]), out, mean.get(), variance.get(), num_threads());
    for (int64_t c = 0; c < s.channels; ++c) {
      moving_mean[c] = moving_mean[c] * param.momentum + mean[c] * (1 - param.momentum);
      moving_var[c] = moving_var[c] * param.momentum + variance[c] * (1 - param.momentum);
    }
  });
}

MXReturnValue backward(const AttributeMap& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                       const OpResource&) {
  return guarded("bmx_BatchNorm", [&] {
    const BatchNormParam param(attributes);
    MXTensor* in = inputs->data() + 1;  // after the gradient of the output
    const Planes s = planes_of(in[kData].shape);
    const bool of_batch = uses_batch(param, s, in);
    float* gamma_grad = floats(outputs->at(kGamma));
    batch_norm_backward(kernels(), s, parameters_of(param, in), floats(inputs->at(0)), floats(in[kData]),
                        of_batch ? nullptr : floats(in[kMovingMean]), of_batch ? nullptr : floats(in[kMovingVar]),
                        floats(outputs->at(kData)), gamma_grad, floats(outputs->at(kBeta)), num_threads());
    if (param.fix_gamma) std::fill(gamma_grad, gamma_grad + s.channels, 0.0f);
    for (int i = kMovingMean; i < kInputs; ++i) {
      std::memset(outputs->at(i).data_ptr, 0, outputs->at(i).size() * sizeof(float));
    }
  });
}

MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded("bmx_BatchNorm", [&] {
    BatchNormParam param(attributes);
    *num_inputs = kInputs;
    *num_outputs = 1;
  });
}

MXReturnValue infer_type(const AttributeMap&, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded("bmx_BatchNorm", [&] {
    infer_float32({"data", "gamma", "beta", "moving_mean", "moving_var", "mode"}, false, in_types, out_types);
  });
}

MXReturnValue infer_shape(const AttributeMap&, std::vector<Shape>* in_shapes, std::vector<Shape>* out_shapes) {
  return guarded("bmx_BatchNorm", [&] {
    const Planes s = planes_of(known_data_shape(in_shapes->at(kData)));
    const char* names[] = {"data", "gamma", "beta", "moving_mean", "moving_var"};
    for (int i = kGamma; i <= kMovingVar; ++i) assign_shape(names[i], {s.channels}, &in_shapes->at(i));
    assign_shape("mode", {1}, &in_shapes->at(kMode));
    out_shapes->at(0) = in_shapes->at(kData);
  });
}

MXReturnValue mutate_inputs(const AttributeMap&, std::vector<int>* inputs) {
  *inputs = {kMovingMean, kMovingVar};
  return MX_SUCCESS;
}

[[maybe_unused]] const bool kRegistered =
    register_operator({"bmx_BatchNorm"}, forward, backward, {parse_attributes, infer_type, infer_shape, mutate_inputs});

}  // namespace
