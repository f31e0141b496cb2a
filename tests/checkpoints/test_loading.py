"""Loading checkpoints: BMXNet v1's published files, its dialects, ours, and damaged ones."""

import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.checkpoints import interchange
from bmx.checkpoints.loading import load_checkpoint
from bmx.checkpoints.params_file import encode_array, encode_params, parse_params
from bmx.compiler import compile_checkpoint
from bmx.compiler.verification import run_program

WEIGHTS = {"qconvolution0_weight": (64, 64, 5, 5), "qfullyconnected0_weight": (1000, 1024)}


def published(shared, bits):
    return load_checkpoint(str(shared / "models" / f"binarized_mnist_{bits}bit"), 1)


def rewrite(path, change):
    """Rewrite a .params file: `change` turns a NumPy array into another, by name."""
    stored = parse_params(path.read_bytes(), str(path))
    arrays = {name: change(name, array.numpy()) for name, array in stored.items()}
    records = [(name, encode_array(array, 2)) for name, array in arrays.items() if array is not None]
    path.write_bytes(encode_params(records))


@pytest.mark.parametrize("epoch", ["a", -1, 1.0, None])
def test_an_epoch_is_a_number(epoch):
    with pytest.raises(bmx.Error, match=f"^net: epoch is {epoch!r}; allowed: an integer of 0 or more$"):
        load_checkpoint("net", epoch)


def test_published_models_hold_the_same_weights(shared):
    words = {}
    for bits in (32, 64):
        _, args, _ = published(shared, bits)
        for name, shape in WEIGHTS.items():
            assert args[name].dtype == np.float32
            assert args[name].shape == interchange.packed_shape(shape, 32)
            words.setdefault(name, []).append(args[name].asnumpy())
        stored = parse_params((shared / "models" / f"binarized_mnist_{bits}bit-0001.params").read_bytes(), "")
        for name, shape in WEIGHTS.items():
            original = interchange.unpack(stored[f"arg:{name}"].numpy(), shape)
            np.testing.assert_array_equal(original, interchange.unpack(args[name].asnumpy(), shape))
    for first, second in words.values():
        assert first.tobytes() == second.tobytes()


@pytest.fixture(scope="module")
def mnist_test():
    """The 10 000 test images as (N, 1, 28, 28) in 0..1, and their digits."""
    root = Path(mx.base.data_dir()) / "datasets" / "mnist"
    if not (root / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip(f"needs the MNIST test images in {root}, Gluon's default folder")
    images, digits = mx.gluon.data.vision.MNIST(str(root), train=False)[:]
    return images.asnumpy().transpose(0, 3, 1, 2).astype(np.float32) / 255, digits


@pytest.mark.slow
@pytest.mark.parametrize("bits", [32, 64])
def test_published_models_score_what_they_scored(shared, mnist_test, bits):
    images, digits = mnist_test
    symbol, args, aux = published(shared, bits)
    module = mx.mod.Module(symbol, context=mx.cpu())
    module.bind([("data", (500, 1, 28, 28))], [("softmax_label", (500,))], for_training=False)
    module.set_params(args, aux)
    predictions = module.predict(mx.io.NDArrayIter(images, digits, 500)).asnumpy().argmax(axis=1)
    assert np.count_nonzero(predictions == digits) == 9740
    file = str(shared / "models" / f"binarized_mnist_{bits}bit-0001.params")
    compiled = compile_checkpoint(file, data_shape=(1, 28, 28), verify=False)
    (scores,) = run_program(compiled.program, {"data": images})
    assert np.count_nonzero(scores.argmax(axis=1) == digits) == 9740


def test_published_model_in_gluon(shared, run):
    checkpoint = published(shared, 64)
    symbol, args, aux = checkpoint
    batch = np.random.uniform(size=(4, 1, 28, 28)).astype(np.float32)
    block = mx.gluon.SymbolBlock(symbol.get_internals()["fullyconnected0_output"], [mx.sym.var("data")])
    for name, parameter in block.collect_params().items():
        parameter._load_init({**args, **aux}[name], mx.cpu())
    probabilities = mx.nd.softmax(block(mx.nd.array(batch))).asnumpy()
    np.testing.assert_allclose(probabilities, run(checkpoint, batch)[0], rtol=1e-5, atol=1e-7)


def test_published_model_survives_saving(shared, run, tmp_path):
    checkpoint = published(shared, 64)
    mx.model.save_checkpoint(str(tmp_path / "again"), 7, *checkpoint)
    again = load_checkpoint(str(tmp_path / "again"), 7)
    batch = np.random.uniform(size=(4, 1, 28, 28)).astype(np.float32)
    np.testing.assert_array_equal(run(again, batch)[0], run(checkpoint, batch)[0])


def test_ordinary_checkpoint(tmp_path):
    net = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc")
    args = {"fc_weight": mx.nd.ones((2, 3)).tostype("row_sparse"), "fc_bias": mx.nd.ones(2, dtype="float16")}
    mx.nd.waitall()
    mx.model.save_checkpoint(str(tmp_path / "net"), 12345, net, args, {})
    symbol, loaded, aux = load_checkpoint(str(tmp_path / "net"), 12345)
    assert symbol.tojson() == net.tojson()
    assert loaded["fc_weight"].stype == "row_sparse"
    assert loaded["fc_bias"].dtype == np.float16
    assert aux == {}


def test_numpy_shapes(tmp_path):
    net = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc", no_bias=True)
    with mx.util.np_shape(True):
        mx.model.save_checkpoint(str(tmp_path / "net"), 1, net, {"fc_weight": mx.nd.ones((2, 3))}, {})
    assert load_checkpoint(str(tmp_path / "net"), 1)[1]["fc_weight"].shape == (2, 3)


def packed_network(layout):
    """A network with a packed convolution and a packed dense layer, the dense weights 64 or 96 inputs wide."""
    filters = {"v1": 64, "extension": 24}[layout]
    net = mx.sym.QConvolution(
        mx.sym.var("data"), kernel=(3, 3), num_filter=filters, name="qconv", binarized_weights_only=True
    )
    net = mx.sym.Pooling(mx.sym.BatchNorm(net, name="bn"), global_pool=True, kernel=(1, 1), pool_type="avg")
    return mx.sym.QFullyConnected(net, num_hidden=10, name="qfc", binarized_weights_only=True)


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("declared", ["flat", "full"])
@pytest.mark.parametrize("layout", ["v1", "extension"])
def test_every_form_of_packed_weights(save, edit_json, run, tmp_path, layout, declared, word_bits):
    channels, filters = {"v1": (64, 64), "extension": (5, 24)}[layout]
    rng = np.random.RandomState(0)
    latent = {
        "arg:qconv_weight": rng.uniform(-1, 1, (filters, channels, 3, 3)),
        "arg:qfc_weight": rng.uniform(-1, 1, (10, filters)),
    }
    path = save(packed_network(layout), (1, channels, 8, 8))
    reference = load_reference(save, layout, channels, latent)

    def pack(name, array):
        if name not in latent:
            return array
        words = interchange.pack(latent[name], word_bits)
        return words.ravel() if declared == "flat" and (layout == "v1" or "qfc" in name) else words

    def set_inputs(content):
        for node in content["nodes"]:
            if f"arg:{node['name']}" in latent:
                node.setdefault("attrs", {})["__shape__"] = "(1, 2, 3)"  # of the float weight: not to be believed
                if layout == "extension":
                    inputs = latent[f"arg:{node['name']}"][0].size
                    node["attrs"]["__inputs_per_output__"] = str(inputs)

    rewrite(path, pack)
    edit_json(tmp_path / "net-symbol.json", set_inputs)
    loaded = load_checkpoint(str(tmp_path / "net"), 3)
    for name, array in latent.items():
        assert loaded[1][name[4:]].dtype == np.float32
        assert loaded[1][name[4:]].asnumpy().tobytes() == interchange.pack(array, 32).tobytes()
        assert loaded[1][name[4:]].shape == interchange.packed_shape(array.shape, 32)
    batch = np.random.normal(size=(2, channels, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(loaded, batch)[0], run(reference, batch)[0])


def load_reference(save, layout, channels, latent):
    """The same network with float weights."""
    content = json.loads(packed_network(layout).tojson())
    for node in content["nodes"]:
        node.get("attrs", {}).pop("binarized_weights_only", None)
    arrays = {name[4:]: array for name, array in latent.items()}
    path = save(mx.sym.load_json(json.dumps(content)), (1, channels, 8, 8), name="reference", **arrays)
    return load_checkpoint(str(path)[: -len("-0003.params")], 3)


@pytest.mark.parametrize("key", ["param", "attr", "attrs"])
def test_old_dialects_and_attributes(save, edit_json, run, lenet, tmp_path, key):
    """JSON of MXNet 0.8 to 1.0, QConvolution_v1, scaling_factor, Python 2's long integers."""
    save(lenet, (1, 1, 28, 28))
    expected = load_checkpoint(str(tmp_path / "net"), 3)

    def age(content):
        content["attrs"]["mxnet_version"][1] = {"param": 803, "attr": 903, "attrs": 10000}[key]
        for node in content["nodes"]:
            if node["op"] == "QConvolution":
                node["op"] = "QConvolution_v1"
                node["attrs"].update(kernel="(5L, 5L)", num_filter="64L", scaling_factor="True")
            if "attrs" in node:
                node[key] = node.pop("attrs")

    edit_json(tmp_path / "net-symbol.json", age)
    loaded = load_checkpoint(str(tmp_path / "net"), 3)
    batch = np.random.normal(size=(2, 1, 28, 28)).astype(np.float32)
    np.testing.assert_array_equal(run(loaded, batch)[0], run(expected, batch)[0])


def test_gradients_of_a_loaded_network_accumulate(save, edit_json, tmp_path):
    """A v1 file has no copies before its Q layers; without them grad_req="add" would overwrite."""
    net = mx.sym.QActivation(mx.sym.var("data"), name="qa")
    net = mx.sym.QConvolution(net, kernel=(1, 1), num_filter=2, name="q1")
    net = mx.sym.QConvolution(net, mx.sym.var("q1_weight"), kernel=(1, 1), num_filter=2, name="q2")
    save(net, (1, 2, 3, 3))

    def unguard(content):
        """Make readers of copies read the variables."""
        source = {i: n["inputs"][0] for i, n in enumerate(content["nodes"]) if n["op"] == "_copy"}
        for node in content["nodes"]:
            node["inputs"] = [source.get(entry[0], entry) for entry in node["inputs"]]

    edit_json(tmp_path / "net-symbol.json", unguard)
    symbol, args, _ = load_checkpoint(str(tmp_path / "net"), 3)
    assert symbol.list_arguments() == ["data", "q1_weight"]
    arrays = {**args, "data": mx.nd.random.uniform(-0.5, 0.5, (1, 2, 3, 3))}
    gradients = []
    for passes in (1, 2):
        grads = {name: mx.nd.zeros(array.shape) for name, array in arrays.items()}
        executor = symbol.bind(mx.cpu(), arrays, grads, grad_req="add")
        for _ in range(passes):
            executor.forward(is_train=True)
            executor.backward(mx.nd.ones(executor.outputs[0].shape))
        gradients.append({name: grad.asnumpy() for name, grad in grads.items()})
    for name in arrays:
        assert np.any(gradients[0][name] != 0)
        np.testing.assert_allclose(gradients[1][name], 2 * gradients[0][name], rtol=1e-6)


def delete(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def foreign(path):
    path.write_bytes(b"\x89PNG" * 100)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("net-symbol.json", delete, "net-symbol.json: no such file"),
        ("net-symbol.json", truncate, "net-symbol.json: not valid JSON"),
        ("net-symbol.json", foreign, "net-symbol.json: not valid JSON"),
        ("net-symbol.json", lambda path: path.write_text("[1, 2]"), "net-symbol.json: not a symbol file"),
        ("net-0003.params", delete, "net-0003.params: no such file"),
        ("net-0003.params", truncate, "net-0003.params: truncated"),
        ("net-0003.params", foreign, "net-0003.params: no .params header"),
    ],
)
def test_bad_files(save, lenet, tmp_path, file, damage, message):
    save(lenet, (1, 1, 28, 28))
    damage(tmp_path / file)
    with pytest.raises(bmx.Error) as error:
        load_checkpoint(str(tmp_path / "net"), 3)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, array: None if name == "arg:qconv_weight" else array, "layer 'qconv': the array"),
        (lambda name, array: array[:-1] if name == "arg:qconv_weight" else array, "layer 'qconv': packed weight has"),
        (
            lambda name, array: array.astype("f2") if "qfc" in name else array,
            "layer 'qfc': packed weights are",
        ),
    ],
)
def test_bad_packed_weights(save, tmp_path, change, message):
    path = save(packed_network("v1"), (1, 64, 8, 8))
    rewrite(path, change)
    with pytest.raises(bmx.Error, match=message):
        load_checkpoint(str(tmp_path / "net"), 3)


def test_names_without_arg_and_aux(tmp_path):
    mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc").save(str(tmp_path / "net-symbol.json"))
    mx.nd.save(str(tmp_path / "net-0000.params"), {"fc_weight": mx.nd.ones((2, 3))})
    with pytest.raises(bmx.Error, match="not a checkpoint: the name 'fc_weight'"):
        load_checkpoint(str(tmp_path / "net"), 0)
