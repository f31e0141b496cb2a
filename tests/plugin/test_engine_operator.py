"""bmx_Compiled: a compiled network inside of MXNet does what the network did, by the same names, without gradients."""

import threading

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from random_networks import fill

import bmx
from bmx.compiler import compile_symbol
from bmx.plugin.engine_operator import save_checkpoint, to_symbol

SHAPE = (3, 9, 9)


def small_network(filters=8):
    net = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=filters, kernel=(3, 3), name="conv")
    net = mx.sym.QActivation(mx.sym.BatchNorm(net, fix_gamma=False, name="bn"), backward_only=True)
    net = mx.sym.QConvolution(net, num_filter=8, kernel=(3, 3), pad=(1, 1), name="qconv")
    net = mx.sym.Flatten(mx.sym.BatchNorm(net, name="bn2"))
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=4, name="fc"), name="softmax")


def parameters(symbol, seed=3, **shapes):
    """Random parameters; variances are positive."""
    random = np.random.RandomState(seed)
    arguments, _, auxiliary = symbol.infer_shape(**shapes)
    args = {
        name: mx.nd.array(random.uniform(-1, 1, shape))
        for name, shape in zip(symbol.list_arguments(), arguments)
        if name not in shapes and not name.endswith("label")
    }
    names = symbol.list_auxiliary_states()
    return args, {name: mx.nd.array(random.uniform(0.5, 2, shape)) for name, shape in zip(names, auxiliary)}


@pytest.fixture
def network():
    """A symbol with its parameters."""
    symbol = small_network()
    return (symbol, *parameters(symbol, data=(1, *SHAPE)))


@pytest.fixture
def compiled(network):
    """The same compiled: a symbol with its parameters."""
    symbol, args, aux = network
    args, aux = dict(args), dict(aux)
    return symbol.optimize_for("bmx", args, aux, shape_dict={"data": (1, *SHAPE)}), args, aux


def images(count=4, seed=0):
    return np.random.RandomState(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def run(network, batch):
    symbol, args, aux = network
    arrays = {**args, "data": mx.nd.array(batch), "softmax_label": mx.nd.zeros(len(batch))}
    arrays = {name: arrays[name] for name in symbol.list_arguments()}
    return symbol.bind(mx.cpu(), arrays, aux_states=aux, grad_req="null").forward()[0].asnumpy()


def test_names_and_outputs_are_those_of_the_network(network, compiled):
    assert compiled[0].list_arguments() == ["data", "softmax_label"]
    assert compiled[0].list_auxiliary_states() == ["network_program"]
    assert compiled[0].list_outputs() == network[0].list_outputs() == ["softmax_output"]
    assert compiled[1].keys() == compiled[2].keys() == {"network_program"}  # Gluon looks among the arguments
    np.testing.assert_allclose(run(compiled, images()), run(network, images()), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Data provided by label_shapes")
@pytest.mark.parametrize("label", [True, False])
def test_in_a_module(network, compiled, label):
    data = mx.io.NDArrayIter(images(6), np.arange(6) % 4, batch_size=2, label_name="softmax_label")
    results = []
    for symbol, args, aux in (network, compiled):
        module = mx.mod.Module(symbol)
        module.bind(data.provide_data, data.provide_label if label else None, for_training=False)
        module.set_params(args, aux)
        results.append([module.predict(data).asnumpy(), module.score(data, "ce")[0][1] if label else 0])
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-6)
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-5)


@pytest.mark.filterwarnings("ignore:Data provided by label_shapes")
def test_as_files(network, compiled, tmp_path):
    symbol, args, aux = network
    program = compile_symbol(symbol, args, aux, SHAPE, name="tiny", verify=False).program
    prefix = str(tmp_path / "net")
    assert save_checkpoint(program, prefix, {"softmax_label": ()}) == [f"{prefix}-symbol.json", f"{prefix}-0000.params"]
    expected = run(network, images())
    for load in (mx.model.load_checkpoint, bmx.load_checkpoint):
        np.testing.assert_allclose(run(load(prefix, 0), images()), expected, atol=1e-6)
    module = mx.mod.Module.load(prefix, 0)
    module.bind([("data", (4, *SHAPE))], for_training=False)
    module.save_checkpoint(str(tmp_path / "again"), 7)
    names = ["data", "softmax_label"]
    block = gluon.SymbolBlock.imports(f"{tmp_path}/again-symbol.json", names, f"{tmp_path}/again-0007.params")
    np.testing.assert_allclose(block(mx.nd.array(images()), mx.nd.zeros(4)).asnumpy(), expected, atol=1e-6)
    with pytest.raises(bmx.Error, match="net-symbol.json: exists already"):
        save_checkpoint(program, prefix)


@pytest.mark.parametrize("names", [["x", "y"], ["data", "other"]])
def test_several_inputs_and_outputs_keep_their_names(names):
    x, y = map(mx.sym.Variable, names)
    symbol = mx.sym.Group([mx.sym.elemwise_add(x, mx.sym.tanh(y), name="sum"), mx.sym.softmax(x, name="soft")])
    result = symbol.optimize_for("bmx", {}, {}, shape_dict=dict.fromkeys(names, (1, 5)))
    assert result.list_arguments() == names and result.list_outputs() == ["sum_output", "soft_output"]
    arrays = [mx.nd.array(images(2)[:, 0, 0, :5]), mx.nd.array(images(2, seed=1)[:, 0, 0, :5])]
    _, aux = to_symbol(compile_symbol(symbol, {}, {}, dict.fromkeys(names, (5,)), verify=False).program)
    executors = [
        symbol.bind(mx.cpu(), arrays),
        result.bind(mx.cpu(), arrays, aux_states=aux, grad_req="null"),
    ]
    for expected, got in zip(*(executor.forward() for executor in executors)):
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), atol=1e-6)


def test_a_label_that_the_network_reshapes_is_bound_with_the_shape_that_it_has(tmp_path):
    body = small_network().get_internals()["fc_output"]
    label = mx.sym.slice_axis(mx.sym.Variable("softmax_label"), axis=1, begin=0, end=1)
    symbol = mx.sym.SoftmaxOutput(body, mx.sym.Reshape(label, shape=(-1,)), name="softmax")
    args, aux = parameters(symbol, data=(6, *SHAPE), softmax_label=(6, 3))
    fast_args, fast_aux = dict(args), dict(aux)
    fast = symbol.optimize_for("bmx", fast_args, fast_aux, shape_dict={"data": (1, *SHAPE)})
    assert fast.list_arguments() == ["data", "softmax_label"]
    data = mx.io.NDArrayIter(images(6), np.zeros((6, 3)), batch_size=2, label_name="softmax_label")
    results = []
    for network in ((symbol, args, aux), (fast, fast_args, fast_aux)):
        module = mx.mod.Module(network[0])
        module.bind(data.provide_data, data.provide_label, for_training=False)
        module.set_params(*network[1:])
        results.append(module.predict(data).asnumpy())
    np.testing.assert_allclose(*results, atol=1e-6)


def test_an_output_of_one_number_a_sample(tmp_path):
    symbol = mx.sym.Reshape(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=1, name="fc"), shape=(-1,))
    args, _ = parameters(symbol, data=(1, *SHAPE))
    program = compile_symbol(symbol, args, {}, SHAPE).program
    save_checkpoint(program, str(tmp_path / "net"))
    block = gluon.SymbolBlock.imports(f"{tmp_path}/net-symbol.json", ["data"], f"{tmp_path}/net-0000.params")
    model = bmx.runtime.Model(bmx.program.encode(program))
    for count in (1, 3):
        arrays = {**args, "data": mx.nd.array(images(count))}
        expected = symbol.bind(mx.cpu(), arrays, grad_req="null").forward()[0].asnumpy()
        for found in (block(arrays["data"]).asnumpy(), model.run(images(count))):
            assert found.shape == (count,)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert model.run(images(3)[0]).shape == ()


def block_of(compiled):
    symbol, _, aux = compiled
    block = gluon.SymbolBlock(symbol, [mx.sym.var(name) for name in ("data", "softmax_label")])
    block.collect_params()["network_program"]._load_init(
        aux["network_program"], mx.cpu(), cast_dtype=True, dtype_source="saved"
    )
    return lambda batch: block(mx.nd.array(batch), mx.nd.zeros(len(batch))).asnumpy()


def test_batches_of_any_size(network, compiled):
    block = block_of(compiled)
    for count in (1, 5, 2, 9):
        np.testing.assert_allclose(block(images(count)), run(network, images(count)), atol=1e-6)


def test_forward_passes_in_several_threads(network, compiled):
    block, failures = block_of(compiled), []
    expected = {count: run(network, images(count)) for count in (1, 2, 3, 4)}
    block(images(1))

    def work(count):
        for _ in range(20):
            if not np.allclose(block(images(count)), expected[count], atol=1e-6):
                failures.append(count)

    threads = [threading.Thread(target=work, args=(count,)) for count in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_another_program_in_the_same_array_is_run(network, compiled):
    symbol, args, aux = network
    args = {**args, "fc_bias": args["fc_bias"] + 5 * mx.nd.arange(4)}
    _, other = to_symbol(compile_symbol(symbol, args, aux, SHAPE, verify=False).program)
    before = run(compiled, images())
    symbol, _, states = compiled
    arrays = {"data": mx.nd.array(images()), "softmax_label": mx.nd.zeros(4)}
    executor = symbol.bind(mx.cpu(), arrays, aux_states=states, grad_req="null")
    np.testing.assert_array_equal(executor.forward()[0].asnumpy(), before)
    states["network_program"][:] = other["network_program"]
    np.testing.assert_allclose(executor.forward()[0].asnumpy(), run((network[0], args, aux), images()), atol=1e-6)


class TestGradients:
    def test_there_are_none(self, compiled):
        symbol, args, aux = compiled
        x = mx.nd.array(images())
        arrays = {"data": x, "softmax_label": mx.nd.zeros(4)}
        executor = symbol.bind(mx.cpu(), arrays, args_grad={"data": x.copy()}, aux_states=aux)
        executor.forward(is_train=True)
        with pytest.raises(mx.MXNetError, match="bmx_Compiled: a compiled network has no gradients; train the network"):
            executor.backward(mx.nd.ones((4, 4)))
            executor.grad_dict["data"].wait_to_read()

    def test_layers_behind_it_can_be_trained(self, compiled):
        body = block_of(compiled)
        symbol, _, aux = compiled
        frozen = gluon.SymbolBlock(symbol, [mx.sym.var("data"), mx.sym.var("softmax_label")])
        frozen.collect_params()["network_program"]._load_init(
            aux["network_program"], mx.cpu(), cast_dtype=True, dtype_source="saved"
        )
        head = gluon.nn.Dense(2)
        head.initialize()
        with mx.autograd.record():
            loss = head(frozen(mx.nd.array(images()), mx.nd.zeros(4))).sum()
        loss.backward()
        np.testing.assert_allclose(head.weight.grad().asnumpy()[0], body(images()).sum(axis=0), rtol=1e-5)


class TestErrors:
    def test_data_of_another_shape_or_type(self, compiled):
        symbol = compiled[0]
        with pytest.raises(mx.MXNetError, match=r"data has shape \(2, 3, 8, 9\); it must be \(2, 3, 9, 9\)"):
            symbol.infer_shape(data=(2, 3, 8, 9))
        with pytest.raises(mx.MXNetError, match="data must be float32"):
            symbol.infer_type(data="float64")

    @pytest.mark.parametrize("place", [0, 40, 1000, -1])
    def test_damaged_program(self, compiled, place):
        symbol, args, aux = compiled
        content = aux["network_program"].asnumpy().copy()
        content[place] ^= 1
        with pytest.raises(mx.MXNetError, match="bmx_Compiled: model in memory: "):
            run((symbol, args, {"network_program": mx.nd.array(content, dtype=np.uint8)}), images())

    def test_program_of_another_network(self, compiled):
        symbol = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=4, name="fc")
        args, _ = parameters(symbol, data=(1, 6))
        other, states = to_symbol(compile_symbol(symbol, args, {}, (6,), verify=False).program)
        size = states["network_program"].size
        mixed = mx.sym.bmx_Compiled(
            mx.sym.Variable("data"),
            mx.sym.Variable("network_program", shape=(size,)),
            data_shapes="((7,),)",
            output_shapes="((4,),)",
            size=size,
        )
        executor = mixed.bind(mx.cpu(), [mx.nd.ones((1, 7))], aux_states=states, grad_req="null")
        with pytest.raises(mx.MXNetError, match="data_shapes does not match the program; take symbol and parameters"):
            executor.forward()[0].wait_to_read()

    @pytest.mark.parametrize(
        "attributes, message",
        [
            ({"size": 0}, "size is '0'; allowed: 1.."),
            ({"data_shapes": "()"}, "data_shapes is '()'; allowed: one or more tuples of up to four integers"),
            ({"data_shapes": "(3, 4)"}, "data_shapes is '(3, 4)'; allowed"),
            ({"data_shapes": "((0,),)"}, "allowed: one or more tuples"),
            ({"data_shapes": "((1, 1, 1, 1, 1),)"}, "allowed: one or more tuples"),
            ({"output_shapes": "((1,)"}, "output_shapes is '((1,)'; allowed"),
            ({"output_shapes": "((-1,),)"}, "allowed: one or more tuples"),
            ({"labels": -1}, "labels is '-1'; allowed: 0..1000"),
            ({"fly": 1}, "no attribute is called 'fly'"),
        ],
    )
    def test_attributes(self, attributes, message):
        given = {"data_shapes": "((2,),)", "output_shapes": "((2,),)", "size": 64, **attributes}
        with pytest.raises(mx.MXNetError) as error:
            mx.sym.bmx_Compiled(mx.sym.Variable("x"), mx.sym.Variable("p"), **given).infer_shape(x=(1, 2))
        assert message in str(error.value)


class TestOptimizeFor:
    @pytest.fixture
    def lenet(self):
        net = fill(bmx.models.get_model("lenet"), (1, 28, 28))
        x = mx.nd.random.normal(shape=(2, 1, 28, 28))
        expected = net(x).asnumpy()
        assert abs(expected[0] - expected[1]).max() > 0.1
        return net, x, expected

    def test_of_a_gluon_network(self, lenet, tmp_path):
        net, x, expected = lenet
        net.hybridize()
        net.optimize_for(x, backend="bmx", static_alloc=True, static_shape=True)
        np.testing.assert_allclose(net(x).asnumpy(), expected, atol=1e-5)
        net.export(str(tmp_path / "net"), 0)
        assert "bmx_Compiled" in (tmp_path / "net-symbol.json").read_text()
        block = gluon.SymbolBlock.imports(f"{tmp_path}/net-symbol.json", ["data"], f"{tmp_path}/net-0000.params")
        np.testing.assert_allclose(block(x[:1]).asnumpy(), expected[:1], atol=1e-5)

    def test_a_compiled_network_is_exported_before_it_has_run(self, lenet, tmp_path):
        net, x, expected = lenet
        bmx.compile(net, x, verify=False).export(str(tmp_path / "net"))
        block = gluon.SymbolBlock.imports(f"{tmp_path}/net-symbol.json", ["data"], f"{tmp_path}/net-0000.params")
        np.testing.assert_allclose(block(x).asnumpy(), expected, atol=1e-5)

    def test_int8_takes_its_ranges_from_the_sample(self, lenet):
        net, x, expected = lenet
        block = bmx.compile(net, x, int8="all", verify=False)
        assert {layer.bits_in for layer in block.report.layers if layer.macs} == {"1", "8"}
        others = bmx.compile(net, 100 * x, int8="all", verify=False)
        near, far = (np.mean(np.square(compiled(x).asnumpy() - expected)) for compiled in (block, others))
        assert 0 < near < far / 2

    def test_inputs_with_other_names_are_named(self):
        symbol = mx.sym.FullyConnected(mx.sym.Variable("pixels"), num_hidden=3, name="fc")
        args, _ = parameters(symbol, pixels=(1, 5))
        for names in (None, "pixels"):  # a layer takes them as its data: they are the input
            result = symbol.optimize_for("bmx", {**args, "pixels": mx.nd.ones((1, 5))}, data_names=names)
            assert result.list_arguments() == ["pixels"]
        two = mx.sym.broadcast_add(mx.sym.Variable("one"), mx.sym.Variable("other"))
        with pytest.raises(bmx.Error, match="which arguments are inputs"):
            two.optimize_for("bmx", {name: mx.nd.ones((1, 5)) for name in ("one", "other")})
        assert symbol.optimize_for("bmx", args, shape_dict={"pixels": (1, 5)}).list_arguments() == ["pixels"]

    def test_wrong_calls(self, network):
        symbol, args, aux = network
        with pytest.raises(bmx.Error, match="the shape of 'data' is not known; give it in shape_dict"):
            symbol.optimize_for("bmx", args, aux)
        with pytest.raises(bmx.Error, match="no option 'fly'; backend 'bmx' has int8, verify and data_names"):
            symbol.optimize_for("bmx", args, aux, fly=1)

    def test_other_backends_are_left_alone(self):
        symbol = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=2, kernel=(1, 1), name="conv")
        symbol = mx.sym.Activation(symbol, act_type="relu").optimize_for("MKLDNN", shape_dict={"data": (1, 2, 3, 3)})
        assert "sg_mkldnn" in symbol.tojson()
