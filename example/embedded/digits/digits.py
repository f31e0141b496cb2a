#!/usr/bin/env python3
"""Write what the microcontroller needs: the trained LeNet as C source, and digits of the test set as arrays.

The Makefile beside calls this. The network is the one that `make demo` has left in runs/, and where it has not, one is
trained as there, in a minute or two; or name a checkpoint of example/train_lenet_mnist.py.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import demo

import bmx
from bmx.export_c import export
from bmx.training import Checkpoint, load_mnist

CALIBRATION = 500  # training images that the ranges of the int8 layers come from


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", metavar="PREFIX-NNNN.params", help="default: that of `make demo`")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the MNIST files (default: where they are found)")
    parser.add_argument("--count", type=int, default=12, metavar="N", help="how many digits (default: 12)")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"--count is {args.count}; allowed: 1 or more")
    return args


def write_digits(folder, images, labels):
    """digits.h and digits.c: a byte a pixel."""
    count, pixels = len(images), images[0].size
    (folder / "digits.h").write_text(
        "/* Pictures of handwritten digits, and what they are. Written by digits.py. */\n#include <stdint.h>\n\n"
        f"enum {{ DIGITS = {count} }};\n"
        f"extern const uint8_t digits[DIGITS][{pixels}];\nextern const uint8_t digit_labels[DIGITS];\n"
    )
    rows = np.rint(images.reshape(count, pixels) * 255).astype(int)
    arrays = ",\n".join("    {" + ", ".join(map(str, row)) + "}" for row in rows)
    (folder / "digits.c").write_text(
        f'#include "digits.h"\n\nconst uint8_t digits[DIGITS][{pixels}] = {{\n{arrays}}};\n'
        f"const uint8_t digit_labels[DIGITS] = {{{', '.join(map(str, labels.astype(int)))}}};\n"
    )


def main():
    args = parse_arguments()
    data = load_mnist(args.data_dir)
    params = args.checkpoint
    if params is None:
        params = Checkpoint(demo.PREFIX.format(bits=1)).params_file(demo.epochs(data))
        if not os.path.exists(params):
            demo.trained(data, bits=1)
    compiled = bmx.compile_checkpoint(params, int8="first-last", data=data.train_images[:CALIBRATION])
    print(compiled.report)
    print(export(compiled.program, args.output, "lenet", weights="array", force=True))
    folder = Path(args.output)
    write_digits(folder, data.test_images[: args.count], data.test_labels[: args.count])
    print(f"{folder}: the first {args.count} test images of {data.source}")


if __name__ == "__main__":
    try:
        main()
    except bmx.Error as error:
        sys.exit(f"error: {error}")
