"""Checkpoints of BMXNet through MXNet's own loaders, modules, executors and blocks."""

import json

import mxnet as mx
import numpy as np
import oracle
import pytest
from mxnet import gluon

import bmx
from bmx import Error, cli

CHANNELS, FILTERS, UNITS = 64, 4, 5
SIZE = (2, CHANNELS, 5, 5)
KINDS = [(32, "float32"), (32, "int32"), (64, "float64"), (64, "int64")]


def latent():
    random = np.random.RandomState(0)
    conv = random.standard_normal((FILTERS, CHANNELS, 3, 3)).astype(np.float32)
    dense = random.standard_normal((UNITS, CHANNELS)).astype(np.float32)
    return conv, dense


def data():
    return np.random.RandomState(1).standard_normal(SIZE).astype(np.float32)


def expected():
    conv, dense = latent()
    pooled = data().max(axis=(2, 3))
    return oracle.qconvolution(data(), conv, kernel=(3, 3), num_filter=FILTERS), oracle.qfully_connected(
        pooled, dense, num_hidden=UNITS
    )


def words(word_bits, kind, flat):
    conv, dense = latent()
    packed = oracle.pack_convolution(conv, word_bits), oracle.pack_fully_connected(dense, word_bits)
    arrays = [mx.nd.array(array.view(kind), dtype=kind) for array in packed]
    return [array.reshape(-1) if flat else array for array in arrays]


LAYERS = {
    "v1": ("QConvolution", "QFullyConnected", {"binarized_weights_only": "True"}, "attr", 903),
    "v2": ("BinaryInferenceConvolution", "BinaryInferenceFullyConnected", {}, "attrs", 10501),
}


def checkpoint(folder, arrays, version="v1", shape=None):
    convolution, dense, packed, key, number = LAYERS[version]
    declared = {} if shape is None else {key: {"__shape__": shape}}
    kernel = {"kernel": "(3, 3)", "num_filter": str(FILTERS), "no_bias": "True", **packed}
    pool = {"kernel": "(1, 1)", "global_pool": "True", "pool_type": "max"}
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "qconv_weight", "inputs": [], **declared},
        {"op": convolution, "name": "qconv", key: kernel, "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": "Pooling", "name": "pool", key: pool, "inputs": [[0, 0, 0]]},
        {"op": "null", "name": "qdense_weight", "inputs": []},
        {
            "op": dense,
            "name": "qdense",
            key: {"num_hidden": str(UNITS), "no_bias": "True", **packed},
            "inputs": [[3, 0, 0], [4, 0, 0]],
        },
    ]
    graph = {"nodes": nodes, "arg_nodes": [0, 1, 4], "heads": [[2, 0, 0], [5, 0, 0]]}
    (folder / "net-symbol.json").write_text(json.dumps({**graph, "attrs": {"mxnet_version": ["int", number]}}))
    mx.nd.save(str(folder / "net-0003.params"), {"arg:qconv_weight": arrays[0], "arg:qdense_weight": arrays[1]})
    return str(folder / "net")


def check(outputs):
    for output, wanted in zip(outputs, expected()):
        np.testing.assert_array_equal(output.asnumpy(), wanted)


def bound(module):
    module.bind([("data", SIZE)], for_training=False)
    return module


def run(module):
    module.forward(mx.io.DataBatch([mx.nd.array(data())]), is_train=False)
    check(module.get_outputs())


def labelless(symbol):
    return mx.mod.Module(symbol, label_names=None)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("word_bits, kind", KINDS)
class TestPackedWords:
    def test_module_load(self, word_bits, kind, flat, version, tmp_path):
        prefix = checkpoint(tmp_path, words(word_bits, kind, flat), version)
        run(bound(mx.mod.Module.load(prefix, 3, label_names=None)))

    def test_load_checkpoint(self, word_bits, kind, flat, version, tmp_path):
        prefix = checkpoint(tmp_path, words(word_bits, kind, flat), version)
        for load in (mx.model.load_checkpoint, bmx.load_checkpoint):
            symbol, args, aux = load(prefix, 3)
            module = bound(labelless(symbol))
            module.set_params(args, aux)
            run(module)
            check(symbol.bind(mx.cpu(), {"data": mx.nd.array(data()), **args}, grad_req="null").forward())

    def test_arrays_that_mxnet_loaded(self, word_bits, kind, flat, version, tmp_path):
        symbol = mx.sym.load(checkpoint(tmp_path, words(word_bits, kind, flat), version) + "-symbol.json")
        args = {name[4:]: array for name, array in mx.nd.load(str(tmp_path / "net-0003.params")).items()}
        module = bound(labelless(symbol))
        module.init_params(arg_params=args, aux_params={})
        run(module)
        module.set_params(args, {}, allow_missing=True)
        run(module)
        executor = symbol.simple_bind(mx.cpu(), data=SIZE, grad_req="null")
        executor.copy_params_from(args, {})
        check(executor.forward(data=mx.nd.array(data())))

    def test_module_load_params(self, word_bits, kind, flat, version, tmp_path):
        prefix = checkpoint(tmp_path, words(word_bits, kind, flat), version)
        module = bound(labelless(mx.sym.load(f"{prefix}-symbol.json")))
        module.load_params(f"{prefix}-0003.params")
        run(module)

    def test_symbol_block(self, word_bits, kind, flat, version, tmp_path):
        prefix = checkpoint(tmp_path, words(word_bits, kind, flat), version)
        block = gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0003.params")
        check(block(mx.nd.array(data())))


def test_words_that_the_symbol_declares_stay_as_they_are(tmp_path):
    net = mx.sym.QFullyConnected(mx.sym.var("data"), num_hidden=UNITS, name="qdense")
    mx.model.save_checkpoint(str(tmp_path / "net"), 1, net, {"qdense_weight": mx.nd.array(latent()[1])}, {})
    bmx.convert_checkpoint(str(tmp_path / "net-0001.params"), word_bits=64)
    _, args, _ = mx.model.load_checkpoint(str(tmp_path / "binarized_net"), 1)
    assert args["qdense_weight"].dtype == np.float64
    packed = oracle.pack_fully_connected(latent()[1], 64)
    assert args["qdense_weight"].asnumpy().tobytes() == packed.tobytes()


@pytest.mark.parametrize("word_bits, kind", KINDS)
def test_words_are_laid_out_for_a_module_that_has_64_bits(word_bits, kind, tmp_path):
    symbol = mx.sym.load(checkpoint(tmp_path, words(32, "float32", False)) + "-symbol.json")
    wide = words(64, "float64", False)
    for name, array in zip(("qconv_weight", "qdense_weight"), wide):
        symbol.get_internals()[name]._set_attr(__shape__=str(array.shape), __dtype__="1")
    module = bound(labelless(symbol))
    module.init_params(arg_params=dict(zip(("qconv_weight", "qdense_weight"), words(word_bits, kind, True))))
    assert module.get_params()[0]["qconv_weight"].asnumpy().tobytes() == wide[0].asnumpy().tobytes()
    run(module)


def test_words_that_do_not_fit_are_named(tmp_path):
    arrays = words(32, "int32", True)
    prefix = checkpoint(tmp_path, [arrays[0][:-1], arrays[1]])
    for load in (mx.mod.Module.load, bmx.load_checkpoint):
        with pytest.raises(Error, match=r"net-0003.params: layer 'qconv': packed weight has the shape \(71,\)"):
            load(prefix, 3)


def test_a_converted_file_of_v2_without_the_number_of_channels(tmp_path):
    prefix = checkpoint(tmp_path, words(32, "float32", False), "v2", shape="(4, 0, 3, 3)")
    symbol = mx.sym.load(f"{prefix}-symbol.json")
    assert symbol.infer_shape(data=SIZE)[0][1] == (4, 2, 3, 3)


def test_summary_compilation_and_composition_of_a_converted_network_of_v2(tmp_path):
    symbol = mx.sym.load(checkpoint(tmp_path, words(32, "float32", False), "v2") + "-symbol.json")
    result = bmx.summary(symbol, SIZE[1:])
    assert result.weights == {1: FILTERS * CHANNELS * 9 + UNITS * CHANNELS}
    args = dict(zip(("qconv_weight", "qdense_weight"), words(32, "float32", False)))
    aux = {}
    compiled = symbol.optimize_for("bmx", args, aux, shape_dict={"data": SIZE})
    check(compiled.bind(mx.cpu(), {"data": mx.nd.array(data())}, aux_states=aux, grad_req="null").forward())
    with pytest.raises(Error, match="layer 'qconv' .*packed weights run on the CPU"):
        bmx.compose(symbol)


class TestUnknownChannels:
    """v2's latent weights, whose shapes the symbol file does not have."""

    @staticmethod
    def write(folder):
        nodes = [
            {"op": "null", "name": "data", "inputs": []},
            {"op": "_contrib_gradcancel", "name": "cancel", "attrs": {"threshold": "1.0"}, "inputs": [[0, 0, 0]]},
            {"op": "det_sign", "name": "sign", "inputs": [[1, 0, 0]]},
            {"op": "null", "name": "w", "attrs": {"__shape__": f"({FILTERS}, 0, 3, 3)"}, "inputs": []},
            {"op": "det_sign", "name": "wsign", "inputs": [[3, 0, 0]]},
            {
                "op": "Convolution",
                "name": "fwd",
                "attrs": {"kernel": "(3, 3)", "num_filter": str(FILTERS), "no_bias": "True"},
                "inputs": [[2, 0, 0], [4, 0, 0]],
            },
            {"op": "null", "name": "v", "attrs": {"__shape__": f"({UNITS}, 0)"}, "inputs": []},
            {"op": "det_sign", "name": "vsign", "inputs": [[6, 0, 0]]},
            {
                "op": "FullyConnected",
                "name": "dense",
                "attrs": {"num_hidden": str(UNITS), "no_bias": "True"},
                "inputs": [[5, 0, 0], [7, 0, 0]],
            },
        ]
        graph = {"nodes": nodes, "arg_nodes": [0, 3, 6], "heads": [[8, 0, 0]]}
        (folder / "net-symbol.json").write_text(json.dumps({**graph, "attrs": {"mxnet_version": ["int", 10501]}}))
        arrays = {"arg:w": mx.nd.array(latent()[0]), "arg:v": mx.nd.random.normal(shape=(UNITS, FILTERS * 9))}
        mx.nd.save(str(folder / "net-0000.params"), arrays)
        conv = oracle.convolve(oracle.sign(data()), oracle.sign(latent()[0]), (1, 1), (1, 1), 1)
        return str(folder / "net"), conv.reshape(2, -1) @ oracle.sign(arrays["arg:v"].asnumpy()).T

    def test_bind_and_infer(self, tmp_path):
        prefix, wanted = self.write(tmp_path)
        for load in (bmx.load_checkpoint, mx.model.load_checkpoint):
            symbol, args, _ = load(prefix, 0)
            assert symbol.infer_shape(data=SIZE)[0] == [SIZE, (FILTERS, CHANNELS, 3, 3), (UNITS, FILTERS * 9)]
            executor = symbol.simple_bind(mx.cpu(), data=SIZE)
            executor.copy_params_from(args)
            np.testing.assert_allclose(executor.forward(data=mx.nd.array(data()))[0].asnumpy(), wanted, rtol=1e-5)

    def test_symbols_alone_infer_them_too(self, tmp_path):
        symbol = mx.sym.load(self.write(tmp_path)[0] + "-symbol.json")
        assert symbol.infer_shape(data=SIZE)[0] == [SIZE, (FILTERS, CHANNELS, 3, 3), (UNITS, FILTERS * 9)]

    def test_module_and_symbol_block(self, tmp_path):
        prefix, wanted = self.write(tmp_path)
        module = bound(mx.mod.Module.load(prefix, 0, label_names=None))
        module.forward(mx.io.DataBatch([mx.nd.array(data())]), is_train=False)
        np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), wanted, rtol=1e-5)
        block = gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
        np.testing.assert_allclose(block(mx.nd.array(data())).asnumpy(), wanted, rtol=1e-5)

    def test_summary(self, tmp_path, capsys):
        prefix, _ = self.write(tmp_path)
        assert cli.main(["summary", f"{prefix}-symbol.json", "--data-shape", ",".join(map(str, SIZE[1:]))]) == 0
        assert "sign" in capsys.readouterr().out
        for symbol in (mx.sym.load(f"{prefix}-symbol.json"), bmx.load_checkpoint(prefix, 0)[0]):
            result = bmx.summary(symbol, SIZE[1:])
            assert result.weights == {1: FILTERS * CHANNELS * 9 + UNITS * FILTERS * 9}


@pytest.mark.parametrize("word_bits", [32, 64])
def test_the_published_models(word_bits, shared):
    prefix, outputs = str(shared / "models" / f"binarized_mnist_{word_bits}bit"), []
    images = mx.nd.random.uniform(shape=(4, 1, 28, 28))
    module = mx.mod.Module.load(prefix, 1)
    symbol, args, aux = bmx.load_checkpoint(prefix, 1)
    other = mx.mod.Module(symbol)
    for each in (module, other):
        each.bind([("data", images.shape)], [("softmax_label", (4,))], for_training=False)
    other.set_params(args, aux)
    for each in (module, other):
        each.forward(mx.io.DataBatch([images]), is_train=False)
        outputs.append(each.get_outputs()[0].asnumpy())
    np.testing.assert_array_equal(*outputs)
    inputs = ["data", "softmax_label"]
    block = gluon.SymbolBlock.imports(f"{prefix}-symbol.json", inputs, f"{prefix}-0001.params")
    np.testing.assert_allclose(block(images, mx.nd.zeros(4)).asnumpy(), outputs[0], rtol=1e-5)
