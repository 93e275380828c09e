"""ResNet-50, version 1, as Keras has it: same layers, names and weights. Stage: beside the model.

K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition" (2015), table 1, 50-layer. In version 1
the stride stands in the first 1x1 convolution of a block, and convolutions have a bias; torchvision's has the stride in
the 3x3 convolution, and so other weights. Source: keras/src/applications/resnet.py.
Must not know: kernels, plans.
"""

from __future__ import annotations

import os
from functools import partial

from numpy.typing import ArrayLike, NDArray

from .. import layers as L
from ..checks import check_path
from ..errors import HyperparameterError, ShapeError, unknown_name
from ..graph import Input
from ..layers.base import check_shape
from ..model import Model
from . import imagenet
from ._files import KnownFile, located
from .imagenet import CLASSES, decode_predictions

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]

EPSILON = 1.001e-5
#: filters of the narrow convolutions, blocks and first stride of each stage
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
SMALLEST = 32

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
_STEM = "resnet50_weights_tf_dim_ordering_tf_kernels"
WEIGHTS = KnownFile(f"{_STEM}.h5", _URL, 102_967_424, "2cb95161c43110f7111970584f804107")
WEIGHTS_WITHOUT_TOP = KnownFile(f"{_STEM}_notop.h5", _URL, None, "4d473c1dd8becc155b73f8504c6f6626")

_norm = partial(L.BatchNormalization, epsilon=EPSILON)


def ResNet50(
    weights: str | os.PathLike[str] | None = None,
    *,
    input_shape=(224, 224, 3),
    classes: int = 1000,
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation="softmax",
    dtype: str = "float32",
    seed: int | None = None,
) -> Model:
    """The network of 177 layers, 25,636,712 parameters; input goes through `preprocess_input` first.

    Args:
        weights: None for random ones; "imagenet" for Keras's, from the folder PARNET_DATA or the cache, else downloaded
            once (98 MiB) with h5py needed to read them; or the path of a file for `load_weights`, Keras's or
            PyTorch's of the same network.
        input_shape: (H, W, C), 32 pixels or more on each side.
        classes: outputs, with the top.
        include_top: False ends the network before the pooling and the dense layer.
        pooling: without the top, "avg" or "max" over all pixels, or None for (N, H / 32, W / 32, 2048).
        classifier_activation: of the output, or None for logits.
        dtype, seed: of the model.
    Raises:
        HyperparameterError: weights "imagenet" with another number of classes.
        ShapeError: input_shape is not (H, W, C), too small, or not of 3 channels for "imagenet".
        UnknownNameError: there is no such pooling.
        DatasetError: the weights are not on this machine and cannot be fetched.
        FileFormatError: their file is damaged or another.
    """
    shape = _checked(input_shape, weights, classes, include_top, pooling)
    inputs = Input(shape)
    x = L.ZeroPadding2D(3, name="conv1_pad")(inputs)
    x = _norm(name="conv1_bn")(L.Conv2D(64, 7, strides=2, name="conv1_conv")(x))
    x = L.ZeroPadding2D(1, name="pool1_pad")(L.Activation("relu", name="conv1_relu")(x))
    x = L.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for number, (filters, blocks, stride) in enumerate(STAGES, 2):
        for block in range(1, blocks + 1):
            x = _block(x, filters, stride if block == 1 else 1, block == 1, f"conv{number}_block{block}")
    if include_top:
        x = L.GlobalAveragePooling2D(name="avg_pool")(x)
        x = L.Dense(classes, activation=classifier_activation, name="probs")(x)
    elif pooling is not None:
        kind = L.GlobalAveragePooling2D if pooling == "avg" else L.GlobalMaxPooling2D
        x = kind(name=f"{pooling}_pool")(x)
    model = Model(inputs, x, name="resnet50", dtype=dtype, seed=seed)
    _load(model, weights, include_top)
    return model


def preprocess_input(x: ArrayLike) -> NDArray:
    """Pixels as Keras's weights want them: blue, green, red, minus their means; see `imagenet.preprocess_input`.

    >>> import numpy as np
    >>> from parnet.applications import resnet50
    >>> resnet50.preprocess_input(np.array([[[255.0, 0.0, 0.0]]])).round(3).tolist()
    [[[-103.939, -116.779, 131.32]]]
    """
    return imagenet.preprocess_input(x, "caffe")


def _checked(input_shape, weights, classes: int, include_top: bool, pooling: str | None) -> tuple[int, ...]:
    shape = check_shape(input_shape, "ResNet50: input_shape")
    pretrained = isinstance(weights, str) and weights == "imagenet"
    if weights is not None:
        check_path(weights, "ResNet50(weights), unless None or 'imagenet'")
    wanted = 3 if pretrained else shape[-1] if shape else 3
    if len(shape) != 3 or min(shape[:2]) < SMALLEST or shape[2] != wanted:
        raise ShapeError(
            f"ResNet50: expected input_shape (H, W, {wanted}) of {SMALLEST} pixels or more on each side, "
            f"received {input_shape!r}"
        )
    if pretrained and include_top and classes != CLASSES:
        raise HyperparameterError(
            f"ResNet50: expected {CLASSES} classes, as weights 'imagenet' have, received {classes!r}; pass "
            "include_top=False and add a layer of your own, or weights=None"
        )
    if pooling not in (None, "avg", "max"):
        raise unknown_name("ResNet50: pooling", pooling, ("avg", "max"))
    return shape


def _block(x, filters: int, stride: int, widens: bool, name: str):
    """Three convolutions beside a short cut, which has one of its own where the shape changes; made in Keras's order."""
    own = L.Conv2D(filters, 1, strides=stride, name=f"{name}_1_conv")(x)
    own = L.Activation("relu", name=f"{name}_1_relu")(_norm(name=f"{name}_1_bn")(own))
    own = L.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(own)
    own = L.Activation("relu", name=f"{name}_2_relu")(_norm(name=f"{name}_2_bn")(own))
    if widens:
        x = L.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_0_conv")(x)
    own = L.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(own)
    if widens:
        x = _norm(name=f"{name}_0_bn")(x)
    own = _norm(name=f"{name}_3_bn")(own)
    return L.Activation("relu", name=f"{name}_out")(L.Add(name=f"{name}_add")([x, own]))


def _load(model: Model, weights: str | os.PathLike[str] | None, include_top: bool) -> None:
    if weights is None:
        return
    if weights != "imagenet":
        model.load_weights(weights)
        return
    with located(WEIGHTS if include_top else WEIGHTS_WITHOUT_TOP, "ResNet50(weights='imagenet')") as path:
        model.load_weights(path, format="keras-h5")
