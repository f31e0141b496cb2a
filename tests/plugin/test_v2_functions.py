"""BMXNet v2's functions in MXNet, against their definitions; and in files."""

import json

import mxnet as mx
import numpy as np
import pytest

from bmx.plugin.v2_functions import FUNCTIONS

EDGES = np.float32([-3, -1.5, -1, -0.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, 1, 1.5, 2.5, np.inf, -np.inf, np.nan])


def sign(x):
    return np.where(x < 0, -1, 1).astype(x.dtype)


def half_away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


# name: value, factor of the gradient
DEFINITIONS = {
    "det_sign": (sign, lambda x: np.ones_like(x)),
    "approx_sign": (sign, lambda x: np.where(x < 0, 2 + 2 * x, 2 - 2 * x)),
    "round_ste": (half_away, lambda x: np.ones_like(x)),
    "gradcancel": (lambda x: x, lambda x: (np.abs(x) <= 1).astype(x.dtype)),
}


def function(module, name):
    return getattr(module.contrib if name == "gradcancel" else module, name)


def values(name, dtype=np.float32):
    x = np.concatenate([EDGES, np.random.uniform(-3, 3, 200)]).astype(dtype)
    return x[np.isfinite(x)] if name == "round_ste" else x


@pytest.mark.parametrize("name", DEFINITIONS)
class TestDefinitions:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
    def test_values_and_gradients(self, name, dtype):
        x, (value, factor) = values(name, dtype), DEFINITIONS[name]
        data, head = mx.nd.array(x, dtype=dtype), np.random.uniform(1, 2, x.shape).astype(dtype)
        data.attach_grad()
        with mx.autograd.record():
            y = function(mx.nd, name)(data)
        y.backward(mx.nd.array(head, dtype=dtype))
        assert y.dtype == data.dtype
        np.testing.assert_array_equal(y.asnumpy(), value(x))
        tolerance = {"float16": 1e-2}.get(dtype, 1e-6)
        np.testing.assert_allclose(data.grad.asnumpy(), head * factor(x), rtol=tolerance, atol=tolerance)

    def test_symbols_compute_the_same(self, name):
        x, (value, factor) = values(name), DEFINITIONS[name]
        symbol = function(mx.sym, name)(mx.sym.var("x"))
        executor = symbol.simple_bind(mx.cpu(), x=x.shape)
        np.testing.assert_array_equal(executor.forward(is_train=True, x=mx.nd.array(x))[0].asnumpy(), value(x))
        executor.backward(mx.nd.ones(x.shape))
        np.testing.assert_allclose(executor.grad_dict["x"].asnumpy(), factor(x), rtol=1e-6)

    def test_gradients_accumulate(self, name):
        executor = function(mx.sym, name)(mx.sym.var("x")).simple_bind(mx.cpu(), x=(2,), grad_req="add")
        executor.grad_dict["x"][:] = 0
        for _ in range(3):
            executor.forward(is_train=True, x=mx.nd.array([0.5, -0.25]))
            executor.backward(mx.nd.ones(2))
        factor = DEFINITIONS[name][1](np.float32([0.5, -0.25]))
        np.testing.assert_allclose(executor.grad_dict["x"].asnumpy(), 3 * factor)

    def test_sizes_that_only_the_output_tells_are_inferred(self, name):
        weight = function(mx.sym, name)(mx.sym.var("w", shape=(16, 0, 3, 3)))
        out = mx.sym.Convolution(mx.sym.var("data"), weight, kernel=(3, 3), num_filter=16, no_bias=True)
        assert out.infer_shape(data=(1, 2, 5, 5))[0] == [(1, 2, 5, 5), (16, 2, 3, 3)]

    def test_nodes_are_named_as_the_operators_of_mxnet_are(self, name):
        with mx.name.NameManager():
            assert function(mx.sym, name)(mx.sym.var("x")).list_outputs() == [f"{name}0_output"]
            assert function(mx.sym, name)(mx.sym.var("x")).name == f"{name}1"
            assert function(mx.sym, name)(mx.sym.var("x"), name="q").name == "q"
            with mx.name.Prefix("net_"):
                assert function(mx.sym, name)(mx.sym.var("x")).name == f"net_{name}0"

    def test_arguments_by_name(self, name):
        x = mx.nd.array([0.5, -2])
        expected = function(mx.nd, name)(x).asnumpy()
        out = mx.nd.zeros(2)
        assert function(mx.nd, name)(data=x, out=out) is out
        np.testing.assert_array_equal(out.asnumpy(), expected)
        assert function(mx.sym, name)(data=mx.sym.var("x")).list_arguments() == ["x"]


@pytest.mark.parametrize("name", ["det_sign", "approx_sign", "round_ste"])
def test_methods_of_arrays_and_symbols(name):
    x = mx.nd.array([-0.6, 0, 2.5])
    np.testing.assert_array_equal(getattr(x, name)().asnumpy(), getattr(mx.nd, name)(x).asnumpy())
    assert getattr(mx.sym.var("x"), name)(name="s").list_outputs() == ["s_output"]


@pytest.mark.parametrize("threshold", [0, 0.01, 1, 2.5, np.inf, -1])
def test_gradcancel_lets_gradients_through_up_to_the_threshold(threshold):
    x = mx.nd.array(EDGES)
    x.attach_grad()
    with mx.autograd.record():
        y = mx.nd.contrib.gradcancel(x, threshold=threshold)
    y.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), np.abs(EDGES) <= threshold)
    assert y.asnumpy().tobytes() == EDGES.tobytes()


class TestFiles:
    """Symbol files that name v2's operators, which MXNet does not have."""

    NODES = (("det_sign", {}), ("approx_sign", {}), ("round_ste", {}), ("_contrib_gradcancel", {"threshold": "0.5"}))

    @staticmethod
    def content(op, attributes, more=None):
        nodes = [
            {"op": "null", "name": "data", "inputs": []},
            {"op": op, "name": "quantized", "attrs": attributes, "inputs": [[0, 0, 0]]},
            {"op": "square", "name": "out", "inputs": [[1, 0, 0]]},
        ]
        graph = {"nodes": nodes, "arg_nodes": [0], "heads": [[2, 0, 0], [1, 0, 0]]}
        return json.dumps({**graph, "attrs": {"mxnet_version": ["int", 10501]}, **(more or {})})

    @pytest.mark.parametrize("op, attributes", NODES)
    @pytest.mark.parametrize("rows", [None, [0, 1, 2, 3], [0, 1]])  # v2's converter leaves a wrong list
    def test_are_loaded_with_their_names(self, op, attributes, rows, tmp_path):
        text = self.content(op, attributes, {} if rows is None else {"node_row_ptr": rows})
        (tmp_path / "net-symbol.json").write_text(text)
        for symbol in (mx.sym.load_json(text), mx.sym.load(str(tmp_path / "net-symbol.json"))):
            assert symbol.list_arguments() == ["data"]
            assert symbol.list_outputs() == ["out_output", "quantized_output"]
            x = np.float32([-0.75, 0.25, 1.75])
            executor = symbol.simple_bind(mx.cpu(), data=(3,))
            outputs = executor.forward(is_train=True, data=mx.nd.array(x))
            executor.backward([mx.nd.zeros(3), mx.nd.ones(3)])
            value, factor = DEFINITIONS[op.replace("_contrib_", "")]
            np.testing.assert_array_equal(outputs[1].asnumpy(), value(x))
            expected = factor(2 * x) if op == "_contrib_gradcancel" else factor(x)
            np.testing.assert_allclose(executor.grad_dict["data"].asnumpy(), expected)

    def test_are_written_so_that_mxnet_alone_reads_them(self):
        symbol = mx.sym.load_json(self.content("det_sign", {}))
        assert not any(f'"{name}"' in symbol.tojson() for name in FUNCTIONS)

    def test_damaged_ones_are_errors_of_mxnet(self):
        for text in ('{"nodes": ["det_sign"', '{"nodes": [{"op": "det_sign"}]}', '["det_sign"]'):
            with pytest.raises(mx.base.MXNetError):
                mx.sym.load_json(text)
