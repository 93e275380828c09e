"""What the pictures of a study share: looks of strategies, bars of intervals, axes. Stage: study. Must not know: studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..figures import BLUE, GREEN, ORANGE, PINK, RED, SKY, new_figure
from .markup import number
from .statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = (5.0, 4.1)
MOST_COLUMNS = 3
GREY = "0.45"
#: how the strategies are drawn, in the order in which they come
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "marker": "o", "linestyle": "-"},
    {"color": RED, "marker": "s", "linestyle": "--"},
    {"color": GREEN, "marker": "^", "linestyle": "-."},
    {"color": PINK, "marker": "D", "linestyle": ":"},
    {"color": ORANGE, "marker": "v", "linestyle": "-"},
    {"color": SKY, "marker": "P", "linestyle": "--"},
)
#: up to so many workers the axis is linear
LINEAR_WORKERS = 16
#: an axis ends here, times the largest median, where an interval goes more than twice as far: one bad run must not flatten
#: all the others
CUT = 1.5


def panels(where: str, count: int) -> list[Axes]:
    """That many axes in a new figure, at most three side by side."""
    columns = min(count, MOST_COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(where, columns * PANEL[0], rows * PANEL[1])
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    return [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A look for each strategy; the same for a strategy wherever it is drawn."""
    return {name: LOOKS[k % len(LOOKS)] for k, name in enumerate(names)}


def error_bars(ax: Axes, x: Sequence[float], values: Sequence[Estimate], label: str, look: dict[str, Any]) -> None:
    """Points with the bars of their intervals."""
    y = np.array([v.value for v in values])
    below = [v.value - v.low if v.known else 0.0 for v in values]
    above = [v.high - v.value if v.known else 0.0 for v in values]
    ax.errorbar(x, y, yerr=np.maximum([below, above], 0), label=label, capsize=3, markersize=5, linewidth=1.6, **look)


def cut_off(ax: Axes, points: Sequence[tuple[float, Estimate, str]], least: float = 0.0) -> float:
    """End the axis where bars go far beyond all medians, and write how far they go. Returns the end, or infinity.

    Args:
        points: place, value and colour of each bar.
        least: what must be seen besides.
    """
    points = [point for point in points if math.isfinite(point[1].value)]
    end = CUT * max([value.value for _, value, _ in points] + [least])
    if not points or max(value.high if value.known else 0.0 for _, value, _ in points) <= 2 * end:
        return np.inf
    ax.set_ylim(0, end)
    beyond: dict[float, int] = {}
    for x, value, colour in points:
        if value.known and value.high > end:
            rank = beyond[x] = beyond.get(x, -1) + 1
            ax.annotate(
                f"↑ {number(value.high)}", (x, end), (3, -2 - 9 * rank), textcoords="offset points", color=colour,
                fontsize=7, va="top", ha="left", zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
    return end


def worker_axis(ax: Axes, counts: Sequence[int], noun: str = "workers") -> None:
    """Ticks at the numbers of workers; logarithmic where they are many."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    places = sorted(set(counts))
    if places[-1] > LINEAR_WORKERS:
        ax.set_xscale("log", base=2)
        kept = [p for p in places if p & (p - 1) == 0] or places
    else:
        kept = places
    ax.xaxis.set_major_locator(FixedLocator(kept))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set_xlabel(noun)


def times(factor: float, estimate: Estimate) -> Estimate:
    """An estimate in another unit."""
    return Estimate(*(factor * v for v in (estimate.value, estimate.low, estimate.high)))
