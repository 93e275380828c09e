"""Pictures of a study: speedup, efficiency, where the time went, accuracy against time, batches. Stage: study.

Measured points have bars of their 95 % intervals; laws are lines through them. Strategies differ in colour, marker and dash,
so that black-and-white print and all eyes can tell them apart. Must not know: how runs are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, unknown_name
from ..figures import BLUE, ORANGE, PINK, SKY, check_suffix, legend_below, plain, save
from .drawing import GREY, LINEAR_WORKERS, cut_off, error_bars, looks, panels, times, worker_axis
from .laws import Fit
from .statistics import Estimate, Result
from .ways import SERIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .result import Study

#: share of the time -> colour and hatch
SHARES = {
    "compute": (BLUE, ""),
    "optimizer": (SKY, "////"),
    "wait": (ORANGE, "...."),
    "communication": (PINK, "xxxx"),
    "rest": ("0.75", ""),
}
Draw = Callable[["Axes", "Study", str, int], None]


def plot(
    study: Study,
    path: str | os.PathLike | None = None,
    kind: str | None = None,
    *,
    network: str | None = None,
    batch: int | None = None,
) -> Figure:
    """One picture, with a panel for each network and batch.

    Args:
        study: what was measured.
        path: where to save it as well: `.svg`, `.png` or `.pdf`.
        kind: "speedup", with the ideal line and the laws; "efficiency"; "time", an epoch stacked by what it was spent on;
            "strategies", side by side; "weak", the time as the work grows with the workers; "accuracy", against seconds of
            training; "batch", a sweep of batch sizes; "prediction", more workers than there are; "residuals", of the laws.
            Left out, speedup where there are several numbers of workers, else strategies.
        network, batch: one of several.
    Raises:
        UnknownNameError: no such kind, network or suffix. DataError: the study has not what the picture needs.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix("study.plot", path)
    kind = default_kind(study) if kind is None else kind
    if kind not in KINDS:
        raise unknown_name("study.plot: kind", kind, KINDS)
    reason = missing(study, kind)
    if reason:
        raise DataError(f"study.plot: {kind!r}: {reason}")
    keys = [key for key in study.groups if network in (None, key[0]) and batch in (None, key[1])]
    if not keys:
        raise unknown_name("study.plot: network and batch", (network, batch), [f"{n}, {b}" for n, b in study.groups])
    if kind == "batch":
        keys = list(dict.fromkeys((name, 0) for name, _ in keys))
    axes = panels(f"study.plot of {kind}", len(keys))
    for ax, key in zip(axes, keys, strict=True):
        KINDS[kind](ax, study, *key)
    return save(axes[0], path)


def default_kind(study: Study) -> str:
    """What a study is drawn as where nobody says."""
    return "speedup" if missing(study, "speedup") == "" else "strategies"


def missing(study: Study, kind: str) -> str:
    """Why a study has no such picture; empty where it has."""
    counts = {p.workers for p in study.design.points}
    if kind in ("speedup", "efficiency", "weak") and len(counts) < 2:
        return "expected several numbers of workers, received one; measure more"
    if kind == "weak" and study.design.kind != "weak":
        return "expected a weak study, received a strong one; measure with kind='weak'"
    if kind == "accuracy" and not any(r.curves for r in study.results):
        return "expected accuracies, received none; measure with test_data="
    if kind == "batch" and len({p.base for p in study.design.points}) < 2:
        return "expected several batch sizes, received one; measure with batch_size=[32, 256, ...]"
    if kind == "prediction":
        from .prediction_plot import unpredictable

        return unpredictable(study)
    if kind == "residuals" and not any(_fits(study, *key) for key in study.groups):
        return "expected a law that could be fitted, received none; measure more numbers of workers"
    return ""


def _strategies(study: Study) -> dict[str, dict[str, Any]]:
    return looks(list(dict.fromkeys(p.strategy for p in study.design.points if p.strategy != SERIAL)))


def _finish(ax: Axes, study: Study, network: str, batch: int, ylabel: str, grid: str = "both") -> None:
    per = " a worker" if study.design.kind == "weak" else ""
    ax.set_title(f"{network}, batch {batch}{per}" if batch else network, fontsize=10)
    ax.set_ylabel(ylabel)
    plain(ax, grid)


def _speedup(ax: Axes, study: Study, network: str, batch: int) -> None:
    curves = study.curves(network, batch)
    counts = [1, *(r.point.workers for members in curves.values() for r in members)]
    most = max(counts)
    ideal = np.array(sorted({1, *counts}))
    ax.plot(ideal, ideal, color=GREY, linewidth=1, label="ideal")
    ax.axhline(1, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    fine = np.geomspace(1, most, 200)
    fits = _fits(study, network, batch)
    for strategy, members in curves.items():
        look = _strategies(study)[strategy]
        points = [r.point.workers for r in members]
        laws = fits.get(strategy, {})
        error_bars(ax, points, [r.speedup for r in members], strategy, look | ({"linestyle": "none"} if laws else {}))
    for strategy, laws in fits.items():
        look, members = _strategies(study)[strategy], curves[strategy]
        for style, made in zip(("-", "--"), laws.values(), strict=False):
            height = made.at(fine) / _unit(made, members)
            ax.plot(fine, height, color=look["color"], linestyle=style, linewidth=1.1, label=f"{strategy}, {made.law.name}")
    worker_axis(ax, counts)
    if most > LINEAR_WORKERS:
        ax.set_yscale("log", base=2)
        from matplotlib.ticker import StrMethodFormatter

        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        ax.set_ylim(0, None)
        cut_off(ax, _coloured(study, curves, lambda r: r.speedup), most)
    name = "scaled speedup over serial" if study.design.kind == "weak" else "speedup over serial"
    _finish(ax, study, network, batch, name)
    drawn = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda one: "," in one[1])
    legend_below(ax, *(list(part) for part in zip(*drawn, strict=True)))


def _coloured(
    study: Study, curves: dict[str, list[Result]], value: Callable[[Result], Estimate]
) -> list[tuple[float, Estimate, str]]:
    """Points for `cut_off`."""
    looked = _strategies(study)
    return [(r.point.workers, value(r), looked[name]["color"]) for name, members in curves.items() for r in members]


def _unit(made: Fit, members: list[Result]) -> float:
    """What the law's values are divided by to be speedups: a throughput, or 1."""
    if made.law.quantity == "speedup":
        return 1.0
    return members[0].rate.value / members[0].speedup.value


def _fits(study: Study, network: str, batch: int) -> dict[str, dict[str, Fit]]:
    found = {}
    for strategy, made in study.fits(network, batch).items():
        good = {name: one for name, one in made.items() if isinstance(one, Fit)}
        if good:
            found[strategy] = good
    return found


def _efficiency(ax: Axes, study: Study, network: str, batch: int) -> None:
    curves = study.curves(network, batch)
    ax.axhline(100, color=GREY, linewidth=1, label="ideal")
    counts = [1]
    for strategy, members in curves.items():
        values = [times(100, r.efficiency) for r in members]
        counts += [r.point.workers for r in members]
        error_bars(ax, [r.point.workers for r in members], values, strategy, _strategies(study)[strategy])
    worker_axis(ax, counts)
    ax.set_ylim(0, None)
    cut_off(ax, _coloured(study, curves, lambda r: times(100, r.efficiency)), 100)
    _finish(ax, study, network, batch, "efficiency, %")
    legend_below(ax)


def _bars(study: Study, network: str, batch: int) -> list[Result]:
    """The results that are drawn as bars."""
    return [r for r in study.groups[network, batch] if r.runs]


def _bar_ticks(ax: Axes, members: list[Result]) -> None:
    """The number of workers under each bar, and the strategy's name under all of its bars."""
    groups: dict[str, list[int]] = {}
    for place, result in enumerate(members):
        groups.setdefault(result.point.strategy, []).append(place)
    labels = {float(k): "" if r.point.strategy == SERIAL else str(r.point.workers) for k, r in enumerate(members)}
    for name, places in groups.items():
        middle = (places[0] + places[-1]) / 2
        labels[middle] = f"{labels.get(middle, '')}\n{name}"
    ax.set_xticks(list(labels), list(labels.values()), fontsize=8)
    ax.tick_params(axis="x", length=0)


def _unit_of(values: Sequence[float]) -> tuple[float, str]:
    """What seconds are multiplied by to be read well, and the unit."""
    most = max(values, default=1.0)
    return (1.0, "s") if most >= 1 else (1e3, "ms") if most >= 1e-3 else (1e6, "µs")


def _time(ax: Axes, study: Study, network: str, batch: int) -> None:
    members = _bars(study, network, batch)
    factor, unit = _unit_of([r.epoch.value for r in members])
    places, bottom = np.arange(len(members)), np.zeros(len(members))
    attributes = dict(zip(SHARES, ("compute", "update", "wait", "comm", "other"), strict=True))
    for name, attribute in attributes.items():
        height = np.array([getattr(r, attribute) * r.epoch.value * factor for r in members])
        if height.max(initial=0) > 0.002 * max(r.epoch.value * factor for r in members):
            colour, hatch = SHARES[name]
            ax.bar(places, height, 0.65, bottom=bottom, color=colour, hatch=hatch, edgecolor="white", label=name)
            bottom += height
    _bar_ticks(ax, members)
    _finish(ax, study, network, batch, f"epoch, {unit}", grid="y")
    ax.set_ylim(0, 1.05 * bottom.max(initial=0))
    legend_below(ax)


def _side(ax: Axes, study: Study, network: str, batch: int) -> None:
    members = _bars(study, network, batch)
    factor, unit = _unit_of([r.epoch.value for r in members])
    looked = _strategies(study)
    ax.set_ylim(0, 1.12 * max(max(r.times) * factor for r in members))
    end = cut_off(ax, [(k, times(factor, r.epoch), "black") for k, r in enumerate(members)])
    for place, result in enumerate(members):
        colour = GREY if result.point.strategy == SERIAL else looked[result.point.strategy]["color"]
        ax.bar(place, result.epoch.value * factor, 0.65, color=colour, alpha=0.85)
        raw = np.array(result.times) * factor
        spread = np.linspace(-0.15, 0.15, len(raw)) if len(raw) > 1 else np.zeros(1)
        ax.plot(place + spread, raw, ".", color="black", markersize=3.5, zorder=4)
        scaled = times(factor, result.epoch)
        error_bars(ax, [place], [scaled], "", {"color": "black", "marker": "", "linestyle": "none"})
        top = max(raw.max(), scaled.high if scaled.known else 0)
        top, left = (scaled.value, -12) if top > end else (top, 0)  # beside a bar that is cut off
        ax.annotate(f"{scaled.value:.3g}", (place, top), (left, 4), textcoords="offset points", ha="center", fontsize=8)
    _bar_ticks(ax, members)
    _finish(ax, study, network, batch, f"epoch, {unit} (dots: single runs)", grid="y")


def _weak(ax: Axes, study: Study, network: str, batch: int) -> None:
    curves, members = study.curves(network, batch), study.groups[network, batch]
    factor, unit = _unit_of([r.epoch.value for r in members])
    serial = next((r for r in members if r.point.strategy == SERIAL), None)
    if serial is not None:
        ax.axhline(serial.epoch.value * factor, color=GREY, linewidth=1, label="ideal: as long as serial")
    counts = [1]
    for strategy, found in curves.items():
        values = [times(factor, r.epoch) for r in found]
        counts += [r.point.workers for r in found]
        error_bars(ax, [r.point.workers for r in found], values, strategy, _strategies(study)[strategy])
    worker_axis(ax, counts)
    ax.set_ylim(0, None)
    cut_off(ax, _coloured(study, curves, lambda r: times(factor, r.epoch)))
    _finish(ax, study, network, batch, f"epoch, {unit} (work grows with the workers)")
    legend_below(ax)


def _accuracy(ax: Axes, study: Study, network: str, batch: int) -> None:
    looked, counts = _strategies(study), {name: len(found) for name, found in study.curves(network, batch).items()}
    seen: dict[str, int] = {}
    for result in study.groups[network, batch]:
        if not result.curves:
            continue
        length = min(len(curve) for curve in result.curves)
        values = np.array([curve[:length] for curve in result.curves], float)
        seconds, accuracy = np.median(values[:, :, 0], axis=0), np.median(values[:, :, 1], axis=0)
        look = looked.get(result.point.strategy, {"color": GREY, "marker": "x", "linestyle": "-"})
        rank = seen[result.point.strategy] = seen.get(result.point.strategy, 0) + 1
        alpha = 0.25 + 0.75 * rank / counts.get(result.point.strategy, 1) if result.point.strategy in counts else 1.0
        name = SERIAL if result.point.strategy == SERIAL else f"{result.point.strategy} {result.point.workers}"
        ax.plot(seconds, 100 * accuracy, label=name, markersize=4, linewidth=1.4, alpha=min(1.0, alpha), **look)
    if study.design.target is not None:
        ax.axhline(100 * study.design.target, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    ax.set_xlabel("training time, s")
    ax.set_xlim(0, None)
    _finish(ax, study, network, batch, "accuracy on the test samples, %")
    legend_below(ax)


def _batch(ax: Axes, study: Study, network: str, _: int) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    lines: dict[tuple[str, int], list[Result]] = {}
    for (name, _batch_size), members in study.groups.items():
        for result in members:
            if name == network and result.runs:
                lines.setdefault((result.point.strategy, result.point.workers), []).append(result)
    looked = looks([f"{strategy} {workers}" for strategy, workers in lines if strategy != SERIAL])
    for (strategy, workers), found in lines.items():
        name = SERIAL if strategy == SERIAL else f"{strategy} {workers}"
        look = looked.get(name, {"color": GREY, "marker": "x", "linestyle": "-"})
        values = [times(1e-3, r.rate) for r in found]
        error_bars(ax, [r.point.base for r in found], values, name, look)
    batches = sorted({r.point.base for found in lines.values() for r in found})
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(batches))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set_xlabel("batch" + (" of a worker" if study.design.kind == "weak" else ""))
    ax.set_ylim(0, None)
    _finish(ax, study, network, 0, "thousand samples a second")
    legend_below(ax)


def _residuals(ax: Axes, study: Study, network: str, batch: int) -> None:
    ax.axhline(0, color=GREY, linewidth=1)
    counts = [1]
    for strategy, laws in _fits(study, network, batch).items():
        look = _strategies(study)[strategy]
        for marker, made in zip((look["marker"], "x"), laws.values(), strict=False):
            relative = 100 * np.array(made.residuals) / np.array(made.measured)
            counts += [int(p) for p in made.workers]
            drawn = {"color": look["color"], "linestyle": "none", "markersize": 4, "alpha": 0.7}
            ax.plot(made.workers, relative, marker=marker, label=f"{strategy}, {made.law.name}", **drawn)
    worker_axis(ax, counts)
    _finish(ax, study, network, batch, "measured less fitted, %")
    legend_below(ax)


def _prediction(ax: Axes, study: Study, network: str, batch: int) -> None:
    from .prediction_plot import draw_predictions

    draw_predictions(ax, study, network, batch)


KINDS: dict[str, Draw] = {
    "speedup": _speedup,
    "efficiency": _efficiency,
    "time": _time,
    "strategies": _side,
    "weak": _weak,
    "accuracy": _accuracy,
    "batch": _batch,
    "residuals": _residuals,
    "prediction": _prediction,
}


def all_kinds(study: Study) -> list[str]:
    """The pictures that a report of this study shows, in order."""
    wanted = ["strategies", "speedup", "efficiency", "weak", "time", "accuracy", "batch", "prediction", "residuals"]
    return [kind for kind in wanted if not missing(study, kind)]
