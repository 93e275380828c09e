"""What all pictures share: figures without pyplot, files by their suffix, colours. Stage: beneath whatever draws.

No window is opened and pyplot's current figure is left alone, so this works on a machine without a screen.
Colours: M. Okabe, K. Ito, "Color universal design" (2008). Must not know: what is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError, require_extra, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".png", ".svg")
PNG_DPI = 150
#: characters of a label of which two side by side fill a panel; points that ticks and the axis's name take
WIDE_LABEL, TICKS_POINTS = 34, 36
#: colours that all eyes tell apart
BLUE, ORANGE, GREEN, RED, SKY, PINK, YELLOW = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442"


def check_suffix(where: str, path: str | os.PathLike | None) -> None:
    """Refuse a file type before any work is done.

    Raises:
        UnknownNameError: a suffix that is not one of SUFFIXES.
    """
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise unknown_name(f"{where}: suffix of path", Path(path).suffix, SUFFIXES)


def new_figure(where: str, width: float, height: float) -> Figure:
    """An empty figure, in inches, that pyplot does not know of.

    Args:
        where: who wants it, "pn.viz.show_pixels".
    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = require_extra("matplotlib.figure", "plot", where).Figure(figsize=(width, height), layout="constrained")
    require_extra("matplotlib.backends.backend_agg", "plot", where).FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: str | os.PathLike | None) -> Figure:
    """The whole figure, of which `figure` may be a part, saved if there is a path."""
    figure = figure.figure
    if path is not None:
        figure.savefig(path, dpi=PNG_DPI)
    return figure


def plain(ax: Axes, grid: str = "both") -> None:
    """A light grid behind the curves, and no frame above and on the right."""
    ax.grid(axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def legend_below(ax: Axes, handles: Sequence[Any] | None = None, labels: Sequence[str] | None = None) -> None:
    """The legend beneath the axes and what is written under them: no curve, point or interval can lie under it."""
    from matplotlib.transforms import ScaledTranslation

    if handles is None or labels is None:
        handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    longest = max(map(len, labels))
    columns = 1 if longest > WIDE_LABEL else 2 if longest > WIDE_LABEL // 2 else 3
    down = ScaledTranslation(0, -TICKS_POINTS / 72, ax.figure.dpi_scale_trans)  # type: ignore[union-attr]
    ax.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + down,
        borderaxespad=0,
        ncols=min(columns, len(labels)),
        frameon=False,
        fontsize=8,
    )


def real(where: str, values: Any) -> NDArray[np.float64]:
    """The numbers as float64."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where}: expected an array of real numbers, received {type(values).__name__} ({error})") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected real numbers, received an array of type {array.dtype}")
    return array.astype(np.float64)
