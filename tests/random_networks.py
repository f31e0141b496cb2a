"""Networks with random parameters, and what the compiler makes of them, for its tests."""

import json

import ir_oracle
import mxnet as mx
import numpy as np

from bmx.checkpoints.symbol_file import Entry, SymbolNode, parse_graph, to_symbol
from bmx.compiler.frontends.mxnet import MXNetFrontEnd
from bmx.compiler.lower import lower
from bmx.compiler.passes import optimize
from bmx.compiler.verification import run_program
from bmx.gluon.nn import path


def random_numbers(seed):
    return np.random.Generator(np.random.SFC64(seed))


def parameter(name, shape, rng):
    """Numbers such as trained networks have, and for each kind some that are negative."""
    if name.endswith("var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("gamma"):
        return (rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)).astype(np.float32)
    scale = 0.3 if len(shape) < 2 else 1 / np.sqrt(max(1, np.prod(shape[1:])))
    return rng.standard_normal(shape, np.float32) * np.float32(scale)


def arrays_for(symbol, shapes, seed=0):
    """Random args and aux of a symbol for inputs of these shapes, without the batch."""
    rng = random_numbers(seed)
    arg_shapes, _, aux_shapes = symbol.infer_shape(**{name: (2, *shape) for name, shape in shapes.items()})
    names = {name: shape for name, shape in zip(symbol.list_arguments(), arg_shapes) if name not in shapes}
    args = {k: parameter(k, s, rng) for k, s in names.items() if not k.endswith("label")}
    return args, {k: parameter(k, s, rng) for k, s in zip(symbol.list_auxiliary_states(), aux_shapes)}


def settle(symbol, args, aux, shapes, seed=0):
    """The aux of a symbol after a batch of samples, and a little off: BatchNorms see numbers around their averages.

    With any other averages the counts of binary layers, about K / 2, would all be on one side, and every bit the same.
    """
    rng = random_numbers(seed + 100)
    graph = parse_graph(json.loads(symbol.tojson()), "network")
    mode = SymbolNode("null", "batch_norm_mode")
    for node in graph.nodes:
        if node.op in ("BatchNorm", "bmx_BatchNorm"):
            node.op, node.attributes["momentum"] = "bmx_BatchNorm", "0"
            node.attributes = {k: node.attributes[k] for k in ("eps", "momentum", "fix_gamma") if k in node.attributes}
            node.inputs[5:] = [Entry(mode)]
    graph.nodes.insert(0, mode)
    graph.attributes = {"mxnet_version": ["int", 10901]}
    training = to_symbol(graph, "network")
    arrays = {name: mx.nd.array(array) for name, array in {**args, **aux, "batch_norm_mode": np.zeros(1)}.items()}
    for name, shape in shapes.items():
        arrays[name] = mx.nd.array(rng.standard_normal((4, *shape), np.float32))
    given = [arrays.get(name, mx.nd.zeros((4,))) for name in training.list_inputs()]  # labels
    outputs = mx.nd.CachedOp(training)(*given)
    mx.nd.waitall()
    del outputs
    settled = {}
    for name in aux:
        array = arrays[name].asnumpy()
        if name.endswith("var"):
            settled[name] = (array * rng.uniform(0.7, 1.4, array.shape) + 1e-3).astype(np.float32)
        else:
            off = rng.standard_normal(array.shape, np.float32) * 0.3
            settled[name] = array + off * np.sqrt(arrays[name.replace("mean", "var")].asnumpy())
    return settled


def network_of(symbol, seed=0, settled=False, **shapes):
    """A symbol with random parameters, opened by the reader."""
    args, aux = arrays_for(symbol, shapes, seed)
    return MXNetFrontEnd(symbol, args, settle(symbol, args, aux, shapes, seed) if settled else aux, shapes)


def traced(net, shape, composed=False, seed=0):
    """A Gluon network that need not be initialized, as a symbol with random parameters, opened by the reader."""
    with path("composed" if composed else "operators"):
        return network_of(net(mx.sym.var("data")), seed, settled=True, data=shape)


def samples_for(network, batch=2, seed=1):
    rng = random_numbers(seed)
    return {name: rng.standard_normal((batch, *shape), np.float32) for name, shape in network.inputs.items()}


def fill(net, shape, seed=0):
    """Initialize a Gluon network with random parameters, settled: other images give other outputs. Returns it."""
    rng = random_numbers(seed)
    net.initialize()
    net(mx.nd.zeros((1, *shape)))
    for name, p in net.collect_params().items():
        if p.grad_req != "null" or not name.endswith("weight"):  # not constants
            p.set_data(mx.nd.array(parameter(name, p.shape, rng)))
    with path("operators"):
        symbol = net(mx.sym.var("data"))
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    aux = {name: arrays.pop(name) for name in symbol.list_auxiliary_states()}
    for name, array in settle(symbol, arrays, aux, {"data": shape}, seed).items():
        net.collect_params()[name].set_data(mx.nd.array(array))
    return net


def difference(a, b):
    """The largest difference, as a part of the largest number; equal infinities and NaN beside NaN are none."""
    with np.errstate(all="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
    finite = np.abs(a[np.isfinite(a)])
    return float(np.max(gap, initial=0)) / max(1e-6, float(np.max(finite, initial=0)))


def assert_equal(network, data, *results, tolerance=1e-5, noise=5e-7):
    """Assert that results are MXNet's outputs, up to the roundings of floats.

    Where a rounding decides a bit, later layers may follow it far. So a result may also differ as much as MXNet's own
    results do where the last digits of biases and BatchNorms are others, by `noise`.
    """
    wanted = network.run(data)
    for result in results:
        assert list(wanted) == list(result)
        for name, array in wanted.items():
            found = difference(array, result[name])
            if found > tolerance:
                others = (network.with_other_last_digits(noise, seed).run(data)[name] for seed in range(4))
                usual = max(difference(array, other) for other in others)
                assert found < 3 * usual, f"{name}: {found}, for other last digits {usual}"


def compare(network, data=None, tolerance=2e-5, noise=5e-7):
    """Assert that MXNet, the graph as read, the fused one and the engine give the same; returns the fused graph."""
    data = samples_for(network) if data is None else data
    graph = network.read()
    read = ir_oracle.run(graph, data)
    optimize(graph)
    engine = dict(zip(graph.outputs, run_program(lower(graph), data)))
    assert_equal(network, data, read, ir_oracle.run(graph, data), engine, tolerance=tolerance, noise=noise)
    return graph
