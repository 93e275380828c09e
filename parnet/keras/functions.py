"""Of `keras.utils` and `keras.backend` what parnet has no other name for. Stage: beneath `parnet.keras`.

Must not know: models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count
from ..errors import DataError, DTypeError


def to_categorical(x: ArrayLike, num_classes: int | None = None, dtype: str = "float32") -> NDArray:
    """Class numbers as one-hot rows.

    Args:
        x: class numbers from 0 on, of any shape; a last axis of length 1 is dropped.
        num_classes: length of a row; one more than the largest class number when left out.
        dtype: of the result.
    Returns:
        (*shape of x, num_classes).
    Raises:
        DTypeError: no whole numbers. DataError: below 0, or not below num_classes.

    >>> to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    given = np.asarray(x)
    if given.dtype.kind not in "buif" or not np.array_equal(given, np.floor(given)):
        raise DTypeError(f"to_categorical: expected whole class numbers, received an array of {given.dtype}")
    labels = given.astype(np.int64)
    labels = labels.reshape(labels.shape[:-1]) if labels.ndim > 1 and labels.shape[-1] == 1 else labels
    classes = (
        int(labels.max(initial=0)) + 1 if num_classes is None else check_count(num_classes, "to_categorical: num_classes")
    )
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        bad = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"to_categorical: expected class numbers from 0 to {classes - 1}, received {bad}")
    return np.eye(classes, dtype=dtype)[labels]


def backend() -> str:
    """Who computes: "parnet"."""
    return "parnet"


def clear_session() -> None:
    """Does nothing: parnet keeps no global graph, and a model's memory is freed with the model."""


def epsilon() -> float:
    """1e-7, what Keras's formulas add to a denominator."""
    return 1e-7


def floatx() -> str:
    """The dtype of weights and arithmetic where a model does not name another."""
    return "float32"


def image_data_format() -> str:
    """Channels stand last: (height, width, channels)."""
    return "channels_last"
