"""What inference needs of a network: inputs and labels by structure, one notion for every command."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import cli, runtime
from bmx.checkpoints.inference import for_inference
from bmx.checkpoints.symbol_file import parse_graph, to_symbol
from bmx.compiler import compile_checkpoint, compile_symbol
from bmx.convert.conversion import convert_checkpoint
from bmx.measure.runners import open_model

S = mx.sym
SHAPE = (3, 6, 6)


def body(data=None, units=4):
    x = S.Convolution(S.var("data") if data is None else data, num_filter=32, kernel=(3, 3), name="first")
    x = S.QConvolution(
        S.QActivation(S.BatchNorm(x, name="norm"), backward_only=True), num_filter=8, kernel=(2, 2), name="q"
    )
    return S.FullyConnected(x, num_hidden=units, name="last")


def inference(symbol, stored=None, named=()):
    """Of a symbol in which everything but data and labels is stored, unless it is said what."""
    graph = parse_graph(json.loads(symbol.tojson()), "")
    if stored is None:
        stored = [name for name in symbol.list_inputs() if name.split("_")[0] in ("first", "norm", "q", "last")]
    return for_inference(graph, stored, named)


label = S.var("softmax_label")
OUTPUTS = {
    "plain": lambda: S.SoftmaxOutput(body(), label, name="softmax"),
    "made by MXNet": lambda: S.SoftmaxOutput(body(), name="softmax"),
    "of another name": lambda: S.SoftmaxOutput(body(), S.var("truth"), name="softmax"),
    "reshaped": lambda: S.SoftmaxOutput(body(), S.Reshape(label, shape=(-1,))),
    "sliced": lambda: S.SoftmaxOutput(body(), S.Reshape(S.slice_axis(label, axis=1, begin=0, end=1), shape=(-1,))),
    "split": lambda: S.SoftmaxOutput(body(), S.SliceChannel(label, num_outputs=2, squeeze_axis=True)[1]),
    "cast": lambda: S.SoftmaxOutput(body(), S.Cast(label, dtype="float32")),
    "scaled": lambda: S.LinearRegressionOutput(body(), (label - 3) * 2),
    "one-hot": lambda: S.LogisticRegressionOutput(body(), S.one_hot(label, depth=4)),
    "concatenated": lambda: S.MAERegressionOutput(body(), S.Concat(label, S.var("more"), dim=1)),
    "of two layers": lambda: S.Group(
        [S.SoftmaxOutput(body(), label), S.SVMOutput(body(), S.Reshape(label, shape=(-1,)))]
    ),
    "of an old name": lambda: S.Softmax(body(), label),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_reaches_only_the_label_of_an_output_layer_is_a_label(name):
    found = inference(OUTPUTS[name]())
    assert found.inputs == ["data"]
    assert set(found.labels) == set(OUTPUTS[name]().list_arguments()) & {"softmax_label", "truth", "more"}
    assert not found.losses and found.left_out == []
    for batch in (1, 5):  # the shapes of labels follow, whatever made them
        shapes, outputs, _ = to_symbol(found.graph, "").infer_shape(data=(batch, *SHAPE))
        assert outputs[0] == (batch, 4) and None not in shapes


def test_an_input_is_an_input_whatever_its_name():
    x = S.Concat(S.var("class_label"), S.var("data"), dim=1)
    found = inference(S.SoftmaxOutput(S.FullyConnected(x, num_hidden=3, name="last"), name="softmax"))
    assert found.inputs == ["class_label", "data"] and found.labels == ["softmax_label"]


def test_data_that_are_their_own_label_are_an_input():
    found = inference(S.LinearRegressionOutput(body(units=3), S.var("data"), name="copy"))
    assert found.inputs == ["data"] and found.labels == []


def squares(prediction, name="loss"):
    return S.MakeLoss(S.square(prediction - label), name=name)


LOSSES = {
    "beside": lambda x: [S.BlockGrad(x), squares(x)],
    "of a sum": lambda x: [S.MakeLoss(S.sum(S.abs(x - S.Reshape(label, shape=(-1, 4)))), name="loss"), S.softmax(x)],
    "cross entropy": lambda x: [S.softmax(x), S.softmax_cross_entropy(x, label, name="loss")],
    "with the label": lambda x: [S.softmax(x), S.BlockGrad(label, name="loss"), squares(x, "other")],
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_made_of_labels_are_left_out(name):
    found = inference(S.Group(LOSSES[name](body())))
    assert found.inputs == ["data"] and found.labels == ["softmax_label"] and not found.losses
    assert len(found.graph.heads) == 1 and "loss" in found.left_out
    assert "softmax_label" not in found.graph.variables()


@pytest.mark.parametrize("beside", [S.BlockGrad(label), label, S.Reshape(label, shape=(-1,)) * 2])
def test_a_label_that_is_an_output_beside_its_output_layer_is_left_out(beside):
    found = inference(S.Group([S.SoftmaxOutput(body(), S.Reshape(label, shape=(-1,))), beside]))
    assert found.inputs == ["data"] and found.labels == ["softmax_label"] and len(found.graph.heads) == 1


def test_an_input_of_another_output_is_no_label():
    mask = S.var("mask")
    found = inference(S.Group([S.SoftmaxOutput(body(), label), S.tanh(mask), S.SoftmaxOutput(body() * mask, mask)]))
    assert found.inputs == ["data", "mask"] and len(found.graph.heads) == 3


@pytest.mark.parametrize("name", [*LOSSES, "activation"])
def test_a_summary_counts_no_labels(name):
    """It has no values, and so cannot tell labels from parameters by these."""
    x = S.LeakyReLU(body(), S.var("slope_gamma"), act_type="prelu", name="prelu")
    parts = [S.softmax(x), S.MakeLoss(S.square(x - S.Reshape(label, shape=(-1, 4))))]
    found = bmx.summary(S.Group(LOSSES[name](body()) if name in LOSSES else parts), SHAPE)
    assert found.parameters == bmx.summary(body(), SHAPE).parameters + (4 if name == "activation" else 0)


def test_losses_made_of_data_alone_are_outputs():
    symbol = S.Group([S.SoftmaxOutput(body(), label), S.MakeLoss(S.sigmoid(body()), grad_scale=0)])
    found = inference(symbol)
    assert len(found.graph.heads) == 2 and found.inputs == ["data"] and found.left_out == []


def test_an_input_behind_the_last_layer_is_an_input_beside_a_loss_too():
    scores = body()
    found = inference(S.Group([S.broadcast_mul(scores, S.var("mask")), S.MakeLoss(S.square(scores - label))]))
    assert found.inputs == ["data", "mask"] and found.labels == ["softmax_label"] and len(found.left_out) == 1


def test_a_network_that_is_a_loss_is_run_and_not_compiled(save):
    loss = S.MakeLoss(S.square(body() - label), name="loss")
    found = inference(loss)
    assert found.losses and found.inputs == ["data"] and found.placeholders == ["softmax_label"]
    named = inference(loss, named=["data", "softmax_label"])
    assert named.inputs == ["data", "softmax_label"] and not named.losses
    path = str(save(loss, (2, *SHAPE)))
    with pytest.raises(bmx.Error, match="its outputs are losses, made of 'softmax_label'; compile what stands before"):
        compile_checkpoint(path, data_shape=SHAPE)
    assert "largest difference 0," in str(convert_checkpoint(path, data_shape=SHAPE))


class FirstInput(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], in_data[0])


@mx.operator.register("bmx_test_output")
class OutputLayer(mx.operator.CustomOpProp):
    """An output layer written in Python, as MXNet's examples have it."""

    def list_arguments(self):
        return ["data", "label"]

    def infer_shape(self, in_shape):
        return [in_shape[0], (in_shape[0][0],)], [in_shape[0]], []

    def create_operator(self, ctx, shapes, dtypes):
        return FirstInput()


def test_the_label_of_an_output_layer_in_python_is_a_label():
    found = inference(S.Custom(body(), S.Reshape(label, shape=(-1,)), op_type="bmx_test_output"))
    assert found.inputs == ["data"] and found.labels == ["softmax_label"]


@pytest.fixture
def batch():
    return np.random.RandomState(0).normal(size=(2, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("name", ["plain", "reshaped", "sliced", "cast", "of another name"])
def test_every_command_takes_a_label_that_is_made_of_another(name, save, batch, capsys):
    """The network without its output layer's label says what is right."""
    symbol = OUTPUTS[name]()
    plain = S.softmax(body())
    path = str(save(plain, batch.shape))
    (expected,) = evaluate(plain, path, batch)
    symbol.save(path.replace("-0003.params", "-symbol.json"))
    found = compile_checkpoint(path, data_shape=SHAPE)
    np.testing.assert_allclose(runtime.Model(bmx.program.encode(found.program)).run(batch), expected, atol=1e-5)
    assert "verified on 8 samples" in str(convert_checkpoint(path, data_shape=SHAPE))
    assert open_model(path, 1, 2, shape=SHAPE).run([batch])[0].shape == expected.shape
    capsys.readouterr()
    assert cli.main(["summary", path.replace("-0003.params", "-symbol.json"), "--shape", "3,6,6"]) == 0
    parameters = sum(array.size for array in mx.nd.load(path).values())
    assert f"parameters          {parameters:,}" in capsys.readouterr().out


def evaluate(symbol, path, batch):
    """MXNet's outputs with the parameters of a file."""
    arrays = {name[4:]: array for name, array in mx.nd.load(path).items()}
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=batch.shape)
    executor.copy_params_from(arrays, arrays, allow_extra_params=True)
    return [output.asnumpy() for output in executor.forward(is_train=False, data=mx.nd.array(batch))]


def test_a_label_that_is_given_a_shape_is_told_from_an_input():
    symbol = S.SoftmaxOutput(S.FullyConnected(S.var("data"), num_hidden=3, name="last"), name="softmax")
    args = {"last_weight": np.ones((3, 5), np.float32), "last_bias": np.zeros(3, np.float32)}
    with pytest.raises(bmx.Error, match="'softmax_label' is a label, which the outputs do not depend on; .* 'data'$"):
        compile_symbol(symbol, args, {}, {"data": (5,), "softmax_label": (1,)})


def test_a_weight_that_is_made_of_nothing_is_packed(tmp_path):
    symbol = S.QConvolution(S.var("data"), S.full((8, 3, 3, 3), -1), num_filter=8, kernel=(3, 3), name="q")
    mx.model.save_checkpoint(str(tmp_path / "net"), 1, symbol, {"none": mx.nd.zeros(1)}, {})
    report = convert_checkpoint(str(tmp_path / "net-0001.params"), data_shape=SHAPE)
    assert "largest difference 0," in str(report)
    for prefix in (str(tmp_path / "net"), report.params_path[: -len("-0001.params")]):
        assert (bmx.binary_weights(prefix, 1)["q"] == -1).all()


# --- files that store more, or in other types, than parameters -------------------------------------------------------


def all_arrays(symbol, tmp_path, left_out=(), kind="float32", **shapes):
    """A checkpoint of all arrays of an executor; its path, the inputs, and what the executor computes."""
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", **shapes)
    rng = np.random.RandomState(1)
    arrays = {**executor.arg_dict, **executor.aux_dict}
    for name, array in arrays.items():
        positive = name.endswith("var")
        scale = 10 if kind.startswith("int") else 0.3
        array[:] = mx.nd.array(rng.uniform(1, 2, array.shape) if positive else rng.normal(size=array.shape) * scale)
        array[:] = array.astype(kind).astype("float32")
    expected = executor.forward(is_train=False)[0].asnumpy()
    args = {name: array.astype(kind) for name, array in executor.arg_dict.items() if name not in left_out}
    aux = {name: array.astype(kind) for name, array in executor.aux_dict.items()}
    mx.model.save_checkpoint(str(tmp_path / "net"), 1, symbol, args, aux)
    return str(tmp_path / "net-0001.params"), {name: arrays[name].asnumpy() for name in shapes}, expected


def compiled_outputs(path, inputs, **options):
    program = compile_checkpoint(path, **options).program
    return runtime.Model(bmx.program.encode(program)).run(*inputs)


@pytest.mark.parametrize("left_out", [(), ("data",), ("softmax_label",)])
@pytest.mark.parametrize("shape", [None, SHAPE, {"data": SHAPE}])
def test_stored_data_and_labels_are_no_parameters(left_out, shape, tmp_path):
    symbol = S.SoftmaxOutput(body(), S.Reshape(label, shape=(-1,)), name="softmax")
    path, inputs, expected = all_arrays(symbol, tmp_path, left_out, data=(6, *SHAPE), softmax_label=(6, 1))
    if shape is None and "data" in left_out:
        shape = SHAPE
    found = compiled_outputs(path, [inputs["data"]], data_shape=shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_stored_data_say_what_shape_a_sample_has(tmp_path):
    x = S.Pooling(S.Convolution(S.var("pixels"), num_filter=8, kernel=(3, 3), name="first"), global_pool=True)
    symbol = S.SoftmaxOutput(S.FullyConnected(x, num_hidden=4, name="last"), name="softmax")
    path, inputs, expected = all_arrays(symbol, tmp_path, pixels=(2, 3, 11, 7))
    np.testing.assert_allclose(compiled_outputs(path, [inputs["pixels"]]), expected, atol=1e-5)


def test_the_converter_and_bench_take_stored_data(tmp_path):
    path, inputs, expected = all_arrays(S.SoftmaxOutput(body(), name="softmax"), tmp_path, data=(2, *SHAPE))
    report = convert_checkpoint(path)
    assert "verified on 8 samples of shape 3x6x6" in str(report)
    assert set(mx.nd.load(report.params_path)) == set(mx.nd.load(path))  # nothing is lost
    np.testing.assert_allclose(open_model(path, 1, 2).run([inputs["data"]])[0], expected, atol=1e-5)


def test_which_of_stored_arrays_is_the_input_is_asked_for(tmp_path):
    symbol = S.FullyConnected(S.Concat(S.var("left"), S.var("right"), dim=1), num_hidden=3, name="last")
    path, inputs, expected = all_arrays(symbol, tmp_path, left=(2, 5), right=(2, 4))
    with pytest.raises(bmx.Error, match="every variable has a stored value; name the input"):
        compile_checkpoint(path, data_shape=(5,))
    found = compiled_outputs(path, [inputs["right"], inputs["left"]], data_shape={"right": (4,), "left": (5,)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "float64", "int8", "int32"])
def test_parameters_of_other_types_are_cast_as_module_casts_them(kind, tmp_path):
    symbol = S.SoftmaxOutput(body(), name="softmax")
    path, inputs, expected = all_arrays(symbol, tmp_path, ("data", "softmax_label"), kind, data=(4, *SHAPE))
    np.testing.assert_allclose(compiled_outputs(path, [inputs["data"]], data_shape=SHAPE), expected, atol=1e-5)
    report = convert_checkpoint(path, data_shape=SHAPE)
    assert "largest difference 0," in str(report)
    kept = {name: array for name, array in mx.nd.load(report.params_path).items() if name != "arg:q_weight"}
    assert {np.dtype(array.dtype).name for array in kept.values()} == {kind}
    np.testing.assert_allclose(open_model(path, 1, 4, shape=SHAPE).run([inputs["data"]])[0], expected, atol=1e-5)
    packed = compiled_outputs(report.params_path, [inputs["data"]], data_shape=SHAPE)
    np.testing.assert_allclose(packed, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_types_that_a_symbol_declares_are_those_of_its_file(kind, tmp_path):
    """Gluon writes the types of parameters into its symbols."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=3), mx.gluon.nn.Dense(3, in_units=64))
    net.initialize()
    net.cast(kind)
    net(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    assert kind == "float64" or '"__dtype__": "2"' in (tmp_path / "net-symbol.json").read_text()
    x = np.random.RandomState(0).normal(size=(2, *SHAPE)).astype(np.float32)
    arrays = {f"arg:{name}": parameter.data() for name, parameter in net.collect_params().items()}
    mx.nd.save(str(tmp_path / "net-0000.params"), arrays)
    found = compiled_outputs(str(tmp_path / "net-0000.params"), [x], data_shape=SHAPE)
    net.cast("float32")  # MXNet computes nothing in float16 on CPUs
    np.testing.assert_allclose(found, net(mx.nd.array(x)).asnumpy(), atol=1e-6)


def test_a_weight_that_float32_cannot_tell_from_0_is_packed_as_module_has_it(tmp_path):
    symbol = S.QFullyConnected(S.var("data"), num_hidden=1, name="q")
    weight = mx.nd.array([[-1e-60, 1, -1, -1e-30]], dtype="float64")
    mx.model.save_checkpoint(str(tmp_path / "net"), 1, symbol, {"q_weight": weight}, {})
    report = convert_checkpoint(str(tmp_path / "net-0001.params"), data_shape=(4,))
    words = mx.nd.load(report.params_path)["arg:q_weight"].asnumpy()
    assert words.view(np.uint64 if words.dtype == np.float64 else np.uint32).item() == 0b0011
