"""What may have spoilt a study, in words. Stage: study. Must not know: how runs are made."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .markup import number, percent
from .result import Study
from .statistics import Result

#: cores that others may use, and the share by which a frequency may move, before it is said
OTHER_CORES, DRIFT = 0.15, 0.1
#: an interval wider than this is a noisy measurement
WIDE = 0.2
#: shortest timed epoch that is trusted, seconds
SHORT_S = 0.01


def doubts(study: Study) -> list[str]:
    """Sentences; empty where nothing was seen."""
    found = [*_machine(study), *_load(study), *_runs(study), *_intervals(study), *_drift(study)]
    return list(dict.fromkeys(found))


def _machine(study: Study) -> Iterator[str]:
    machine, points = study.machine, study.design.points
    most = max(p.workers for p in points)
    physical, usable = machine.get("cores_physical"), machine.get("cores_usable")
    if usable and most > usable:
        yield (
            f"Up to {most} workers shared {usable} usable cores: beyond {usable} the curves show what sharing a core "
            "costs, not "
            "what another core would gain."
        )
    elif physical and most > physical:
        yield (
            f"Up to {most} workers ran on {physical} physical cores: beyond {physical} two of them share the units of one "
            "core, "
            "which gains less than a core."
        )
    quota = machine.get("quota")
    if quota and most > quota:
        yield (
            f"The process may use {quota:g} cores' worth of time (cgroup quota): more workers than that are stopped in turn."
        )
    if machine.get("governor") not in (None, "performance"):
        yield (
            f"The processor's frequency follows the load (governor {machine['governor']!r}): serial runs may have run at "
            "a higher "
            "frequency than parallel ones."
        )
    elif machine.get("boost"):
        yield (
            "The processor may raise its frequency when few cores work (boost): serial runs gain more from it than "
            "parallel ones."
        )


def _load(study: Study) -> Iterator[str]:
    busy = [run["other_cores"] for run in study.runs if run.get("other_cores") is not None]
    if busy and max(busy) > OTHER_CORES:
        count = sum(value > OTHER_CORES for value in busy)
        yield (
            f"Other processes used up to {number(max(busy), 2)} cores during {count} of {len(busy)} runs; measure on a "
            "quiet "
            "machine."
        )
    elif not busy:
        load = (study.machine.get("load") or [0.0])[0]
        cores = study.machine.get("cores_usable") or 1
        if load > 0.5 * cores:
            yield f"The load average was {load:.1f} on {cores} cores when the study began; measure on a quiet machine."


def _runs(study: Study) -> Iterator[str]:
    short = [r for r in study.results if r.epoch.value < SHORT_S]
    if short:
        least = min(short, key=lambda r: r.epoch.value)
        yield (
            f"Epochs of {len(short)} of {len(study.results)} configurations are too short to be timed well; the shortest, "
            f"of {least.point.name}, lasts {1e3 * least.epoch.value:.2g} ms. Give more samples, so that an epoch lasts "
            f"{1e3 * SHORT_S:g} ms or more."
        )
    single = [r for r in study.results if r.runs == 1]
    if single:
        yield (
            f"One run says nothing of its spread: {len(single)} of {len(study.results)} configurations have no interval; "
            "use repeats of 5 or more."
        )
    for result in study.results:
        if result.failures:
            count = len(result.failures)
            yield f"{result.point.name}: {count} run{'s' * (count > 1)} failed; the last: {result.failures[-1]}."
        if result.point.kind in ("Serial", "Threads") and len(result.weights) > 1:
            yield f"{result.point.name}: its runs ended in different weights, which they should not."


def _intervals(study: Study) -> Iterator[str]:
    wide = [r for r in study.results if r.epoch.width > WIDE]
    if wide:
        worst = max(wide, key=lambda r: r.epoch.width)
        yield (
            f"The 95 % interval of the time is wider than {percent(WIDE)} of the time for {len(wide)} of "
            f"{len(study.results)} configurations, widest for {worst.point.name} ({percent(worst.epoch.width)}); more "
            "repeats, or a quieter machine, would narrow it."
        )
    parallel = [r for r in study.results if r.point.workers > 1 and r.speedup.known]
    unsure = [r.point.name for r in parallel if r.speedup.low < 1 < r.speedup.high]
    if unsure:
        yield f"Whether they are faster than serial cannot be told from these runs: {'; '.join(unsure)}."


def _drift(study: Study) -> Iterator[str]:
    """Whether the machine became slower or faster from round to round, by the same runs."""
    rounds: dict[int, list[float]] = {}
    for result, runs in _by_result(study):
        middle = result.epoch.value
        for run in runs:
            rounds.setdefault(run["round"], []).append(float(np.median(run["epochs_s"])) / middle)
    if len(rounds) < 3:
        return
    levels = [float(np.median(values)) for _, values in sorted(rounds.items())]
    slope = float(np.polyfit(range(len(levels)), levels, 1)[0]) * (len(levels) - 1)
    if math.isfinite(slope) and abs(slope) > DRIFT:
        word = "slower" if slope > 0 else "faster"
        yield (
            f"The machine became {percent(abs(slope))} {word} from the first round to the last; the order of the runs is "
            "shuffled, "
            "so all configurations met this alike."
        )


def _by_result(study: Study) -> Iterator[tuple[Result, list[dict]]]:
    for result in study.results:
        config = result.point.config()
        yield result, [run for run in study.runs if run["point"] == config and "failure" not in run]
