#!/usr/bin/env python3
"""Exports a checkpoint to C, with and without int8 outer layers, and compares the C program with MXNet on real images.

The samples are the first test images of CIFAR-10, normalized as the training programs of example/ do it, or those of
--data, as the network takes them. MXNet computes the outputs of the checkpoint itself, before anything is compiled;
test_net.c of the export compares them with those of the C code. Ranges for int8 come from training images (with --data
from the samples). The exit status is 1 if test_net finds the network without int8 layers to differ from MXNet.

  tools/check_export_c.py runs/cifar10-binarynet-best-0012.params
  tools/check_export_c.py net-0001.params --data images.npy --labels classes.npy --cc "clang -O3 -march=native"
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# An installed bmx comes first; without one, this checkout's is used.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from bmx.arrays import load_samples  # noqa: E402
from bmx.checkpoints import names as checkpoint_names  # noqa: E402
from bmx.errors import Error  # noqa: E402
from bmx.tables import aligned  # noqa: E402

CALIBRATION = 512  # training images that decide the ranges of int8
BATCH = 50
OUTER_LAYERS = {"off": "float", "first-last": "int8"}
RESULT = re.compile(r"(\d+) samples, .*: largest difference (\S+) of (\S+), largest number at the same place in (\d+):")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="PREFIX-NNNN.params")
    parser.add_argument("--images", type=int, default=1000, metavar="N", help="default: %(default)s")
    parser.add_argument("--data-dir", metavar="DIR", help="with CIFAR-10's binary files (default: Gluon's folder)")
    parser.add_argument("--data", metavar="FILE.npy", help="other samples; with --labels")
    parser.add_argument("--labels", metavar="FILE.npy", help="their classes")
    parser.add_argument("--cc", action="append", metavar="COMMAND", help="compiler and options (default: cc -O2)")
    args = parser.parse_args(arguments)
    args.cc = args.cc or ["cc -O2"]
    return args


def samples(args):
    """Images and classes to compare on, and images for the ranges of int8."""
    if args.images < 1:
        raise Error(f"--images is {args.images}; it must be 1 or more")
    if bool(args.data) != bool(args.labels):
        raise Error("--data and --labels go together")
    if args.data:
        images, classes = load_samples(args.data), load_samples(args.labels, ndim=1)
        if classes.shape != images.shape[:1]:
            raise Error(f"{args.labels}: has the shape {classes.shape}; {args.data} has {len(images)} samples")
        images = np.asarray(images, np.float32)
        return images[: args.images], classes[: args.images], images[:CALIBRATION]
    from bmx.training import cifar10

    data = cifar10(args.data_dir)
    mean, std = (np.reshape(numbers, (3, 1, 1)).astype(np.float32) for numbers in (data.mean, data.std))
    images, training = (
        (np.asarray(part, np.float32) / 255 - mean) / std
        for part in (data.test_images[: args.images], data.train_images[:CALIBRATION])
    )
    return images, data.test_labels[: args.images], training


def mxnet_outputs(path, images):
    """What the checkpoint gives in MXNet, a row for each image."""
    from bmx.checkpoints.network import Network

    network = Network.load(*checkpoint_names.files(*checkpoint_names.split_path(path)))
    batches = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
    outputs = [list(network.run({network.inputs[0]: batch}).values()) for batch in batches]
    if len(outputs[0]) != 1:
        raise Error(f"{path}: has {len(outputs[0])} outputs; a classifier, which has one, can be checked")
    return np.concatenate([batch[0].reshape(len(batch[0]), -1) for batch in outputs])


def compile_c(command, folder, name):
    program = Path(folder) / name
    words = [*shlex.split(command), "-std=c99", "net.c", "test_net.c", "-o", str(program), "-lm"]
    try:
        subprocess.run(words, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Error(f"{' '.join(words)}: {error}") from None
    return program


def test_net(program, images, outputs):
    """Status, largest difference and number, and how many largest numbers are at the place that `outputs` have."""
    from bmx.export_c import samples_bytes

    folder = program.parent
    (folder / "samples.bin").write_bytes(samples_bytes([images], [outputs]))
    words = [str(program), str(folder / "net_weights.bin"), str(folder / "samples.bin")]
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = RESULT.search(result.stdout)
    if found is None or int(found[1]) != len(images):
        raise Error(f"{program.name} ended with status {result.returncode}: {result.stdout.strip()}")
    return result.returncode, float(found[2]), float(found[3]), int(found[4])


def check(args):
    """Print a row for each network and compiler; return whether those without int8 layers agree with MXNet."""
    from bmx.compiler import compile_checkpoint
    from bmx.export_c import export

    if not re.search(r"-\d{4,}\.params$", args.checkpoint):
        raise Error(f"{args.checkpoint}: is not a checkpoint, PREFIX-NNNN.params")
    images, classes, calibration = samples(args)
    expected = mxnet_outputs(args.checkpoint, images)
    if not np.isin(classes, np.arange(expected.shape[1])).all():
        raise Error(f"{args.labels}: must hold classes from 0 to {expected.shape[1] - 1}, as the network has outputs")
    one_hot = np.eye(expected.shape[1], dtype=np.float32)[np.asarray(classes, np.int64)]
    right, count = int(np.sum(expected.argmax(axis=1) == classes)), len(images)
    print(f"{args.checkpoint}: {count} images, MXNet finds {right} ({right / count:.1%})")
    rows = [["outer layers", "compiler", "weights", "agree", "difference", "of", "right"]]
    passed = True
    for int8, outer in OUTER_LAYERS.items():
        compiled = compile_checkpoint(args.checkpoint, int8=int8, data=calibration, verify=False)
        with tempfile.TemporaryDirectory() as folder:
            report = export(compiled.program, folder)
            for number, command in enumerate(args.cc):
                program = compile_c(command, folder, f"test_net_{number}")
                status, difference, largest, agree = test_net(program, images, expected)
                found = test_net(program, images, one_hot)[-1]  # the largest number is at the place of the class
                passed &= int8 != "off" or status == 0
                rows.append([outer, command, f"{report.weights:,}", f"{agree}/{count}", f"{difference:.3g}"])
                rows[-1] += [f"{largest:.3g}", f"{found} ({found / count:.1%})"]
    print("\n".join(aligned(rows, left=2)))
    return passed


def main(arguments=None):
    args = parse_arguments(arguments)
    try:
        return 0 if check(args) else 1
    except Error as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
