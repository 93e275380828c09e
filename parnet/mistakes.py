"""Pictures of what a classifier takes for what: the confusion matrix, the images it gets wrong. Stage: after training.

Must not know: models, kernels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import check_count
from .errors import DataError, ShapeError
from .figures import check_suffix, new_figure, real, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: classes of a confusion matrix that can still be read
MOST_CLASSES = 100
#: up to so many classes each cell holds its number
WITH_NUMBERS = 30
TILE_INCHES = 0.95


def plot_confusion_matrix(
    matrix: ArrayLike,
    predicted: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """How often each class (row) was taken for each class (column); the darker, the larger a share of its row.

    Args:
        matrix: (classes, classes) counts, as the metric `confusion_matrix` gives them; or, with `predicted`, the true
            classes: (rows,) whole numbers or (rows, classes) one-hot.
        predicted: (rows,) classes, or (rows, classes) outputs of `predict`.
        names: of the classes; by default their numbers.
        path: where to save the figure as well: `.pdf`, `.png` or `.svg`.
    Returns:
        The figure.
    Raises:
        ShapeError, DataError: what are no such counts or classes. UnknownNameError: another suffix.
        MissingExtraError: matplotlib is not installed.
    """
    where = "plot_confusion_matrix"
    check_suffix(where, path)
    counts = real(where, matrix) if predicted is None else _counts(where, matrix, predicted)
    classes = len(counts) if counts.ndim else 0
    if counts.shape != (classes, classes) or not 0 < classes <= MOST_CLASSES:
        raise ShapeError(
            f"{where}: expected (classes, classes) of at most {MOST_CLASSES} classes, received {counts.shape}; pass the "
            "value of the metric, or the true and the predicted classes"
        )
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise DataError(f"{where}: expected counts of 0 or more, received {counts.min():g}")
    labels = _names(where, names, classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(3.2, (0.42 if classes <= WITH_NUMBERS else 0.14) * classes + 1.4)
    figure = new_figure(f"pn.viz.{where}", side + 0.6, side)
    ax = figure.add_subplot()
    picture = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ticks = range(0, classes, 1 if classes <= WITH_NUMBERS else 10)
    long = max(len(labels[k]) for k in ticks) > 3
    ax.set_xticks(list(ticks), [labels[k] for k in ticks], rotation=60 if long else 0, ha="right" if long else "center")
    if long:
        for label in ax.get_xticklabels():
            label.set_rotation_mode("anchor")
    ax.set_yticks(list(ticks), [labels[k] for k in ticks])
    ax.tick_params(labelsize=8, length=0)
    right = float(np.trace(counts)) / max(1.0, float(counts.sum()))
    ax.set_title(f"{counts.sum():.0f} samples, {100 * right:.2f} % right", fontsize=10)
    if classes <= WITH_NUMBERS:
        for (i, j), value in np.ndenumerate(counts):
            if value:
                ax.text(
                    j, i, f"{value:.0f}", ha="center", va="center", size=8, color="white" if shares[i, j] > 0.5 else "black"
                )
    bar = figure.colorbar(picture, ax=ax, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return save(figure, path)


def show_misclassified(
    images: ArrayLike,
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    most: int = 24,
    names: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """The images that were taken for something else, each with its number, what it was taken for and what it is.

    Args:
        images: (rows, h, w), (rows, h, w, 1) or (rows, h, w, 3); floats of colours from 0 to 1.
        truth: (rows,) classes, or (rows, classes) one-hot.
        predicted: (rows,) classes, or (rows, classes) outputs of `predict`; then those it was surest of come first.
        most: images drawn.
        names: of the classes; by default their numbers.
        path: where to save the figure as well: `.pdf`, `.png` or `.svg`.
    Returns:
        The figure; it says so where there is no mistake.
    Raises:
        ShapeError, DataError: arrays that do not fit together. UnknownNameError: another suffix.
        MissingExtraError: matplotlib is not installed.
    """
    where = "show_misclassified"
    check_suffix(where, path)
    most = check_count(most, f"{where}: most")
    pictures, right, taken = np.asarray(images), _classes(where, truth), _classes(where, predicted)
    if not len(right) == len(taken) == (len(pictures) if pictures.ndim else -1):
        raise DataError(
            f"{where}: expected as many images as classes, received {pictures.shape}, {right.shape} and {taken.shape}"
        )
    if pictures.ndim not in (3, 4) or (pictures.ndim == 4 and pictures.shape[3] not in (1, 3)):
        raise ShapeError(
            f"{where}: expected images (rows, h, w), (rows, h, w, 1) or (rows, h, w, 3), received {pictures.shape}"
        )
    if pictures.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected real numbers, received an array of type {pictures.dtype}")
    labels = _names(where, names, 1 + int(max(right.max(initial=0), taken.max(initial=0))))
    wrong = np.flatnonzero(right != taken)
    outputs = np.asarray(predicted)
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        wrong = wrong[np.argsort(-outputs[wrong, taken[wrong]], kind="stable")]
    shown = wrong[:most]
    columns = max(1, min(len(shown), int(np.ceil(np.sqrt(len(shown) * 1.4)))))
    rows = max(1, -(-len(shown) // columns))
    figure = new_figure(f"pn.viz.{where}", max(columns * (TILE_INCHES + 0.15), 3.4), rows * (TILE_INCHES + 0.45) + 0.4)
    figure.suptitle(f"{len(wrong)} of {len(right)} images taken for another class", fontsize=9)
    for place, row in enumerate(shown):
        ax = figure.add_subplot(rows, columns, place + 1)
        picture = pictures[row]
        grey = picture.ndim == 2 or picture.shape[2] == 1
        ax.imshow(picture.reshape(picture.shape[:2]) if grey else picture, cmap="gray" if grey else None)
        ax.set_title(f"{labels[taken[row]]} for {labels[right[row]]}\n#{row}", fontsize=7, pad=2)
        ax.set_axis_off()
    return save(figure, path)


def _classes(where: str, values: ArrayLike) -> NDArray[np.int64]:
    """Class numbers (rows,) from class numbers, one-hot rows, or outputs."""
    array = real(where, values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
        if array.size and not np.array_equal(array, np.floor(array)):
            array = (array > 0.5).astype(np.float64)  # the yes or no of a sigmoid
    if array.ndim == 2:
        return array.argmax(1)
    whole = (
        array.ndim == 1 and np.isfinite(array).all() and np.array_equal(array, np.floor(array)) and array.min(initial=0) >= 0
    )
    if not whole:
        raise DataError(
            f"{where}: expected (rows,) class numbers from 0 on or (rows, classes) outputs, received shape {array.shape}"
        )
    return array.astype(np.int64)


def _counts(where: str, truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    right, taken = _classes(where, truth), _classes(where, predicted)
    if len(right) != len(taken) or not len(right):
        raise DataError(f"{where}: expected as many predictions as true classes, received {len(taken)} and {len(right)}")
    wide = [np.asarray(one).shape[1] for one in (truth, predicted) if np.asarray(one).ndim == 2]
    classes = int(max(right.max() + 1, taken.max() + 1, *wide, 2))
    if classes > MOST_CLASSES:
        raise DataError(f"{where}: expected classes below {MOST_CLASSES}, received {classes - 1}")
    counts = np.zeros((classes, classes))
    np.add.at(counts, (right, taken), 1)
    return counts


def _names(where: str, names: Sequence[str] | None, classes: int) -> list[str]:
    if names is None:
        return [str(k) for k in range(classes)]
    if len(names) < classes:
        raise DataError(f"{where}: expected {classes} names, one for each class, received {len(names)}")
    return [str(name) for name in names]
