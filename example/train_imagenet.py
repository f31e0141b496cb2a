#!/usr/bin/env python3
"""Train a network of the zoo on ImageNet, or on any other photographs in RecordIO files or folders.

examples:
  python example/train_imagenet.py --data-dir ~/imagenet                   binary ResNetE-18
  python example/train_imagenet.py --data-dir ~/imagenet --model quicknet --lr-schedule cosine --warmup-epochs 5
  python example/train_imagenet.py --data-dir ~/imagenet --dry-run         look at the network, make two steps
  python example/train_imagenet.py --data-dir flowers --image-size 64 --epochs 30
  bmx launch -n 4 -s 2 -- python example/train_imagenet.py --data-dir ~/imagenet --kv-store dist_sync

--data-dir has train.rec and val.rec, which MXNet's tools/im2rec.py makes of a folder of images (with train.idx and
val.idx beside them they are counted faster; all images are decoded once before the first epoch, which train.checked and
val.checked remember), or the folders train and val, each with a folder of images for each class.
These folders are the classes; their names are written beside the checkpoint, as PREFIX-labels.txt for bmx run --labels.
Augmentation: low is a random part of the image, mirrored or not; medium a part of 8 to 100 % of its area; high changes
brightness, contrast and saturation too.
"""

import sys

import bmx

try:
    from bmx.commands.train import main
except bmx.Error as error:  # libbmx is missing, or BMX_ISA wrong
    sys.exit(f"error: {error}")

if __name__ == "__main__":
    sys.exit(
        main(
            __doc__,
            model="resnet18_e1",
            dataset="imagenet",
            epochs=40,
            batch_size=256,
            optimizer="radam",
            lr=0.002,
            lr_schedule="step",
            augmentation="medium",
        )
    )
