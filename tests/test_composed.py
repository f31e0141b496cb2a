"""The composed path against its definition in oracle.py: values and gradients, in mx.nd and mx.sym; and compose()."""

import json

import mxnet as mx
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmx import Error, composed

NAN, INF = float("nan"), float("inf")
# Ties, thresholds of the clip and the window, and everything that arithmetic tricks get wrong.
SPECIAL = np.array([0.0, -0.0, NAN, INF, -INF, 0.5, -0.5, 0.25, 1.0, -1.0, 1e-45, -1e-45, 3e38], np.float32)


def run_nd(operator, inputs, grad, attributes):
    """Forward and backward through mx.nd: (out, [gradient of each input])."""
    arrays = [mx.nd.array(x, dtype="float32") for x in inputs]
    for array in arrays:
        array.attach_grad()
    with mx.autograd.record():
        out = operator(mx.nd, *arrays, **attributes)
    out.backward(mx.nd.array(grad(out.shape)))
    return out.asnumpy(), [array.grad.asnumpy() for array in arrays]


def run_sym(operator, inputs, grad, attributes):
    """Forward and backward through mx.sym, where only the shape of the data is given."""
    names = ["data", "weight", "bias"][: len(inputs)]
    symbol = operator(mx.sym, *map(mx.sym.var, names), **attributes)
    assert symbol.list_arguments() == names
    executor = symbol.simple_bind(mx.cpu(), data=inputs[0].shape)
    for name, x in zip(names, inputs):
        assert executor.arg_dict[name].shape == x.shape
        executor.arg_dict[name][:] = x
    out = executor.forward(is_train=True)[0]
    executor.backward([mx.nd.array(grad(out.shape))])
    return out.asnumpy(), [executor.grad_dict[name].asnumpy() for name in names]


def random_grad(shape):
    # Small integers: sums over them are exact, so that gradients can be compared exactly too.
    return np.random.default_rng(7).integers(-4, 5, shape).astype(np.float32)


def random_input(rng, shape, special=False):
    x = rng.normal(0, 0.7, shape).astype(np.float32)
    if special:
        x.flat[:: max(1, x.size // 20)] = rng.choice(SPECIAL, x.flat[:: max(1, x.size // 20)].shape)
    return x


def check(operator, definition, definition_backward, inputs, attributes, exact, runners=(run_nd, run_sym)):
    expected = definition(*inputs, **attributes)
    grad = random_grad(expected.shape)
    expected_gradients = definition_backward(grad, *inputs, **attributes)
    for run in runners:
        out, gradients = run(operator, inputs, random_grad, attributes)
        assert out.dtype == np.float32 and out.shape == expected.shape
        close = np.testing.assert_array_equal if exact else _assert_close
        close(out, expected)
        for name, got, want in zip(("data", "weight", "bias"), gradients, expected_gradients):
            close(got, want, err_msg=f"gradient of {name}")


def _assert_close(got, want, err_msg=""):
    scale = np.nanmax(np.abs(want[np.isfinite(want)]), initial=1.0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * scale, err_msg=err_msg)


def check_convolution(inputs, attributes, runners=(run_nd, run_sym)):
    binary = attributes.get("act_bit", 1) == attributes.get("weight_bit", 1) == 1
    exact = (
        binary
        and len(inputs) == 2
        and not attributes.get("float_input")
        and attributes.get("scaling_mode", "none") == "none"
        and attributes.get("gradient_update_mode") != "ff"
    )
    check(composed.qconvolution, oracle.qconvolution, oracle.qconvolution_backward, inputs, attributes, exact, runners)


def convolution_inputs(seed, spatial, attributes, channels=4, batch=2, bias=False, special=True):
    rng = np.random.default_rng(seed)
    groups, filters = attributes.get("num_group", 1), attributes["num_filter"]
    inputs = [
        random_input(
            rng,
            (batch, channels) + spatial,
            special and attributes.get("act_bit", 1) == 1 and not attributes.get("float_input"),
        ),
        random_input(
            rng, (filters, channels // groups) + attributes["kernel"], special and attributes.get("weight_bit", 1) == 1
        ),
    ]
    if attributes.get("scaling_mode", "none") != "none" or attributes.get("gradient_update_mode") == "ff":
        inputs[1] = random_input(rng, inputs[1].shape)  # the float weights are used: infinities would fill everything
    return inputs + ([rng.normal(size=filters).astype(np.float32)] if bias else [])


# QActivation


@pytest.mark.parametrize("act_bit", [1, 2, 3, 8, 17, 31, 32])
@pytest.mark.parametrize("backward_only", [False, True])
@pytest.mark.parametrize("estimator", ["ste", "approx_sign", "swish_sign"])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_qactivation(act_bit, backward_only, estimator, threshold):
    x = np.concatenate([SPECIAL, np.linspace(-1.5, 1.5, 31, dtype=np.float32)])
    attributes = {
        "act_bit": act_bit,
        "backward_only": backward_only,
        "estimator": estimator,
        "gradient_cancel_threshold": threshold,
    }

    def backward(grad, data, **attributes):
        return [oracle.qactivation_backward(grad, data, **attributes)]

    exact = estimator != "swish_sign"  # the definition differentiates numerically
    check(composed.qactivation, oracle.qactivation, backward, [x], attributes, exact=exact)


def test_qactivation_defaults_are_those_of_bmxnet():
    _, (dx,) = run_nd(composed.qactivation, [np.array([0.5, 0.51, -0.5, -0.51])], np.ones, {})
    np.testing.assert_array_equal(dx, [1, 0, 1, 0])


def test_qactivation_of_an_empty_batch():
    # In MXNet's NumPy shape mode only, where 0 is a size; its own Convolution and FullyConnected refuse empty arrays.
    mx.util.set_np_shape(True)
    try:
        x = mx.nd.zeros((0, 3))
        x.attach_grad()
        with mx.autograd.record():
            y = composed.qactivation(mx.nd, x)
        y.backward()
        mx.nd.waitall()
        assert y.shape == x.grad.shape == (0, 3)
    finally:
        mx.util.set_np_shape(False)


# QConvolution


@pytest.mark.parametrize("act_bit, weight_bit", [(1, 1), (1, 32), (32, 1), (2, 2), (3, 5), (32, 32), (1, 4), (31, 2)])
@pytest.mark.parametrize(
    "spatial, attributes",
    [
        ((7,), {"kernel": (3,), "pad": (1,), "stride": (2,)}),
        ((7,), {"kernel": (2,), "dilate": (3,)}),
        ((6, 5), {"kernel": (3, 3), "pad": (1, 1)}),
        ((6, 5), {"kernel": (3, 2), "pad": (2, 0), "stride": (2, 1), "dilate": (1, 2)}),
        ((6, 5), {"kernel": (1, 1), "num_group": 2}),
        ((1, 1), {"kernel": (1, 1)}),
        ((4, 3, 3), {"kernel": (2, 2, 2), "pad": (1, 0, 1), "num_group": 4, "stride": (2, 1, 1)}),
    ],
)
def test_qconvolution(spatial, attributes, act_bit, weight_bit):
    attributes = dict(attributes, num_filter=4, act_bit=act_bit, weight_bit=weight_bit)
    check_convolution(convolution_inputs(0, spatial, attributes), attributes)


@pytest.mark.parametrize("scaling_mode", ["none", "forward", "backward"])
@pytest.mark.parametrize("gradient_update_mode", ["bb", "bf", "ff"])
@pytest.mark.parametrize("true_gradient", [False, True])
@pytest.mark.parametrize("no_offset", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_qconvolution_modes(scaling_mode, gradient_update_mode, true_gradient, no_offset, bias):
    attributes = {
        "kernel": (3, 3),
        "num_filter": 3,
        "pad": (1, 1),
        "scaling_mode": scaling_mode,
        "gradient_update_mode": gradient_update_mode,
        "true_gradient": true_gradient,
        "no_offset": no_offset,
    }
    check_convolution(convolution_inputs(1, (4, 5), attributes, channels=5, bias=bias), attributes)


@pytest.mark.parametrize("pad_value", [0.0, -1.0])
@pytest.mark.parametrize("act_bit", [1, 2, 32])
@pytest.mark.parametrize("spatial", [(5,), (5, 4), (3, 4, 2)])
def test_qconvolution_pads_before_it_quantizes(pad_value, act_bit, spatial):
    dims = len(spatial)
    attributes = {
        "kernel": (3,) * dims, "num_filter": 2, "pad": (1,) * dims, "pad_value": pad_value, "act_bit": act_bit,
    }  # fmt: skip
    check_convolution(convolution_inputs(2, spatial, attributes, channels=3), attributes)


@pytest.mark.parametrize("bits", range(1, 33))
def test_qconvolution_of_every_width(bits):
    attributes = {"kernel": (2, 2), "num_filter": 3, "act_bit": bits, "weight_bit": bits, "pad": (1, 0)}
    check_convolution(convolution_inputs(bits, (3, 4), attributes, channels=3, bias=True), attributes)


def test_one_bit_output_counts_equal_bits():
    data, weight = np.ones((1, 5, 4, 4), np.float32), np.ones((1, 5, 3, 3), np.float32)
    out = composed.qconvolution(mx.nd, mx.nd.array(data), mx.nd.array(weight), kernel=(3, 3), num_filter=1)
    assert (out.asnumpy() == 45).all()


@st.composite
def convolutions(draw):
    dims = draw(st.integers(1, 3))
    sizes = st.tuples(*[st.integers(1, 3)] * dims)
    kernel, stride, dilate = draw(sizes), draw(sizes), draw(sizes)
    pad = draw(st.tuples(*[st.integers(0, 2)] * dims))
    least = [max(1, (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel, dilate, pad)]
    spatial = tuple(n + draw(st.integers(0, 2)) for n in least)
    groups = draw(st.integers(1, 3))
    attributes = {
        "kernel": kernel,
        "stride": stride,
        "dilate": dilate,
        "pad": pad,
        "num_group": groups,
        "num_filter": groups * draw(st.integers(1, 3)),
        "act_bit": draw(st.sampled_from([1, 1, 1, 2, 5, 32])),
        "weight_bit": draw(st.sampled_from([1, 1, 1, 2, 7, 32])),
        "scaling_mode": draw(st.sampled_from(["none", "forward", "backward"])),
        "gradient_update_mode": draw(st.sampled_from(["bb", "bf", "ff"])),
        "pad_value": draw(st.sampled_from([0.0, -1.0])),
        "no_offset": draw(st.booleans()),
        "true_gradient": draw(st.booleans()),
    }
    attributes["float_input"] = attributes["act_bit"] == attributes["weight_bit"] == 1 and draw(st.booleans())
    if attributes["act_bit"] == 1 and not attributes["float_input"] and draw(st.booleans()):
        attributes["gradient_cancel_threshold"] = draw(st.sampled_from([0.0, 0.5, 1.0]))
        attributes["estimator"] = draw(st.sampled_from(["ste", "approx_sign"]))
    inputs = convolution_inputs(
        draw(st.integers(0, 2**32 - 1)),
        spatial,
        attributes,
        channels=groups * draw(st.integers(1, 5)),
        batch=draw(st.integers(1, 3)),
        bias=draw(st.booleans()),
    )
    return inputs, attributes


@given(convolutions())
@settings(max_examples=150, deadline=None)
def test_any_qconvolution(case):
    check_convolution(*case, runners=(run_nd,))


# QFullyConnected


@pytest.mark.parametrize("shape, flatten", [((3, 7), True), ((2, 3, 2, 2), True), ((2, 3, 5), False), ((1, 1), True)])
@pytest.mark.parametrize("act_bit, weight_bit", [(1, 1), (1, 3), (2, 1), (2, 6), (32, 32)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "mode",
    [{}, {"gradient_update_mode": "ff"}, {"true_gradient": True}, {"no_offset": True}],
)
def test_qfully_connected(shape, flatten, act_bit, weight_bit, bias, mode):
    check_fully_connected(shape, flatten, bias, dict(mode, act_bit=act_bit, weight_bit=weight_bit))


@pytest.mark.parametrize("shape, flatten", [((3, 7), True), ((2, 3, 5), False)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mode", [{}, {"gradient_update_mode": "ff"}, {"true_gradient": True, "no_offset": True}])
def test_float_input_of_qfully_connected(shape, flatten, bias, mode):
    check_fully_connected(shape, flatten, bias, dict(mode, act_bit=1, weight_bit=1, float_input=True))


def check_fully_connected(shape, flatten, bias, attributes):
    rng = np.random.default_rng(3)
    width = int(np.prod(shape[1:])) if flatten else shape[-1]
    binary = attributes["act_bit"] == attributes["weight_bit"] == 1
    special = binary and not {"gradient_update_mode", "float_input"} & set(attributes)
    inputs = [random_input(rng, shape, special), random_input(rng, (4, width), special)]
    inputs += [rng.normal(size=4).astype(np.float32)] if bias else []
    attributes = dict(attributes, num_hidden=4, flatten=flatten)
    exact = special and not bias
    check(
        composed.qfully_connected,
        oracle.qfully_connected,
        oracle.qfully_connected_backward,
        inputs,
        attributes,
        exact,
    )


# Windows


@pytest.mark.parametrize("threshold", [0.0, 1e-45, 0.5, 1.0])
@pytest.mark.parametrize("estimator", ["ste", "approx_sign"])
@pytest.mark.parametrize("weight_bit", [1, 3])
def test_window_of_a_layer(threshold, estimator, weight_bit):
    window = {"gradient_cancel_threshold": threshold, "estimator": estimator, "weight_bit": weight_bit}
    attributes = {"kernel": (3, 3), "num_filter": 3, "pad": (1, 1), "pad_value": -1.0, **window}
    check_convolution(convolution_inputs(3, (4, 5), attributes, channels=5), attributes)
    inputs = [random_input(np.random.default_rng(4), shape, weight_bit == 1) for shape in ((5, 7), (4, 7))]
    definition = oracle.qfully_connected, oracle.qfully_connected_backward
    check(composed.qfully_connected, *definition, inputs, {"num_hidden": 4, **window}, exact=weight_bit == 1)


# What is refused


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"act_bit": 0}, "act_bit|bits=0"),
        ({"weight_bit": 33}, "bits=33.*from 1 to 32"),
        ({"scaling_mode": "both"}, "scaling_mode='both'.*'none', 'forward', 'backward'"),
        ({"gradient_update_mode": "fb"}, "gradient_update_mode='fb'"),
        ({"pad_value": 0.5}, "pad_value=0.5"),
        ({"layout": "NHWC"}, "layout='NHWC'.*'NCHW'"),
        ({"kernel": (1, 1, 1, 1)}, "1, 2 or 3 spatial dimensions"),
        ({"binarized_weights_only": True}, "before it is converted"),
        ({"gradient_cancel_threshold": -0.5}, "gradient_cancel_threshold=-0.5: allowed are numbers of at least 0"),
        ({"gradient_cancel_threshold": "wide"}, "gradient_cancel_threshold='wide'"),
        ({"gradient_cancel_threshold": 1.0, "act_bit": 2}, "allowed is None, because act_bit is not 1"),
        ({"gradient_cancel_threshold": 1.0, "estimator": "swish"}, "estimator='swish'.*'ste', 'approx_sign'"),
        ({"estimator": "approx_sign"}, "with a gradient_cancel_threshold only"),
        ({"float_input": True, "act_bit": 2}, "float_input=True: .*act_bit and weight_bit are not both 1"),
        ({"float_input": True, "gradient_cancel_threshold": 1.0}, "None, because float_input is True"),
    ],
)
def test_bad_attributes(attributes, message):
    attributes = dict({"kernel": (1, 1), "num_filter": 1}, **attributes)
    with pytest.raises(Error, match=message):
        composed.qconvolution(mx.nd, mx.nd.ones((1, 1, 2, 2)), mx.nd.ones((1, 1, 1, 1)), **attributes)


def test_bad_estimator():
    with pytest.raises(Error, match="estimator='swish'.*'ste', 'approx_sign', 'swish_sign'"):
        composed.qactivation(mx.nd, mx.nd.ones((1,)), estimator="swish")


# compose()


def test_compose_takes_symbols():
    with pytest.raises(Error, match="^compose of int: needs a Symbol$"):
        composed.compose(3)


def lenet_like():
    """A network with each operator, a bias, a BatchNorm with its auxiliary states, and an output used twice."""
    x = mx.sym.var("data")
    x = mx.sym.Convolution(x, kernel=(3, 3), num_filter=6, name="conv0")
    x = mx.sym.BatchNorm(x, name="bn0", fix_gamma=False)
    x = mx.sym.QActivation(x, backward_only=True, name="act1")
    y = mx.sym.QConvolution(
        x, kernel=(3, 3), num_filter=5, pad=(1, 1), no_bias=False, scaling_mode="forward", name="q1"
    )
    z = mx.sym.QConvolution_v1(x, kernel=(3, 3), num_filter=5, pad=(1, 1), act_bit=2, weight_bit=3, name="q2")
    x = mx.sym.BatchNorm(y + z, name="bn1")
    x = mx.sym.QActivation(x, act_bit=3, name="act2")
    x = mx.sym.QFullyConnected(x, num_hidden=4, no_bias=False, name="q3")
    return mx.sym.Group([mx.sym.SoftmaxOutput(x, name="softmax"), y])


def bind(symbol, shape, seed=5, **arguments):
    executor = symbol.simple_bind(mx.cpu(), data=shape, **arguments)
    rng = np.random.default_rng(seed)
    for name in sorted(executor.arg_dict):
        executor.arg_dict[name][:] = rng.normal(0, 0.5, executor.arg_dict[name].shape)
    return executor


def operators_of(symbol):
    return {node["op"] for node in json.loads(symbol.tojson())["nodes"]}


def test_compose_keeps_names_values_and_gradients():
    symbol = lenet_like()
    built_in = composed.compose(symbol)
    assert {"QActivation", "QConvolution", "QConvolution_v1", "QFullyConnected"} <= operators_of(symbol)
    assert not {name for name in operators_of(built_in) if name.startswith("Q")}
    assert built_in.list_arguments() == symbol.list_arguments()
    assert built_in.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert built_in.list_outputs() == symbol.list_outputs()

    shape = (2, 3, 6, 6)
    assert built_in.infer_shape(data=shape) == symbol.infer_shape(data=shape)
    executors = [bind(s, shape) for s in (symbol, built_in)]
    for executor in executors:
        executor.forward(is_train=True)
        executor.backward([mx.nd.ones(out.shape) for out in executor.outputs])
    first, second = executors
    for a, b in zip(first.outputs, second.outputs):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-4, atol=1e-5)
    for name in first.grad_dict:
        np.testing.assert_allclose(
            first.grad_dict[name].asnumpy(), second.grad_dict[name].asnumpy(), rtol=1e-3, atol=1e-4, err_msg=name
        )
    for name in first.aux_dict:
        np.testing.assert_allclose(
            first.aux_dict[name].asnumpy(), second.aux_dict[name].asnumpy(), rtol=1e-4, atol=1e-6
        )


def test_compose_leaves_other_networks_alone():
    x = mx.sym.split(mx.sym.var("data"), num_outputs=3, name="split")
    symbol = mx.sym.Group([mx.sym.BatchNorm(x[1], name="bn"), x[2] * 2, x[0]])
    assert json.loads(composed.compose(symbol).tojson()) == json.loads(symbol.tojson())


def test_compose_of_outputs_and_several_uses():
    """An operator that is an output, one after a node of several outputs, and a weight that two layers share."""
    parts = mx.sym.split(mx.sym.var("data"), num_outputs=2, name="split")
    weight = mx.sym.var("shared")
    first = mx.sym.QFullyConnected(parts[1], weight, num_hidden=3, name="first")
    second = mx.sym.QFullyConnected(parts[0], weight, num_hidden=3, name="second")
    symbol = mx.sym.Group([first, first + second, second])
    built_in = composed.compose(symbol)
    assert built_in.list_outputs() == symbol.list_outputs()
    assert built_in.list_arguments() == symbol.list_arguments()
    results = []
    for s in (symbol, built_in):
        executor = bind(s, (2, 8))
        executor.forward(is_train=True)
        executor.backward([mx.nd.ones((2, 3))] * 3)
        results.append([out.asnumpy() for out in executor.outputs] + [executor.grad_dict["shared"].asnumpy()])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_compose_keeps_attributes_of_nodes():
    with mx.AttrScope(ctx_group="first"):
        symbol = mx.sym.QActivation(mx.sym.var("data", lr_mult=2), name="q")
    attributes = composed.compose(symbol).attr_dict()
    assert attributes["q"]["__ctx_group__"] == "first"
    assert attributes["data"] == symbol.attr_dict()["data"]


def test_compose_reads_what_python_2_wrote():
    graph = json.loads(mx.sym.QConvolution(mx.sym.var("data"), kernel=(3, 3), num_filter=2, name="q").tojson())
    node = next(node for node in graph["nodes"] if node["op"] == "QConvolution")
    node["attrs"] = {"kernel": "(3L, 3L)", "num_filter": "2", "no_bias": "true", "scaling_factor": "1.0"}
    built_in = composed.compose(mx.sym.load_json(json.dumps(graph)))
    assert built_in.infer_shape(data=(1, 4, 5, 5))[1] == [(1, 2, 3, 3)]


@pytest.mark.parametrize("threshold", [0.5, INF, None])
def test_compose_keeps_windows(threshold):
    estimator = "ste" if threshold is None else "approx_sign"
    symbol = mx.sym.QConvolution(
        mx.sym.var("data"), kernel=(1, 1), num_filter=2, gradient_cancel_threshold=threshold, estimator=estimator
    )
    gradients = []
    for s in (symbol, composed.compose(symbol)):
        executor = bind(s, (2, 3, 4, 4))
        executor.backward(executor.forward(is_train=True))
        gradients.append(executor.grad_dict["data"].asnumpy())
    np.testing.assert_array_equal(*gradients)
    assert (gradients[0] == 0).any() == (threshold == 0.5)


def test_compose_inside_control_flow():
    def step(x, state):
        out = mx.sym.QActivation(x) * state
        return out, state

    out, _ = mx.sym.contrib.foreach(step, mx.sym.var("data"), mx.sym.var("state"))
    built_in = composed.compose(out)
    assert "QActivation" in out.tojson() and "QActivation" not in built_in.tojson()
    values = {"data": mx.nd.array([[-0.5, 2], [0, -1]]), "state": mx.nd.array([2, 3])}
    result = built_in.bind(mx.cpu(), values).forward()[0]
    np.testing.assert_array_equal(result.asnumpy(), [[-2, 3], [2, -3]])


def test_compose_names_the_layer_that_it_refuses():
    data = mx.sym.var("data")
    symbol = mx.sym.QConvolution(data, kernel=(1, 1), num_filter=2, binarized_weights_only=True, name="conv7")
    with pytest.raises(Error, match=r"layer 'conv7' \(QConvolution\): .*packed weights"):
        composed.compose(symbol)


@pytest.mark.parametrize("weight_bit", [1, 32])
def test_composed_symbols_can_be_bound(weight_bit):
    symbol = mx.sym.QFullyConnected(mx.sym.var("data"), num_hidden=3, act_bit=32, weight_bit=weight_bit, name="q")
    data, weight = np.float32([[2, -3]]), np.float32([[1, 1], [-1, 1], [1, -1]])
    arguments = {"data": mx.nd.array(data), "q_weight": mx.nd.array(weight)}
    (out,) = composed.compose(symbol).bind(mx.cpu(), arguments).forward()
    np.testing.assert_array_equal(out.asnumpy(), data @ weight.T)
