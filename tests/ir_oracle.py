"""The definition of the compiler's graph in NumPy: slow, obvious, and independent of the compiler, MXNet and libbmx.

    outputs = ir_oracle.run(graph, {"data": images})

Operations of an epilogue are those of epilogue_oracle; sums of float convolutions are done in float64 and rounded at
the end. A batch is the first axis of every array. Bits are kept as -1 and +1, bytes as their numbers.
"""

from __future__ import annotations

import math

import epilogue_oracle
import numpy as np

from bmx.compiler import ir


def run(graph, inputs):
    """Outputs by name."""
    values = evaluate(graph, inputs)
    return {name: values[value].astype(np.float32) for name, value in graph.outputs.items()}


def evaluate(graph, inputs):
    """Every value of the graph. Checks that nodes come in order and that each value has its shape."""
    values = {}
    batch = len(next(iter(inputs.values())))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            for value in node.reads():
                assert value in values, f"{node.name} reads {value.name} before it is computed"
            if isinstance(node, ir.Input):
                y = np.asarray(inputs[node.name], np.float32).reshape(batch, *node.stores[0].value.shape)
            else:
                y = _NODES[type(node)](node, values)
            for operation in node.epilogue:
                y = apply(operation, y, values)
            assert node.stores, f"{node.name} gives nothing"
            for store in node.stores:
                stored = _store(store, y, node)
                assert stored.shape == (batch, *store.value.shape), f"{node.name}: {stored.shape} is not {store.value}"
                values[store.value] = stored
    return values


# --- operations ---


def channels(array, like):
    """One number a channel, to broadcast over (batch, C, ...)."""
    return np.asarray(array).reshape((1, -1) + (1,) * (like.ndim - 2))


def apply(operation, y, values=None):
    """One operation of an epilogue on (batch, C, ...)."""
    operand = values[operation.operand] if hasattr(operation, "operand") else None
    return epilogue_oracle.apply(operation, y, lambda array: channels(array, y), operand)


# --- stores ---


def _store(store, y, node):
    if isinstance(store, ir.Floats):
        return y
    if isinstance(store, ir.Bits):
        flipped = np.where(channels(store.flip, y), -y, y)
        return np.where(flipped < channels(store.threshold, y), np.float32(-1), np.float32(1))
    if isinstance(store, ir.CountBits):
        assert isinstance(node, ir.Conv) and not node.epilogue and len(node.stores) == 1
        p = np.rint((node.all - y.astype(np.float64)) / node.step)
        bit = (p <= channels(store.threshold, y)) ^ channels(store.flip, y)
        return np.where(bit, np.float32(1), np.float32(-1))
    assert isinstance(store, ir.Bytes)
    inverse = np.float32(1) / np.float32(store.value.scale)
    byte = np.rint(y * inverse) + np.float32(store.value.zero_point)
    return np.clip(np.nan_to_num(byte, nan=0.0, posinf=255.0, neginf=0.0), 0, 255)


# --- nodes ---


def _windows(x, kernel, stride, dilate, size):
    """(batch, C, out h, out w, kernel h, kernel w) of an image that all windows lie in."""
    rows = np.arange(size[0])[:, None] * stride[0] + np.arange(kernel[0]) * dilate[0]
    columns = np.arange(size[1])[:, None] * stride[1] + np.arange(kernel[1]) * dilate[1]
    return x[:, :, rows[:, None, :, None], columns[None, :, None, :]]


def _padded(x, pad, value, kernel, stride, dilate, size):
    """The image with its padding, as much of it as the windows meet."""
    above, left = pad[:2]
    reach = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, stride, kernel, dilate)]
    below, right = (max(0, r - p - n) for r, p, n in zip(reach, (above, left), x.shape[2:]))
    return np.pad(x, ((0, 0), (0, 0), (above, below), (left, right)), constant_values=value)


def _conv(node, values):
    x = values[node.source]
    out = node.stores[0].value.shape
    if node.source.dtype == "u8":
        x = x - node.source.zero_point
    if x.ndim == 2:
        x = x[:, :, None, None]
    size = (*out, 1, 1)[1:3]
    filters, group_channels, *kernel = node.weight.shape
    pad_value = {"f32": 0, "bit": node.pad_value, "u8": node.pad_value / (node.source.scale or 1)}[node.source.dtype]
    if node.source.dtype == "u8":
        assert abs(pad_value - round(pad_value)) < 1e-3 and 0 <= round(pad_value) + node.source.zero_point <= 255
        pad_value = round(pad_value)
    assert x.shape[1] == group_channels * node.groups and filters == out[0]
    x = _padded(x, node.pad, pad_value, kernel, node.stride, node.dilate, size)
    exact = np.float32 if node.source.dtype == "bit" else np.float64  # sums of -1 and +1 are exact in both
    windows = _windows(x.astype(exact), kernel, node.stride, node.dilate, size)
    results = []
    for group in range(node.groups):
        mine = windows[:, group * group_channels : (group + 1) * group_channels]
        weight = node.weight[group * filters // node.groups : (group + 1) * filters // node.groups]
        results.append(np.tensordot(mine, weight.astype(exact), axes=((1, 4, 5), (1, 2, 3))))
    y = np.concatenate(results, axis=-1).transpose(0, 3, 1, 2)
    if node.source.dtype == "bit":
        assert set(np.unique(node.weight)) <= {-1, 1} and node.pad_value in (-1, 1) or not any(node.pad)
        p = (math.prod(node.weight.shape[1:]) - y) / 2  # the number of differing bits
        y = np.float32(node.all) - np.float32(node.step) * p.astype(np.float32)
    return y.astype(np.float32).reshape(len(y), *out)


def _pool(node, values):
    x = values[node.source]
    size = node.stores[0].value.shape[1:]
    bits = node.source.dtype == "bit"
    window = (node.kernel, node.stride, (1, 1), size)
    inside = _windows(_padded(np.ones_like(x), node.pad, 0, *window), *window) > 0
    windows = _windows(_padded(x, node.pad, 0, *window), *window)
    if node.mode == "max":
        outside = -1 if bits else -np.inf
        y = np.where(inside, windows, outside).max(axis=(4, 5))
        return np.where(channels(node.flip, y), -y, y) if bits and node.flip is not None else y
    total = np.where(inside, windows, 0).astype(np.float64).sum(axis=(4, 5))
    if node.mode == "avg":
        count = inside.sum(axis=(4, 5))
    else:
        lengths = []
        for axis in range(2):
            start = np.arange(size[axis]) * node.stride[axis] - node.pad[axis]
            end = np.minimum(start + node.kernel[axis], x.shape[2 + axis] + node.pad[axis])
            lengths.append(end - start)
        count = np.outer(*lengths)
    return np.where(count > 0, total / np.where(count > 0, count, 1), 0).astype(np.float32)


def _slice(node, values):
    shape = node.stores[0].value.shape
    return values[node.source][(slice(None), *(slice(b, b + n) for b, n in zip(node.begin, shape)))]


def _pad(node, values):
    above, left, below, right = node.pad
    border = ((0, 0), (0, 0), (above, below), (left, right))
    return np.pad(values[node.source], border, constant_values=node.pad_value)


def _reshape(node, values):
    x = values[node.source]
    x = x.reshape(len(x), *(node.split or x.shape[1:]))
    if node.axes:
        x = x.transpose(0, *(axis + 1 for axis in node.axes))
    return x.reshape(len(x), *node.stores[0].value.shape)


def _softmax(node, values):
    x = values[node.source].astype(np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def _map(node, values):
    x = values[node.source]
    if node.source.dtype == "u8":
        return (x.astype(np.float32) - node.source.zero_point) * np.float32(node.source.scale)
    return x


_NODES = {
    ir.Conv: _conv,
    ir.Pool: _pool,
    ir.Map: _map,
    ir.Concat: lambda node, values: np.concatenate([values[source] for source in node.sources], axis=node.axis + 1),
    ir.Slice: _slice,
    ir.Pad: _pad,
    ir.Reshape: _reshape,
    ir.Softmax: _softmax,
}
