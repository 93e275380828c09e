"""LeNet-5, the first convolutional network in wide use. Stage: beside the model. Must not know: kernels, plans.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition" (1998), section II.B.
"""

from __future__ import annotations

import os

from .. import layers as L
from ..errors import ShapeError
from ..layers.base import check_shape
from ..sequential import Sequential


def LeNet5(
    weights: str | os.PathLike[str] | None = None,
    *,
    input_shape=(28, 28, 1),
    classes: int = 10,
    activation="tanh",
    classifier_activation="softmax",
    dtype: str = "float32",
    seed: int | None = None,
) -> Sequential:
    """Two convolutions with mean pooling, three dense layers: 61,706 parameters for 28 x 28 grey digits.

    The layers are conv1, pool1, conv2, pool2, flatten, fc1, fc2, fc3, the names of PyTorch's tutorials. In place of the
    paper's sparse second convolution, trainable pooling and radial basis functions stand the layers that everybody uses
    today. Pictures below 32 pixels are padded by two, as the paper does with its digits.

    Args:
        weights: path of a file for `load_weights`, or None for random ones.
        input_shape: (H, W, C), 12 pixels or more on each side.
        classes: outputs.
        activation: of the hidden layers; the paper's is a scaled tanh.
        classifier_activation: of the output, or None for logits.
        dtype, seed: of the model.
    Raises:
        ShapeError: input_shape is not (H, W, C), or too small.

    >>> from parnet.applications import lenet
    >>> lenet.LeNet5().count_params()
    61706
    """
    shape = check_shape(input_shape, "LeNet5: input_shape")
    if len(shape) != 3 or min(shape[:2]) < 12:
        raise ShapeError(
            f"LeNet5: expected input_shape (H, W, C) of 12 pixels or more on each side, received {input_shape!r}"
        )
    model = Sequential(
        [
            L.Input(shape),
            L.Conv2D(6, 5, padding="same" if min(shape[:2]) < 32 else "valid", activation=activation, name="conv1"),
            L.AveragePooling2D(2, name="pool1"),
            L.Conv2D(16, 5, activation=activation, name="conv2"),
            L.AveragePooling2D(2, name="pool2"),
            L.Flatten(name="flatten"),
            L.Dense(120, activation=activation, name="fc1"),
            L.Dense(84, activation=activation, name="fc2"),
            L.Dense(classes, activation=classifier_activation, name="fc3"),
        ],
        name="lenet5",
        dtype=dtype,
        seed=seed,
    )
    if weights is not None:
        model.load_weights(weights)
    return model
