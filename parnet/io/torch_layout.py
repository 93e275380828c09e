"""PyTorch's arrays in parnet's order of axes, and its names in parnet's words. Stage: io. Must not know: files.

| PyTorch                        | parnet                                                                             |
|--------------------------------|------------------------------------------------------------------------------------|
| Conv2d weight (O, I, H, W)     | kernel (H, W, I, O)                                                                |
| depthwise weight (C M, 1, H, W)| DepthwiseConv2D kernel (H, W, C, M)                                                |
| Linear weight (out, in)        | kernel (in, out)                                                                   |
| norm weight, bias              | gamma, beta                                                                        |
| running_mean, running_var      | moving_mean, moving_variance                                                       |
| features after a flatten       | PyTorch counts channels, rows, columns; parnet rows, columns, channels             |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..layers.base import count
from .features import Pieces
from .found import Shape

#: PyTorch's name of an array -> what it may be called here
NAMES = {
    "weight": ("kernel", "gamma"),
    "bias": ("bias", "beta"),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
}


@dataclass(frozen=True)
class Layout:
    """How a file keeps an array.

    Attributes:
        shape: in the file.
        convert: from there to the model's order of axes.
    """

    shape: Shape
    convert: Callable[[np.ndarray], np.ndarray]

    def invert(self, array: np.ndarray) -> np.ndarray:
        """The model's array as the file keeps it: each number put back to where `convert` takes it from."""
        places = self.convert(np.arange(array.size).reshape(self.shape))
        result = np.empty(array.size, array.dtype)
        result[places.reshape(-1)] = array.reshape(-1)
        return result.reshape(self.shape)


def same(shape: Shape) -> Layout:
    """The model's own layout."""
    return Layout(shape, lambda array: array)


def layout(kind: str, weight: str, shape: Shape, flattened: Pieces | None) -> Layout:
    """How PyTorch keeps an array.

    Args:
        kind: the class of the layer.
        weight: "kernel", "gamma", ...
        shape: of the array here.
        flattened: the pieces of the layer's input where a flattened picture is among them, else None.
    """
    if weight == "kernel" and len(shape) == 4:
        high, wide, inputs, outputs = shape
        if kind == "DepthwiseConv2D":
            parted = (inputs, outputs, high, wide)
            return Layout((inputs * outputs, 1, high, wide), lambda a: a.reshape(parted).transpose(2, 3, 0, 1))
        return Layout((outputs, inputs, high, wide), lambda a: a.transpose(2, 3, 1, 0))
    if weight == "kernel" and len(shape) == 2:
        return Layout(shape[::-1], lambda a: _reordered(a.T, flattened))
    if "Normalization" in kind and flattened is not None:
        return Layout(shape, lambda a: _reordered(a, flattened))
    return same(shape)


def _reordered(array: np.ndarray, pieces: Pieces | None) -> np.ndarray:
    """Features counted by channels, rows, columns brought to rows, columns, channels, piece by piece."""
    if pieces is None:
        return array
    ends = np.cumsum([count(piece) for piece in pieces])
    parts = np.split(array, ends[:-1].tolist())
    turned = [_turned(part, piece) if len(piece) == 3 else part for part, piece in zip(parts, pieces, strict=True)]
    return np.concatenate(turned)


def _turned(array: np.ndarray, picture: Shape) -> np.ndarray:
    high, wide, channels = picture
    return array.reshape(channels, high, wide, -1).transpose(1, 2, 0, 3).reshape(array.shape)


_BLOCK = re.compile(r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)")


def torchvision_name(layer: str) -> str | None:
    """What torchvision's ResNet-50 calls a layer of Keras's: conv3_block1_2_conv is layer2.0.conv2."""
    if layer in ("probs", "predictions"):
        return "fc"
    if layer in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[layer]
    match = _BLOCK.fullmatch(layer)
    if match is None:
        return None
    stage, block, number, what = int(match[1]) - 1, int(match[2]) - 1, match[3], match[4]
    own = f"downsample.{int(what == 'bn')}" if number == "0" else f"{what}{number}"
    return f"layer{stage}.{block}.{own}"
