"""From raw times to the numbers of the tables: medians with bootstrap intervals, speedup, efficiency, shares. Stage: study.

Intervals: percentile bootstrap of the median (Efron, Tibshirani: "An introduction to the bootstrap", 1993, chapter 13).
Serial fraction: A. H. Karp, H. P. Flatt, "Measuring parallel processor performance", CACM 33 (1990), 539.
Must not know: processes, files, pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .design import Design, Point
from .records import Records

CONFIDENCE, RESAMPLES = 0.95, 10_000
#: of the bootstrap, so that a table comes out the same each time it is made
SEED = 20211


@dataclass(frozen=True)
class Estimate:
    """A number and the interval it lies in with 95 % confidence; NaN bounds where one run alone cannot tell."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def width(self) -> float:
        """Of the interval, relative to the value."""
        return (self.high - self.low) / abs(self.value) if self.known and self.value else math.nan

    def overlaps(self, other: Estimate) -> bool:
        """Whether the intervals share a number."""
        return self.known and other.known and self.low <= other.high and other.low <= self.high


def resampled_medians(values: Sequence[float], seed: int = SEED) -> np.ndarray:
    """(RESAMPLES,) medians of samples drawn with replacement."""
    given = np.asarray(values, float)
    drawn = np.random.default_rng(seed).integers(0, len(given), (RESAMPLES, len(given)))
    return np.median(given[drawn], axis=1)


def median(values: Sequence[float]) -> Estimate:
    """The median and its interval."""
    if len(values) < 2:
        return Estimate(float(values[0])) if len(values) else Estimate(math.nan)
    return Estimate(float(np.median(values)), *bounds(resampled_medians(values)))


def ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """median(above) / median(below) and its interval; the two are drawn independently."""
    if not len(above) or not len(below):
        return Estimate(math.nan)
    value = float(np.median(above) / np.median(below))
    if len(above) < 2 or len(below) < 2:
        return Estimate(value)
    return Estimate(value, *bounds(resampled_medians(above) / resampled_medians(below, SEED + 1)))


def bounds(values: np.ndarray) -> tuple[float, float]:
    """The middle CONFIDENCE of many values."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def karp_flatt(speedup: float, workers: int) -> float:
    """The serial fraction that Amdahl's law would need for this speedup; NaN for one worker.

    e = (1/S - 1/p) / (1 - 1/p)
    """
    return (1 / speedup - 1 / workers) / (1 - 1 / workers) if workers > 1 and speedup > 0 else math.nan


@dataclass(frozen=True)
class Result:
    """What the runs of one point say.

    Attributes:
        point: the configuration. runs: how many succeeded; failures: why others did not.
        times: raw seconds of an epoch, one a run (the median of the run's epochs).
        epoch: their median, seconds.
        speedup: over the best serial run of the same network and batch; in a weak study scaled by the workers.
        relative: over one worker of the same strategy.
        efficiency: speedup / workers.
        karp_flatt: the serial fraction; the interval is that of the speedup.
        rate: samples a second.
        compute, wait, comm, update, other: shares of the epoch that add up to 1.
        gflops: billions of operations a second, and peak: their share of the product's own speed, NaN if not measured.
        gbytes: billions of bytes a second that the plan moves between memory and kernels, by its own count.
        comm_bytes: between processes in an epoch.
        memory_mib: peak. compile_s, setup_s: before the first epoch.
        target: seconds to the accuracy that was asked for; NaN if not reached.
        weights: digests of the final weights.
        other_cores: cores that other processes used, the median over the runs.
    """

    point: Point
    runs: int
    failures: tuple[str, ...]
    times: tuple[float, ...]
    epoch: Estimate
    speedup: Estimate
    relative: Estimate
    efficiency: Estimate
    karp_flatt: Estimate
    rate: Estimate
    compute: float
    wait: float
    comm: float
    update: float
    other: float
    gflops: float
    peak: float
    gbytes: float
    comm_bytes: float
    memory_mib: float
    compile_s: float
    setup_s: float
    target: Estimate
    weights: tuple[str, ...]
    other_cores: float
    curves: tuple = field(default=(), repr=False)


def results(records: Records) -> list[Result]:
    """One for each point, in the design's order."""
    groups: dict[str, list[dict]] = {Records.key(point): [] for point in records.design.points}
    for run in records.runs:
        groups.setdefault(Records.key(run["point"]), []).append(run)
    good = {key: [run for run in runs if "failure" not in run] for key, runs in groups.items()}
    times = {key: epoch_times(runs) for key, runs in good.items()}
    return [_result(point, records, groups, good, times) for point in records.design.points]


def epoch_times(runs: list[dict]) -> tuple[float, ...]:
    """Seconds of an epoch, one number a run."""
    return tuple(float(np.median(run["epochs_s"])) for run in runs)


def _result(point: Point, records: Records, groups: dict, good: dict, times: dict) -> Result:
    key, design = Records.key(point), records.design
    mine, runs = times[key], good[key]
    serial = best_serial(point, design, times)
    single = next((times[Records.key(p)] for p in design.points if _alike(p, point) and p.workers == 1), ())
    scale = point.workers if design.kind == "weak" else 1
    speedup, relative = (_scaled(ratio(base, mine), scale) for base in (serial, single))
    e = Estimate(*(karp_flatt(s, point.workers) for s in (speedup.value, speedup.high, speedup.low)))
    epoch = median(mine)
    shares = _shares(runs)
    gflops = 1e-9 * _middle(runs, "flops") / epoch.value
    peaks = [run["peak_gflops"] for run in runs if "peak_gflops" in run]
    return Result(
        point,
        len(runs),
        tuple(run["failure"] for run in groups[key] if "failure" in run),
        mine,
        epoch,
        speedup,
        relative,
        _scaled(speedup, 1 / point.workers),
        e,
        Estimate(*(point.rows / t for t in (epoch.value, epoch.high, epoch.low))),
        *shares,
        gflops,
        gflops / float(np.median(peaks)) if peaks else math.nan,
        1e-9 * _middle(runs, "bytes") / epoch.value,
        _middle(runs, "comm_bytes"),
        _middle(runs, "memory_mib"),
        _middle(runs, "compile_s"),
        _middle(runs, "setup_s"),
        _to_target(runs, design.target),
        tuple(dict.fromkeys(run["weights"] for run in runs)),
        _middle(runs, "other_cores"),
        tuple(run["curve"] for run in runs if run.get("curve")),
    )


def best_serial(point: Point, design: Design, times: dict) -> tuple[float, ...]:
    """The times of the fastest serial point of the same network and batch."""
    found = [
        times[Records.key(p)]
        for p in design.points
        if p.kind == "Serial" and (p.network, p.base) == (point.network, point.base) and times[Records.key(p)]
    ]
    return min(found, key=lambda one: float(np.median(one)), default=())


def _alike(a: Point, b: Point) -> bool:
    return (a.network, a.strategy, a.base) == (b.network, b.strategy, b.base)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor)


def _middle(runs: list[dict], name: str) -> float:
    """The median of one number over the runs that have it."""
    found = [run[name] for run in runs if run.get(name) is not None]
    return float(np.median(found)) if found else math.nan


def _shares(runs: list[dict]) -> tuple[float, float, float, float, float]:
    """Compute, wait, communication, update and the rest: means of the runs' own, so that a slow run counts as any other."""
    if not runs:
        return (math.nan,) * 5
    compute, wait, comm, update, other = np.mean([_shares_of(run) for run in runs], axis=0).tolist()
    return compute, wait, comm, update, other


def _shares_of(run: dict) -> tuple[float, float, float, float, float]:
    """Of one run, over its timed epochs."""
    seconds = sum(run["epochs_s"])
    spent, wait, comm = (sum(run[name]) / seconds for name in ("run_s", "wait_s", "comm_s"))
    own = max(0.0, spent - wait - comm)
    update = min(run["update_s"] * len(run["epochs_s"]) / seconds, own)
    return own - update, wait, comm, update, max(0.0, 1 - spent)


def _to_target(runs: list[dict], target: float | None) -> Estimate:
    """Seconds of training until the accuracy was reached; NaN unless every run reached it."""
    if target is None:
        return Estimate(math.nan)
    firsts = [next((t for t, accuracy in run["curve"] if accuracy >= target), math.nan) for run in runs]
    return median(firsts) if firsts and all(map(math.isfinite, firsts)) else Estimate(math.nan)
