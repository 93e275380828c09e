"""Keras's names of layers and metrics parnet has by another name. Stage: beneath `parnet.keras`. Must not know: models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import layers as L
from .. import metrics, viz
from ..errors import unknown_argument
from ..layers.tensor import Tensor

#: of Keras's plot_model
_LOOKS = (
    "dpi", "expand_nested", "layer_range", "rankdir", "show_dtype", "show_layer_activations", "show_layer_names",
    "show_shapes", "show_trainable",
)  # fmt: skip


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


def F1Score(average: str | None = None, threshold: float | None = None, name: str = "f1_score") -> metrics.F1:
    """`F1(threshold, average=average)`: an array with the value of each class or output unless an average is asked for."""
    return metrics.F1(threshold, average=average, name=name)


def plot_model(model: Any, to_file: str = "model.png", **looks: Any) -> Any:
    """`pn.viz.plot_model(model, to_file)`, a PNG, SVG or PDF. Shapes and names always stand in it: what Keras's further
    arguments say about looks (`show_shapes`, `show_layer_names`, `dpi`, ...) changes nothing; others are refused."""
    for name in looks:
        if name not in _LOOKS:
            raise unknown_argument("plot_model", name, {"model", "to_file", *_LOOKS})
    return viz.plot_model(model, to_file)
