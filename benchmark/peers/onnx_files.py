"""ONNX files of a float MXNet network: float32 by MXNet's own exporter, and int8 by ONNX Runtime's quantizer.

MXNet 1.9.1's exporter was written for ONNX 1.8. What newer ones took away is given back here for the time of an export,
and the operator set is held at 13, the newest that the exporter writes.
"""

import contextlib
import logging
import sys
import types

import numpy as np

_OPSET, _IR_VERSION = 13, 8
_OPERATORS = ["Add", "AveragePool", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "Relu"]


@contextlib.contextmanager
def _mapping():
    """The module ``onnx.mapping`` of before ONNX 1.19."""
    import onnx

    if hasattr(onnx, "mapping"):
        yield
        return
    module = types.ModuleType("onnx.mapping")
    names = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")
    dtypes = {np.dtype(name): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in names}
    module.NP_TYPE_TO_TENSOR_TYPE = dtypes
    module.TENSOR_TYPE_TO_NP_TYPE = {number: dtype for dtype, number in dtypes.items()}
    sys.modules["onnx.mapping"] = onnx.mapping = module
    try:
        yield
    finally:
        del onnx.mapping, sys.modules["onnx.mapping"]


def export(symbol, params, shape, path):
    """Write a symbol with its parameters, by name, for an input `data` of `shape`, the batch included."""
    import onnx
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    with _mapping():
        graph = MXNetGraph().create_onnx_graph_proto(
            symbol, params, [shape], [onnx.TensorProto.FLOAT], opset_version=_OPSET, dynamic=False
        )
    arrays = {array.name: array for array in graph.initializer}
    inputs = [value for value in graph.input if value.name not in arrays]  # others could change: nothing is folded
    del graph.input[:]
    graph.input.extend(inputs)
    for node in graph.node:  # a dense layer without bias has the number 0 for one, which the quantizer does not stand
        if node.op_type == "Gemm" and len(node.input) == 3 and not arrays[node.input[2]].dims:
            graph.initializer.remove(arrays[node.input[2]])
            del node.input[2]
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def quantize(source, target, samples):
    """Write the int8 network of a float one: static, QDQ, unsigned activations, signed weights by channel.

    `samples` are arrays for the input, with which the ranges are found. Signed activations would be several times
    slower: the dot product instructions of x86 take unsigned by signed bytes. BatchNorm and tanh stay float, which is
    never slower and for some networks much faster than quantizing them too.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self._samples = iter(samples)

        def get_next(self):
            sample = next(self._samples, None)
            return None if sample is None else {"data": sample}

    logging.disable(logging.WARNING)  # says of each BatchNorm that it has no channels to quantize by
    try:
        quant_pre_process(source, target, skip_symbolic_shape=True)  # folds BatchNorm into convolutions
        quantization.quantize_static(
            target,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=_OPERATORS,
        )
    finally:
        logging.disable(logging.NOTSET)
