"""From the fused graph to a program: every node becomes one step or none, every value a tensor in the arena.

`legalize` has rewritten what there is no step for, `Placement` says which values lie inside of others, and `plan` where
in the arena; here the steps are made.
"""

from __future__ import annotations

from typing import Dict, List, Tuple, Union

import numpy as np

from .. import program as programs
from ..errors import Error
from ..program.operations import ARRAYS, Operation, StoreKind, fields_of, row_of
from . import ir
from .legalize import Broadcast, Depthwise, is_relabelling, legalize
from .loops import broadcast_loops, image_strides, merge, reshape_loops, split_strides
from .placement import Corner, Placement, concat_parts, source_corner
from .plan import Life, clashes, plan

__all__ = ["lower"]


def lower(graph: ir.Graph) -> programs.Program:
    """The program of a graph.

    Parameters
    ----------
    graph : bmx.compiler.ir.Graph
        As the passes leave it; it is not changed.

    Raises
    ------
    bmx.Error
        That names the node for which there is no step.
    """
    legal = legalize(graph)
    inputs = [programs.Port(node.name, tuple(node.shape)) for node in graph.inputs()]
    outputs = [programs.Port(name, tuple(value.shape)) for name, value in graph.outputs.items()]
    for port in outputs:
        if len(port.shape) > 4:
            raise Error(f"output {port.name!r} has the shape {port.shape}; outputs have at most 4 dimensions")
    program = programs.Program(graph.name, inputs, outputs)
    _Lowering(legal, program).lower()
    programs.check(program, graph.name)
    return program


class _Lowering:
    def __init__(self, graph: ir.Graph, program: programs.Program):
        self.graph, self.program = graph, program
        self.placement = Placement(graph)
        self.tensors: Dict[ir.Value, programs.Tensor] = {}
        self.roots: Dict[int, ir.Value] = {}  # by the id of a tensor: its buffer

    def lower(self) -> None:
        steps = self.program.steps
        outputs: Dict[ir.Value, List[int]] = {}
        for number, value in enumerate(self.graph.outputs.values()):
            outputs.setdefault(value, []).append(number)
        for node in self.graph.nodes:
            getattr(self, "_" + type(node).__name__.lower())(node)
            for value in node.gives():
                for number in outputs.get(value, ()):
                    steps.append(programs.Store(self.program.outputs[number].name, self.tensor(value), number))
        self._fill_borders()
        self._plan()

    # --- tensors

    def tensor(self, value: ir.Value) -> programs.Tensor:
        if value not in self.tensors:
            self.tensors[value] = self.view(value, (0, 0, 0), programs.image_shape(value.shape))
        return self.tensors[value]

    def view(self, value: ir.Value, at: Corner, size: Tuple[int, int, int]) -> programs.Tensor:
        """A tensor that is a part of a value; its offset is one in the buffer until memory is planned."""
        root, place = self.placement.locate(value)
        border = self.placement.border(root)
        above, left, _, right = border.sizes
        _, width, channels = programs.image_shape(root.shape)
        y, x, c = (a + b for a, b in zip(place, at))
        pixel = programs.pixel_bytes(value.dtype, channels)
        row = (left + width + right) * pixel
        offset = (above + y) * row + (left + x) * pixel + programs.pixel_bytes(value.dtype, c)
        tensor = programs.Tensor(value.name, value.dtype, *size, offset=offset, row_stride=row, pixel_stride=pixel)
        if value.dtype == "u8":
            tensor.scale, tensor.zero_point = float(np.float32(value.scale)), int(value.zero_point)
        if border and (at, size) == ((0, 0, 0), programs.image_shape(value.shape)) and self.placement.covers(value):
            tensor.border, tensor.border_value = border.sizes, self._held(border.number or 0.0, tensor)
        return self.add(tensor, root)

    def add(self, tensor: programs.Tensor, root: ir.Value) -> programs.Tensor:
        self.roots[id(tensor)] = root
        self.program.tensors.append(tensor)
        return tensor

    def _held(self, number: float, tensor: programs.Tensor) -> int:
        """What the border of a tensor holds so that it means a number."""
        if tensor.dtype == "bit":
            return int(number > 0)
        if tensor.dtype == "u8":
            return int(np.clip(np.rint(number / tensor.scale) + tensor.zero_point, 0, 255))
        return 0

    def _fill_borders(self) -> None:
        """Fill the border of each buffer before anything is written into it."""
        filled, steps = set(), []
        for step in self.program.steps:
            for tensor in step.writes():
                root = self.roots[id(tensor)]
                if root not in filled:
                    filled.add(root)
                    if self.placement.border(root):
                        steps.append(programs.Fill(root.name, self.tensor(root)))
            steps.append(step)
        self.program.steps[:] = steps

    def _plan(self) -> None:
        times: Dict[ir.Value, List[int]] = {}
        for time, step in enumerate(self.program.steps):
            for tensor in step.reads() + step.writes():
                times.setdefault(self.roots[id(tensor)], []).append(time)
        lives = [Life(self._size(root), min(used), max(used)) for root, used in times.items()]
        offsets, self.program.arena = plan(lives)
        if clashes(lives, offsets):
            raise AssertionError("the plan of the memory has buffers that overlap")
        places = dict(zip(times, offsets))
        used = {id(tensor) for step in self.program.steps for tensor in step.reads() + step.writes()}
        self.program.tensors[:] = [tensor for tensor in self.program.tensors if id(tensor) in used]
        for tensor in self.program.tensors:
            tensor.offset += places[self.roots[id(tensor)]]

    def _size(self, root: ir.Value) -> int:
        above, left, below, right = self.placement.border(root).sizes
        height, width, channels = programs.image_shape(root.shape)
        return (above + height + below) * (left + width + right) * programs.pixel_bytes(root.dtype, channels)

    # --- epilogues

    def epilogue(self, node: ir.Node) -> List[Operation]:
        channels = programs.image_shape(node.gives()[0].shape)[2]
        return [self._lowered(op, channels) for op in node.epilogue]

    def _lowered(self, entry: Union[Operation, StoreKind], channels: int) -> Union[Operation, StoreKind]:
        """The same operation or store of tensors, with arrays for all channels."""
        lowered = {
            "tensor": self.tensor,
            "f32": lambda number: float(np.float32(number)),
            "function": str,
            **{kind: lambda values, of=of: _numbers(values, channels, of.dtype) for kind, of in ARRAYS.items()},
        }
        return type(entry)(*(lowered[kind](getattr(entry, name)) for kind, name in fields_of(row_of(entry).fields)))

    def stores(self, node: ir.Node) -> List[StoreKind]:
        return [self._store(store) for store in node.stores]

    def _store(self, store: StoreKind) -> StoreKind:
        tensor = self.tensor(store.value)
        if isinstance(store, programs.Bytes):
            return programs.Bytes(tensor, _inverse(tensor.scale))
        return self._lowered(store, tensor.channels)

    def result(self, node: ir.Node) -> Dict[str, list]:
        return {"epilogue": self.epilogue(node), "stores": self.stores(node)}

    # --- steps

    def _append(self, step: programs.Step) -> None:
        self.program.steps.append(step)

    def _input(self, node: ir.Input) -> None:
        number = [port.name for port in self.program.inputs].index(node.name)
        self._append(programs.Load(node.name, number, **self.result(node)))

    def _conv(self, node: ir.Conv) -> None:
        source = self.tensor(node.source)
        window = programs.Window(
            tuple(node.weight.shape[2:]), tuple(node.stride), tuple(node.dilate), tuple(node.pad[:2])
        )
        run = node.groups == 1 and node.dilate[1] == 1 and source.pixel_stride == source.pixel_bytes
        binary = {"all": float(node.all), "step": float(node.step)} if source.dtype == "bit" else {}
        weight = np.ascontiguousarray(node.weight)
        options = {**binary, "signs": node.signs, **self.result(node)}
        self._append(programs.Conv(node.name, source, window, weight, node.groups, run, **options))

    def _depthwise(self, node: Depthwise) -> None:
        window = programs.Window(
            tuple(node.weight.shape[2:]), tuple(node.stride), tuple(node.dilate), tuple(node.pad[:2])
        )
        weight = np.ascontiguousarray(node.weight[:, 0], np.float32)
        self._append(programs.Depthwise(node.name, self.tensor(node.source), window, weight, **self.result(node)))

    def _pool(self, node: ir.Pool) -> None:
        window = programs.Window(tuple(node.kernel), tuple(node.stride), (1, 1), tuple(node.pad[:2]))
        source = self.tensor(node.source)
        if source.dtype == "bit":
            flip = None
            if node.flip is not None and np.any(node.flip):
                flip = _numbers(node.flip, source.channels, np.bool_)
            self._append(programs.PoolBits(node.name, source, self.tensor(node.gives()[0]), window, flip))
        else:
            self._append(programs.Pool(node.name, source, window, node.mode, **self.result(node)))

    def _map(self, node: ir.Map) -> None:
        self._append(programs.Map(node.name, self.tensor(node.source), **self.result(node)))

    def _softmax(self, node: ir.Softmax) -> None:
        self._append(programs.Softmax(node.name, self.tensor(node.source), self.tensor(node.gives()[0])))

    # --- moves, where placement did not make them unnecessary

    def _concat(self, node: ir.Concat) -> None:
        target = node.gives()[0]
        for source, at in concat_parts(node):
            if not self.placement.lies_at(source, target, at):
                size = programs.image_shape(source.shape)
                self._copy_image(node.name, self.tensor(source), self.view(target, at, size))

    def _slice(self, node: ir.Slice) -> None:
        target, at = node.gives()[0], source_corner(node)
        if not self.placement.lies_at(target, node.source, at):
            part = self.view(node.source, at, programs.image_shape(target.shape))
            self._copy_image(node.name, part, self.tensor(target))

    def _pad(self, node: ir.Pad) -> None:
        source, target, at = node.source, node.gives()[0], (node.pad[0], node.pad[1], 0)
        inside = self.view(target, at, programs.image_shape(source.shape))
        inside.name = f"{target.name} inside"
        if any(node.pad) and target.dtype == "f32" and node.pad_value != 0:
            self._write_everywhere(node)
        elif any(node.pad):
            inside.border, inside.border_value = tuple(node.pad), self._held(node.pad_value, inside)
            self._append(programs.Fill(node.name, inside))
        if not any(node.pad) or not self.placement.lies_at(source, target, at):
            self._copy_image(node.name, self.tensor(source), inside)

    def _write_everywhere(self, node: ir.Pad) -> None:
        """Write one number to all of a padded value: the average of no pixels is 0, and the number is added."""
        source, target = self.tensor(node.source), self.tensor(node.gives()[0])
        window = programs.Window(pad=(target.height, target.width))  # every output pixel reads one outside of the image
        ones = np.ones(source.channels, np.float32)
        number = programs.Affine(ones, np.full_like(ones, node.pad_value))
        self._append(programs.Pool(node.name, source, window, "avg", [number], [programs.Floats(target)]))

    def _reshape(self, node: ir.Reshape) -> None:
        source, target = node.source, node.gives()[0]
        if self.placement.lies_at(target, source):
            return
        read, write = self.tensor(source), self.tensor(target)
        if is_relabelling(node):
            self._copy_image(node.name, read, write)
            return
        split = node.split or source.shape
        strides = split_strides(source.shape, _strides(source, read), split)
        loops = reshape_loops(split, node.axes, target.shape, strides, _strides(target, write))
        self._append(programs.Copy(node.name, read, write, loops))

    def _broadcast(self, node: Broadcast) -> None:
        source, target = node.source, node.gives()[0]
        read, write = self.tensor(source), self.tensor(target)
        loops = broadcast_loops(source.shape, target.shape, _strides(source, read), _strides(target, write))
        self._append(programs.Copy(node.name, read, write, loops))

    def _copy_image(self, name: str, source: programs.Tensor, target: programs.Tensor) -> None:
        """Copy a tensor to another of the same size and type."""
        if source.dtype == "u8":  # COPY moves 4 bytes at least; rounding a byte's number gives the byte
            self._append(programs.Map(name, source, [], [programs.Bytes(target, _inverse(target.scale))]))
            return
        if source.dtype == "bit":
            source, target = self._as_words(source), self._as_words(target)
        height, width, channels = source.shape
        rows = (height, source.row_stride, target.row_stride)
        pixels = (width, source.pixel_stride, target.pixel_stride)
        self._append(programs.Copy(name, source, target, merge([rows, pixels, (channels, 4, 4)])))

    def _as_words(self, bits: programs.Tensor) -> programs.Tensor:
        """The same memory as 32-bit numbers, which COPY moves."""
        words = programs.Tensor(f"{bits.name} words", "f32", bits.height, bits.width, bits.pixel_bytes // 4)
        words.offset, words.row_stride, words.pixel_stride = bits.offset, bits.row_stride, bits.pixel_stride
        return self.add(words, self.roots[id(bits)])


def _strides(value: ir.Value, tensor: programs.Tensor) -> List[int]:
    """Bytes between the indices of each dimension of a value of floats."""
    return image_strides(value.shape, tensor.row_stride, tensor.pixel_stride, 4)


def _numbers(values: np.ndarray, channels: int, dtype: type) -> np.ndarray:
    """One number a channel; of a value of 4 dimensions the first two together are the channels."""
    values = np.asarray(values, dtype)
    return np.ascontiguousarray(np.repeat(values, channels // len(values)))


def _inverse(scale: float) -> float:
    return float(np.float32(1) / np.float32(scale))
