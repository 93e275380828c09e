"""Keras's names of layers and metrics parnet has by another name. Stage: beneath `parnet.keras`. Must not know: models."""

from __future__ import annotations

from collections.abc import Sequence

from .. import activations, metrics
from .. import layers as L
from ..layers.tensor import Tensor


def ReLU(**base) -> L.Activation:
    """`Activation("relu")`."""
    return L.Activation("relu", **base)


def Softmax(**base) -> L.Activation:
    """`Activation("softmax")`, along the last axis."""
    return L.Activation("softmax", **base)


def LeakyReLU(negative_slope: float = 0.3, *, alpha: float | None = None, **base) -> L.Activation:
    """`Activation("leaky_relu")` of a slope below 0; `alpha` is Keras 2's name of it."""
    return L.Activation(activations.leaky_relu.with_alpha(negative_slope if alpha is None else alpha), **base)


def ELU(alpha: float = 1.0, **base) -> L.Activation:
    """`Activation("elu")`, which goes down to -alpha."""
    return L.Activation(activations.elu.with_alpha(alpha), **base)


def add(inputs: Sequence[Tensor], **base) -> Tensor:
    """`Add()(inputs)`."""
    return L.Add(**base)(inputs)


def subtract(inputs: Sequence[Tensor], **base) -> Tensor:
    """`Subtract()(inputs)`."""
    return L.Subtract(**base)(inputs)


def multiply(inputs: Sequence[Tensor], **base) -> Tensor:
    """`Multiply()(inputs)`."""
    return L.Multiply(**base)(inputs)


def average(inputs: Sequence[Tensor], **base) -> Tensor:
    """`Average()(inputs)`."""
    return L.Average(**base)(inputs)


def maximum(inputs: Sequence[Tensor], **base) -> Tensor:
    """`Maximum()(inputs)`."""
    return L.Maximum(**base)(inputs)


def concatenate(inputs: Sequence[Tensor], axis: int = -1, **base) -> Tensor:
    """`Concatenate(axis)(inputs)`."""
    return L.Concatenate(axis=axis, **base)(inputs)


def TopKCategoricalAccuracy(k: int = 5, name: str = "top_k_categorical_accuracy") -> metrics.TopKAccuracy:
    """`TopKAccuracy(k)`, of one-hot rows."""
    return metrics.TopKAccuracy(k, name=name)


def SparseTopKCategoricalAccuracy(k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> metrics.TopKAccuracy:
    """`TopKAccuracy(k)`, of class numbers."""
    return metrics.TopKAccuracy(k, name=name)
