"""The definition of a compiled program in NumPy: docs/format.md step by step, slow and obvious.

    outputs = program_oracle.run(program, [image])  # one image, arrays (C, H, W)

Steps work on a real arena of bytes, as the engine's do, so that mistakes of the memory plan give wrong results: it
begins as NaNs and set bits, whatever is read must have been written, and no step may store to what it reads unless it
adds in place. Operations of an epilogue are those of epilogue_oracle; sums are float64 and rounded at the end.
"""

from __future__ import annotations

import itertools
import math

import epilogue_oracle
import numpy as np

from bmx import program as programs

TYPES = {"f32": np.float32, "bit": np.uint8, "u8": np.uint8}


def run(program, inputs):
    """Outputs of one image, float32 arrays in MXNet's order."""
    machine = Machine(program, inputs)
    with np.errstate(all="ignore"):
        for step in program.steps:
            machine.run(step)
    return machine.outputs


class Machine:
    def __init__(self, program, inputs):
        self.program, self.inputs = program, inputs
        self.arena = np.full(program.arena + 64, 0xFF, np.uint8)
        self.written = np.zeros(program.arena + 64, bool)
        self.outputs = [None] * len(program.outputs)

    def run(self, step):
        self.read, self.stored, self.operands = set(), [], []
        getattr(self, type(step).__name__.lower())(step)
        stored = set()
        for tensor in self.stored:
            bytes_ = set(places(tensor).reshape(-1).tolist())
            assert not bytes_ & stored, f"{step.name}: its stores overlap"
            stored |= bytes_
            in_place = [other for other in self.operands if same_place(tensor, other)]
            others = set(self.read)
            for other in self.operands:
                if other not in in_place:
                    others |= set(places(other).reshape(-1).tolist())
            assert not bytes_ & others, f"{step.name} stores to what it reads"

    # --- memory

    def load_bytes(self, tensor, border):
        """Bytes of a tensor's pixels: rows, columns, bytes."""
        at = places(tensor, border)
        assert self.written[at].all(), f"{tensor.name} is read before it is written"
        return self.arena[at]

    def get(self, tensor, border=False, operand=False):
        """A tensor as numbers: floats, bits as 0 and 1, bytes; rows, columns, channels."""
        bytes_ = self.load_bytes(tensor, border)
        if operand:
            self.operands.append(tensor)
        else:
            self.read |= set(places(tensor, border).reshape(-1).tolist())
        if tensor.dtype == "f32":
            return np.ascontiguousarray(bytes_).view("<f4")
        if tensor.dtype == "bit":
            bits = np.unpackbits(bytes_, axis=-1, bitorder="little")
            assert not bits[..., tensor.channels :].any(), f"{tensor.name} has bits beyond its channels"
            return bits[..., : tensor.channels]
        return bytes_

    def put(self, tensor, numbers):
        assert numbers.shape == tensor.shape, (tensor.name, numbers.shape)
        self.put_at(places(tensor), tensor, numbers)
        self.stored.append(tensor)

    def put_at(self, at, tensor, numbers):
        if tensor.dtype == "f32":
            bytes_ = np.ascontiguousarray(numbers, "<f4").view(np.uint8)
        elif tensor.dtype == "bit":
            whole = np.zeros((*numbers.shape[:-1], -(-tensor.channels // 64) * 64), np.uint8)
            whole[..., : tensor.channels] = numbers
            bytes_ = np.packbits(whole, axis=-1, bitorder="little")
        else:
            bytes_ = numbers
        self.arena[at] = bytes_
        self.written[at] = True

    # --- steps

    def load(self, step):
        port = self.program.inputs[step.input]
        height, width, channels = programs.image_shape(port.shape)
        y = np.asarray(self.inputs[step.input], np.float32).reshape(channels, height, width)
        self.finish(step, y.transpose(1, 2, 0))

    def store(self, step):
        y = self.get(step.source).transpose(2, 0, 1)
        self.outputs[step.output] = y.reshape(self.program.outputs[step.output].shape).copy()

    def fill(self, step):
        tensor = step.tensor
        height, width = (a + b + c for a, b, c in zip(tensor.border[:2], tensor.shape, tensor.border[2:]))
        at = places(tensor, border=True)
        above, left = tensor.border[:2]
        for y, x in itertools.product(range(height), range(width)):
            if not (0 <= y - above < tensor.height and 0 <= x - left < tensor.width):
                self.put_at(at[y, x], tensor, np.full(tensor.channels, tensor.border_value, TYPES[tensor.dtype]))

    def conv(self, step):
        source, weight = step.source, step.weight
        x = self.get(source, border=True)
        filters, channels, kernel_h, kernel_w = weight.shape
        height, width = step.stores[0].value.shape[:2]
        y = np.zeros((height, width, filters))
        for out_y, out_x in itertools.product(range(height), range(width)):
            for group in range(step.groups):
                window = self.window(x, source, step.window, out_y, out_x)
                window = window[..., group * channels : (group + 1) * channels].astype(np.float64)
                mine = slice(group * filters // step.groups, (group + 1) * filters // step.groups)
                taps = weight[mine].transpose(0, 2, 3, 1).astype(np.float64)
                if source.dtype == "bit":
                    y[out_y, out_x, mine] = (window[None] != (taps > 0)).sum(axis=(1, 2, 3))
                elif source.dtype == "u8":
                    y[out_y, out_x, mine] = ((window[None] - source.zero_point) * taps).sum(axis=(1, 2, 3))
                else:
                    y[out_y, out_x, mine] = (window[None] * taps).sum(axis=(1, 2, 3))
        if isinstance(step.stores[0], programs.CountBits):
            store = step.stores[0]
            self.put(store.value, (y <= store.threshold) ^ store.flip)
            return
        self.finish(step, step.all - step.step * y if source.dtype == "bit" else y)

    def window(self, x, source, window, out_y, out_x):
        """The pixels of a window, of a tensor with its border."""
        above, left = source.border[:2]
        y = out_y * window.stride[0] - window.pad[0] + above
        x0 = out_x * window.stride[1] - window.pad[1] + left
        rows = [y + i * window.dilate[0] for i in range(window.kernel[0])]
        columns = [x0 + i * window.dilate[1] for i in range(window.kernel[1])]
        assert min(rows) >= 0 and min(columns) >= 0
        return x[np.ix_(rows, columns)]

    def depthwise(self, step):
        x = self.get(step.source, border=True).astype(np.float64)
        height, width = step.stores[0].value.shape[:2]
        y = np.zeros((height, width, step.source.channels))
        for out_y, out_x in itertools.product(range(height), range(width)):
            window = self.window(x, step.source, step.window, out_y, out_x)
            y[out_y, out_x] = (window * step.weight.transpose(1, 2, 0)).sum(axis=(0, 1))
        self.finish(step, y)

    def pixels_inside(self, step, out_y, out_x):
        """Rows and columns of a window that are inside the image."""
        window, source = step.window, step.source
        first = [place * stride - pad for place, stride, pad in zip((out_y, out_x), window.stride, window.pad)]
        return [
            [place for place in range(begin, begin + kernel) if 0 <= place < size]
            for begin, kernel, size in zip(first, window.kernel, source.shape)
        ]

    def pool(self, step):
        x = self.get(step.source).astype(np.float64)
        height, width = step.stores[0].value.shape[:2]
        y = np.zeros((height, width, step.source.channels))
        for out_y, out_x in itertools.product(range(height), range(width)):
            rows, columns = self.pixels_inside(step, out_y, out_x)
            pixels = x[np.ix_(rows, columns)].reshape(-1, step.source.channels)
            if step.mode == "max":
                y[out_y, out_x] = np.fmax.reduce(pixels, axis=0, initial=-math.inf)
                continue
            divisor = len(rows) * len(columns)
            if step.mode == "avg_padded" and divisor:
                divisor = 1
                for place, axis in ((out_y, 0), (out_x, 1)):
                    begin = place * step.window.stride[axis] - step.window.pad[axis]
                    end = min(begin + step.window.kernel[axis], step.source.shape[axis] + step.window.pad[axis])
                    divisor *= end - begin
            y[out_y, out_x] = pixels.sum(axis=0) / divisor if divisor else 0
        self.finish(step, y)

    def poolbits(self, step):
        x = self.get(step.source)
        y = np.zeros(step.tensor.shape, np.uint8)
        for out_y, out_x in itertools.product(range(step.tensor.height), range(step.tensor.width)):
            rows, columns = self.pixels_inside(step, out_y, out_x)
            y[out_y, out_x] = x[np.ix_(rows, columns)].any(axis=(0, 1))
        self.put(step.tensor, y if step.flip is None else y ^ step.flip)

    def map(self, step):
        source = step.source
        x = self.get(source)
        if source.dtype == "u8":
            x = np.float32(source.scale) * (x.astype(np.float32) - np.float32(source.zero_point))
        self.finish(step, x)

    def softmax(self, step):
        x = self.get(step.source).astype(np.float64)
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.put(step.tensor, (e / e.sum(axis=-1, keepdims=True)).astype(np.float32))

    def copy(self, step):
        self.read |= set(places(step.source).reshape(-1).tolist())
        for indices in itertools.product(*(range(size) for size, _, _ in step.loops)):
            source, target = step.source.offset, step.tensor.offset
            for index, (_, stride_in, stride_out) in zip(indices, step.loops):
                source, target = source + index * stride_in, target + index * stride_out
            assert self.written[source : source + 4].all(), f"{step.name} copies what was not written"
            self.arena[target : target + 4] = self.arena[source : source + 4]
            self.written[target : target + 4] = True
        self.stored.append(step.tensor)

    # --- what becomes of a result

    def finish(self, step, y):
        y = np.asarray(y).astype(np.float32)
        for operation in step.epilogue:
            y = self.operation(operation, y).astype(np.float32)
        for store in step.stores:
            if isinstance(store, programs.Floats):
                self.put(store.value, y)
            elif isinstance(store, programs.Bits):
                self.put(store.value, ~(np.where(store.flip, -y, y) < store.threshold))
            elif isinstance(store, programs.Bytes):
                byte = np.rint(y * np.float32(store.inverse_scale)) + np.float32(store.value.zero_point)
                byte = np.where(np.isnan(byte), 0, np.clip(byte, 0, 255))
                self.put(store.value, byte.astype(np.uint8))

    def operation(self, operation, y):
        operand = self.get(operation.operand, operand=True) if hasattr(operation, "operand") else None
        return epilogue_oracle.apply(operation, y, operand=operand)


def places(tensor, border=False):
    """Where the bytes of a tensor lie in the arena: rows, columns, bytes of a pixel."""
    above, left, below, right = tensor.border if border else (0, 0, 0, 0)
    rows = np.arange(-above, tensor.height + below)[:, None, None] * tensor.row_stride
    columns = np.arange(-left, tensor.width + right)[:, None] * tensor.pixel_stride
    return tensor.offset + rows + columns + np.arange(tensor.pixel_bytes)


def same_place(tensor, other):
    return (tensor.dtype, tensor.shape, tensor.offset, tensor.row_stride, tensor.pixel_stride) == (
        *(other.dtype, other.shape, other.offset, other.row_stride, other.pixel_stride),
    )
