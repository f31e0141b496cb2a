#!/usr/bin/env python3
"""Train a binary ResNet-18, or any other network of the zoo, on CIFAR-10 or another set of small images.

examples:
  python example/train_resnet18_cifar10.py                                 binary ResNetE-18 on CIFAR-10
  python example/train_resnet18_cifar10.py --grad-dtype bfloat16           the same, in less time
  python example/train_resnet18_cifar10.py --epochs 30 --resume            go on after Ctrl-C, or for more epochs
  python example/train_resnet18_cifar10.py --model binarynet_cifar --bits 1 --bits-a 2
  python example/train_resnet18_cifar10.py --bits 32 --prefix runs/float   the float twin, and then its pupil:
  python example/train_resnet18_cifar10.py --teacher runs/float-0020.params
  python example/train_resnet18_cifar10.py --dataset synthetic --dry-run   look at the network, without any data
  bmx launch -n 2 -s 1 -- python example/train_resnet18_cifar10.py --kv-store dist_sync

CIFAR-10 is looked for in ~/.mxnet/datasets/cifar10, or in --data-dir, as the files data_batch_1.bin to 5 and
test_batch.bin. The checkpoint is --prefix with -symbol.json, -NNNN.params, and .resume for --resume; that of the best
epoch has -best; curves are in .png.
"""

import sys

import bmx

try:
    from bmx.commands.train import main
except bmx.Error as error:  # libbmx is missing, or BMX_ISA wrong
    sys.exit(f"error: {error}")

if __name__ == "__main__":
    sys.exit(main(__doc__, model="resnet18_e1", dataset="cifar10"))
