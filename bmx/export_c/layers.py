"""Writes the steps of a program in C: for each a call in net_run, constants with its shapes, and its epilogue."""

from __future__ import annotations

import math
import textwrap
from typing import Callable, Dict, List, Set, Tuple

import numpy as np

from .. import program as programs
from ..errors import Error
from ..program.operations import Operation, StoreKind, fields_of, has_operand, row_of, word
from .names import Identifiers, comment
from .weights import Weights, pack_bits, pack_bytes, pack_floats, pack_signs

__all__ = ["Layer", "Layers", "literal"]


class Layer:
    """A step in C: its definitions and its call.

    Attributes
    ----------
    name : str
        Its name in the network.
    what : str
        A description of what it computes.
    code : list of str
        Lines of definitions before net_run.
    call : str
    weights : int
        Bytes in the weights file, without those that it shares with an earlier layer.
    """

    def __init__(self, name: str, what: str):
        self.name, self.what = name, what
        self.code: List[str] = []
        self.call = ""
        self.weights = 0


class Layers:
    """All steps of a program.

    Attributes
    ----------
    layers : list of Layer
    sections : set of str
        Names of the sections of kernels that they use.
    tensors : list of str
        Lines that define the tensors that they use.
    weights : Weights
    scratch_end : int
        The first unused byte of the scratch memory.
    """

    def __init__(self, program: programs.Program, arguments: Tuple[List[str], List[str]]):
        self.program = program
        self.inputs, self.outputs = arguments
        self.weights = Weights()
        self.sections: Set[str] = {"base"}
        self.tensors: List[str] = []
        self.layers: List[Layer] = []
        self.scratch_end = 0
        self._views: Dict[int, str] = {}
        self._view_names, self._layer_names = Identifiers("t_"), Identifiers("", ["fn"])  # finish_fn is a type
        for number, step in enumerate(program.steps):
            if not hasattr(self, "_" + type(step).__name__.lower()):
                raise Error(f"step {number} {step.name!r}: export-c cannot write a step {type(step).__name__}")
        for step, row in zip(program.steps, programs.describe(program)):
            kind = type(step).__name__.lower()
            shapes = " to ".join(filter(None, (", ".join(row.inputs), ", ".join(sorted(row.outputs)))))
            self.layer = Layer(step.name or kind, f"{row.what}; {shapes}")
            self.name = self._layer_names.new(self.layer.name)
            begin = self.weights.end
            getattr(self, f"_{kind}")(step)
            self.layer.weights = self.weights.end - begin
            self.layers.append(self.layer)

    # --- helpers for all steps

    def _use(self, section: str) -> str:
        self.sections.add(section)
        return section

    def _view(self, tensor: programs.Tensor) -> str:
        """A pointer to the view of a tensor."""
        if id(tensor) not in self._views:
            name = self._views[id(tensor)] = self._view_names.new(tensor.name)
            place = f"{{{tensor.offset}, {tensor.row_stride}, {tensor.pixel_stride}}}"
            shape = "x".join(map(str, tensor.shape)) + f" {tensor.dtype}"
            self.tensors.append(f"static const struct view {name} = {place}; /* {shape} */")
            self.scratch_end = max(self.scratch_end, tensor.extent[1])
        return "&" + self._views[id(tensor)]

    def _numbers(self, values: np.ndarray) -> str:
        return f"{self._use('numbers')}(net, {self.weights.add(values.astype('<f4').tobytes())})"

    def _integers(self, values: np.ndarray) -> str:
        return f"{self._use('integers')}(net, {self.weights.add(values.astype('<i4').tobytes())})"

    def _bits(self, values: np.ndarray) -> int:
        """The place of bits in the weights file, padded to a multiple of 64."""
        whole = np.zeros(-(-len(values) // 64) * 64, bool)
        whole[: len(values)] = values
        return self.weights.add(np.packbits(whole, bitorder="little").tobytes())

    def _constant(self, kind: str, **fields: object) -> str:
        """A pointer to a new constant with the shapes of the layer."""
        name = f"layer_{self.name}"
        lines = _wrapped([f".{field} = {value}" for field, value in fields.items()])
        self.layer.code += [f"static const struct {kind} {name} = {{", *lines, "};"]
        return f"&{name}"

    # --- epilogues

    def _finish(self, step: programs.Step, first: Tuple[str, ...] = ()) -> str:
        """The name of a new function that applies a layer's epilogue."""
        name = f"finish_{self.name}"
        lines = list(first)
        lines += [self._operation(operation, step) for operation in step.epilogue]
        stores = sorted(step.stores, key=lambda store: row_of(store).code)  # the order of the file, not of the program
        lines += [self._store_of(store) for store in stores]
        head = f"static void {name}(const struct net *net, const struct at *at, union values *v)"
        self.layer.code += [""] * bool(self.layer.code) + [head, "{", *(f"    {line}" for line in lines), "}"]
        return name

    def _operation(self, operation: Operation, step: programs.Step) -> str:
        section = word(operation)
        if has_operand(operation):
            section, arguments = self._operand(section, operation.operand, step.stores[0].value.shape)
        elif isinstance(operation, programs.Function):
            section, arguments = f"apply_{section}", []
        else:
            write = {"numbers": self._numbers, "f32": literal}
            fields = fields_of(row_of(operation).fields) if section != "relu" else []
            arguments = [write[kind](getattr(operation, name)) for kind, name in fields]
        return f"{self._use(section)}({', '.join(['v->f', 'at', *arguments])});"

    def _operand(self, section: str, tensor: programs.Tensor, shape: Tuple[int, int, int]) -> Tuple[str, List[str]]:
        """The section for an operand and a result of this shape, and its arguments."""
        if tensor.shape == shape:
            place = "floats_at"
        elif tensor.shape == (1, 1, shape[2]):
            place = "channels_at"
        else:
            section, place = f"{section}_pixel", "float_at"
        return section, [f"{self._use(place)}(net, {self._view(tensor)}, at)"]

    def _store_of(self, store: StoreKind) -> str:
        tensor = store.value
        place = f"{self._use('pixel')}(net, {self._view(tensor)}, at->y, at->x)"
        if isinstance(store, programs.Floats):
            return f"{self._use('store_f32')}(v->f, at, {self._use('floats_at')}(net, {self._view(tensor)}, at));"
        if isinstance(store, programs.Bytes):
            scale = literal(store.inverse_scale)
            return f"{self._use('store_u8')}(v->f, at, {place} + at->first, {scale}, {tensor.zero_point});"
        if isinstance(store, programs.CountBits):
            if not store.flip.any():
                return f"{self._use('store_counts')}(v->i, at, {place}, {self._integers(store.threshold)});"
            flip = f"net->weights + {self._bits(store.flip)}"
            return f"{self._use('store_counts_flipped')}(v->i, at, {place}, {self._integers(store.threshold)}, {flip});"
        if not store.flip.any():
            if not store.threshold.any():
                return f"{self._use('store_signs')}(v->f, at, {place});"
            return f"{self._use('store_bits')}(v->f, at, {place}, {self._numbers(store.threshold)});"
        # not (-y < t) is the same as not (y > -t)
        threshold = self._numbers(np.where(store.flip, -store.threshold, store.threshold))
        below = f"net->weights + {self._bits(store.flip)}"
        return f"{self._use('store_bits_below')}(v->f, at, {place}, {threshold}, {below});"

    # --- steps

    def _load(self, step: programs.Load) -> None:
        sizes = ", ".join(map(str, self.program.inputs[step.input].image))
        finish = self._finish(step)
        self.layer.call = f"{self._use('load')}(&net, {self.inputs[step.input]}, {sizes}, {finish});"

    def _store(self, step: programs.Store) -> None:
        sizes = ", ".join(map(str, step.source.shape))
        self.layer.call = (
            f"{self._use('store')}(&net, {self._view(step.source)}, {sizes}, {self.outputs[step.output]});"
        )

    def _fill(self, step: programs.Fill) -> None:
        tensor = step.tensor
        border = f"&(const struct border){{{', '.join(map(str, tensor.border))}}}"
        head = f"(&net, {self._view(tensor)}, {tensor.height}, {tensor.width}, {border}"
        if tensor.dtype == "bit" and tensor.border_value:
            last = (1 << ((tensor.channels - 1) % 64 + 1)) - 1
            words = tensor.pixel_bytes // 8
            self.layer.call = f"{self._use('fill_words')}{head}, {words}, 0x{last & 0xFFFFFFFF:x}u, 0x{last >> 32:x}u);"
        else:
            value = tensor.border_value if tensor.dtype == "u8" else 0
            self.layer.call = f"{self._use('fill_bytes')}{head}, {tensor.pixel_bytes}, {value});"

    def _conv(self, step: programs.Conv) -> None:
        source, groups = step.source, step.groups
        kernel_h, kernel_w = step.window.kernel
        channels = source.channels // groups
        size = {"bit": -(-channels // 32), "f32": channels, "u8": channels}[source.dtype]  # elements per tap
        merged = (
            groups == 1
            and step.window.dilate[1] == 1
            and source.pixel_stride == size * {"bit": 4, "f32": 4, "u8": 1}[source.dtype]
        )
        kernel, pack, first = self._arithmetic(step)
        layer = self._constant(
            "conv",
            **self._window(step.window, source),
            groups=groups,
            channel_bytes={"bit": channels // 8, "f32": channels * 4, "u8": channels}[source.dtype],
            filters=step.filters // groups,
            **self._size(step),
            taps=1 if merged else kernel_w,
            length=size * (kernel_w if merged else 1),
            weights=self.weights.add(pack(groups, merged)),
        )
        self._use("conv")
        self.layer.call = f"conv(&net, {layer}, {self._use(kernel)}, {self._finish(step, first)});"

    def _arithmetic(self, step: programs.Conv) -> Tuple[str, Callable[[int, bool], bytes], Tuple[str, ...]]:
        """The kernel, the packing of its weights, and the first lines that turn its results into floats."""
        weight, dtype = step.weight, step.source.dtype
        if dtype == "bit":
            counts = isinstance(step.stores[0], programs.CountBits)
            first = () if counts else (f"{self._use('dot')}(v, at, {literal(step.all)}, {literal(step.step)});",)
            return "bits_by_bits", lambda groups, merged: pack_bits(weight, groups, merged), first
        if dtype == "f32":
            if step.signs:
                return "floats_by_signs", lambda groups, merged: pack_signs(weight, groups, merged), ()
            return "floats_by_floats", lambda groups, merged: pack_floats(weight, groups), ()
        start = -step.source.zero_point * weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
        if start.any():
            first = (f"{self._use('sums')}(v, at, {self._integers(start)});",)
        else:
            first = (f"{self._use('to_floats')}(v, at);",)
        if step.signs:
            return "bytes_by_signs", lambda groups, merged: pack_signs(weight, groups, merged), first
        return "bytes_by_bytes", lambda groups, merged: pack_bytes(weight, groups, merged), first

    def _window(self, window: programs.Window, source: programs.Tensor) -> Dict[str, object]:
        pairs = {"kernel": window.kernel, "stride": window.stride, "dilate": window.dilate, "pad": window.pad}
        fields = {"kernel": "hw", "stride": "yx", "dilate": "yx", "pad": "yx"}
        named = {f"{name}_{axis}": pair[i] for name, pair in pairs.items() for i, axis in enumerate(fields[name])}
        return {"in": self._view(source), **named}

    def _size(self, step: programs.Step) -> Dict[str, object]:
        tensor = step.writes()[0]
        return {"height": tensor.height, "width": tensor.width}

    def _depthwise(self, step: programs.Depthwise) -> None:
        weights = self.weights.add(np.ascontiguousarray(step.weight.transpose(1, 2, 0)).astype("<f4").tobytes())
        window = self._window(step.window, step.source)
        filters = step.source.channels
        layer = self._constant("conv", **window, filters=filters, **self._size(step), weights=weights)
        self.layer.call = f"{self._use('depthwise')}(&net, {layer}, {self._finish(step)});"

    def _pooling(self, step: programs.Step) -> str:
        window = {name: value for name, value in self._window(step.window, step.source).items() if "dilate" not in name}
        height, width, channels = step.source.shape
        sizes = {"in_height": height, "in_width": width, "channels": channels, **self._size(step)}
        return self._constant("pool", **window, **sizes)

    def _pool(self, step: programs.Pool) -> None:
        layer, finish = self._pooling(step), self._finish(step)
        if step.mode == "max":
            self.layer.call = f"{self._use('pool_max')}(&net, {layer}, {finish});"
        else:
            padded = int(step.mode == "avg_padded")
            self.layer.call = f"{self._use('pool_average')}(&net, {layer}, {padded}, {finish});"

    def _poolbits(self, step: programs.PoolBits) -> None:
        flip = "NULL" if step.flip is None else f"net.weights + {self._bits(step.flip)}"
        layer = self._pooling(step)
        self.layer.call = f"{self._use('pool_bits')}(&net, {layer}, {self._view(step.tensor)}, {flip});"

    def _map(self, step: programs.Map) -> None:
        source = step.source
        head = f"(&net, {self._view(source)}, {', '.join(map(str, source.shape))}"
        finish = self._finish(step)
        if source.dtype == "f32":
            self.layer.call = f"{self._use('map_f32')}{head}, {finish});"
        else:
            self.layer.call = f"{self._use('map_u8')}{head}, {literal(source.scale)}, {source.zero_point}, {finish});"

    def _softmax(self, step: programs.Softmax) -> None:
        tensors = f"{self._view(step.source)}, {self._view(step.tensor)}"
        sizes = ", ".join(map(str, step.source.shape))
        self.layer.call = f"{self._use('softmax')}(&net, {tensors}, {sizes});"

    def _copy(self, step: programs.Copy) -> None:
        loops, size = list(step.loops), 4
        while loops and loops[-1][1:] == (size, size):  # copy contiguous numbers together
            size *= loops.pop()[0]
        for tensor in (step.source, step.tensor):
            self.scratch_end = max(self.scratch_end, tensor.extent[1])
        name = f"copy_{self.name}"
        indices = [f"i{number}" for number in range(len(loops))]
        lines = [f"int32_t {', '.join(indices)};"] if loops else []
        lines += [
            f"{'    ' * depth}for ({i} = 0; {i} < {loop[0]}; {i}++)" + (" {" if depth + 1 < len(loops) else "")
            for depth, (i, loop) in enumerate(zip(indices, loops))
        ]
        places = [
            " + ".join(
                [f"net->scratch + {tensor.offset}"] + [f"{i} * {loop[which]}" for i, loop in zip(indices, loops)]
            )
            for tensor, which in ((step.tensor, 2), (step.source, 1))
        ]
        lines += [f"{'    ' * len(loops)}memcpy({', '.join(places)}, {size});"]
        lines += ["    " * depth + "}" for depth in reversed(range(len(loops) - 1))]
        head = f"static void {name}(const struct net *net)"
        self.layer.code += [head, "{", *(f"    {line}" for line in lines), "}"]
        self.layer.call = f"{name}(&net);"


def literal(value: float) -> str:
    """A float32 in C.

    Examples
    --------
    >>> literal(0.1), literal(6), literal(float("-inf"))
    ('0.100000001f', '6.0f', '-INFINITY')
    """
    value = float(np.float32(value))
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    if math.isnan(value):
        return "NAN"
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _wrapped(fields: List[str]) -> List[str]:
    """Joins fields with commas, in lines of at most 120 characters."""
    text = ",\0".join(field.replace(" ", "\1") for field in fields).replace("\0", " ")
    lines = textwrap.wrap(text, 116, break_long_words=False, break_on_hyphens=False)
    return ["    " + line.replace("\1", " ") for line in lines]


def described(layer: Layer) -> str:
    """A comment that says what a layer does."""
    return f"/* {comment(layer.name)}: {comment(layer.what)} */"
