"""How anything is timed here: contenders in turn, medians with their spread.

Times of one contender are never compared with times of another taken minutes later: in each round every
contender runs once, so that a slow spell of the machine meets all of them. Must not know: what is measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: a contender: runs once and returns what it took
Contender = Callable[[], float]


@dataclass(frozen=True)
class Summary:
    """Of repeated values of one kind.

    Attributes:
        median, minimum: in the values' unit.
        spread: distance of the quartiles.
        samples: how many values there were.
    """

    median: float
    minimum: float
    spread: float
    samples: int


def summarize(values: Sequence[float]) -> Summary:
    """Median, minimum and spread; values that are no numbers (a contender that failed) are left out."""
    kept = [float(v) for v in values if math.isfinite(v)]
    if not kept:
        return Summary(math.nan, math.nan, math.nan, 0)
    low, median, high = np.percentile(kept, [25, 50, 75])
    return Summary(float(median), min(kept), float(high - low), len(kept))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """Of ours / theirs, round by round: what a slow spell did to both cancels.

    Raises:
        ValueError: not equally many.
    """
    return summarize([a / b if b else math.nan for a, b in zip(ours, theirs, strict=True)])


def seconds(call: Callable[[], object]) -> Contender:
    """A contender that takes the wall-clock seconds of a call."""

    def run() -> float:
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun

    return run


def in_turn(contenders: Mapping[str, Contender], rounds: int, warmups: int = 1) -> dict[str, list[float]]:
    """Every contender once a round, in order. Returns the values by name, without the warm-up rounds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(warmups + rounds):
        for name, run in contenders.items():
            times[name].append(run())
    return {name: values[warmups:] for name, values in times.items()}


def pedantic(
    benchmark, main: str, contenders: Mapping[str, Contender], rounds: int, warmups: int = 1
) -> dict[str, list[float]]:
    """`in_turn`, with the contender `main` under pytest-benchmark's clock too; the others are its set-up.

    With --benchmark-disable there is one round.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}

    def others() -> None:
        for name, run in contenders.items():
            if name != main:
                times[name].append(run())

    def target() -> None:
        times[main].append(contenders[main]())

    benchmark.pedantic(target, setup=others, rounds=rounds, warmup_rounds=warmups, iterations=1)
    return {name: values[warmups:] or values for name, values in times.items()}
