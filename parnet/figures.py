"""Figures that pyplot does not know of: made, checked, saved. Stage: beneath the pictures. Must not know: what is drawn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError, require_extra, unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".png", ".svg")
PNG_DPI = 150


def check_suffix(where: str, path: str | os.PathLike | None) -> None:
    """Refuse a file type before any work is done."""
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise unknown_name(f"{where}: suffix of path", Path(path).suffix, SUFFIXES)


def new_figure(where: str, width: float, height: float) -> Figure:
    """An empty figure, in inches, that pyplot does not know of."""
    figure = require_extra("matplotlib.figure", "plot", f"pn.viz.{where}").Figure(
        figsize=(width, height), layout="constrained"
    )
    require_extra("matplotlib.backends.backend_agg", "plot", f"pn.viz.{where}").FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: str | os.PathLike | None) -> Figure:
    """The whole figure, of which `figure` may be a part, saved if there is a path."""
    figure = figure.figure
    if path is not None:
        figure.savefig(path, dpi=PNG_DPI)
    return figure


def real(where: str, values: Any) -> NDArray[np.float64]:
    """The numbers as float64."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where}: expected an array of real numbers, received {type(values).__name__} ({error})") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected real numbers, received an array of type {array.dtype}")
    return array.astype(np.float64)
