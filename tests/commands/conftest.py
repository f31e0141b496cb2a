"""A small network as the files that the commands take."""

import mxnet as mx
import numpy as np
import pytest
from small_checkpoints import lenet, save  # noqa: F401

import bmx

SHAPE = (3, 12, 10)


def _network():
    net = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=8, kernel=(3, 3), no_bias=True, name="first")
    net = mx.sym.QActivation(mx.sym.BatchNorm(net, fix_gamma=False, name="bn"), backward_only=True)
    net = mx.sym.QConvolution(net, num_filter=8, kernel=(3, 3), name="hidden")
    net = mx.sym.Pooling(mx.sym.BatchNorm(net, name="bn2"), global_pool=True, kernel=(1, 1), pool_type="avg")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=4, name="last"), name="softmax")


def write_checkpoint(prefix):
    """Write a network for 3x12x10 images and 4 classes; the path of its .params file."""
    symbol, random = _network(), np.random.RandomState(1)
    arguments, _, auxiliary = symbol.infer_shape(data=(1, *SHAPE))
    args = {
        name: mx.nd.array(random.uniform(-1, 1, shape))
        for name, shape in zip(symbol.list_arguments(), arguments)
        if name not in ("data", "softmax_label")
    }
    names = symbol.list_auxiliary_states()
    aux = {name: mx.nd.array(random.uniform(0.5, 1.5, shape)) for name, shape in zip(names, auxiliary)}
    mx.model.save_checkpoint(prefix, 3, symbol, args, aux)
    return f"{prefix}-0003.params"


def compile_to(path, checkpoint):
    """Write the .bmx file of the network; its path."""
    from bmx.compiler import compile_checkpoint

    compile_checkpoint(checkpoint, path, data_shape=SHAPE, verify=False)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Path of the .params file of a network for 3x12x10 images and 4 classes."""
    return write_checkpoint(str(tmp_path_factory.mktemp("checkpoint") / "net"))


@pytest.fixture(scope="session")
def bmx_file(checkpoint, tmp_path_factory):
    """The same network compiled."""
    return compile_to(str(tmp_path_factory.mktemp("compiled") / "net.bmx"), checkpoint)


@pytest.fixture(scope="session")
def samples(tmp_path_factory, checkpoint):
    """.npy files of 20 images and of what the network takes them for, but for the last 5 of them."""
    images = np.random.RandomState(2).standard_normal((20, *SHAPE)).astype(np.float32)
    symbol, args, aux = bmx.load_checkpoint(checkpoint[: -len("-0003.params")], 3)
    arrays = {**args, "data": mx.nd.array(images), "softmax_label": mx.nd.zeros(20)}
    executor = symbol.bind(mx.cpu(), arrays, aux_states=aux, grad_req="null")
    classes = executor.forward()[0].asnumpy().argmax(axis=1)
    classes[15:] = (classes[15:] + 1) % 4
    folder = tmp_path_factory.mktemp("samples")
    np.save(folder / "images.npy", images)
    np.save(folder / "classes.npy", classes)
    return str(folder / "images.npy"), str(folder / "classes.npy")
