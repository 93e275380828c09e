"""Sequential: layers one after the other. Stage: model. Must not know: kernels, steps, threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .checks import check_list
from .errors import ShapeError, StateError
from .graph import Graph, name_layers
from .layers.base import Layer, Shape, without_batch
from .layers.shape import Input
from .layers.tensor import Tensor, record
from .model import Model


class Sequential(Model):
    """Layers one after the other.

    Args:
        layers: in order; the first one, or an Input, states the input's shape.
        name: of the model.
        dtype: "float32" or "float64", of weights and arithmetic.
        seed: of weights, shuffles and dropout; drawn from `pn.set_seed` when left out.

    >>> import parnet as pn
    >>> from parnet import layers as L
    >>> model = pn.Sequential([L.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)])
    >>> model.count_params()
    23
    """

    def __init__(
        self,
        layers: Sequence[Layer | Tensor] = (),
        *,
        name: str = "sequential",
        dtype: str = "float32",
        seed: int | None = None,
    ):
        self._start(name, dtype, seed)
        for layer in check_list(layers, "Sequential", "layers"):
            self._append(layer)
        self._build()

    def add(self, layer: Layer | Tensor) -> None:
        """Append a layer.

        Raises:
            ShapeError: it cannot take what comes before it.
            StateError: the model has weights already, or the layer is in a model already.
        """
        self._append(layer)
        try:
            self._build()
        except ShapeError:
            self._layers.pop()
            raise

    def _append(self, layer: Any) -> None:
        if isinstance(layer, Tensor) and layer.layer.is_input:
            layer = layer.layer
        if not isinstance(layer, Layer):
            raise ShapeError(f"Sequential: expected a layer, received {layer!r}; layers are objects such as Dense(10)")
        if self._session is not None and (self._session.has_weights or self._session.weights.models > 1):
            raise StateError("Sequential.add: the model has weights already, or shares them; add all layers before using it")
        if layer._values is not None or any(layer is other for other in self._layers):
            raise StateError(f"Sequential: the layer {layer.label()} is in the model already; make a new one")
        if layer.merges:
            raise ShapeError(
                f"Sequential: {layer.label()} takes several inputs; call it on a list of tensors in a graph, pn.Model"
            )
        name_layers([*self._layers, layer], "Sequential")
        self._layers.append(layer)
        self._session = None

    def _build(self) -> None:
        """Shapes and places of all weights, once the input's shape is known; no weight is made."""
        shape = self.input_shape
        if shape is None or all(layer.is_input for layer in self._layers):
            return
        shapes, first = [shape], self._layers[0]
        for layer in self._layers:
            shapes.append(layer.output_shape(shapes[-1]))
        self._forget_calls()
        start = first.tensor if isinstance(first, Input) else Input(shape, name=f"{first.name}_input").tensor
        tensor, calls = start, []
        for layer, made in zip(self._layers, shapes[1:], strict=True):
            if layer.is_input:  # a call too, which nobody reads: the numbers of the calls key the dropout
                calls.append(Tensor(layer, (tensor,), made))
                continue
            tensor = record(layer, (tensor,), made)
            calls.append(tensor)
        self._connect(Graph((start,), (tensor,), tuple(calls), tuple(self._layers)))

    def _forget_calls(self) -> None:
        """The calls and places of an earlier build, which had no weights yet."""
        for tensor in self._graph.calls if self._graph is not None else ():
            if tensor in tensor.layer._made:
                tensor.layer._made.remove(tensor)
            tensor.layer.settle(None, {})

    @property
    def input_shape(self) -> Shape | None:
        """Of one sample, or None while it is not known."""
        return self._layers[0].input_shape if self._layers else None

    def build(self, input_shape) -> None:
        """State the input's shape after the fact.

        Args:
            input_shape: of one sample, without the batch; a leading None is left out.
        """
        shape = without_batch(input_shape, f"{self.name}.build")
        if self._layers and self._layers[0].input_shape is None:
            self._layers[0].input_shape = shape
        self._build()
