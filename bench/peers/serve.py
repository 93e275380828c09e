"""What every contender's script does: take its cores, load the samples, run epochs when told.

    python SCRIPT NET --data FILE --variant NAME --threads T --cores 0,1 --batch B

The script says {"ready": ...} once its library is loaded; for each line on standard input it runs one epoch
and answers with a line {"seconds": ..., "count": ...}. So epochs of different libraries can be run in turn,
none of them paying for imports, and the first, which compiles, can be left out. Needs NumPy alone. Must not
know: any library, parnet among them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Net:
    """Rows of an epoch, rows of a batch, learning rate of plain SGD."""

    rows: int
    batch: int
    rate: float


#: N3's epochs are short: one on 54,000 rows would take 30 times as long as N2's
NETS = {"N1": Net(57_000, 32, 0.1), "N2": Net(54_000, 32, 0.05), "N3": Net(1_600, 32, 0.05)}
#: four million parameters, trained with Adam
NETS["wide"] = Net(2_560, 256, 0.001)


@dataclass(frozen=True)
class Task:
    """The command line, and the samples it names: x (rows, 784) float32 from 0 to 1, y (rows,) int64."""

    net: str
    spec: Net
    variant: str
    threads: int
    batch: int
    x: np.ndarray
    y: np.ndarray

    @property
    def steps(self) -> int:
        """Full batches of an epoch; an incomplete last one is left out."""
        return len(self.x) // self.batch


def arguments() -> argparse.Namespace:
    """Take the cores; to be called before the library is imported, so that its threads inherit them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("net")
    parser.add_argument("--data", default="")
    parser.add_argument("--variant", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="")
    parser.add_argument("--batch", type=int, default=0)
    given = parser.parse_args()
    if given.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in given.cores.split(",")})
    return given


def start() -> Task:
    """Take the cores and load the samples; see `arguments`."""
    given = arguments()
    spec = NETS[given.net]
    with np.load(given.data) as file:
        x, y = file["x"][: spec.rows], file["y"][: spec.rows]
    x = x.reshape(len(x), -1).astype(np.float32) / 255
    return Task(given.net, spec, given.variant, given.threads, given.batch or spec.batch, x, y.astype(np.int64))


def serve(library: str, epoch: Callable[[str], object], count: int) -> None:
    """Say that all is loaded, then run an epoch for each line until the input ends.

    Args:
        library: its name and version.
        epoch: runs one; it is handed the line. It may return (seconds, count), measured by itself.
        count: what a time is divided by, samples or steps.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    _say(channel, ready=library)
    for line in sys.stdin:
        begun = time.perf_counter()
        own = epoch(line.strip())
        took = time.perf_counter() - begun
        seconds, done = own if isinstance(own, tuple) else (took, count)
        _say(channel, seconds=seconds, count=done)


def _say(channel, **message) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()
