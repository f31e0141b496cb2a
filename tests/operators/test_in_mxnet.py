"""The operators as citizens of MXNet: names, variables, files, Module, Gluon, accumulation of gradients, errors."""

import inspect
import json
import os
import subprocess
import sys
import threading

import mxnet as mx
import numpy as np
import oracle
import pytest
from mxnet import gluon

import bmx
from bmx.plugin import operators

CONVOLUTION = {"kernel": (3, 3), "num_filter": 4}


def normal(*shape):
    return mx.nd.random.normal(shape=shape)


def small_network():
    data = mx.sym.Variable("data")
    net = mx.sym.Convolution(data, num_filter=8, kernel=(3, 3), name="conv")
    net = mx.sym.BatchNorm(net, fix_gamma=False, name="bn")
    net = mx.sym.QActivation(net, backward_only=True)
    net = mx.sym.QConvolution(net, num_filter=8, kernel=(3, 3), pad=(1, 1))
    net = mx.sym.QActivation(mx.sym.Flatten(mx.sym.BatchNorm(net)), backward_only=True)
    net = mx.sym.QFullyConnected(net, num_hidden=16, no_bias=False)
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.BatchNorm(net), num_hidden=3), name="softmax")


class TestNames:
    def test_variables_are_created_and_named_as_convolutions_are(self):
        with mx.name.NameManager():
            names = mx.sym.QConvolution(data=mx.sym.Variable("x"), no_bias=False, **CONVOLUTION).list_arguments()
            assert names == ["x", "qconvolution0_weight", "qconvolution0_bias"]
            second = mx.sym.QConvolution(mx.sym.Variable("x"), **CONVOLUTION)
            assert second.list_arguments() == ["x", "qconvolution1_weight"]
            assert second.name == "qconvolution1"
            dense = mx.sym.QFullyConnected(mx.sym.Variable("x"), num_hidden=3, name="fc")
            assert dense.list_arguments() == ["x", "fc_weight"]

    def test_data_is_created_too(self):
        assert mx.sym.QActivation(name="q").list_arguments() == ["q_data"]

    def test_prefix_applies(self):
        with mx.name.Prefix("stage1_"):
            symbol = mx.sym.QConvolution(mx.sym.Variable("x"), **CONVOLUTION)
            named = mx.sym.QConvolution(mx.sym.Variable("x"), name="q", **CONVOLUTION)
        assert symbol.list_arguments() == ["x", "stage1_qconvolution0_weight"]
        assert named.name == "stage1_q"
        assert named.list_arguments() == ["x", "stage1_q_weight"]

    def test_attribute_scope_applies_to_the_node_and_its_variables(self):
        with mx.AttrScope(__lr_mult__="0.5", ctx_group="dev1"):
            symbol = mx.sym.QConvolution(mx.sym.Variable("x"), name="q", **CONVOLUTION)
        attributes = symbol.attr_dict()
        assert attributes["q_weight"]["__lr_mult__"] == "0.5"
        assert attributes["q"]["__lr_mult__"] == "0.5"
        assert attributes["q"]["kernel"] == "(3, 3)"

    def test_given_variables_are_used(self):
        weight = mx.sym.Variable("w", shape=(4, 2, 3, 3))
        symbol = mx.sym.QConvolution(mx.sym.Variable("x"), weight, **CONVOLUTION)
        assert symbol.list_arguments() == ["x", "w"]

    @pytest.mark.parametrize("name", ["QActivation", "QConvolution", "QConvolution_v1", "QFullyConnected"])
    @pytest.mark.parametrize("module", [mx.nd, mx.sym])
    def test_functions_are_documented(self, name, module):
        function = getattr(module, name)
        assert "act_bit" in inspect.getdoc(function)
        parameters = set(inspect.signature(function).parameters)
        assert {"act_bit"} < parameters
        assert parameters & {"out", "name", "attr"} == ({"out"} if module is mx.nd else {"name", "attr"})

    def test_shapes_and_types_are_inferred(self):
        symbol = mx.sym.QConvolution(mx.sym.Variable("x"), num_group=2, no_bias=False, name="q", **CONVOLUTION)
        shapes, outputs, _ = symbol.infer_shape(x=(5, 6, 7, 8))
        assert shapes == [(5, 6, 7, 8), (4, 3, 3, 3), (4,)]
        assert outputs == [(5, 4, 5, 6)]
        assert symbol.infer_type(x="float32")[0] == [np.float32] * 3

    @pytest.mark.overruns_in_mxnet
    def test_shapes_of_packed_weights_are_inferred(self):
        def weight_shape(channels, **attributes):
            symbol = mx.sym.QConvolution(mx.sym.Variable("x"), binarized_weights_only=True, **attributes)
            return symbol.infer_shape(x=(1, channels, 7, 7))[0][1]

        assert weight_shape(64, **CONVOLUTION) == (4, 2, 3, 3)
        assert weight_shape(3, **CONVOLUTION) == (4, 1)
        dense = mx.sym.QFullyConnected(mx.sym.Variable("x"), num_hidden=5, binarized_weights_only=True)
        assert dense.infer_shape(x=(1, 70))[0][1] == (5, 3)


class TestFiles:
    def test_module_trains_saves_and_loads(self, tmp_path):
        x, y = np.random.uniform(-1, 1, (60, 1, 8, 8)).astype("f"), np.arange(60) % 3
        x[y == 1, :, :4] += 1
        x[y == 2, :, 4:] += 1
        batches = mx.io.NDArrayIter(x, y.astype("f"), 20, shuffle=True)
        module = mx.mod.Module(small_network(), context=mx.cpu())
        module.fit(batches, num_epoch=12, optimizer="adam", initializer=mx.init.Xavier(), eval_metric="acc")
        scored = module.score(batches, "acc")[0][1]
        assert scored > 0.8
        prefix = str(tmp_path / "net")
        module.save_checkpoint(prefix, 3)

        symbol, arguments, auxiliary = mx.model.load_checkpoint(prefix, 3)
        again = mx.mod.Module(symbol, context=mx.cpu())
        again.bind(batches.provide_data, batches.provide_label, for_training=False)
        again.set_params(arguments, auxiliary)
        assert again.score(batches, "acc")[0][1] == scored

        block = gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data", "softmax_label"], f"{prefix}-0003.params")
        data = mx.nd.array(x[:20])
        module.forward(mx.io.DataBatch([data], None), is_train=False)
        np.testing.assert_allclose(
            block(data, mx.nd.zeros(20)).asnumpy(), module.get_outputs()[0].asnumpy(), rtol=1e-5, atol=1e-6
        )

    def test_visualization_works(self, capsys):
        mx.viz.print_summary(small_network(), shape={"data": (1, 1, 8, 8)})
        summary = capsys.readouterr().out
        assert "qconvolution" in summary
        assert "_guard" not in summary
        plot = mx.viz.plot_network(small_network(), shape={"data": (1, 1, 8, 8)}).source
        assert "qconvolution" in plot
        assert "_guard" not in plot

    def test_json_of_old_versions_runs(self):
        nodes = [
            {"op": "null", "name": "data", "inputs": []},
            {"op": "null", "name": "w", "attr": {"kernel": "(3, 3)", "num_filter": "4"}, "inputs": []},
            {
                "op": "QConvolution_v1",
                "name": "q",
                "attr": {"kernel": "(3, 3)", "num_filter": "4", "act_bit": "1", "scaling_factor": "True"},
                "inputs": [[0, 0, 0], [1, 0, 0]],
            },
        ]
        graph = {"nodes": nodes, "arg_nodes": [0, 1], "heads": [[2, 0, 0]], "attrs": {"mxnet_version": ["int", 903]}}
        symbol = mx.sym.load_json(json.dumps(graph))
        x, w = normal(1, 2, 5, 5), normal(4, 2, 3, 3)
        out = symbol.bind(mx.cpu(), {"data": x, "w": w}).forward()[0]
        np.testing.assert_array_equal(out.asnumpy(), oracle.qconvolution(x.asnumpy(), w.asnumpy(), **CONVOLUTION))


class Net(gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(4, 3, 3, 3))
            self.dense = self.params.get("dense", shape=(2, 4 * 36), allow_deferred_init=True)

    def hybrid_forward(self, F, x, weight, dense):
        x = F.QConvolution(F.QActivation(x), weight, pad=(1, 1), **CONVOLUTION)
        return F.QFullyConnected(F.QActivation(x - 13), dense, num_hidden=2, no_offset=True)


class TestGluon:
    @pytest.mark.parametrize("options", [{}, {"static_alloc": True}, {"static_alloc": True, "static_shape": True}])
    def test_hybridized_training_equals_imperative(self, options):
        def train(hybridize):
            mx.random.seed(1)
            net = Net()
            net.initialize(mx.init.Normal(0.5))
            if hybridize:
                net.hybridize(**options)
            trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})
            for _ in range(5):
                x = normal(4, 3, 6, 6)
                with mx.autograd.record():
                    loss = (net(x) ** 2).mean()
                loss.backward()
                trainer.step(4)
            return [p.data().asnumpy() for p in net.collect_params().values()]

        for plain, hybrid in zip(train(False), train(True)):
            np.testing.assert_array_equal(plain, hybrid)

    def test_export_and_import(self, tmp_path):
        net = Net()
        net.initialize()
        net.hybridize()
        x = normal(2, 3, 6, 6)
        expected = net(x).asnumpy()
        net.export(str(tmp_path / "net"))
        again = gluon.SymbolBlock.imports(
            str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
        )
        np.testing.assert_array_equal(again(x).asnumpy(), expected)


def gradients(symbol, values, grad_req, passes):
    """Gradients of the arguments after several backward passes with a gradient of ones."""
    executor = symbol.bind(
        mx.cpu(), values, args_grad={k: mx.nd.zeros_like(v) for k, v in values.items()}, grad_req=grad_req
    )
    for _ in range(passes):
        out = executor.forward(is_train=True)[0]
        executor.backward(mx.nd.ones_like(out))
    return {k: v.asnumpy() for k, v in executor.grad_dict.items()}


class TestAccumulation:
    """MXNet does not tell custom operators to add: see bmx/plugin/variable_copies.py."""

    @pytest.fixture
    def values(self):
        return {"x": normal(2, 3, 6, 6), "q_weight": normal(4, 3, 3, 3), "q_bias": normal(4)}

    def symbol(self):
        x = mx.sym.Variable("x")
        return mx.sym.QConvolution(x, no_bias=False, name="q", **CONVOLUTION)

    def check_twice(self, symbol, values):
        once = gradients(symbol, values, "write", 1)
        twice = gradients(symbol, values, "add", 2)
        for name in values:
            assert np.abs(once[name]).sum() > 0
            np.testing.assert_allclose(twice[name], 2 * once[name], rtol=1e-6)

    def test_two_passes_of_a_symbol(self, values):
        self.check_twice(self.symbol(), values)

    def test_two_passes_of_a_loaded_symbol_without_copies(self, values, tmp_path):
        plain = json.loads(self.symbol().tojson())
        variables = {node["inputs"][0][0]: i for i, node in enumerate(plain["nodes"]) if node["op"] == "_copy"}
        for node in plain["nodes"]:
            if node["op"] == "QConvolution":
                back = {guard: variable for variable, guard in variables.items()}
                node["inputs"] = [[back[i], 0, 0] for i, _, _ in node["inputs"]]
        text = json.dumps(plain)
        (tmp_path / "s.json").write_text(text)
        self.check_twice(mx.sym.load_json(text), values)
        self.check_twice(mx.sym.load(str(tmp_path / "s.json")), values)

    def test_two_passes_of_arrays(self, values):
        arrays = list(values.values())
        results = []
        for grad_req, passes in (("write", 1), ("add", 2)):
            for a in arrays:
                a.attach_grad(grad_req)
            for _ in range(passes):
                with mx.autograd.record():
                    out = mx.nd.QConvolution(*arrays, no_bias=False, **CONVOLUTION)
                out.backward()
            results.append([a.grad.asnumpy() for a in arrays])
        for once, twice in zip(*results):
            np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)

    @pytest.mark.parametrize("hybridize", [False, True])
    def test_two_passes_of_a_gluon_block(self, hybridize):
        net = Net()
        net.initialize(mx.init.Normal(0.5))
        if hybridize:
            net.hybridize(static_alloc=True)
        x = normal(2, 3, 6, 6)
        net(x)
        parameters = list(net.collect_params().values())
        results = []
        for grad_req, passes in (("write", 1), ("add", 2)):
            for p in parameters:
                p.grad_req = grad_req
            net.collect_params().zero_grad()
            for _ in range(passes):
                with mx.autograd.record():
                    out = net(x)
                out.backward()
            results.append([p.grad().asnumpy() for p in parameters])
        for once, twice in zip(*results):
            assert np.abs(once).sum() > 0
            np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)

    @pytest.mark.parametrize("uses", [2, 3, 12])
    @pytest.mark.parametrize("inner", [False, True])
    def test_one_array_that_feeds_several_nodes(self, uses, inner):
        """From eight uses on MXNet adds in place, which custom operators cannot."""
        x = mx.sym.Variable("x")
        source = x * 1.5 if inner else x
        weights = [mx.sym.Variable(f"w{i}") for i in range(uses)]
        total = sum(
            (mx.sym.QConvolution(source, w, **CONVOLUTION) for w in weights[1:]),
            mx.sym.QConvolution(source, weights[0], **CONVOLUTION),
        )
        values = {"x": normal(2, 3, 5, 5), **{f"w{i}": normal(4, 3, 3, 3) for i in range(uses)}}
        got = gradients(total, values, "write", 1)["x"]
        expected = 0
        for i in range(uses):
            data, weight = values["x"].asnumpy(), values[f"w{i}"].asnumpy()
            expected = expected + oracle.qconvolution_backward(np.ones((2, 4, 3, 3)), data, weight, **CONVOLUTION)[0]
        np.testing.assert_allclose(got, expected * (1.5 if inner else 1), rtol=1e-5, atol=1e-4)

    def test_one_weight_in_several_nodes(self):
        w = mx.sym.Variable("w")
        x = mx.sym.Variable("x")
        twice = mx.sym.QConvolution(x, w, **CONVOLUTION) + 2 * mx.sym.QConvolution(x + 0.1, w, **CONVOLUTION)
        values = {"x": normal(2, 3, 5, 5), "w": normal(4, 3, 3, 3)}
        got = gradients(twice, values, "write", 1)["w"]
        data, weight = values["x"].asnumpy(), values["w"].asnumpy()
        ones = np.ones((2, 4, 3, 3))
        expected = oracle.qconvolution_backward(ones, data, weight, **CONVOLUTION)[1]
        expected = expected + 2 * oracle.qconvolution_backward(ones, data + np.float32(0.1), weight, **CONVOLUTION)[1]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)

    def test_the_latent_weights_are_never_changed(self):
        for mode in ("bb", "bf", "ff"):
            x, w = normal(1, 3, 5, 5), normal(4, 3, 3, 3)
            before = w.asnumpy()
            w.attach_grad()
            with mx.autograd.record():
                out = mx.nd.QConvolution(x, w, gradient_update_mode=mode, **CONVOLUTION)
            out.backward()
            np.testing.assert_array_equal(w.asnumpy(), before)


@pytest.mark.parametrize(
    "attributes",
    [{}, {"act_bit": 4, "weight_bit": 2}, {"binarized_weights_only": True}],
    ids=lambda attributes: next(iter(attributes), "binary"),
)
def test_many_python_threads_get_the_same_result(attributes):
    """Forward passes: MXNet itself, with its own Convolution too, does not stand gradients in several threads."""
    weight = np.random.normal(size=(8, 64, 3, 3)).astype(np.float32)
    if "binarized_weights_only" in attributes:
        weight = oracle.pack_convolution(weight, 32)
    x, w = normal(2, 64, 9, 9), mx.nd.array(weight)

    def run():
        return mx.nd.QConvolution(x, w, kernel=(3, 3), num_filter=8, pad=(1, 1), **attributes).asnumpy()

    expected = run()
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(run(), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_functions_survive_another_librarys_loading(tmp_path):
    before = mx.nd.QConvolution
    with pytest.raises(mx.base.MXNetError):
        mx.library.load(str(tmp_path / "none.so"))
    mx.base._init_op_module("mxnet", "ndarray", mx.ndarray.register._make_ndarray_function)  # what loading does
    operators._install_functions()
    assert mx.nd.QConvolution.__doc__ == before.__doc__


@pytest.mark.parametrize("first", ["bmx", "a backward pass"])
def test_a_backward_pass_before_the_import_is_warned_of(first):
    backward = "x = mx.sym.Variable('x'); e = (x * 2 + x).simple_bind(mx.cpu(), x=(1,))\n"
    backward += "e.forward(is_train=True); e.backward(mx.nd.ones(1))\n"
    script = "import mxnet as mx\n" + (backward if first != "bmx" else "") + "import bmx\n"
    fresh = {key: value for key, value in os.environ.items() if not key.startswith("MXNET_")}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=fresh)
    assert ("import bmx first" in result.stderr) == (first != "bmx")


class TestErrors:
    @pytest.mark.parametrize(
        "attributes, message",
        [
            ({"act_bit": 0}, "QConvolution: act_bit is '0'; allowed: 1..32"),
            ({"weight_bit": 33}, "weight_bit is '33'; allowed: 1..32"),
            ({"act_bit": "two"}, "act_bit is 'two'; allowed: 1..32"),
            ({"scaling_mode": "sideways"}, "allowed: none, forward, backward"),
            ({"gradient_update_mode": "fb"}, "allowed: bb, bf, ff"),
            ({"num_group": 3}, "num_group is '3'; allowed: a divisor of num_filter"),
            ({"stride": (0, 1)}, "stride is '(0, 1)'; allowed: one to three integers, at least 1"),
            ({"pad": (1, 1, 1)}, "pad is '(1, 1, 1)'; allowed: as many numbers as kernel has"),
            ({"pad_value": 0.5}, "pad_value is '0.5'; allowed: 0, -1"),
            ({"layout": "NHWC"}, "layout is 'NHWC'; allowed: NCW, NCHW, NCDHW"),
            ({"kernels": (3, 3)}, "no attribute is called 'kernels'"),
            ({"gradient_cancel_threshold": -1}, "gradient_cancel_threshold is '-1'; allowed: a number from 0"),
            ({"gradient_cancel_threshold": "nan"}, "gradient_cancel_threshold is 'nan'; allowed: a number from 0"),
            ({"gradient_cancel_threshold": 1, "act_bit": 2}, "allowed: None, because act_bit is not 1"),
            ({"gradient_cancel_threshold": 1, "estimator": "tanh"}, "allowed: ste, approx_sign, swish_sign"),
            ({"estimator": "approx_sign"}, "allowed: ste; other estimators need a gradient_cancel_threshold"),
            ({"float_input": True, "weight_bit": 2}, "allowed: False, because act_bit and weight_bit are not both 1"),
            ({"float_input": True, "gradient_cancel_threshold": 1}, "allowed: None, because float_input is True"),
        ],
    )
    def test_bad_attributes_say_what_is_allowed(self, attributes, message):
        for call in (
            lambda **a: mx.nd.QConvolution(normal(1, 4, 5, 5), normal(4, 4, 3, 3), **a),
            lambda **a: mx.sym.QConvolution(mx.sym.Variable("x"), **a),
        ):
            with pytest.raises(bmx.Error) as error:
                call(**{**CONVOLUTION, **attributes})
            assert message in str(error.value)
            assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "call, message",
        [
            (
                lambda: mx.nd.QConvolution(normal(1, 4, 5, 5), normal(4, 5, 3, 3), **CONVOLUTION),
                "weight has shape (4, 5, 3, 3); it must be (4, 4, 3, 3)",
            ),
            (
                lambda: mx.nd.QConvolution(normal(1, 4, 2, 2), normal(4, 4, 3, 3), **CONVOLUTION),
                "is larger than the data (1, 4, 2, 2) padded by (0, 0)",
            ),
            (lambda: mx.nd.QConvolution(normal(1, 4, 5), normal(4, 4, 3, 3), **CONVOLUTION), "needs 4 dimensions"),
            (
                lambda: mx.nd.QConvolution(normal(1, 3, 5, 5), normal(4, 2, 3, 3), num_group=2, **CONVOLUTION),
                "3 channels; they must be a multiple of num_group = 2",
            ),
            (
                lambda: mx.nd.QConvolution(normal(1, 4, 5, 5), normal(7), binarized_weights_only=True, **CONVOLUTION),
                "7 packed words; it must have 8 words of 32 bits or 4 of 64",
            ),
            (
                lambda: mx.nd.QFullyConnected(normal(3, 4), normal(5, 3), num_hidden=5),
                "weight has shape (5, 3); it must be (5, 4)",
            ),
            (lambda: mx.nd.QConvolution(normal(1, 4, 5, 5), normal(4, 4, 3, 3), num_filter=4), "kernel must be given"),
            (lambda: mx.nd.QConvolution(normal(1, 4, 5, 5), **CONVOLUTION), "missing: weight"),
            (
                lambda: mx.nd.QConvolution(normal(1, 4, 5, 5), normal(4, 4, 3, 3), normal(4), **CONVOLUTION),
                "a bias is given, but no_bias is True, the default; pass no_bias=False",
            ),
            (
                lambda: mx.nd.QConvolution(normal(1, 4, 5, 5), normal(4, 4, 3, 3), data=normal(1), **CONVOLUTION),
                "data is given twice",
            ),
            (
                lambda: mx.nd.QConvolution(
                    normal(1, 1, 2, 2, 2), normal(1, 1, 1, 1, 1), kernel=(1, 1, 1), num_filter=1, pad=(1048575,) * 3
                ),
                "more than 2^40 elements",
            ),
            (lambda: mx.nd.QActivation(normal(3).astype("float16")), "data must be float32; cast it with astype"),
            (lambda: mx.nd.QActivation(normal(3).astype("float64")), "data must be float32; cast it with astype"),
            (
                lambda: mx.nd.QConvolution(normal(1, 4, 5, 5), normal(4, 4, 3, 3).astype("float64"), **CONVOLUTION),
                "weight must be float32",
            ),
        ],
    )
    def test_bad_arrays_say_what_is_wrong(self, call, message):
        with pytest.raises(bmx.Error) as error:
            call().asnumpy()
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_an_error_is_shown_once(self):
        for bits in (50, 60):
            with pytest.raises(bmx.Error) as error:
                mx.nd.QActivation(normal(3), act_bit=bits)
            assert str(error.value) == f"QActivation: act_bit is '{bits}'; allowed: 1..32"

    def test_words_of_the_wrong_width_are_refused_when_they_are_used(self):
        data, words = normal(1, 4, 5, 5), mx.nd.zeros((4, 1), dtype="float64")
        with pytest.raises((bmx.Error, mx.base.MXNetError)) as error:
            mx.nd.QConvolution(data, mx.nd.zeros(4), binarized_weights_only=True, **CONVOLUTION).asnumpy()
        assert "weight has 4 words of 32 bits; it must have 8" in str(error.value)
        mx.nd.QConvolution(data, words, binarized_weights_only=True, **CONVOLUTION).asnumpy()


def graph_of(operator, attributes, count):
    """A graph of one node with so many inputs, as JSON."""
    nodes = [{"op": "null", "name": f"p{number}", "inputs": []} for number in range(count)]
    nodes.append({"op": operator, "name": "node", "attrs": attributes, "inputs": [[i, 0, 0] for i in range(count)]})
    heads, version = [[count, 0, 0]], {"mxnet_version": ["int", 10901]}
    arguments, rows = list(range(count)), list(range(count + 2))
    return json.dumps({"nodes": nodes, "arg_nodes": arguments, "node_row_ptr": rows, "heads": heads, "attrs": version})


@pytest.mark.parametrize(
    "operator, attributes, names",
    [
        ("bmx_BatchNorm", {"eps": "1e-3"}, "data, gamma, beta, moving_mean, moving_var, mode"),
        ("QActivation", {}, "data"),
        ("QConvolution", {"kernel": "(1, 1)", "num_filter": "1"}, "data, weight"),
        ("QConvolution", {"kernel": "(1, 1)", "num_filter": "1", "no_bias": "False"}, "data, weight, bias"),
        ("QConvolution_v1", {"kernel": "(1, 1)", "num_filter": "1"}, "data, weight"),
        ("QFullyConnected", {"num_hidden": "1"}, "data, weight"),
        ("BinaryInferenceConvolution", {"kernel": "(1, 1)", "num_filter": "1"}, "data, weight"),
        ("bmx_Compiled", {"data_shapes": "((3,), (2, 4))", "labels": "1", "size": "9"}, "data, data, label, program"),
    ],
)
def test_too_few_inputs_are_refused_before_mxnet_crashes(tmp_path, operator, attributes, names):
    for count in range(names.count(",") + 1):
        text = graph_of(operator, attributes, count)
        message = rf"'node' \({operator}\) takes the inputs {names}; it has {count} of them"
        with pytest.raises(bmx.Error, match=message):
            mx.sym.load_json(text)
        (tmp_path / "net-symbol.json").write_text(text)
        with pytest.raises(bmx.Error, match=f"net-symbol.json: {message}"):
            mx.sym.load(str(tmp_path / "net-symbol.json"))
