"""`keras.preprocessing.image`: pictures of Pillow's. Stage: beneath `parnet.keras`. Must not know: models.

`pn.image` does the same with arrays alone.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError, require_extra
from ..image import load


def load_img(path: str | os.PathLike[str], target_size: tuple[int, int] | None = None) -> Any:
    """A file as a picture of Pillow's, in colour.

    Args:
        path: of the file.
        target_size: (height, width), to which it is stretched by nearest pixels, as in Keras.
    Raises:
        FileFormatError: no picture. MissingExtraError: Pillow is not installed. OSError: it cannot be read.
    """
    pillow = require_extra("PIL.Image", "image", "load_img")
    picture = pillow.fromarray(load(path))
    if target_size is None:
        return picture
    height, width = target_size
    return picture.resize((int(width), int(height)), pillow.Resampling.NEAREST)


def img_to_array(img: Any, dtype: str = "float32") -> NDArray:
    """A picture as (height, width, channels), 0 to 255; grey gets one channel."""
    array = np.asarray(img, dtype=dtype)
    if array.ndim not in (2, 3):
        raise ShapeError(f"img_to_array: expected a picture (height, width, channels), received {array.shape}")
    return array if array.ndim == 3 else array[:, :, None]


def array_to_img(x: ArrayLike, scale: bool = True) -> Any:
    """A picture of Pillow's from (height, width, 1 or 3).

    Args:
        scale: stretch the numbers to 0 to 255, as Keras does; else they are cut to it.
    """
    pillow, array = require_extra("PIL.Image", "image", "array_to_img"), np.asarray(x, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ShapeError(f"array_to_img: expected (height, width, 1 or 3), received {array.shape}")
    if scale:
        array = array - array.min()
        array = 255 * array / (array.max() or 1)
    bytes_ = np.clip(array, 0, 255).astype(np.uint8)
    return pillow.fromarray(bytes_[:, :, 0] if array.shape[2] == 1 else bytes_)
