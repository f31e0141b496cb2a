#!/usr/bin/env python3
"""Train a binary ResNet-18, or any other network of the zoo, on CIFAR-10."""

import argparse
import os
import sys

import mxnet as mx

import bmx
from bmx.training import Batches, fit, plot_curves
from bmx.training.augment import crop_and_flip
from bmx.training.cifar import cifar10


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="resnet18_e1")
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--batch-size", type=int, default=100)
    p.add_argument("--optimizer", default="adam")
    p.add_argument("--lr", type=float, default=0.002)
    p.add_argument("--warmup-epochs", type=float, default=1)
    p.add_argument("--prefix", default="runs/cifar10")
    p.add_argument("--grad-dtype", default="float32")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--small-epochs", type=int, default=0)
    p.add_argument("--limit", type=int)
    args = p.parse_args()
    os.environ["BMX_GRAD_DTYPE"] = args.grad_dtype
    data = cifar10()
    print(data.source, vars(args), flush=True)
    batches = Batches(
        data.train_images[: args.limit],
        data.train_labels[: args.limit],
        args.batch_size,
        train=True,
        augment=crop_and_flip(),
        seed=args.seed,
        mean=data.mean,
        std=data.std,
        small_epochs=args.small_epochs,
    )
    test = Batches(data.test_images[: args.limit], data.test_labels[: args.limit], 200, mean=data.mean, std=data.std)
    mx.random.seed(args.seed)
    options = {} if args.model in ("lenet", "binarynet_cifar") else {"thumbnail": True}
    net = bmx.models.get_model(args.model, bits=1, bits_a=1, classes=10, **options)
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True)
    warm = int(args.warmup_epochs * len(batches))
    schedule = mx.lr_scheduler.CosineScheduler(args.epochs * len(batches), base_lr=args.lr, warmup_steps=warm)
    optimizer = mx.optimizer.create(args.optimizer, learning_rate=args.lr, lr_scheduler=schedule)
    history = fit(
        net,
        batches,
        test,
        optimizer,
        args.epochs,
        prefix=args.prefix,
        resume=args.resume,
        settings={
            "model": args.model,
            "bits": 1,
            "batch size": args.batch_size,
            "learning rate": args.lr,
            "epochs": args.epochs,
            "small epochs": args.small_epochs,
        },
        seed=args.seed,
    )
    plot_curves(f"{args.prefix}.png", history, title=args.model)
    print("best", max(r["accuracy"] for r in history))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except bmx.Error as error:
        sys.exit(f"error: {error}")
