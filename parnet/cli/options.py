"""The options of `parnet study`. Stage: outermost. Must not know: what they do, so that `--help` is quick."""

from __future__ import annotations

import argparse


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add them to its parser."""
    add = parser.add_argument
    add(
        "models",
        metavar="MODEL",
        nargs="*",
        default=["mlp"],
        help="mlp (the default), mlp-selu, or path/to/file.py:function, which returns a model; several are compared",
    )
    add("--data", default="mnist", metavar="DATA", help="mnist (the default), digits or an npz file, as for parnet train")
    add("--rows", type=int, metavar="N", help="take the first N samples only")
    add("--kind", default="strong", choices=("strong", "weak"), help="strong: the same work in all; weak: for each worker")
    add(
        "--strategy",
        action="append",
        metavar="NAME=1,2,4",
        help="strategy and numbers of workers; may be repeated (default: threads up to the usable cores)",
    )
    add("--repeats", type=int, default=5, metavar="N", help="runs of each configuration (default: 5)")
    add("--warmup", type=int, default=1, metavar="N", help="epochs of each run that are not counted (default: 1)")
    add("--epochs", type=int, default=1, metavar="N", help="epochs of each run that are (default: 1)")
    add("--batch-size", default="256", metavar="N,...", help="rows of an update; several for a sweep (default: 256)")
    add("--target", type=float, metavar="SHARE", help="accuracy on the test samples whose time is wanted, such as 0.95")
    add("--optimizer", metavar="NAME", help="sgd, adam, ... (default: the network's own, else sgd)")
    add("--lr", type=float, metavar="RATE", help="learning rate (default: the network's own, else the optimizer's)")
    add("--loss", metavar="NAME", help="default: what the targets call for")
    add("--seed", type=int, default=0, metavar="N", help="of weights, shuffles and the order of the runs (default: 0)")
    add("--oversubscribe", action="store_true", help="allow more workers than usable cores")
    add("--output", default="study", metavar="FOLDER", help="where results, report and pictures go (default: study)")
    add("--quiet", action="store_true", help="no progress bar, no table")
