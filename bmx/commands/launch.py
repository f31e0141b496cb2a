"""``bmx launch``: start the processes of a distributed training."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_command, address


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "launch",
        "start the processes of a distributed training",
        "bmx launch -n 2 -s 1 -- python example/train_resnet18_cifar10.py --kv-store dist_sync",
        usage="bmx launch -n WORKERS -s SERVERS [options] -- PROGRAM ...",
        description="Start a scheduler, servers and workers on this machine, or one of them as part of several machines"
        " (docs/distributed.md). When one fails, the others are stopped.",
    )
    parser.add_argument("-n", "--workers", type=int, default=1, metavar="N", help="number of workers (default: 1)")
    parser.add_argument("-s", "--servers", type=int, default=1, metavar="N", help="number of servers (default: 1)")
    parser.add_argument(
        "--scheduler", type=address, metavar="HOST:PORT", help="address of the scheduler (default: this machine)"
    )
    parser.add_argument("--role", choices=("scheduler", "server", "worker"), help="start one process of this role only")
    parser.add_argument("--print", action="store_true", help="start nothing; print the commands for each host")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop everything after this time")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Start the processes of the program after ``--`` and wait for them."""
    from ..registration import require_mxnet

    require_mxnet("a distributed training")
    from ..training.launch import instructions, launch

    host, port = args.scheduler or ("127.0.0.1", None)
    if args.print:
        print(instructions(args.program, args.workers, args.servers, host, port or 9091))
        return 0
    return launch(args.program, args.workers, args.servers, host, port, args.role, args.timeout)
