"""Pictures: from files to arrays, and to the size a network takes. Stage: before the model. Must not know: models, kernels.

Arrays are (H, W, C) or (N, H, W, C), as layers take them. Decoding needs Pillow (extra `image`), resizing does not.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import is_whole
from .errors import DTypeError, FileFormatError, HyperparameterError, ShapeError, require_extra

#: pixels of a side that `resize_with_pad` makes
LARGEST_SIDE = 2**15
#: what `load` decodes; PostScript is left out, as reading it would run a program
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def load(source: str | os.PathLike[str] | IO[bytes] | bytes) -> NDArray[np.uint8]:
    """The picture of a file, as viewers show it: turned as its EXIF data say; of an animation the first frame.

    Args:
        source: a path, an open binary file (what `urlopen` returns, too), or the file's bytes; one of `FORMATS`.
    Returns:
        uint8 (H, W, 3), red, green, blue, 0 to 255; yours to change. Grey becomes three equal channels, 16-bit grey
        keeps its upper 8 bits, and transparency is dropped: the colours below it stay.
    Raises:
        FileFormatError: no picture, of another format, truncated, damaged, or so large that it is an attack.
        MissingExtraError: Pillow is not installed.
        OSError: the file is not there or cannot be read.

    >>> import parnet as pn
    >>> pn.image.load(b"P6 2 1 255 " + bytes([255, 0, 0, 0, 0, 255])).tolist()
    [[[255, 0, 0], [0, 0, 255]]]
    """
    pillow = require_extra("PIL.Image", "image", "pn.image.load")
    data, where = _bytes(source)
    try:
        with pillow.open(BytesIO(data), formats=FORMATS) as picture:
            return _pixels(picture)
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise FileFormatError(
            f"pn.image.load: expected a whole picture ({', '.join(FORMATS)}), received {where}, {len(data)} bytes "
            f"that begin with {data[:8]!r} ({type(error).__name__}: {str(error)[:200]}); use another copy, or convert it"
        ) from error


def _bytes(source: Any) -> tuple[bytes, str]:
    """The whole file, and what messages call it."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "a bytes object"
    if hasattr(source, "read"):
        data, where = source.read(), str(getattr(source, "name", None) or "an open file")
        if not isinstance(data, bytes):
            raise DTypeError(
                f"pn.image.load: expected a file open for bytes, received {where}, open for text; use mode 'rb'"
            )
        return data, where
    if not isinstance(source, str | os.PathLike):
        raise DTypeError(
            f"pn.image.load: expected a path, an open file or bytes, received {type(source).__name__}; "
            "an array is a picture already"
        )
    with open(source, "rb") as file:
        return file.read(), os.fsdecode(source)


def _pixels(picture: Any) -> NDArray[np.uint8]:
    """A picture of Pillow as an array of its own."""
    picture = require_extra("PIL.ImageOps", "image", "pn.image.load").exif_transpose(picture)
    if picture.mode.startswith("I;16") or picture.mode == "I":  # Pillow would clip these at 255, not scale them
        wide = np.asarray(picture)
        if wide.min(initial=0) < 0 or wide.max(initial=0) > 65535:
            raise ValueError("whole numbers outside 0 to 65535 as pixels")
        return np.repeat((wide >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("fractions as pixels")
    return np.array(picture.convert("RGB"))


def resize_with_pad(img: ArrayLike, height: int, width: int, antialias: bool = True) -> NDArray[Any]:
    """Pictures scaled to fit into height x width, in the middle of it, with zeros around.

    Each output pixel is the weighted mean of those input pixels that lie less than a radius from it, the weight falling
    linearly to 0 there. The radius is one output pixel with antialias, when shrinking; else one input pixel. Numbers
    and rounding of sizes are those of `tf.image.resize_with_pad` (bilinear), computed in float32.

    Args:
        img: (H, W, C) or (N, H, W, C), of any real type; never changed.
        height, width: of the result, above 0.
        antialias: whether shrinking takes the mean over all pixels, in place of sampling some; TensorFlow's default is
            False.
    Returns:
        float32 (height, width, C) or (N, height, width, C), in the range of the input.
    Raises:
        ShapeError: the picture has another rank or no pixels, or one side would shrink to nothing.
        DTypeError: it is not of real numbers.
        HyperparameterError: height or width is not a whole number above 0.

    >>> import numpy as np, parnet as pn
    >>> pn.image.resize_with_pad(np.full((2, 4, 1), 7), 4, 4)[:, 0, 0].tolist()
    [0.0, 7.0, 7.0, 0.0]
    """
    pixels = _checked(img)
    height, width = (_count(n, name) for n, name in ((height, "height"), (width, "width")))
    batch = pixels if pixels.ndim == 4 else pixels[None]
    rows, columns, top, left = _place(batch.shape[1], batch.shape[2], height, width)
    result = np.zeros((len(batch), height, width, batch.shape[3]), np.float32)
    for picture, target in zip(batch, result, strict=True):
        tall = _resize_rows(picture, rows, antialias)
        wide = _resize_rows(tall.transpose(1, 0, 2), columns, antialias)
        target[top : top + rows, left : left + columns] = wide.transpose(1, 0, 2)
    return result if pixels.ndim == 4 else result[0]


def _checked(img: ArrayLike) -> NDArray[Any]:
    pixels = np.asarray(img)
    if pixels.dtype.kind not in "buif":
        raise DTypeError(f"pn.image.resize_with_pad: expected real numbers, received an array of {pixels.dtype}")
    if pixels.ndim not in (3, 4) or 0 in pixels.shape[-3:]:
        grey = "; add the axis of channels: img[:, :, None]" if pixels.ndim == 2 else ""
        raise ShapeError(
            f"pn.image.resize_with_pad: expected a picture (H, W, C) or a batch (N, H, W, C), received {pixels.shape}{grey}"
        )
    return pixels


def _count(value: Any, name: str) -> int:
    if not is_whole(value, 1) or value > LARGEST_SIDE:
        raise HyperparameterError(
            f"pn.image.resize_with_pad: expected {name}, a whole number of pixels from 1 to {LARGEST_SIDE}, "
            f"received {value!r}"
        )
    return int(value)


def _place(high: int, wide: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Rows, columns, top and left edge of the scaled picture. In float32, whose rounding decides as TensorFlow's does."""
    h, w, th, tw = (np.float32(n) for n in (high, wide, height, width))
    ratio = max(w / tw, h / th)
    rows, columns = h / ratio, w / ratio
    if rows < 1 or columns < 1:
        raise ShapeError(
            f"pn.image.resize_with_pad: expected a picture that keeps a pixel on each side, received ({high}, {wide}), "
            f"which becomes ({rows:.2f}, {columns:.2f}) in ({height}, {width}); crop it first, or ask for a larger size"
        )
    top, left = max(0, int(np.floor((th - rows) / 2))), max(0, int(np.floor((tw - columns) / 2)))
    return min(int(rows), height - top), min(int(columns), width - left), top, left


def _resize_rows(picture: NDArray[Any], rows: int, antialias: bool) -> NDArray[np.float32]:
    """(H, W, C) to (rows, W, C), each row the weighted mean of neighbouring ones."""
    high, rest = len(picture), picture.shape[1:]
    if rows == high:
        return picture.astype(np.float32)
    result = np.empty((rows, *rest), np.float32)
    for row, (start, weights) in enumerate(_spans(high, rows, antialias)):
        source = picture[start : start + len(weights)].astype(np.float32, copy=False)
        result[row] = np.tensordot(weights, source, 1)
    return result


def _spans(size: int, target: int, antialias: bool) -> list[tuple[int, NDArray[np.float32]]]:
    """For each of `target` pixels the first of `size` pixels it is a mean of, and the weights from there on.

    A triangle whose weights sum to 1 at the edges too. The two steps differ in the last bit, as TensorFlow's operators
    (ScaleAndTranslate, ResizeBilinear) do; in a picture of 4000 columns that is seen.
    """
    one, half = np.float32(1), np.float32(0.5)
    step = one / (np.float32(target) / np.float32(size)) if antialias else np.float32(size) / np.float32(target)
    radius = max(step, one) if antialias else one
    result = []
    for pixel in range(target):
        centre = (np.float32(pixel) + half) * step
        start = min(max(int(np.ceil(centre - radius - half)), 0), size - 1)
        end = min(max(int(np.floor(centre + radius - half)), 0), size - 1) + 1
        distance = np.abs(np.arange(start, end, dtype=np.float32) + half - centre) / radius
        weights = np.maximum(one - distance, np.float32(0))
        result.append((start, weights / weights.sum()))
    return result
