"""A results file as pictures: what was measured in one group and one unit, as bars side by side. Stage: study.

Must not know: how anything is measured.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import figures
from .bench_tables import in_order, number, place
from .benchmarks import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHERE = "parnet report"
WIDTH, BAR_INCHES, EDGE_INCHES = 8.0, 0.26, 1.1
#: bars of one picture at most
MOST_BARS = 40
#: whether a value is parnet's -> how its bar is drawn
LOOKS: dict[bool, dict[str, Any]] = {
    True: {"facecolor": figures.BLUE},
    False: {"facecolor": figures.ORANGE, "hatch": "///", "edgecolor": "white"},
}


def plot_groups(content: dict[str, Any], folder: str | os.PathLike[str], suffix: str = ".svg") -> list[Path]:
    """A picture for each group and unit of which there are two values or more.

    Args:
        content: as `benchmarks.read` gives it.
        folder: where the pictures go; made if it is not there.
        suffix: ".svg", ".png" or ".pdf".
    Returns:
        the files.
    Raises:
        UnknownNameError: another suffix. MissingExtraError: matplotlib is not installed. OSError: they cannot be written.
    """
    figures.check_suffix(WHERE, f"x{suffix}")
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in in_order(content["records"]):
        if math.isfinite(record.value) and record.unit:
            groups.setdefault((record.group, record.unit), []).append(record)
    made = []
    for (group, unit), records in groups.items():
        if len(records) > 1:
            Path(folder).mkdir(parents=True, exist_ok=True)
            name = re.sub("[^a-z0-9]+", "-", f"{group} {unit}".lower()).strip("-")
            path = Path(folder) / f"{name}{suffix}"
            figures.save(bars(group, unit, records[:MOST_BARS], place(content["machine"])), path)
            made.append(path)
    return made


def bars(group: str, unit: str, records: list[Record], below: str = "") -> Figure:
    """Values in one unit: parnet's in blue, others' in orange with stripes; lines show the distance of the quartiles."""
    figure = figures.new_figure(WHERE, WIDTH, EDGE_INCHES + BAR_INCHES * len(records))
    ax = figure.add_subplot()
    for row, record in enumerate(records):
        look = LOOKS[is_ours(record)]
        error = (record.spread or 0.0) / 2
        ax.barh(row, record.value, 0.7, xerr=error or None, error_kw={"linewidth": 0.8, "ecolor": "0.2"}, **look)
        ax.text(max(record.value, 0.0) + error, row, f" {number(record.value)}", va="center", fontsize=7)
    _label(ax, group, unit, records)
    _legend(ax, records)
    figure.supxlabel(below, fontsize=5.5, color="0.35", x=0.01, ha="left")
    return figure


def is_ours(record: Record) -> bool:
    """Whether a value is parnet's: peers' records are called by them, "N1, torch eager, 1 thread"."""
    peers = r"\b(torch|jax|keras|tensorflow|sklearn|scikit-learn|openblas|onnxruntime|openvino|numpy)\b"
    return "parnet" in record.name or not re.search(peers, record.name, re.IGNORECASE)


def _label(ax: Axes, group: str, unit: str, records: list[Record]) -> None:
    ax.set_yticks(range(len(records)), [record.name for record in records], fontsize=7.5)
    ax.set_ylim(len(records) - 0.4, -0.6)
    ax.margins(x=0.12)
    ax.set_xlabel(unit)
    ax.set_title(group, loc="left", fontsize=10)
    figures.plain(ax, "x")


def _legend(ax: Axes, records: list[Record]) -> None:
    """Who is who, where there is more than parnet."""
    from matplotlib.patches import Patch

    if not all(map(is_ours, records)):
        patches = [Patch(**look) for look in LOOKS.values()]
        figures.legend_below(ax, patches, ["parnet" if ours else "others" for ours in LOOKS])
