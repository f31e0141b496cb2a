"""Files of networks of a step or two, made without MXNet."""

import numpy as np

from bmx import program as programs


def tensor(program, name, shape, dtype="f32", **attributes):
    """A new tensor (H, W, C) behind all others in the arena."""
    height, width, channels = shape
    pixel = programs.pixel_bytes(dtype, channels)
    made = programs.Tensor(name, dtype, *shape, (0, 0, 0, 0), 0, program.arena, width * pixel, pixel, **attributes)
    program.arena += -(-height * width * pixel // 64) * 64
    program.tensors.append(made)
    return made


def scaling(shape=(2, 3, 4), scale=2.0):
    """A network with one input x and one output y, which is scale * x."""
    program = programs.Program("scaling", [programs.Port("x", shape)], [programs.Port("y", shape)])
    y = tensor(program, "y", programs.image_shape(shape))
    scales, zeros = np.full(y.channels, scale, np.float32), np.zeros(y.channels, np.float32)
    program.steps = [
        programs.Load("scale", 0, [programs.Affine(scales, zeros)], [programs.Floats(y)]),
        programs.Store("y", y, 0),
    ]
    return programs.encode(program)


def sums():
    """A network with inputs a and b and outputs a + b and a * b."""
    ports = [programs.Port(name, (5,)) for name in ("a", "b", "sum", "product")]
    program = programs.Program("sums", ports[:2], ports[2:])
    a, b, total, product = (tensor(program, port.name, (1, 1, 5)) for port in ports)
    program.steps = [
        programs.Load("a", 0, [], [programs.Floats(a)]),
        programs.Load("b", 1, [], [programs.Floats(b)]),
        programs.Map("add", a, [programs.Add(b)], [programs.Floats(total)]),
        programs.Map("multiply", a, [programs.Multiply(b)], [programs.Floats(product)]),
        programs.Store("sum", total, 0),
        programs.Store("product", product, 1),
    ]
    return programs.encode(program)


def binary(filters=64, size=14):
    """A binary 3x3 convolution, large enough for threads to share it, and its weight."""
    shape = (64, size, size)
    program = programs.Program("binary", [programs.Port("x", shape)], [programs.Port("y", (filters, size, size))])
    bits = programs.Tensor("bits", "bit", size, size, 64, (1, 1, 1, 1), 1, 8 * (size + 3), 8 * (size + 2), 8)
    program.arena = -(-8 * (size + 2) ** 2 // 64) * 64
    program.tensors.append(bits)
    y = tensor(program, "y", (size, size, filters))
    weight = np.random.RandomState(0).choice(np.array([-1, 1], np.int8), (filters, 64, 3, 3))
    nothing = programs.Bits(bits, np.zeros(64, np.float32), np.zeros(64, bool))
    window = programs.Window((3, 3), pad=(1, 1))
    program.steps = [
        programs.Fill("border", bits),
        programs.Load("x", 0, [], [nothing]),
        programs.Conv("conv", bits, window, weight, 1, True, 9 * 64.0, 2.0, stores=[programs.Floats(y)]),
        programs.Store("y", y, 0),
    ]
    return programs.encode(program), weight
