"""The roofline of a model: each kernel's speed beside what the processor and its memory allow. Stage: study, outermost.

Source: S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model", 2009.
Must not know: how times are taken.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import figures
from ..errors import DataError
from ..model import Model
from ..timeline import COLOURS
from .costs import Cost, Profile, profile
from .peaks import Peaks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHERE = "pn.study.roofline"
#: phase -> marker, so that phases differ in black and white too
MARKERS = {"input": "v", "forward": "o", "loss": "D", "backward": "s", "update": "^"}
#: kind of memory -> how its roof is drawn
ROOFS = {"L1": ":", "L2": "--", "memory": "-"}
INCHES = (8.4, 5.4)
#: names of kernels that are written beside their points, those that take most time
NAMED = 7
NAME_POINTS = 7.0
#: where a name may stand above its point, in points
DROPS = (-4, -14, 6, -24, 16, -34, 26, -44, 36)
#: a point's area, square points: of a kernel that takes no time, and of one that takes all
AREAS = (14.0, 420.0)


@dataclass(frozen=True)
class Roofline:
    """See `roofline`.

    Attributes:
        profile: the times of every step.
        points: the kernels that compute: a Cost for each layer, phase and kernel.
    """

    profile: Profile
    points: tuple[Cost, ...]

    @property
    def peaks(self) -> Peaks:
        """What the machine can do at most."""
        return self.profile.peaks

    def bound(self, cost: Cost) -> str:
        """What limits a kernel whose operands come from memory: "memory" or "compute"."""
        return "memory" if self.peaks.roof(cost.intensity) < self.peaks.gflops else "compute"

    def plot(self, path: str | os.PathLike | None = None) -> Figure:
        """The picture, both axes logarithmic; a point's area is its share of the batch's time.

        Args:
            path: where to save it: `.svg`, `.png` or `.pdf`.
        Raises:
            UnknownNameError: another suffix. MissingExtraError: matplotlib is not installed.
        """
        figures.check_suffix(WHERE, path)
        figure = figures.new_figure(WHERE, *INCHES)
        ax = figure.add_subplot()
        _draw_points(ax, self)
        _draw_roofs(ax, self.peaks)
        _label(ax, self.profile)
        figure.canvas.draw()  # the layout moves the axes, and names are placed by pixels
        _write_names(ax, self)
        return figures.save(figure, path)


def roofline(
    model: Model | Profile, x: Any = None, y: Any = None, *, path: str | os.PathLike | None = None, **how: Any
) -> Roofline:
    """Place every kernel of the plan under the roofs that peak and bandwidth make, both measured in this process.

    Operations and bytes are those of the plan, each operand counted once. Points between the roofs of memory and of a cache
    found their operands in that cache; points far below the roofs wait for something else.

    Args:
        model, x, y, and by name batch_size, strategy, purpose, limit_s, print_fn: as of `profile`, which prints nothing
            here; or what `profile` returned, and nothing else.
        path: where to save the picture: `.svg`, `.png` or `.pdf`.
    Raises:
        as `profile`; UnknownNameError: another suffix. MissingExtraError: matplotlib is not installed.
        DataError: no step of the plan computes anything.
    """
    figures.check_suffix(WHERE, path)
    measured = model if isinstance(model, Profile) else profile(model, x, y, **{"print_fn": None} | how)
    points = tuple(cost for cost in measured.steps if cost.flops > 0 and cost.bytes > 0 and cost.seconds > 0)
    if not points:
        raise DataError(f"{WHERE}: expected a model that computes, received one whose plan only moves numbers")
    found = Roofline(measured, points)
    if path is not None:
        found.plot(path)
    return found


def _draw_points(ax: Axes, found: Roofline) -> None:
    """One marker a kernel."""
    least, most = AREAS
    for phase, marker in MARKERS.items():
        mine = [cost for cost in found.points if cost.phase == phase]
        if mine:
            areas = [least + (most - least) * found.profile.share(cost) for cost in mine]
            x, y = [cost.intensity for cost in mine], [cost.gflops for cost in mine]
            ax.scatter(x, y, areas, color=COLOURS[phase], marker=marker, edgecolors="black", linewidths=0.6, zorder=3)
            ax.scatter([], [], 40, color=COLOURS[phase], marker=marker, edgecolors="black", linewidths=0.6, label=phase)


def _write_names(ax: Axes, found: Roofline) -> None:
    """The slowest kernels by name, each where it covers no name and no point before it."""
    slowest = sorted(found.points, key=lambda cost: cost.seconds, reverse=True)[:NAMED]
    points = [ax.transData.transform((cost.intensity, cost.gflops)) for cost in found.points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    to_pixels = ax.figure.dpi / 72
    right = ax.transAxes.transform((1, 1))[0]
    for cost in slowest:
        text = f"{cost.layer}: {cost.kernels[0]} ({100 * found.profile.share(cost):.0f} %)"
        x, y = ax.transData.transform((cost.intensity, cost.gflops))
        width, height = 0.56 * NAME_POINTS * len(text) * to_pixels, 1.2 * NAME_POINTS * to_pixels
        sides = [1] if x + width < right else [-1]
        for side, drop in ((side, drop) for drop in DROPS for side in sides):
            left = x + 9 * to_pixels if side > 0 else x - 9 * to_pixels - width
            box = (left, y + drop * to_pixels, left + width, y + drop * to_pixels + height)
            if not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        ax.annotate(
            text, (cost.intensity, cost.gflops), (9 * side, drop), textcoords="offset points", fontsize=NAME_POINTS,
            ha="left" if side > 0 else "right", va="bottom", zorder=4,
            arrowprops=None if abs(drop) < 12 else {"arrowstyle": "-", "linewidth": 0.4, "color": "0.4"},
        )  # fmt: skip


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_roofs(ax: Axes, peaks: Peaks) -> None:
    """The peak, and a slope for each kind of memory."""
    intensities = [*ax.dataLim.intervalx.tolist(), peaks.gflops / peaks.bandwidths["memory"]]
    low, high = min(x for x in intensities if x > 0) / 3, max(intensities) * 6
    reach = np.geomspace(low, high, 200)
    for level, bandwidth in peaks.bandwidths.items():
        line = ROOFS[level]
        roof = np.minimum(peaks.gflops, reach * bandwidth)
        label = f"{level}: {bandwidth:,.0f} GB/s" if level != "memory" else f"memory: {bandwidth:,.1f} GB/s"
        ax.plot(
            reach, roof, color="0.25", linestyle=line, linewidth=1.4 if level == "memory" else 1.0, label=label, zorder=2
        )
    ax.text(high, peaks.gflops * 1.06, f"peak {peaks.gflops:,.0f} GFLOP/s ", ha="right", va="bottom", fontsize=8)
    ax.set_xlim(low, high)
    ax.set_ylim(min(ax.dataLim.intervaly[0] / 2, peaks.gflops / 300), peaks.gflops * 2.2)


def _label(ax: Axes, measured: Profile) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("operations a byte (FLOP/byte)")
    ax.set_ylabel("GFLOP/s")
    ax.set_title(
        f"{measured.name}: {measured.purpose}, batch {measured.batch_size}, {measured.peaks.dtype}, {measured.peaks.where}; "
        "areas: shares of the time",
        fontsize=10,
        loc="left",
    )
    figures.plain(ax)
    figures.legend_below(ax)
