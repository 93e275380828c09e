"""How anything is timed here: contenders in turn, medians with their spread, and who else used the machine.

Times of one contender are never compared with times of another taken minutes later: in each round every
contender runs once, so that a slow spell of the machine meets all of them. Must not know: what is measured.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

try:
    import psutil
except ImportError:  # the meter then says None
    psutil = None

#: seconds below which the system's counters of busy time, in hundredths, say nothing
SHORTEST_S = 0.5

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


class Meter:
    """How much processor time others took since it was made, in cores.

    The machine's busy time, stolen time included, less that of this process and of all its children.
    """

    def __init__(self) -> None:
        self._begun, self._busy, self._own = time.perf_counter(), _busy(), _own()

    def other(self) -> float | None:
        """Cores that others used; None where the system does not tell, or the time was too short."""
        wall = time.perf_counter() - self._begun
        if self._busy is None or self._own is None or wall < SHORTEST_S:
            return None
        return max(0.0, ((_busy() or 0.0) - self._busy - ((_own() or 0.0) - self._own)) / wall)


def _busy() -> float | None:
    """Seconds that all cores have been busy."""
    if psutil is None:
        return None
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(times, name, 0.0) for name in names)


def _own() -> float | None:
    """Processor seconds of this process and its children, living or gone."""
    if psutil is None:
        return None
    gone = os.times()
    total = gone.user + gone.system + gone.children_user + gone.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total
