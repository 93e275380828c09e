"""Pictures of learning curves, pixel values, filters, feature maps, mistakes and models' graphs. Stage: after training.

Must not know: kernels.

No window is opened and pyplot's current figure is left alone: figures are made without pyplot, so this works
on a machine without a screen. Colours: M. Okabe, K. Ito, "Color universal design" (2008); curves also differ
in dash and marker, for black-and-white print.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import check_model, is_whole
from .diagram import Diagram, draw
from .errors import DataError, ShapeError, require_extra
from .figures import SUFFIXES, check_suffix, new_figure, real, save
from .graph import Graph
from .mistakes import plot_confusion_matrix, show_misclassified
from .timeline import plot_timeline

__all__ = [
    "SUFFIXES",
    "plot_confusion_matrix",
    "plot_history",
    "plot_model",
    "plot_timeline",
    "show_feature_maps",
    "show_filters",
    "show_misclassified",
    "show_pixels",
]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: kind of curve -> how it is drawn
STYLES: dict[str, dict[str, Any]] = {
    "training": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "validation": {"color": "#D55E00", "linestyle": "--", "marker": "s", "markerfacecolor": "white"},
}
PANEL_INCHES = (4.6, 3.4)
#: beyond this a picture with a number in every cell takes seconds to draw, and cannot be read
MAX_CELLS = 128 * 128
CELL_INCHES = 0.42
#: pictures in a sheet of many, at most, and how large each of them is drawn
MAX_MAPS = 256
MAP_INCHES = 0.95
DIAGRAM_DPI = 100


class HasGraph(Protocol):
    """A model, as far as this module looks at it."""

    name: str

    @property
    def graph(self) -> Graph: ...


class HasHistory(Protocol):
    """What `fit` returns, as far as this module looks at it."""

    history: Mapping[str, Sequence[float]]


def plot_history(
    history: HasHistory | Mapping[str, Sequence[float]],
    path: str | os.PathLike | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """The learning curves: the loss in one panel, each metric in another, validation beside training.

    Args:
        history: what `fit` returned, or a dict of lists, one value an epoch; `val_x` is drawn with `x`, and metrics
            of several numbers, such as a confusion matrix, are left out.
        path: where to save the figure as well: `.pdf`, `.png` or `.svg`.
        ax: axes to draw on, as many as there are panels, in place of a new figure.
    Returns:
        The figure.
    Raises:
        DataError: no epochs, or lists of different lengths.
        ShapeError: not as many axes as panels.
        UnknownNameError: a suffix that is not one of the three.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix("plot_history", path)
    curves = _curves(history)
    first = (getattr(history, "epoch", None) or [0])[0] + 1
    epochs = np.arange(first, first + len(next(iter(curves.values()))))
    panels = sorted(dict.fromkeys(name.removeprefix("val_") for name in curves), key=lambda name: name != "loss")
    axes = _new_axes(len(panels)) if ax is None else np.array(ax, dtype=object).ravel().tolist()
    if len(axes) != len(panels):
        raise ShapeError(
            f"plot_history: expected {len(panels)} axes (for {', '.join(panels)}), received {len(axes)}; "
            f"make them with plt.subplots(1, {len(panels)}), or leave ax out"
        )
    for name, panel in zip(panels, axes, strict=True):
        _draw_panel(panel, name, epochs, curves)
    return save(axes[0].figure, path)


def show_pixels(img: ArrayLike, ax: Axes | None = None, path: str | os.PathLike | None = None) -> Figure:
    """A grey picture with each pixel's value written in its cell, white on dark and black on light.

    Args:
        img: (h, w) or (h, w, 1), of any real type, at most 16,384 cells.
        ax: axes to draw on, in place of a new figure.
        path: where to save the figure as well: `.pdf`, `.png` or `.svg`.
    Returns:
        The figure.
    Raises:
        ShapeError: img has another shape.
        DataError: img is not made of real numbers.
        UnknownNameError: a suffix that is not one of the three.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix("show_pixels", path)
    pixels = _grey(img)
    if ax is None:
        h, w = pixels.shape
        figure = new_figure("pn.viz.show_pixels", max(w * CELL_INCHES, 1) + 0.7, max(h * CELL_INCHES, 0.6) + 0.6)
        ax = figure.add_subplot()
    _draw_pixels(ax, pixels)
    return save(ax.figure, path)


def plot_model(model: HasGraph, path: str | os.PathLike | None = None) -> Diagram:
    """The layers as boxes from top to bottom, with their shapes, and an arrow from each to those that read it.

    Shapes are those of one sample, "input → output" where they differ. Blue boxes have weights, orange ones several
    inputs; a layer that is called again has a box for each call. Needs no other program; matplotlib for `.png` and `.pdf`.

    Args:
        model: with its input's shape known.
        path: where to save the picture: `.svg`, `.png` or `.pdf`.
    Returns:
        The picture; a notebook shows it, `svg()` is its text.
    Raises:
        StateError: the input's shape is not known.
        UnknownNameError: a suffix that is not one of the three.
        MissingExtraError: matplotlib is needed and not installed.
    """
    check_suffix("plot_model", path)
    check_model(model, "plot_model")
    diagram = draw(model.graph, model.name)
    if path is not None and Path(path).suffix.lower() == ".svg":
        Path(path).write_text(diagram.svg(), encoding="utf-8")
    elif path is not None:
        require_extra("matplotlib.figure", "plot", "pn.viz.plot_model")
        diagram.figure().savefig(path, dpi=DIAGRAM_DPI)
    return diagram


def show_filters(kernel: Any, channel: int | None = None, path: str | os.PathLike | None = None) -> Figure:
    """The filters of a convolution, one picture each: orange above 0, blue below, white at 0, all on one scale.

    Args:
        kernel: (kh, kw, C, F), or a layer whose `kernel` is that.
        channel: the input channel whose weights are drawn; by default their mean over the input channels.
        path: where to save the figure as well: `.pdf`, `.png` or `.svg`.
    Returns:
        The figure.
    Raises:
        ShapeError: the kernel has another shape, no such channel, or more than 256 filters.
        DataError: it is not made of real numbers.
        UnknownNameError: a suffix that is not one of the three.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix("show_filters", path)
    kernel = getattr(kernel, "kernel", kernel)
    weights = real("show_filters", kernel.numpy() if hasattr(kernel, "numpy") else kernel)
    if weights.ndim != 4 or not weights.size:
        raise ShapeError(
            f"show_filters: expected a kernel (height, width, channels, filters), received {weights.shape}; pass a "
            f"convolution or its kernel"
        )
    count = weights.shape[2]
    if channel is not None and not (is_whole(channel, -count) and int(channel) < count):
        raise ShapeError(f"show_filters: expected a channel of {count}, from 0, received {channel!r}")
    maps = weights.mean(2) if channel is None else weights[:, :, int(channel)]
    what = "weight" if count == 1 else "mean weight" if channel is None else f"weight of channel {channel}"
    return save(_sheet("show_filters", maps, "filter", what, signed=True), path)


def show_feature_maps(maps: ArrayLike, path: str | os.PathLike | None = None) -> Figure:
    """The channels of one image within a network, one picture each, on one scale: dark is low, bright is high.

    Args:
        maps: (h, w, C), such as one image of what `predict` of a convolution returns; (1, h, w, C) will do.
        path: where to save the figure as well: `.pdf`, `.png` or `.svg`.
    Returns:
        The figure.
    Raises:
        ShapeError: maps have another shape, or more than 256 channels.
        DataError: they are not made of real numbers.
        UnknownNameError: a suffix that is not one of the three.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix("show_feature_maps", path)
    images = real("show_feature_maps", maps)
    shape = images.shape
    images = images[0] if images.ndim == 4 and shape[0] == 1 else images
    if images.ndim != 3 or not images.size:
        raise ShapeError(
            f"show_feature_maps: expected the maps of one image (height, width, channels), received {shape}; pass maps[0]"
        )
    return save(_sheet("show_feature_maps", images, "channel", "activation", signed=False), path)


def _sheet(where: str, maps: NDArray[np.float64], one: str, what: str, signed: bool) -> Figure:
    """Many pictures (h, w, n) side by side, numbered from 0, with one scale of colours."""
    h, w, n = maps.shape
    if n > MAX_MAPS:
        raise ShapeError(f"{where}: expected at most {MAX_MAPS} {one}s, received {n}; pass some of them, [..., :64]")
    finite = maps[np.isfinite(maps)]
    low, high = float(np.min(finite, initial=0.0)), float(np.max(finite, initial=0.0))
    if signed:
        high = max(-low, high) or 1.0
        low = -high
    high = high if high > low else low + 1.0
    columns = min(n, max(1, round(1.3 * np.sqrt(n * h / w))))
    rows = -(-n // columns)
    scale = MAP_INCHES / max(h, w)
    width, height = max(w * scale, 0.3), max(h * scale, 0.3)
    figure = new_figure(f"pn.viz.{where}", max(columns * (width + 0.1) + 0.9, 2.2), max(rows * (height + 0.24) + 0.3, 1.6))
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(n)]
    for number, ax in enumerate(axes):
        picture = ax.imshow(maps[:, :, number], cmap=_signed_colours() if signed else "cividis", vmin=low, vmax=high)
        ax.set_title(f"{one} {number}" if n == 1 else str(number), fontsize=7, pad=2)
        ax.set_xticks([])
        ax.set_yticks([])
    bar = figure.colorbar(picture, ax=axes, fraction=0.05, pad=0.02, aspect=30)
    bar.set_label(what, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _signed_colours() -> Any:
    """From blue over white to orange: the two that all eyes tell apart, as dark as each other at the ends."""
    from matplotlib.colors import LinearSegmentedColormap

    # an odd number of colours, so that one of them is white
    return LinearSegmentedColormap.from_list("signed", ["#003B5C", "#0072B2", "#FFFFFF", "#D55E00", "#6B2F00"], N=257)


def _curves(history: HasHistory | Mapping[str, Sequence[float]]) -> dict[str, NDArray[np.float64]]:
    """The curves by name, each float64 (epochs,)."""
    lists: Any = getattr(history, "history", history)
    try:
        single = {name: values for name, values in lists.items() if not _arrays(values)}
        curves = {name: np.asarray(values, np.float64) for name, values in single.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"plot_history: expected what fit returned, or a dict of lists of numbers, received {lists!r} ({error})"
        ) from error
    shapes = {name: curve.shape for name, curve in curves.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise DataError(f"plot_history: expected one number an epoch under each name, received shapes {shapes}")
    if not any(curve.size for curve in curves.values()):
        raise DataError(f"plot_history: expected at least one epoch, received {lists!r}; train for an epoch first")
    return curves


def _arrays(values: Sequence[Any]) -> bool:
    """Whether a metric is several numbers an epoch, as a confusion matrix is: there is no curve of it."""
    return any(isinstance(value, np.ndarray) and value.ndim for value in values)


def _new_axes(count: int) -> list[Axes]:
    """That many axes in a new figure, at most three side by side."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = new_figure("pn.viz.plot_history", columns * PANEL_INCHES[0], rows * PANEL_INCHES[1])
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def _draw_panel(ax: Axes, name: str, epochs: NDArray[np.int64], curves: Mapping[str, NDArray[np.float64]]) -> None:
    """One quantity, with its validation curve if there is one."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    first, last = int(epochs[0]), int(epochs[-1])
    ticks = _epoch_ticks(first, last)
    for kind, key in (("training", name), ("validation", f"val_{name}")):
        if key in curves:
            ax.plot(
                epochs,
                curves[key],
                label=kind,
                markevery=[tick - first for tick in ticks],
                markersize=4.5,
                linewidth=1.8,
                **STYLES[kind],
            )
    side = max(0.5, 0.03 * (last - first))
    ax.set_xlim(first - side, last + side)
    ax.margins(y=0.06 if last > first else 0.6)  # a single point looks lost at the rim
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ax.set_xlabel("epoch")
    unit = " (fraction)" if name.endswith("accuracy") else ""
    ax.set_ylabel(textwrap.fill(name.replace("_", " ") + unit, 30))
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(edgecolor="none")


def _epoch_ticks(first: int, last: int) -> list[int]:
    """The first epoch, then round numbers: about ten whole ticks in all, where the markers stand too."""
    rough = (last - first) / 10
    step = next(s * 10**p for p in range(10) for s in (1, 2, 5) if s * 10**p >= rough)
    if step <= 2:
        return list(range(first, last + 1, step))
    round_numbers = range(-(-first // step) * step, last + 1, step)
    return [first, *(tick for tick in round_numbers if tick - first > step / 2)]


def _grey(img: ArrayLike) -> NDArray[Any]:
    """The pixels as a real array (h, w)."""
    pixels = np.asarray(img)
    if pixels.dtype.kind not in "biuf":
        raise DataError(f"show_pixels: expected real numbers, received an array of type {pixels.dtype}")
    shape = pixels.shape
    if pixels.ndim == 3 and shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 or not 0 < pixels.size <= MAX_CELLS:
        raise ShapeError(
            f"show_pixels: expected (h, w) or (h, w, 1) with 1 to {MAX_CELLS} cells, received {shape}; "
            f"pass one picture, one channel, or a part of it"
        )
    return pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels


def _draw_pixels(ax: Axes, pixels: NDArray[Any]) -> None:
    """The picture and its numbers. Black is 0, or the least value where that is below 0."""
    from matplotlib.ticker import MaxNLocator

    h, w = pixels.shape
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    low, high = float(np.min(finite, initial=0.0)), float(np.max(finite, initial=0.0))
    high = high if high > low else low + 1.0
    ax.imshow(pixels, cmap="gray", vmin=low, vmax=high)
    for axis, label in ((ax.xaxis, "column"), (ax.yaxis, "row")):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_label_text(label)
    texts = [_cell_text(value) for value in pixels.ravel().tolist()]
    box = ax.get_window_extent()
    cell_points = min(box.width / w, box.height / h) * 72 / ax.figure.dpi
    size = min(0.4, 1.2 / max(map(len, texts))) * cell_points
    threshold = low + (high - low) / 2.5  # max / 2.5 for pixels that start at 0
    for i, (text, value) in enumerate(zip(texts, pixels.flat, strict=True)):
        colour = "white" if value < threshold else "black"
        ax.text(i % w, i // w, text, color=colour, size=size, ha="center", va="center")


def _cell_text(value: float) -> str:
    """A whole number as it is, another to two decimals."""
    return f"{value:.4g}" if isinstance(value, int) else f"{round(value, 2) + 0.0:g}"
