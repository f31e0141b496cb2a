"""Layers of any bits behind anything, against BMXNet v2's definition in NumPy: every way in which a network can run.

v2's layers know nothing of their input: they multiply it by the quantized weights (its gluon/nn/binary_layers.py). Each
layer is compared on the input that it got, so that no rounding of an earlier one decides a later one's bit.
"""

import mxnet as mx
import numpy as np
import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from bmx.compiler import compile_network
from bmx.compiler.frontends.mxnet import open_block
from bmx.gluon import nn
from bmx.program import encode
from bmx.runtime import Model

KINDS = {
    "floats": lambda x: x,
    "signs": oracle.sign,
    "zeros": lambda x: x * 0,
    "zeros among signs": lambda x: np.sign(np.rint(x)),
    "positive": lambda x: np.maximum(x, 0),
    "zeros and ones": lambda x: (x > 0).astype(np.float32),
    "one is no sign": lambda x: np.where(np.arange(x.size).reshape(x.shape) == x.size - 1, 0.5, oracle.sign(x)),
}
BEFORE = {
    "nothing": (lambda: [], lambda x: x),
    "relu": (lambda: [nn.Activation("relu")], lambda x: np.maximum(x, 0)),
    "sign": (lambda: [nn.QActivation(bits=1)], oracle.sign),
    "4 bits": (lambda: [nn.QActivation(bits=4)], lambda x: oracle.quantize_activation(x, 4)),
    "sign, dropout": (lambda: [nn.QActivation(bits=1), nn.Dropout(0.5)], oracle.sign),
    "sign, relu": (lambda: [nn.QActivation(bits=1), nn.Activation("relu")], lambda x: np.maximum(oracle.sign(x), 0)),
    "sign, pool": (lambda: [nn.QActivation(bits=1), nn.MaxPool2D(1, 1)], oracle.sign),
}


def v2_convolution(x, w, bits, pad, stride, dilate, groups, no_offset, scaling):
    padded, wq = oracle.pad_spatial(x, pad, -1.0), oracle.quantize_weight(w, bits)
    y = oracle.convolve(padded, wq, stride, dilate, groups)
    if scaling:
        return y * np.abs(w).mean(axis=(1, 2, 3)).reshape(1, -1, 1, 1)
    return y if no_offset or bits > 1 else (y + wq[0].size) / 2


def v2_dense(x, w, bits, no_offset):
    y = x.reshape(len(x), -1) @ oracle.quantize_weight(w, bits).T.astype(np.float64)
    return y if no_offset else (y + w.shape[1]) / 2


@st.composite
def cases(draw):
    pair = st.tuples(st.integers(1, 2), st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 2]))
    convolution = {
        "bits": draw(st.sampled_from([1, 1, 1, 2, 32])),
        "pad": draw(st.tuples(st.integers(0, 1), st.integers(0, 2))),
        "stride": draw(pair),
        "dilate": draw(pair),
        "groups": groups,
        "no_offset": draw(st.booleans()),
        "scaling": draw(st.booleans()),
    }
    return {
        "x": np.random.default_rng(draw(st.integers(0, 999))).normal(
            0, 1, (2, groups * draw(st.integers(1, 35)), 6, 7)
        ),
        "kind": draw(st.sampled_from(sorted(KINDS))),
        "before": draw(st.sampled_from(sorted(BEFORE))),
        "between": draw(st.sampled_from(sorted(BEFORE))),
        "bits_a": draw(st.sampled_from([None, 1, 2, 32])),
        "filters": groups * draw(st.sampled_from([1, 3, 8, 16])),
        "convolution": convolution,
        "dense": {"bits": draw(st.sampled_from([1, 1, 1, 32])), "no_offset": draw(st.booleans())},
    }


def network(case):
    c = case["convolution"]
    conv = nn.QConv2D(
        *(case["filters"], (2, 3), c["bits"], c["stride"], c["pad"], c["dilate"], c["groups"]),
        apply_scaling=c["scaling"], no_offset=c["no_offset"], bits_a=case["bits_a"],
    )  # fmt: skip
    dense = nn.QDense(5, bits=case["dense"]["bits"], no_offset=case["dense"]["no_offset"], bits_a=case["bits_a"])
    net = nn.HybridSequential()
    net.add(*BEFORE[case["before"]][0](), conv, *BEFORE[case["between"]][0](), dense)
    net.initialize(mx.init.Normal(1))
    return net, conv, dense


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-4 * max(1, np.abs(wanted).max()))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_layers_compute_what_bmxnet_v2_computes(case):
    x = KINDS[case["kind"]](case["x"]).astype(np.float32)
    net, conv, dense = network(case)
    for path in ("operators", "composed"):
        with nn.path(path):
            net.hybridize(active=False)
            values = [mx.nd.array(x)]
            for layer in net._children.values():
                values.append(layer(values[-1]))
            values = dict(zip(["data", *net._children.values()], (value.asnumpy() for value in values)))
            net.hybridize()
            hybridized = net(mx.nd.array(x)).asnumpy()
        before, between = BEFORE[case["before"]][1], BEFORE[case["between"]][1]
        expected = v2_convolution(before(x), conv.weight.data().asnumpy(), **case["convolution"])
        near(values[conv], expected)
        expected = v2_dense(between(values[conv]), dense.weight.data().asnumpy(), **case["dense"])
        near(values[dense], expected)
        near(hybridized, expected)


@settings(max_examples=15, deadline=None)
@given(cases())
def test_compiled_layers_compute_what_bmxnet_v2_computes(case):
    """Of whole numbers between the layers, of which MXNet's sums are exact too."""
    case["between"] = "nothing"
    case["convolution"].update(bits=1, scaling=False, no_offset=True)
    case["dense"]["bits"] = 1
    x = KINDS[case["kind"]](np.rint(case["x"])).astype(np.float32)
    net, conv, dense = network(case)
    net(mx.nd.array(x))
    y = v2_convolution(BEFORE[case["before"]][1](x), conv.weight.data().asnumpy(), **case["convolution"])
    expected = v2_dense(y, dense.weight.data().asnumpy(), **case["dense"])
    model = Model(encode(compile_network(open_block(net, x.shape[1:]), verify=False).program))
    near(model.run(x), expected)
