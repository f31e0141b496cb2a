"""Fixtures: small trained networks as files."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx  # noqa: F401  (registers the operators)


@pytest.fixture
def save(tmp_path):
    """Function that fills a symbol with random parameters and saves it; returns the path of the .params file."""

    def save(symbol, data_shape, name="net", epoch=3, **replaced):
        shapes, _, aux_shapes = symbol.infer_shape(data=data_shape)
        rng = np.random.RandomState(5)
        args = {
            key: mx.nd.array(rng.uniform(-1, 1, shape))
            for key, shape in zip(symbol.list_arguments(), shapes)
            if key != "data" and not key.endswith("label")
        }
        aux = {
            key: mx.nd.array(rng.uniform(0.5, 1.5, shape))
            for key, shape in zip(symbol.list_auxiliary_states(), aux_shapes)
        }
        for key, array in replaced.items():
            args[key] = None if array is None else mx.nd.array(array)
        args = {key: array for key, array in args.items() if array is not None}
        mx.model.save_checkpoint(str(tmp_path / name), epoch, symbol, args, aux)
        return tmp_path / f"{name}-{epoch:04d}.params"

    return save


@pytest.fixture
def edit_json():
    """Function that rewrites a JSON file in place through a function of its content."""

    def edit(path, change):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content) or content))

    return edit


@pytest.fixture
def lenet():
    """The binary LeNet of BMXNet's example, with fewer filters."""
    net = mx.sym.Convolution(mx.sym.var("data"), kernel=(5, 5), num_filter=64, name="conv0")
    net = mx.sym.Pooling(mx.sym.Activation(net, act_type="tanh"), kernel=(2, 2), stride=(2, 2), pool_type="max")
    net = mx.sym.QActivation(mx.sym.BatchNorm(net, name="bn0"), backward_only=True, name="qa0")
    net = mx.sym.QConvolution(net, kernel=(5, 5), num_filter=64, name="qconv")
    net = mx.sym.Pooling(mx.sym.BatchNorm(net, name="bn1"), kernel=(2, 2), stride=(2, 2), pool_type="max")
    net = mx.sym.QActivation(mx.sym.Flatten(net), backward_only=True, name="qa1")
    net = mx.sym.QFullyConnected(net, num_hidden=500, name="qfc")
    net = mx.sym.Activation(mx.sym.BatchNorm(net, name="bn2"), act_type="tanh")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10, name="fc"), name="softmax")


@pytest.fixture
def run():
    """Function that gives the outputs of a loaded checkpoint for a batch; labels are 0."""

    def run(checkpoint, batch):
        symbol, args, aux = checkpoint
        shapes, _, _ = symbol.infer_shape(data=batch.shape)
        arrays = {
            name: args[name] if name in args else mx.nd.array(batch) if name == "data" else mx.nd.zeros(shape)
            for name, shape in zip(symbol.list_arguments(), shapes)
        }
        executor = symbol.bind(mx.cpu(), arrays, aux_states=aux, grad_req="null")
        return [output.asnumpy() for output in executor.forward()]

    return run
