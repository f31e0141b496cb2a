"""A float network of the zoo in PyTorch: the same layers in the same order, read from its symbol."""

import ast
import json

import torch
from torch import nn
from torch.nn import functional


class TorchNetwork(nn.Module):
    """Runs a symbol of MXNet's; as a module of PyTorch's it can be trained.

    Parameters
    ----------
    symbol : str
        JSON of a network with one input, `data`, of the operators that the zoo's float networks have.
    arrays : dict of str to numpy.ndarray
        Its parameters and auxiliary states.
    """

    def __init__(self, symbol, arrays):
        super().__init__()
        graph = json.loads(symbol)
        self._nodes, self._output = graph["nodes"], graph["heads"][0][0]
        self._places = {}  # of the arrays, by node
        for place, node in enumerate(self._nodes):
            if node["op"] == "null":
                if node["name"] != "data":
                    self._places[place] = f"array{place}"
                    self._add(f"array{place}", arrays[node["name"]], node["name"])
            elif node["op"] not in _OPERATORS:
                raise NotImplementedError(f"{node['name']}: {node['op']} in PyTorch")

    def parameter_nodes(self):
        """Names of the parameters in MXNet, in the order of `named_parameters`."""
        return [
            self._nodes[place]["name"] for place, attribute in self._places.items() if attribute in self._parameters
        ]

    def _add(self, attribute, array, name):
        tensor = torch.tensor(array)
        if name.endswith(("running_mean", "running_var")):
            self.register_buffer(attribute, tensor)
        else:
            self.register_parameter(attribute, nn.Parameter(tensor))

    def forward(self, data):
        """Outputs for a batch."""
        values = {}
        for place, node in enumerate(self._nodes):
            if place in self._places:
                values[place] = getattr(self, self._places[place])
            elif node["op"] == "null":
                values[place] = data
            else:
                inputs = [values[source] for source, *_ in node["inputs"]]
                attributes = {key: _value(text) for key, text in node.get("attrs", {}).items()}
                values[place] = _OPERATORS[node["op"]](self.training, inputs, **attributes)
        return values[self._output]


def _value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word
        return text


def _convolution(training, inputs, stride=1, pad=0, dilate=1, num_group=1, **_):
    return functional.conv2d(*inputs[:2], inputs[2] if len(inputs) > 2 else None, stride, pad, dilate, num_group)


def _dense(training, inputs, flatten=True, **_):
    return functional.linear(inputs[0].flatten(1) if flatten else inputs[0], *inputs[1:])


def _batch_norm(training, inputs, eps=1e-3, momentum=0.9, fix_gamma=True, use_global_stats=False, **_):
    data, gamma, beta, mean, variance = inputs
    return functional.batch_norm(
        data, mean, variance, None if fix_gamma else gamma, beta, training and not use_global_stats, 1 - momentum, eps
    )


def _pooling(
    training,
    inputs,
    kernel=None,
    pool_type="max",
    global_pool=False,
    stride=1,
    pad=0,
    pooling_convention="valid",
    count_include_pad=True,
    **_,
):
    (data,) = inputs
    up = pooling_convention == "full"
    if global_pool:
        return data.mean((2, 3), keepdim=True) if pool_type == "avg" else data.amax((2, 3), keepdim=True)
    if pool_type == "avg":
        return functional.avg_pool2d(data, kernel, stride, pad, up, count_include_pad)
    return functional.max_pool2d(data, kernel, stride, pad, ceil_mode=up)


def _slice(training, inputs, axis, begin, end):
    index = [slice(None)] * inputs[0].ndim
    index[axis] = slice(begin, end)
    return inputs[0][tuple(index)]


_OPERATORS = {
    "Activation": lambda training, inputs, act_type: getattr(torch, act_type)(inputs[0]),
    "BatchNorm": _batch_norm,
    "Concat": lambda training, inputs, dim=1, **_: torch.cat(inputs, dim),
    "Convolution": _convolution,
    "Flatten": lambda training, inputs: inputs[0].flatten(1),
    "FullyConnected": _dense,
    "Pooling": _pooling,
    "elemwise_add": lambda training, inputs: inputs[0] + inputs[1],
    "slice_axis": _slice,
}
