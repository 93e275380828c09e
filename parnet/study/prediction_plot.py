"""Predicted speedups, with what was measured. Stage: study, beside `plots`. Must not know: how runs are made."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..figures import check_suffix, legend_below, plain, save
from .drawing import GREY, LINEAR_WORKERS, LOOKS, error_bars, looks, panels, worker_axis
from .markup import NOTHING, interval, number
from .ways import SERIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .result import Study
    from .simulation import Prediction
    from .statistics import Result


def plot_predictions(
    predictions: dict[str, Prediction],
    path: str | os.PathLike | None = None,
    study: Study | None = None,
    *,
    strategy: str | None = None,
    network: str | None = None,
    batch: int | None = None,
) -> Figure:
    """Predicted speedups as lines, with what was measured as points.

    Args:
        predictions: name -> what `pn.study.simulate` returned.
        path: where to save it as well: `.svg`, `.png` or `.pdf`.
        study: whose points are drawn; strategy: one of its, all by default; network, batch: where there are several.
    """
    check_suffix("plot_predictions", path)
    ax = panels("plot_predictions", 1)[0]
    counts = [1, *(p for made in predictions.values() for p in made.workers)]
    ideal = np.array([1, max(counts)])
    ax.plot(ideal, ideal, color=GREY, linewidth=1, label="ideal")
    serial_s = None if study is None else _serial_step(study, *study._group(network, batch))
    for (name, made), look in zip(predictions.items(), _cycle(len(predictions)), strict=True):
        drawn = {**look, "marker": ""}
        factor = 1.0 if serial_s is None else serial_s / made.one_s
        height = [factor * outcome.speedup for outcome in made.outcomes]
        ax.plot(made.workers, height, label=f"{name}, predicted", linewidth=1.6, **drawn)
    if study is not None:
        curves = study.curves(*study._group(network, batch))
        chosen = {name: found for name, found in curves.items() if strategy in (None, name)}
        for (name, found), look in zip(chosen.items(), _cycle(len(chosen)), strict=True):
            counts += [r.point.workers for r in found]
            points = {**look, "linestyle": "none"}
            error_bars(ax, [r.point.workers for r in found], [r.speedup for r in found], f"{name}, measured", points)
    worker_axis(ax, counts)
    if max(counts) > LINEAR_WORKERS:
        from matplotlib.ticker import StrMethodFormatter

        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set_ylabel("speedup over one worker" if study is None else "speedup over serial")
    plain(ax)
    legend_below(ax)
    return save(ax, path)


#: kind of a strategy -> how its workers add up gradients, as a simulation has it: threads meet at barriers, which cost about
#: log2 p; processes and ranks each take a range of the gradient from all others, as in the first half of a ring
TOPOLOGIES = {"Threads": "tree", "ParameterServer": "ring", "MPI": "ring"}
#: predicted are up to so many times the workers that were measured
FURTHER = 16
#: times whose 95 % intervals are wider than this share of them are mostly noise, which a prediction would only magnify
MOST_SPREAD = 0.5


def predicted(study: Study, network: str, batch: int) -> dict[str, Prediction]:
    """Strategy -> its prediction, for what was measured and for more; of strategies with several numbers of workers."""
    found = {}
    for strategy, members in study.curves(network, batch).items():
        counts = sorted({1, *(r.point.workers for r in members)})
        topology = TOPOLOGIES.get(members[0].point.kind)
        if topology is not None and _is_firm(members):
            counts += [counts[-1] * 2**k for k in range(1, FURTHER.bit_length())]
            found[strategy] = study.simulate(strategy, counts, topology, network=network, batch=batch)
    return found


def unpredictable(study: Study) -> str:
    """Why nothing can be predicted from a study; empty where something can."""
    if any(importlib.util.find_spec(package) is None for package in ("simpy", "scipy")):
        return "expected the packages simpy and scipy, which are not both installed; run: pip install 'parnet[study]'"
    curves = [members for key in study.groups for members in study.curves(*key).values()]
    curves = [members for members in curves if len(members) > 1 and members[0].point.kind in TOPOLOGIES]
    if not curves:
        return "expected several numbers of threads, workers or ranks of a strategy, received one; measure more"
    if not any(map(_is_firm, curves)):
        return (
            f"expected intervals of at most {MOST_SPREAD:.0%} of the times, received wider ones; measure on a quiet machine"
        )
    return ""


def _is_firm(members: list[Result]) -> bool:
    """Whether there are several measured points, and more to them than noise."""
    wide = any(r.epoch.known and r.epoch.high - r.epoch.low > MOST_SPREAD * r.epoch.value for r in members)
    return len(members) > 1 and not wide


def over_serial(study: Study, made: Prediction, network: str, batch: int) -> list[float]:
    """Predicted speedups over the best serial run that was measured."""
    factor = _serial_step(study, network, batch) / made.one_s
    return [factor * outcome.speedup for outcome in made.outcomes]


def draw_predictions(ax: Axes, study: Study, network: str, batch: int) -> None:
    """Measured speedups as points, what the simulation makes of them as lines; grey where this machine has no more cores."""
    curves, found = study.curves(network, batch), predicted(study, network, batch)
    looked = looks(list(curves))
    counts = sorted({1, *(r.point.workers for members in curves.values() for r in members)})
    counts = sorted({*counts, *(count for made in found.values() for count in made.workers)})
    ax.plot(counts, counts, color=GREY, linewidth=1, label="ideal")
    for strategy, members in curves.items():
        if strategy in found:
            made, drawn = found[strategy], {**looked[strategy], "marker": ""}
            height = over_serial(study, made, network, batch)
            ax.plot(made.workers, height, label=f"{strategy}, predicted", linewidth=1.6, **drawn)
        points = {**looked[strategy], "linestyle": "none"}
        error_bars(ax, [r.point.workers for r in members], [r.speedup for r in members], f"{strategy}, measured", points)
    cores = study.machine.get("cores_usable") or 0
    if 0 < cores < counts[-1]:
        ax.axvspan(cores * 2**0.5, counts[-1] * 2**0.25, color="0.93", zorder=0, linewidth=0)
    worker_axis(ax, counts)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlim(counts[0] / 2**0.25, counts[-1] * 2**0.25)
    ax.set_title(f"{network}, batch {batch}{' a worker' if study.design.kind == 'weak' else ''}", fontsize=10)
    ax.set_ylabel(f"{'scaled ' * (study.design.kind == 'weak')}speedup over serial")
    plain(ax)
    legend_below(ax)


def prediction_rows(study: Study) -> tuple[list[str], list[list[str]]]:
    """A table of what is predicted, beside what was measured."""
    head = ["network", "batch", "strategy", "workers", "predicted speedup", "measured"]
    rows: list[list[str]] = []
    if unpredictable(study):
        return head, rows
    for (network, batch), curves in ((key, study.curves(*key)) for key in study.groups):
        for strategy, made in predicted(study, network, batch).items():
            measured = {r.point.workers: interval(r.speedup) for r in curves[strategy]}
            values = zip(made.workers, over_serial(study, made, network, batch), strict=True)
            rows += [[network, str(batch), strategy, str(p), number(value), measured.get(p, NOTHING)] for p, value in values]
    return head, rows


def _serial_step(study: Study, network: str, batch: int) -> float:
    """Seconds of a step of the best serial run."""
    serial = min(
        (r for r in study.groups[network, batch] if r.point.strategy == SERIAL and r.runs), key=lambda r: r.epoch.value
    )
    return serial.epoch.value / -(-serial.point.rows // serial.point.batch)


def _cycle(count: int) -> list[dict[str, Any]]:
    """So many looks, again from the first where there are not enough."""
    return [LOOKS[k % len(LOOKS)] for k in range(count)]
