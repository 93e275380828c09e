"""What networks for ImageNet share: pixels as they were trained on, and the names of the 1000 classes.

Stage: beside the model. Must not know: layers, kernels.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import is_whole
from ..errors import DTypeError, HyperparameterError, ShapeError, unknown_name
from ..io.fields import damaged, parse
from ._files import KnownFile, located

CLASSES = 1000
CLASS_INDEX = KnownFile(
    "imagenet_class_index.json",
    "https://storage.googleapis.com/download.tensorflow.org/data",
    35_363,
    "c2c37ea517e94d9795004a39431a14cb",
)

#: mean of blue, green, red over ImageNet, 0 to 255
CAFFE_MEAN = (103.939, 116.779, 123.68)
#: mean and standard deviation of red, green, blue over ImageNet, 0 to 1
TORCH_MEAN, TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preprocess_input(x: ArrayLike, mode: str = "caffe") -> NDArray[Any]:
    """Pixels as a network's weights were trained on; a new array, the given one stays as it is.

    Args:
        x: (H, W, 3) or (N, H, W, 3), red, green, blue, 0 to 255, of any real type.
        mode: "caffe": blue, green, red, minus their means, not scaled. "torch": (x / 255 - mean) / deviation, channel by
            channel.
    Returns:
        the same shape, float64 for float64, else float32.
    Raises:
        ShapeError: it has not three channels last.
        DTypeError: it is not of real numbers.
        UnknownNameError: there is no such mode.
    """
    pixels = np.asarray(x)
    if pixels.dtype.kind not in "buif":
        raise DTypeError(f"preprocess_input: expected real numbers, received an array of {pixels.dtype}")
    if pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ShapeError(
            f"preprocess_input: expected a picture (H, W, 3) or a batch (N, H, W, 3), received {pixels.shape}; "
            "pn.image.load gives three channels for any picture"
        )
    dtype = np.float64 if pixels.dtype == np.float64 else np.float32
    if mode == "caffe":
        return pixels[..., ::-1].astype(dtype) - np.array(CAFFE_MEAN, dtype)
    if mode == "torch":
        return (pixels.astype(dtype) / dtype(255) - np.array(TORCH_MEAN, dtype)) / np.array(TORCH_DEVIATION, dtype)
    raise unknown_name("preprocess_input: mode", mode, ("caffe", "torch"))


def decode_predictions(
    pred: ArrayLike, top: int = 5, *, class_index: str | os.PathLike[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """The likeliest classes of each picture, likeliest first.

    Args:
        pred: (N, 1000), what `predict` returned.
        top: how many classes, 1 to 1000.
        class_index: path of imagenet_class_index.json; by default it is looked for in the folder PARNET_DATA and in
            the cache, and downloaded (35 kB) where it is in neither.
    Returns:
        for each row (WordNet's number, name, score), such as ("n02100583", "vizsla", 0.58).
    Raises:
        ShapeError: pred is not (N, 1000).
        HyperparameterError: top is not 1 to 1000.
        DatasetError: the names are not on this machine and cannot be fetched.
        FileFormatError: the file of names is damaged or another.
    """
    scores = np.asarray(pred)
    if scores.ndim != 2 or scores.shape[1] != CLASSES or scores.dtype.kind not in "uif":
        raise ShapeError(
            f"decode_predictions: expected scores (N, {CLASSES}), received {scores.shape} {scores.dtype}; the names are "
            "those of ImageNet's classes"
        )
    if not is_whole(top, 1) or int(top) > CLASSES:
        raise HyperparameterError(f"decode_predictions: expected top, a whole number from 1 to {CLASSES}, received {top!r}")
    names = class_names(class_index)
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, : int(top)]
    return [[(*names[i], row[i].item()) for i in order] for row, order in zip(scores, best, strict=True)]


def class_names(path: str | os.PathLike[str] | None = None) -> list[tuple[str, str]]:
    """WordNet's number and the name of each of ImageNet's 1000 classes; for errors see `decode_predictions`."""
    if path is not None:
        return _read(path)
    with located(CLASS_INDEX, "decode_predictions") as found:
        return _read(found)


def _read(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    name = os.fsdecode(path)
    with open(name, "rb") as file:
        index = parse(file.read(), name)
    lines: list[Any] = [index.get(str(i)) for i in range(CLASSES)] if type(index) is dict else []
    whole = all(type(line) is list and len(line) == 2 and all(type(word) is str for word in line) for line in lines)
    if not whole or len(lines) != CLASSES or len(index) != CLASSES:
        raise damaged(name, f'an object {{"0": [number, name], ...}} of {CLASSES} classes', index)
    return [(line[0], line[1]) for line in lines]
