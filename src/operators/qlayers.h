// QConvolution and QFullyConnected, for operators that are the same layers under other names.
#pragma once

#include "operators/attributes.h"
#include "operators/mxnet.h"

namespace bmx {

// Make the state of an operator. Its error messages begin with `name`.
mxnet::ext::CustomStatefulOp* create_qconvolution(const char* name, const QConvolutionParam& param);
mxnet::ext::CustomStatefulOp* create_qfully_connected(const char* name, const QFullyConnectedParam& param);

// Throw if shapes do not fit or the shape of the data is unknown.
void infer_qconvolution(const QConvolutionParam& param, std::vector<Shape>* in_shapes, std::vector<Shape>* out_shapes);
void infer_qfully_connected(const QFullyConnectedParam& param, std::vector<Shape>* in_shapes,
                            std::vector<Shape>* out_shapes);

}  // namespace bmx
