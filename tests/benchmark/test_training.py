"""`benchmark/training.py`: PyTorch's float twin is MXNet's, and the program runs."""

import importlib.util
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest


@pytest.fixture
def training(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "benchmark"))
    import training

    yield training
    for name in [name for name in sys.modules if name == "training" or name.split(".")[0] == "peers"]:
        del sys.modules[name]


@pytest.mark.parametrize("model", ["lenet", "resnet18_e1", "densenet28", "meliusnet22", "quicknet", "birealnet18"])
def test_the_twin_in_pytorch_has_the_outputs_and_gradients_of_mxnet(training, tmp_path, model):
    torch = pytest.importorskip("torch")
    from peers.torch_network import TorchNetwork

    training.write_twin(model, tmp_path / "twin.npz")
    data, label = training.random_batch(model, 4)
    arrays = dict(np.load(tmp_path / "twin.npz"))
    symbol = str(arrays.pop("symbol"))
    theirs = TorchNetwork(symbol, arrays).train()
    outputs = theirs(torch.from_numpy(data))
    torch.nn.functional.cross_entropy(outputs, torch.from_numpy(label)).backward()

    symbol = mx.sym.load_json(symbol)
    arguments = {name: mx.nd.array(arrays[name]) for name in symbol.list_arguments() if name != "data"}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in arguments.items()}
    states = {name: mx.nd.array(arrays[name]) for name in symbol.list_auxiliary_states()}
    network = symbol.bind(mx.cpu(), {"data": mx.nd.array(data), **arguments}, gradients, aux_states=states)
    (wanted,) = network.forward(is_train=True)
    network.backward((mx.nd.softmax(wanted) - mx.nd.one_hot(mx.nd.array(label), 10)) / len(label))
    np.testing.assert_allclose(outputs.detach().numpy(), wanted.asnumpy(), rtol=1e-3, atol=1e-3)
    known = {
        node: tensor.grad.numpy()
        for node, (_, tensor) in zip(theirs.parameter_nodes(), theirs.named_parameters())
        if tensor.grad is not None  # BatchNorm's gamma may be fixed
    }
    assert len(known) > 5
    largest = max(np.linalg.norm(gradients[node].asnumpy()) for node in known)
    for node, gradient in known.items():  # that of a bias before a BatchNorm is rounding alone
        wanted = gradients[node].asnumpy()
        assert np.linalg.norm(gradient - wanted) < 1e-2 * np.linalg.norm(wanted) + 1e-5 * largest, node


@pytest.mark.slow
def test_a_small_network_is_measured_beside_its_twins(root):
    command = [sys.executable, str(root / "benchmark" / "training.py"), "--model", "lenet"]
    done = subprocess.run([*command, "--batch-size", "4", "--rounds", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch = importlib.util.find_spec("torch") is not None
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows == [
        "network",
        "float",
        "binary",
        "binary, float32x2",
        "binary, bfloat16",
        *(["PyTorch", "PyTorch, bfloat16"] * torch),
    ]
    assert "- binary, step: " in done.stdout and ("not measured: PyTorch" in done.stdout) != torch
