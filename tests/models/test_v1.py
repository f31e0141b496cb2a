"""BMXNet v1's networks: the names and results of its files."""

import json
import re

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.models import v1
from bmx.network_summary import summary


def parameters_of(path):
    """Names of the variables of a symbol file, in order."""
    return [node["name"] for node in json.loads(path.read_text())["nodes"] if node["op"] == "null"]


def run(symbol, arg_params, aux_params, batch):
    arrays = {**arg_params, "data": batch, "softmax_label": mx.nd.zeros(batch.shape[:1])}
    return symbol.bind(mx.cpu(), arrays, aux_states=aux_params, grad_req="null").forward()[0].asnumpy()


@pytest.mark.parametrize("word_bits", [32, 64])
def test_lenet_has_the_names_of_the_published_files(shared, word_bits):
    path = shared / "models" / f"binarized_mnist_{word_bits}bit-symbol.json"
    published = [name for name in parameters_of(path) if "moving" not in name]
    assert v1.lenet().list_arguments() == published


def test_published_lenet_gives_the_same_unpacked_and_trains_on(shared):
    prefix = str(shared / "models" / "binarized_mnist_64bit")
    symbol = v1.lenet()
    arg_params, aux_params = v1.load(symbol, prefix, 1, (1, 28, 28))
    batch = mx.nd.random.uniform(shape=(6, 1, 28, 28))
    expected = run(*bmx.load_checkpoint(prefix, 1), batch)
    np.testing.assert_array_equal(run(symbol, arg_params, aux_params, batch), expected)

    before = arg_params["qconvolution0_weight"].asnumpy()
    batches = mx.io.NDArrayIter(batch, mx.nd.array(range(6)), batch_size=6)
    module = mx.mod.Module(symbol)
    module.fit(batches, num_epoch=1, arg_params=arg_params, aux_params=aux_params, optimizer="adam")
    after = module.get_params()[0]["qconvolution0_weight"].asnumpy()
    assert np.isfinite(after).all() and not np.array_equal(before, after)


def test_resnet_has_the_names_of_the_published_files():
    arguments = v1.resnet(18, 10, image_size=32).list_arguments()
    assert arguments[:7] == [
        *("data", "bn_data_gamma", "bn_data_beta", "conv0_weight"),
        *("stage1_unit1_bn1_gamma", "stage1_unit1_bn1_beta", "stage1_unit1_conv1_weight"),
    ]
    units = [f"stage{stage}_unit{unit}" for stage in range(1, 5) for unit in (1, 2)]
    layers = [f"{unit}_{layer}" for unit in units for layer in ("conv1", "conv2", *(["sc"] if unit[-1] == "1" else []))]
    assert [name[:-7] for name in arguments if "stage" in name and name.endswith("_weight")] == layers
    assert arguments[-5:] == ["bn1_gamma", "bn1_beta", "fc1_weight", "fc1_bias", "softmax_label"]
    large = v1.resnet(18)
    assert set(large.list_arguments()) - set(arguments) == {"bn0_gamma", "bn0_beta"}
    assert large.list_outputs() == ["softmax_output"]


@pytest.mark.parametrize(
    "symbol, size, file_size",
    [  # the published files, of which less than 7 kB are names and shapes
        (v1.resnet(18, 10, image_size=32), 32, 1_490_426),
        (v1.resnet(18), 224, 3_553_824),
        (v1.resnet(18, float_stages=(1,)), 224, 4_142_016),
    ],
)
def test_resnet_has_the_size_of_the_published_files(symbol, size, file_size):
    assert 0 < file_size - summary(symbol, (3, size, size)).memory < 7000


@pytest.mark.parametrize("layers, size, convolutions", [(34, 64, 36), (50, 33, 36), (20, 28, 21), (8, 8, 9)])
def test_resnet_of_other_depths(layers, size, convolutions):
    symbol = v1.resnet(layers, 5, size)
    assert symbol.infer_shape(data=(2, 3, size, size))[1] == [(2, 5)]
    graph = json.loads(symbol.tojson())
    assert sum(node["op"] == "QConvolution" for node in graph["nodes"]) == convolutions


def test_float_stages_are_of_built_in_operators():
    graph = json.loads(v1.resnet(18, float_stages=(1, 2, 3, 4)).tojson())
    assert not any(node["op"].startswith("Q") for node in graph["nodes"])


def test_resnet_trains():
    module = mx.mod.Module(v1.resnet(8, 4, 16))
    batches = mx.io.NDArrayIter(mx.nd.random.uniform(shape=(8, 3, 16, 16)), mx.nd.array([0, 1, 2, 3] * 2), 4)
    metric = mx.metric.CrossEntropy()
    module.fit(batches, eval_metric=metric, num_epoch=2, initializer=mx.init.Xavier(), optimizer="adam")
    assert np.isfinite(metric.get()[1])


def test_load_refuses_files_of_other_networks(tmp_path):
    symbol = v1.resnet(8, 4, 16)
    module = mx.mod.Module(symbol)
    module.bind([("data", (1, 3, 16, 16))], [("softmax_label", (1,))])
    module.init_params(mx.init.Xavier())
    prefix = str(tmp_path / "net")
    module.save_checkpoint(prefix, 1)
    arg_params, _ = v1.load(symbol, prefix, 1, (3, 16, 16))
    np.testing.assert_array_equal(
        arg_params["stage1_unit1_conv1_weight"].asnumpy(), module.get_params()[0]["stage1_unit1_conv1_weight"].asnumpy()
    )
    with pytest.raises(bmx.Error, match="has no array 'stage1_unit2_bn1_gamma'; it is of another network"):
        v1.load(v1.resnet(14, 4, 16), prefix, 1, (3, 16, 16))
    with pytest.raises(bmx.Error, match=re.escape("'fc1_weight' has the shape (4, 64); the symbol's is (5, 64)")):
        v1.load(v1.resnet(8, 5, 16), prefix, 1, (3, 16, 16))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: v1.lenet(0), "classes is 0"),
        (lambda: v1.lenet(10, 0), "bits=0"),
        (lambda: v1.resnet(20), "layers is 20; allowed: 18, 34, 50"),
        (lambda: v1.resnet(18, 10, 28), "layers is 18; for images of 28 pixels allowed: 8, 14"),
        (lambda: v1.resnet(18, 10, 4), "image_size is 4"),
        (lambda: v1.resnet(18, float_stages=(0,)), "float_stages has 0; allowed: 1 to 4"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(bmx.Error, match=re.escape(message)):
        make()


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 200, 269])
def test_the_depth_says_how_many_units_there_are(depth):
    """Beside the first and the last layer, two or from 50 on three a unit; v1 gives all units two nevertheless."""
    names = v1.resnet(depth, 10, 224).list_arguments()
    convolutions = [name for name in names if re.fullmatch(r"stage[1-4]_unit\d+_conv\d_weight", name)]
    assert len(convolutions) == 2 * (depth - 2) // (2 if depth < 50 else 3)
