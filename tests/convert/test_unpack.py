"""Packed checkpoints become latent ones that give the same outputs, and that can be trained."""

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import cli
from bmx.checkpoints.loading import load_checkpoint
from bmx.convert import convert_checkpoint, unpack_checkpoint


@pytest.mark.parametrize("word_bits", [32, 64])
def test_outputs_stay_and_weights_are_the_signs(save, lenet, run, tmp_path, word_bits):
    path = save(lenet, (1, 1, 28, 28))
    convert_checkpoint(str(path), word_bits=word_bits)
    done = unpack_checkpoint(str(tmp_path / "binarized_net-0003.params"), data_shape=(1, 28, 28))
    assert done.layers == ["qconv", "qfc"] and done.verification.largest_difference == 0
    assert done.params_path == str(tmp_path / "latent_binarized_net-0003.params")
    batch = np.random.RandomState(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    checkpoints = [
        load_checkpoint(str(tmp_path / name), 3) for name in ("binarized_net", "latent_binarized_net", "net")
    ]
    packed, latent, original = ([output.tobytes() for output in run(one, batch)] for one in checkpoints)
    assert packed == latent == original
    symbol, args, _ = checkpoints[1]
    for name in ("qconv_weight", "qfc_weight"):
        weight = checkpoints[2][1][name].asnumpy()
        np.testing.assert_array_equal(args[name].asnumpy(), np.where(weight < 0, -1, 1))
        assert symbol.attr_dict().get(name, {}).get("__dtype__") is None
    assert all("binarized_weights_only" not in attributes for attributes in symbol.attr_dict().values())


def test_odd_channels_groups_shared_weights_and_scales(save, tmp_path):
    weight, kernel = mx.sym.var("shared"), {"kernel": (3, 3), "num_filter": 6, "pad": (1, 1)}
    net = mx.sym.QConvolution(mx.sym.var("data"), weight, name="a", **kernel)
    net = mx.sym.QConvolution(net, weight, name="b", scaling_mode="forward", **kernel)
    net = mx.sym.QConvolution(net, name="c", num_group=2, pad_value=-1, no_bias=False, **kernel)
    net = mx.sym.QFullyConnected(net, num_hidden=5, flatten=True, name="d")
    convert_checkpoint(str(save(net, (1, 6, 4, 5))), data_shape=(6, 4, 5))
    done = unpack_checkpoint(str(tmp_path / "binarized_net-0003.params"), str(tmp_path / "new"), data_shape=(6, 4, 5))
    assert done.layers == list("abcd") and done.verification.largest_difference == 0
    again = convert_checkpoint(str(tmp_path / "new-0003.params"), str(tmp_path / "again"), data_shape=(6, 4, 5))
    assert again.verification.largest_difference == 0
    words = [mx.nd.load(str(tmp_path / f"{name}-0003.params"))["arg:shared"] for name in ("binarized_net", "again")]
    assert words[0].asnumpy().tobytes() == words[1].asnumpy().tobytes()


def test_an_unpacked_network_is_trained(save, tmp_path):
    net = mx.sym.QFullyConnected(mx.sym.var("data"), num_hidden=8, name="binary")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=3, name="last"), name="softmax")
    convert_checkpoint(str(save(net, (4, 40))))
    unpack_checkpoint(str(tmp_path / "binarized_net-0003.params"))
    symbol, args, aux = load_checkpoint(str(tmp_path / "latent_binarized_net"), 3)
    before = args["binary_weight"].asnumpy()
    module, random = mx.mod.Module(symbol), np.random.RandomState(0)
    data = mx.io.NDArrayIter(random.standard_normal((8, 40)), random.randint(0, 3, 8), 4)
    module.fit(data, num_epoch=1, arg_params=args, aux_params=aux, optimizer_params={"learning_rate": 0.1})
    assert (module.get_params()[0]["binary_weight"].asnumpy() != before).any()


def test_mistakes_are_one_line_and_leave_nothing(save, lenet, tmp_path, capsys):
    path = str(save(lenet, (1, 1, 28, 28)))
    assert cli.main(["unpack", path]) == 1
    assert capsys.readouterr().err.endswith("no layer has packed weights (binarized_weights_only)\n")
    convert_checkpoint(path)
    packed = path.replace("net-0003", "binarized_net-0003")
    files = sorted(tmp_path.iterdir())
    with pytest.raises(bmx.Error, match="does not take samples of shape"):
        unpack_checkpoint(packed, data_shape=(3, 28, 28))
    assert sorted(tmp_path.iterdir()) == files
    assert cli.main(["unpack", packed]) == 0
    assert (
        "unpacked: qconv, qfc\nverified on 8 samples of shape 1x28x28: largest difference 0" in capsys.readouterr().out
    )
    assert cli.main(["unpack", packed]) == 1
    assert "exists already; use --force" in capsys.readouterr().err
