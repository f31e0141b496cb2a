"""Symbol files as BMXNet v2's Gluon layers export them, from a reading of its sources: node by node, with its names."""

import json
import math

import mxnet as mx
import numpy as np


class V2Graph:
    """Grows a network at its end; `write` makes the files. Shapes are of one sample."""

    def __init__(self, shape, seed=0):
        self.nodes, self.arrays, self.counts = [("null", "data", {}, [])], {}, {}
        self.data_shape = self.shape = tuple(shape)
        self.last, self.random = "data", np.random.RandomState(seed)

    def _name(self, kind):
        self.counts[kind] = self.counts.get(kind, -1) + 1
        return f"{kind}{self.counts[kind]}"

    def _add(self, op, name, inputs=None, **attributes):
        texts = {key: str(value) for key, value in attributes.items()}
        self.nodes.append((op, name, texts, [self.last] if inputs is None else inputs))
        self.last = name
        return name

    def _variable(self, name, shape, values, declared=None):
        self.nodes.append(("null", name, {"__shape__": str(declared or shape)}, []))
        self.arrays[("aux:" if "running" in name else "arg:") + name] = mx.nd.array(values.reshape(shape))
        return name

    def activation(self, method="det_sign", threshold=1.0, bits=1):
        name = self._name("qactivation")
        self._add("_contrib_gradcancel", f"{name}_gradcancel0", threshold=threshold)
        if method == "round":
            steps = float(2**bits - 1)
            self._add("clip", f"{name}_clip0", a_min=0, a_max=1)
            self._add("_mul_scalar", f"{name}__mulscalar0", scalar=steps)
            self._add("round_ste", f"{name}_round_ste0")
            self._add("_div_scalar", f"{name}__divscalar0", scalar=steps)
        elif method == "clip":
            self._add("clip", f"{name}_clip0", a_min=-1, a_max=1)
        elif method == "leaky_clip":
            self._leaky_clip(name, self.last)
        elif method == "approx_sign" and bits == 32:
            self._approx_sign(name, self.last)
        elif method != "identity":
            self._add(method, f"{name}_{method}0")

    def _leaky_clip(self, name, x):
        """where(x < -1, 0.1 x, where(x <= 1, x, 0.1 x))."""
        below = self._add("_lesser_scalar", f"{name}__lesserscalar0", [x], scalar=-1)
        leaky = self._add("_mul_scalar", f"{name}__mulscalar0", [x], scalar=0.1)
        inside = self._add("_lesser_equal_scalar", f"{name}__lesserequalscalar0", [x], scalar=1)
        other = self._add("where", f"{name}_where0", [inside, x, leaky])
        self._add("where", f"{name}_where1", [below, leaky, other])

    def _approx_sign(self, name, x):
        """where(x <= -1, -1, where(x < 0, 2 x + x^2, where(x < 1, 2 x - x^2, 1)))."""
        double = self._add("_mul_scalar", f"{name}__mulscalar0", [x], scalar=2)
        square = self._add("_power_scalar", f"{name}__powerscalar0", [x], scalar=2)
        ones = self._add("ones_like", f"{name}_ones_like0", [x])
        minus = self._add("_mul_scalar", f"{name}__mulscalar1", [ones], scalar=-1)
        rising = self._add("elemwise_add", f"{name}__plus0", [double, square])
        falling = self._add("elemwise_sub", f"{name}__minus0", [double, square])
        conditions = (("lesser", 1, falling, ones), ("lesser", 0, rising, None), ("lesser_equal", -1, minus, None))
        for number, (kind, scalar, chosen, other) in enumerate(conditions):
            condition = self._add(f"_{kind}_scalar", f"{name}__{kind}scalar{number}", [x], scalar=scalar)
            last = other or f"{name}_where{number - 1}"
            self._add("where", f"{name}_where{number}", [condition, chosen, last])

    def _dorefa(self, name, bits):
        """2 round(n (tanh(w) / (2 max |tanh(w)|) + 1/2)) / n - 1."""
        steps = float(2**bits - 1)
        tanh = self._add("tanh", f"{name}_tanh0", [f"{name}_weight"])
        self._add("abs", f"{name}_abs9")
        largest = self._add("max", f"{name}_max0")
        self._add("broadcast_div", f"{name}_broadcast_div0", [tanh, largest])
        for number, (op, scalar) in enumerate((("_mul", 0.5), ("_plus", 0.5), ("_mul", steps))):
            self._add(f"{op}_scalar", f"{name}_{op}scalar{number}", scalar=scalar)
        self._add("round_ste", f"{name}_round_ste0")
        for number, (op, scalar) in enumerate((("_div", steps), ("_mul", 2), ("_minus", 1)), 3):
            self._add(f"{op}_scalar", f"{name}_{op}scalar{number}", scalar=scalar)
        return self.last

    def _weight(self, name, shape, bits, method, known):
        declared = shape if known else (shape[0], 0, *shape[2:])
        self._variable(f"{name}_weight", shape, self.random.standard_normal(shape), declared)
        if bits == 32:
            return f"{name}_weight"
        if bits > 1:
            return self._dorefa(name, bits)
        return self._add(method, f"{name}_{method}0", [f"{name}_weight"])

    def _offset(self, name, inputs):
        self._add("_plus_scalar", f"{name}__plusscalar0", scalar=inputs)
        self._add("_div_scalar", f"{name}__divscalar0", scalar=2)

    def conv(
        self, channels, kernel, pad=0, stride=1, dilate=1, groups=1, offset=True, scaling=False, stop=False, bits=1,
        method="det_sign", known=True,
    ):  # fmt: skip
        name, source = self._name("qconv"), self.last
        c, *size = self.shape
        shape = (channels, c // groups, kernel, kernel)
        weight = self._weight(name, shape, bits, method, known)
        self.last = source
        if pad:
            width = (0, 0, 0, 0, pad, pad, pad, pad)
            self._add("Pad", f"{name}_pad0", mode="constant", pad_width=width, constant_value=-1)
        inputs = [self.last, weight]
        geometry = {"stride": (stride,) * 2, "dilate": (dilate,) * 2, "pad": (0, 0), "num_group": groups}
        options = {"kernel": (kernel, kernel), "num_filter": channels, "no_bias": True, "layout": "NCHW", **geometry}
        product = self._add("Convolution", f"{name}_fwd", inputs, **options)
        if scaling:
            self._add("abs", f"{name}_abs0", [f"{name}_weight"])
            self._add("mean", f"{name}_mean0", axis="(0,)", exclude=True, keepdims=True)
            scale = self._add("transpose", f"{name}_transpose0", axes=(1, 0, 2, 3))
            if stop:
                scale = self._add("BlockGrad", f"{name}_stop_gradient0")
            self._add("broadcast_mul", f"{name}_broadcast_mul0", [product, scale])
        elif offset and bits == 1:
            self._offset(name, math.prod(shape[1:]))
        reach = dilate * (kernel - 1) + 1
        self.shape = (channels, *((n + 2 * pad - reach) // stride + 1 for n in size))

    def dense(self, units, offset=True, bits=1, method="det_sign"):
        name, source = self._name("qdense"), self.last
        inputs = math.prod(self.shape)
        weight = self._weight(name, (units, inputs), bits, method, True)
        options = {"num_hidden": units, "no_bias": True, "flatten": True}
        self._add("FullyConnected", f"{name}_fwd", [source, weight], **options)
        if offset:
            self._offset(name, inputs)
        self.shape = (units,)

    def batch_norm(self):
        name, channels, source = self._name("batchnorm"), self.shape[0], self.last
        ranges = {"gamma": (-1.5, 1.5), "beta": (-1, 1), "running_mean": (-2, 2), "running_var": (0.5, 9)}
        inputs = [
            self._variable(f"{name}_{key}", (channels,), self.random.uniform(*bounds, channels))
            for key, bounds in ranges.items()
        ]
        self._add("BatchNorm", f"{name}_fwd", [source, *inputs], eps=1e-5, fix_gamma=False)

    def relu(self):
        self._add("Activation", f"{self._name('relu')}_fwd", act_type="relu")

    def pool(self):
        options = {"kernel": (2, 2), "stride": (2, 2), "pool_type": "max", "pooling_convention": "valid"}
        self._add("Pooling", f"{self._name('pool')}_fwd", **options)
        self.shape = (self.shape[0], *(n // 2 for n in self.shape[1:]))

    def residual(self, source):
        self._add("elemwise_add", self._name("residual"), [self.last, source])

    def write(self, folder, name="net"):
        number = {key: i for i, (_, key, _, _) in enumerate(self.nodes)}
        content = {
            "nodes": [
                {"op": op, "name": key, "attrs": texts, "inputs": [[number[source], 0, 0] for source in inputs]}
                for op, key, texts, inputs in self.nodes
            ],
            "arg_nodes": [i for i, node in enumerate(self.nodes) if node[0] == "null"],
            "heads": [[number[self.last], 0, 0]],
            "attrs": {"mxnet_version": ["int", 10501]},
        }
        (folder / f"{name}-symbol.json").write_text(json.dumps(content))
        mx.nd.save(str(folder / f"{name}-0000.params"), self.arrays)
        return str(folder / f"{name}-0000.params")


def random_graph(seed):
    """A network of v2's layers in random configurations."""
    random = np.random.RandomState(seed)
    choose = lambda *options: options[random.randint(len(options))]  # noqa: E731
    graph = V2Graph((choose(3, 8, 32, 64), 9, 9), seed)
    for _ in range(choose(1, 2, 3)):
        kind = choose("signs", "signs", "signs", "relu", "round", "float", "nothing")
        if kind == "signs":
            graph.activation(choose("det_sign", "approx_sign"), choose(0.5, 1.0, 1.3))
        elif kind == "relu":
            graph.relu()
        elif kind == "round":
            graph.activation("round", bits=choose(1, 2, 4))
        elif kind == "float":
            graph.activation(choose("clip", "leaky_clip", "approx_sign", "relu", "identity"), bits=32)
        if choose(True, False) and min(graph.shape[1:]) >= 4:
            graph.pool()
        source, before = graph.last, graph.shape
        kernel = choose(*(k for k in (1, 2, 3) if k <= min(graph.shape[1:])))
        scaling = choose(False, False, True)
        groups = choose(1, 1, 1, 2) if graph.shape[0] % 2 == 0 else 1
        graph.conv(
            choose(8, 32), kernel, pad=choose(0, 1), stride=choose(1, 1, 2), groups=groups,
            offset=choose(True, True, False), scaling=scaling, stop=choose(True, False), bits=choose(1, 1, 1, 1, 2, 32),
            method=choose("det_sign", "det_sign", "approx_sign"), known=choose(True, False),
        )  # fmt: skip
        if choose(True, False) and graph.shape == before:
            graph.residual(source)
        if choose(True, True, False):
            graph.batch_norm()
    if choose(True, False):
        graph.activation(choose("det_sign", "approx_sign"))
        graph.dense(choose(4, 10), offset=choose(True, False))
    return graph
