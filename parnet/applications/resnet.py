"""ResNet-18 and ResNet-34 as torchvision has them: same layers, names and weights. Stage: beside the model.

K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition" (2015), table 1. Layers that have weights are
called as in torchvision's state_dict: conv1, bn1, layer1.0.conv1, layer2.0.downsample.0, fc; so its files in safetensors
load by name. The rest is layer1.0.relu1, layer1.0.add, layer1.0.relu2 and so on.
Source: torchvision/models/resnet.py.
Must not know: kernels, plans.
"""

from __future__ import annotations

import os
from functools import partial

from numpy.typing import ArrayLike, NDArray

from .. import layers as L
from ..errors import ShapeError
from ..graph import Input
from ..initializers import VarianceScaling
from ..layers.base import check_shape
from ..model import Model
from . import imagenet
from .imagenet import decode_predictions

__all__ = ["decode_predictions", "preprocess_input", "resnet18", "resnet34"]

SMALLEST = 32

#: PyTorch's momentum of 0.1 is Keras's of 0.9
_norm = partial(L.BatchNormalization, epsilon=1e-5, momentum=0.9)
_start = VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
_conv = partial(L.Conv2D, use_bias=False, kernel_initializer=_start)


def resnet18(weights: str | os.PathLike[str] | None = None, **options) -> Model:
    """Eight blocks of two convolutions: 11,689,512 trainable parameters and 9,600 moving averages for 1000 classes.

    Args:
        weights: path of a file for `load_weights`, or None for random ones. torchvision publishes its weights as pickles,
            which parnet does not open; where PyTorch is at hand,
            `safetensors.torch.save_file(torchvision.models.resnet18(weights="DEFAULT").state_dict(), path)` makes a file.
        input_shape: (H, W, C), by default (224, 224, 3); 32 pixels or more on each side.
        classes: outputs, by default 1000.
        classifier_activation: by default "softmax"; None gives logits, as torchvision does.
        dtype, seed: of the model.
    Raises:
        ShapeError: input_shape is not (H, W, C), or too small.
    """
    return _resnet("resnet18", (2, 2, 2, 2), weights, **options)


def resnet34(weights: str | os.PathLike[str] | None = None, **options) -> Model:
    """Sixteen blocks of two convolutions: 21,797,672 trainable parameters; arguments as for `resnet18`."""
    return _resnet("resnet34", (3, 4, 6, 3), weights, **options)


def preprocess_input(x: ArrayLike) -> NDArray:
    """Pixels as torchvision's weights want them: (x / 255 - mean) / deviation; see `imagenet.preprocess_input`."""
    return imagenet.preprocess_input(x, "torch")


def _resnet(
    name: str,
    blocks: tuple[int, ...],
    weights: str | os.PathLike[str] | None,
    *,
    input_shape=(224, 224, 3),
    classes: int = 1000,
    classifier_activation="softmax",
    dtype: str = "float32",
    seed: int | None = None,
) -> Model:
    shape = check_shape(input_shape, f"{name}: input_shape")
    if len(shape) != 3 or min(shape[:2]) < SMALLEST:
        raise ShapeError(
            f"{name}: expected input_shape (H, W, C) of {SMALLEST} pixels or more on each side, received {input_shape!r}"
        )
    inputs = Input(shape)
    x = _conv(64, 7, strides=2, name="conv1")(L.ZeroPadding2D(3, name="pad1")(inputs))
    x = L.Activation("relu", name="relu")(_norm(name="bn1")(x))
    x = L.MaxPooling2D(3, strides=2, name="maxpool")(
        L.ZeroPadding2D(1, name="pad2")(x)
    )  # after relu, 0 is no less than -inf
    for stage, count in enumerate(blocks):
        for block in range(count):
            x = _block(x, 64 << stage, 2 if stage and not block else 1, f"layer{stage + 1}.{block}")
    x = L.GlobalAveragePooling2D(name="avgpool")(x)
    outputs = L.Dense(classes, activation=classifier_activation, name="fc")(x)
    model = Model(inputs, outputs, name=name, dtype=dtype, seed=seed)
    if weights is not None:
        model.load_weights(weights)
    return model


def _block(x, filters: int, stride: int, name: str):
    """Two convolutions beside a short cut, which has one of its own where the shape changes."""
    own = x if stride == 1 else L.ZeroPadding2D(1, name=f"{name}.pad")(x)  # PyTorch pads both sides, "same" the last alone
    own = _conv(filters, 3, strides=stride, padding="same" if stride == 1 else "valid", name=f"{name}.conv1")(own)
    own = L.Activation("relu", name=f"{name}.relu1")(_norm(name=f"{name}.bn1")(own))
    own = _norm(name=f"{name}.bn2")(_conv(filters, 3, padding="same", name=f"{name}.conv2")(own))
    if stride != 1:
        x = _conv(filters, 1, strides=stride, name=f"{name}.downsample.0")(x)
        x = _norm(name=f"{name}.downsample.1")(x)
    return L.Activation("relu", name=f"{name}.relu2")(L.Add(name=f"{name}.add")([own, x]))
