"""Predicted speedups, with what was measured. Stage: study, beside `plots`. Must not know: how runs are made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..figures import check_suffix, plain, save
from .plots import GREY, LINEAR_WORKERS, LOOKS, error_bars, panels, worker_axis
from .ways import SERIAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Study
    from .simulation import Prediction


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
    ax.legend(edgecolor="none", fontsize=8)
    return save(ax, path)


def _serial_step(study: Study, network: str, batch: int) -> float:
    """Seconds of a step of the best serial run."""
    serial = min(
        (r for r in study.groups[network, batch] if r.point.strategy == SERIAL and r.runs), key=lambda r: r.epoch.value
    )
    return serial.epoch.value / -(-serial.point.rows // serial.point.batch)


def _cycle(count: int) -> list[dict[str, Any]]:
    """So many looks, again from the first where there are not enough."""
    return [LOOKS[k % len(LOOKS)] for k in range(count)]
