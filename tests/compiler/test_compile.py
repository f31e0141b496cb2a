"""Compiling checkpoints, symbols and Gluon networks: the program, the report, the comparison, the errors."""

import re

import mxnet as mx
import numpy as np
import pytest
from random_networks import arrays_for, difference, fill, network_of, random_numbers, samples_for

import bmx
from bmx import Error, program
from bmx.compiler import compile_block, compile_checkpoint, compile_network, compile_symbol, verification
from bmx.gluon import nn
from bmx.models import get_model

x, y = mx.sym.var("data"), mx.sym.var("other")


def symbol():
    """A network of all kinds of layers on images of 8 x 8 pixels."""
    z = mx.sym.Convolution(x, kernel=(3, 3), num_filter=16, pad=(1, 1), no_bias=True, name="stem")
    z = mx.sym.BatchNorm(z, fix_gamma=False, name="bn0")
    body = mx.sym.QConvolution(z, kernel=(3, 3), num_filter=16, pad=(1, 1), pad_value=-1, name="body")
    z = mx.sym.BatchNorm(body, fix_gamma=False, name="bn1") + z
    z = mx.sym.Pooling(z, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool")
    z = mx.sym.QConvolution(z, kernel=(3, 3), num_filter=8, name="second")
    return mx.sym.softmax(mx.sym.FullyConnected(z, num_hidden=10, name="output"), name="softmax")


@pytest.fixture
def network():
    return network_of(symbol(), settled=True, data=(3, 8, 8))


@pytest.fixture
def checkpoint(tmp_path):
    args, aux = arrays_for(symbol(), {"data": (3, 8, 8)})
    args, aux = ({name: mx.nd.array(array) for name, array in arrays.items()} for arrays in (args, aux))
    mx.model.save_checkpoint(str(tmp_path / "net"), 7, symbol(), args, aux)
    return str(tmp_path / "net-0007.params")


def test_the_program_gives_what_mxnet_gives(network):
    data = samples_for(network, 5)
    compiled = compile_network(network, data=data)
    (found,) = verification.run_program(compiled.program, data)
    (wanted,) = network.run(data).values()
    assert difference(wanted, found) < 1e-5
    result = compiled.report.verification
    assert result.largest_difference < 1e-5 and result.agreement == 1 and result.largest_output <= 1
    assert str(result).startswith("verified on 5 samples of shape 3x8x8: largest difference")


def test_a_compiled_network_prints_as_its_report(network):
    compiled = compile_network(network, verify=False)
    assert repr(compiled) == str(compiled.report)


def test_the_report_says_what_became_of_each_layer(network):
    report = compile_network(network, verify=False).report
    rows = {layer.name: layer for layer in report.layers}
    assert list(rows) == ["stem", "body", "pool", "second", "output", "softmax"]
    assert rows["stem"].kind == "float conv 3x3 + affine + threshold"
    assert rows["body"].kind == "binary conv 3x3 + norm + add + threshold"
    assert (rows["stem"].bits_in, rows["stem"].bits_out) == ("32", "32+1")
    assert rows["pool"].kind == "bit max pool 2x2/2"
    assert (rows["body"].bits_in, rows["body"].bits_out) == ("1", "1")
    assert rows["second"].kind == "binary conv 3x3" and rows["second"].shape == (8, 2, 2)
    assert rows["body"].macs == 16 * 16 * 9 * 64 and rows["body"].weight_bytes == 16 * 16 * 9 // 8
    assert rows["output"].kind == "float dense + affine" and rows["output"].note == "float in the network"
    assert report.macs == {1: 147456 + 16 * 8 * 9 * 4, 32: 3 * 16 * 9 * 64 + 320}
    assert report.file_bytes == len(program.encode(compile_network(network, verify=False).program))
    text = str(report)
    assert "binary conv 3x3 + norm + add + threshold" in text and "% binary" in text and "not verified" in text


@pytest.mark.parametrize("int8", ["off", "first-last", "all"])
def test_binary_weights_are_a_bit_each_in_the_file_and_in_memory(int8):
    z = mx.sym.relu(mx.sym.Convolution(x, kernel=(3, 3), num_filter=16, name="first"))
    for name in ("second", "third"):
        z = mx.sym.Convolution(z, kernel=(3, 3), num_filter=96, pad=(1, 1), no_bias=True, name=name)
        z = mx.sym.relu(mx.sym.BatchNorm(z, fix_gamma=False))
    z = mx.sym.FullyConnected(z, num_hidden=64, name="fourth")
    network = network_of(mx.sym.FullyConnected(z, num_hidden=10, name="last"), data=(3, 8, 8))
    for name in ("second", "third", "fourth"):
        weight = network.network.parameters[f"{name}_weight"]
        network.network.parameters[f"{name}_weight"] = np.where(weight < 0, np.float32(-0.05), np.float32(0.05))
    compiled = compile_network(network, data=samples_for(network, 8), int8=int8)
    rows = {layer.name: layer for layer in compiled.report.layers if layer.macs}
    outer, inner = ("float" if int8 == "off" else "int8"), ("int8" if int8 == "all" else "float")
    kinds = {layer.arithmetic: 0 for layer in rows.values()}
    for step in compiled.program.steps:
        if isinstance(step, program.Conv):
            kinds[rows[step.name].arithmetic] += step.weight.size
            assert step.signs == rows[step.name].kind.startswith(f"{inner} x binary ")
    assert set(kinds) == {outer, f"{inner} x binary"}
    weights = kinds[outer] * (4 if outer == "float" else 1) + kinds[f"{inner} x binary"] / 8
    assert compiled.report.weight_bytes == weights
    assert weights < compiled.report.file_bytes < weights + 16000
    assert f"% {inner} x binary" in str(compiled.report)
    verification = compiled.report.verification
    assert int8 != "off" or verification.largest_difference < 1e-5 * verification.largest_output


def test_int8_is_calibrated_and_its_change_of_accuracy_reported(network):
    data = samples_for(network, 40)
    labels = network.run(data)[network.outputs[0]].argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 10
    compiled = compile_network(network, int8="all", data=data, labels=labels)
    report = compiled.report
    assert report.macs.keys() == {1, 8} and report.verification.accuracy_before == 0.75
    assert abs(report.verification.accuracy_after - 0.75) < 0.2
    assert "points)" in str(report.verification)


def test_the_report_says_which_layer_could_not_be_calibrated(monkeypatch):
    y = mx.sym.QConvolution(mx.sym.var("data"), kernel=(3, 3), pad=(1, 1), num_filter=8, weight_bit=16, name="signs")
    net = network_of(mx.sym.FullyConnected(y, num_hidden=3, name="last"), data=(6, 8, 8))
    data = samples_for(net, 16)
    rows = {row.name: row for row in compile_network(net, int8="all", data=data).report.layers}
    assert rows["signs"].kind == "int8 conv 3x3 + affine"  # what pads its signs is among its numbers

    def read(network):  # as if the reader could not tell what the layer multiplies
        graph = type(network).read(network)
        network.multiplied = {layer: how for layer, how in network.multiplied.items() if layer.name != "signs"}
        return graph

    monkeypatch.setattr(net, "read", lambda: read(net))
    rows = {row.name: row for row in compile_network(net, int8="all", data=data).report.layers}
    assert rows["signs"].kind == "float conv 3x3" and "its range is not known" in rows["signs"].note
    assert rows["last"].kind == "int8 dense + affine" and rows["last"].note == ""


def test_the_report_says_which_groups_cannot_be_int8():
    z = mx.sym.Convolution(x, kernel=(3, 3), num_filter=12, num_group=6, name="narrow")
    z = mx.sym.Convolution(z, kernel=(3, 3), num_filter=12, num_group=12, name="depthwise")
    z = mx.sym.Convolution(z, kernel=(1, 1), num_filter=24, num_group=3, name="wide")
    net = network_of(mx.sym.FullyConnected(z, num_hidden=3, name="last"), data=(12, 8, 8))
    report = compile_network(net, int8="all", data=samples_for(net, 16)).report
    notes = {row.name: row.note for row in report.layers if row.macs}
    assert notes["narrow"].endswith(
        "not int8: its groups have 2 channels and 2 filters; there can be multiples of 4 and of 8"
    )
    assert "not int8: its groups have 1 channel and 1 filter;" in notes["depthwise"]
    assert notes["wide"] == notes["last"] == ""


def test_int8_without_samples_is_an_error(network):
    with pytest.raises(Error, match="needs sample input"):
        compile_network(network, int8="all")


@pytest.mark.parametrize(
    "data, message",
    [
        (np.zeros((2, 3, 9, 8)), r"samples of 'data' have the shape \(2, 3, 9, 8\)"),
        (np.zeros((0, 3, 8, 8)), "must be a batch"),
        (np.zeros(3), "must be a batch"),
        ({"input": np.zeros((2, 3, 8, 8))}, "samples for 'input'; the network's inputs are 'data'"),
    ],
)
def test_samples_that_do_not_fit_are_an_error(network, data, message):
    with pytest.raises(Error, match=message):
        compile_network(network, data=data)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([1, 2, 3], "3 labels for 2 samples"),
        ([0, 10], "labels: must be classes from 0 to 9"),
        ([-1, 0], "labels: must be classes from 0 to 9"),
        ([0.5, 1], "labels: must be classes from 0 to 9"),
        (["a", "b"], "labels: must be classes from 0 to 9"),
    ],
)
def test_labels_must_be_a_class_for_each_sample(network, labels, message):
    with pytest.raises(Error, match=message):
        compile_network(network, data=samples_for(network), labels=labels)
    with pytest.raises(Error, match="labels are the classes of samples, which are missing"):
        compile_network(network, labels=labels)


def test_a_network_that_compiles_to_other_outputs_is_not_written(checkpoint, tmp_path, monkeypatch):
    right = verification.run_program
    output = str(tmp_path / "wrong.bmx")
    for wrong in (lambda y: y + 5, lambda y: y * 1.001, lambda y: np.where(y > 0, y, np.nan)):
        monkeypatch.setattr(verification, "run_program", lambda *given, wrong=wrong: [wrong(y) for y in right(*given)])
        with pytest.raises(Error, match="the compiled network has other outputs than the original, largest difference"):
            compile_checkpoint(checkpoint, output, data_shape=(3, 8, 8))
        assert not list(tmp_path.glob("wrong*"))
        data = np.random.RandomState(0).standard_normal((4, 3, 8, 8))
        assert str(compile_checkpoint(checkpoint, data=data, int8="all").report.verification).startswith("compared on")
    assert compile_checkpoint(checkpoint, output, data_shape=(3, 8, 8), verify=False)


def test_roundings_may_decide_bits(monkeypatch):
    """As where the engine rounds otherwise than MXNet before a sign, and finds others on the other side of 0."""
    network, right = network_of(mx.sym.QFullyConnected(x - 1 / 3, num_hidden=4), data=(30,)), verification.run_program
    data = np.full((2, 30), 1 / 3, np.float32)
    monkeypatch.setattr(
        verification, "run_program", lambda program, arrays: right(program, {"data": data * (1 - 2e-7)})
    )
    report = compile_network(network, data=data).report
    assert report.verification.largest_difference > 0 and "where roundings decide bits" in str(report)
    with pytest.raises(Error, match="has other outputs than the original"):
        compile_network(network, data=data + 1)


def test_outputs_that_are_no_numbers_are_not_verified(network):
    network.network.parameters["output_bias"][:] = np.nan
    report = compile_network(network).report
    assert "not verified: of 8 samples of shape 3x8x8 the original network gives infinities and NaN" in str(report)
    network = network_of(mx.sym.log(x), data=(7,))
    data = np.ones((3, 7), np.float32)
    data[:2, :2] = -1, 0
    report = compile_network(network, data=data).report
    assert "verified on 3 samples of shape 7 (4 of 21 outputs of the original are infinite or NaN, and" in str(report)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_to_compare_on_must_be_finite(network, bad):
    data = samples_for(network)
    data["data"][1, 0, 2, 3] = bad
    with pytest.raises(Error, match="samples of 'data' hold NaN or infinities, the first is sample 1"):
        compile_network(network, data=data)


def test_a_long_chain_of_operations_is_compiled():
    y = mx.sym.FullyConnected(x, num_hidden=8)
    terms = mx.sym.add_n(*(y * (0.01 * i) for i in range(80)))
    for _ in range(70):
        y = mx.sym.tanh(y)
    compiled = compile_network(network_of(mx.sym.Group([y, terms]), data=(5,)))
    assert str(compiled.report.verification).startswith("verified")


@pytest.mark.parametrize(
    "given, message",
    [
        (None, "x is None; it must be a batch of samples"),
        ("abc", "samples are not an array of real numbers: they are of type <U3"),
        (np.array([[None]]), "samples are not an array of real numbers: they are of type object"),
        ([mx.nd.ones((2, 3)), mx.nd.ones((2, 3))], "cannot be called with 2 symbols (data0, data1): "),
        ([mx.nd.ones((2, 3)), (3,)], "samples of some inputs and shapes of others"),
        ((), "x is (); it must be a batch of samples or the shape of one sample"),
        ([1.5, 2.5], "samples have the shape (); it must be a batch"),
        ({"data": None}, "samples are not an array of real numbers"),
    ],
)
def test_what_is_no_sample_of_a_block_is_an_error(given, message):
    net = mx.gluon.nn.Dense(2, in_units=3)
    net.initialize()
    with pytest.raises(Error, match=re.escape(message)):
        compile_block(net, given)


class Difference(mx.gluon.HybridBlock):
    """The second input is the first one in its graph."""

    def hybrid_forward(self, F, a, b, *more):
        others = [each for part in more for each in (part if isinstance(part, list) else [part])]
        return sum(others, F.tanh(b) - a * 2)


A, B, C = (np.random.RandomState(seed).normal(size=(2, 5)).astype(np.float32) for seed in range(3))


@pytest.mark.parametrize(
    "given, wanted",
    [
        ((A, B), np.tanh(B) - 2 * A),
        ([mx.nd.array(A), mx.nd.array(B)], np.tanh(B) - 2 * A),
        (((5,), (5,)), np.tanh(B) - 2 * A),
        ([[5], [5]], np.tanh(B) - 2 * A),
        ({"first": A, "second": B}, np.tanh(B) - 2 * A),
        ({"second": (5,), "first": (5,)}, np.tanh(B) - 2 * A),
        ((A, B, C), np.tanh(B) - 2 * A + C),
        ((A, B, [C, A]), np.tanh(B) - A + C),
    ],
)
def test_several_inputs_are_given_as_in_a_call(given, wanted):
    compiled = bmx.compile(Difference(), given)
    inputs = [mx.nd.array(array) for array in (A, B, C, A)][: len(compiled.report.verification.samples.split(", "))]
    np.testing.assert_allclose(compiled(*inputs).asnumpy(), wanted, atol=1e-6)


def test_there_are_as_many_samples_of_every_input():
    with pytest.raises(Error, match="samples: 2 of 'data0', 1 of 'data1'; there must be as many of every input"):
        compile_block(Difference(), (A, B[:1]))


def test_a_list_of_one_input_is_one_input():
    net = mx.gluon.nn.Dense(2, in_units=5)
    net.initialize()
    for given in ([A], (A,), [(5,)], [5]):
        assert compile_block(net, given).program.inputs == [program.Port("data", (5,))]


def test_a_block_with_nested_outputs_has_them_one_after_the_other():
    class Nested(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return [F.relu(x), (x + 1, [x + 2])]

    compiled = compile_block(Nested(), np.ones((2, 3), np.float32))
    assert [step.output for step in compiled.program.steps if isinstance(step, program.Store)] == [0, 1, 2]


def test_a_checkpoint_becomes_a_file(checkpoint, tmp_path):
    output = tmp_path / "net.bmx"
    compiled = compile_checkpoint(checkpoint, str(output), data_shape=(3, 8, 8))
    assert compiled.report.name == "net" and output.stat().st_size == compiled.report.file_bytes
    assert program.decode(str(output)).inputs[0].shape == (3, 8, 8)
    with pytest.raises(Error, match="exists already"):
        compile_checkpoint(checkpoint, str(output), data_shape=(3, 8, 8))
    compile_checkpoint(checkpoint, str(output), data_shape=(3, 8, 8), verify=False, force=True)


def test_the_shape_follows_from_the_samples(checkpoint):
    compiled = compile_checkpoint(checkpoint, data=np.ones((2, 3, 8, 8)), verify=False)
    assert compiled.program.inputs[0].shape == (3, 8, 8)


def test_several_inputs_are_given_by_name():
    both = mx.sym.Concat(mx.sym.FullyConnected(x, num_hidden=4), mx.sym.FullyConnected(y, num_hidden=3), dim=1)
    args, aux = arrays_for(both, {"data": (5,), "other": (6,)})
    rng = random_numbers(0)
    data = {"other": rng.standard_normal((3, 6)), "data": rng.standard_normal((3, 5))}
    shapes = {"data": (5,), "other": (6,)}
    compiled = compile_symbol(both, args, aux, shapes, data=data, int8="all", name="two")
    assert compiled.report.verification.largest_difference < 0.2
    assert compiled.program.name == "two"


def test_a_gluon_network_is_compiled_for_a_batch_or_a_shape():
    net = fill(get_model("lenet"), (1, 28, 28))
    batch = mx.nd.random.uniform(shape=(4, 1, 28, 28))
    compiled = compile_block(net, batch, int8="first-last")
    assert compiled.report.verification.samples == "4 samples of shape 1x28x28"
    (found,) = verification.run_program(compile_block(net, (1, 28, 28)).program, {"data": batch.asnumpy()})
    assert difference(net(batch).asnumpy(), found) < 1e-4


@pytest.mark.parametrize("name, options", [("resnet18_e1", {"thumbnail": True}), ("binarynet_cifar", {})])
def test_layers_with_windows_of_their_own_compile_to_the_same_program(name, options, tmp_path):
    net = fill(get_model(name, classes=10, **options), (3, 32, 32))
    files = []
    for fused in (True, False):
        with nn.path("operators", fused=fused):
            net.hybridize()
            net(mx.nd.zeros((1, 3, 32, 32)))
            net.export(str(tmp_path / "net"))
        assert ((tmp_path / "net-symbol.json").read_text().count('"QActivation"') > 1) != fused
        compile_checkpoint(
            str(tmp_path / "net-0000.params"), str(tmp_path / "net.bmx"), data_shape=(3, 32, 32), force=True
        )
        files.append((tmp_path / "net.bmx").read_bytes())
    assert files[0] == files[1]


def test_what_is_no_gluon_network_is_an_error():
    with pytest.raises(Error, match="not a HybridBlock"):
        compile_block(mx.gluon.nn.Sequential(), (1, 28, 28))


def test_a_missing_checkpoint_is_an_error(tmp_path):
    with pytest.raises(Error, match="net-0001.params: no such file"):
        compile_checkpoint(str(tmp_path / "net-0001.params"))
    with pytest.raises(Error, match="must be named"):
        compile_checkpoint(str(tmp_path / "net.params"))


def _sliced(x):
    return mx.sym.slice_axis(mx.sym.QActivation(x), axis=1, begin=1, end=9)


def _joined(x):  # pieces that are no whole words of bits
    return mx.sym.Concat(mx.sym.QActivation(x), mx.sym.QActivation(x * -1))


@pytest.mark.parametrize(
    "before, arithmetic",
    [
        (lambda x: mx.sym.QActivation(x), "binary"),
        (lambda x: mx.sym.Pooling(mx.sym.QActivation(x), kernel=(2, 2), pool_type="max"), "binary"),
        (lambda x: mx.sym.Dropout(mx.sym.identity(mx.sym.QActivation(x))), "binary"),
        (lambda x: mx.sym.transpose(mx.sym.QActivation(x), axes=(0, 1, 3, 2)), "binary"),
        (_sliced, "binary"),
        (_joined, "binary"),
        (lambda x: mx.sym.relu(x), "float x binary"),
        (lambda x: mx.sym.relu(mx.sym.QActivation(x)), "float x binary"),
        (lambda x: mx.sym.QActivation(x, backward_only=True), "float x binary"),
        (lambda x: mx.sym.QActivation(x) + mx.sym.QActivation(x), "float x binary"),
        (lambda x: mx.sym.QActivation(x, act_bit=4), "int8 x binary"),
    ],
)
def test_layers_of_any_input_are_binary_where_it_is_signs(before, arithmetic):
    x = before(mx.sym.BatchNorm(mx.sym.var("data"), fix_gamma=False))
    y = mx.sym.QConvolution(x, kernel=(3, 3), num_filter=16, pad=(1, 1), pad_value=-1, float_input=True, name="conv")
    y = before(mx.sym.BatchNorm(y, fix_gamma=False))
    y = mx.sym.QFullyConnected(y, num_hidden=16, float_input=True, no_offset=True, name="dense")
    net = network_of(y, data=(9, 12, 12))
    report = compile_network(net, data=samples_for(net, 8)).report  # which verifies
    found = {layer.name: layer.arithmetic for layer in report.layers if layer.arithmetic}
    assert found == {"conv": arithmetic, "dense": arithmetic}
