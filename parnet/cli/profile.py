"""`parnet profile`: what each layer of a model costs, and its roofline. Stage: outermost.

Must not know: how times are taken.
"""

from __future__ import annotations

import argparse

import numpy as np

from .. import figures
from ..study.costs import profile as measure
from ..study.roofs import roofline
from .networks import RATES, build
from .train import check_folder, choose_strategy, compile_model, read_arrays

#: what a built-in network is sized for without --data: MNIST's pictures and classes
PICTURES, CLASSES = (28, 28), 10


def profile(arguments: argparse.Namespace) -> int:
    """Measure and print. Returns the exit code.

    Raises:
        ParnetError: before any work starts, for everything that can be seen then.
    """
    given = arguments.strategy or (None if arguments.threads else "serial")
    strategy = choose_strategy(given, arguments.threads)
    if arguments.roofline is not None:
        figures.check_suffix("--roofline", arguments.roofline)
        check_folder(arguments.roofline, "--roofline")
    x, y = _samples(arguments)
    model = build(arguments.model, x, y)
    if arguments.purpose != "predict":
        compile_model(model, arguments, y)
    own = (x, y) if arguments.data is not None else (None, None)
    found = measure(model, *own, batch_size=arguments.batch_size, strategy=strategy, purpose=arguments.purpose)
    if arguments.roofline is not None:
        roofline(found, path=arguments.roofline)
        print(f"Roofline: {arguments.roofline}")
    return 0


def _samples(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """What the model is sized and compiled for."""
    if arguments.data is not None:
        data = read_arrays(arguments.data)
        return data.x, data.y
    rows = np.arange(2 * CLASSES) % CLASSES
    kind = np.uint8 if arguments.model in RATES else np.float32
    return np.zeros((len(rows), *PICTURES), kind), rows
