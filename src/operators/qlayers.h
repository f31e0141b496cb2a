// QConvolution and QFullyConnected for operators that are such a layer under another name.
#pragma once

#include "operators/attributes.h"
#include "operators/mxnet.h"

namespace bmx {

// The state of an operator; `name` begins its error messages.
mxnet::ext::CustomStatefulOp* create_qconvolution(const char* name, const QConvolutionParam& param);
mxnet::ext::CustomStatefulOp* create_qfully_connected(const char* name, const QFullyConnectedParam& param);

// Throw where shapes do not fit, or that of the data is not known.
void infer_qconvolution(const QConvolutionParam& param, std::vector<Shape>* in_shapes, std::vector<Shape>* out_shapes);
void infer_qfully_connected(const QFullyConnectedParam& param, std::vector<Shape>* in_shapes,
                            std::vector<Shape>* out_shapes);

}  // namespace bmx
