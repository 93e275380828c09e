"""Symbolic tensors: what a layer will make once a model runs. Stage: layers. Must not know: plans, models.

x = pn.Input((28, 28, 1))
y = L.Dense(10)(L.Flatten()(x))          a Tensor knows its layer and what that was called on
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import DTypeError, ShapeError, StateError

if TYPE_CHECKING:
    from .base import Layer, Shape


class Tensor:
    """The output of one call of a layer, without numbers.

    Attributes:
        layer: that makes it; an Input layer for a model's input.
        inputs: the tensors the layer was called on.
        shape: of one sample, without the batch.
    """

    __slots__ = ("inputs", "layer", "shape")

    def __init__(self, layer: Layer, inputs: tuple[Tensor, ...], shape: Shape):
        self.layer, self.inputs, self.shape = layer, inputs, shape

    @property
    def name(self) -> str:
        """Of its layer; layers without a name get one from their first model."""
        return str(self.layer.name or type(self.layer).__name__.lower())

    def __repr__(self) -> str:
        return f"Tensor({self.name}, shape={self.shape})"

    def __array__(self, *args, **kwargs):
        raise DTypeError(
            f"{self!r}: expected an array, received a symbolic tensor, which has no numbers; make a model of it, "
            "pn.Model(inputs, outputs), and call that on arrays"
        )

    def __iter__(self):
        raise DTypeError(f"{self!r}: a symbolic tensor has no items to go through; hand several tensors over as a list")


def call(layer: Layer, x: Any) -> Tensor:
    """What `layer(x)` does: note the call and work out the output's shape.

    Args:
        x: a tensor, or for a merging layer a list of tensors.
    Raises:
        DTypeError: not tensors. ShapeError: too many or too few, or of shapes that cannot work.
    """
    inputs = _tensors(layer, x)
    shapes = tuple(tensor.shape for tensor in inputs)
    if layer.input_shape is not None and shapes[0] != layer.input_shape:
        raise ShapeError(
            f"{layer.label()}: expected input (batch, {', '.join(map(str, layer.input_shape))}), as its input_shape says, "
            f"received {inputs[0]!r}"
        )
    given: Any = shapes if layer.merges else shapes[0]
    return record(layer, inputs, layer.output_shape(given))


def record(layer: Layer, inputs: tuple[Tensor, ...], shape: Shape) -> Tensor:
    """A new output of the layer."""
    made = Tensor(layer, inputs, shape)
    layer._made.append(made)
    return made


def of_input(x: Any) -> Any:
    """The tensor of an Input layer, which may stand for it as in Keras; anything else as it is."""
    return x.tensor if getattr(x, "is_input", False) else x


def _tensors(layer: Layer, x: Any) -> tuple[Tensor, ...]:
    listed = isinstance(x, list | tuple)
    items = tuple(map(of_input, x)) if listed else (of_input(x),)
    wrong = [item for item in items if not isinstance(item, Tensor)]
    if wrong or not items:
        kind = type(wrong[0]).__name__ if wrong else "nothing"
        shape = getattr(wrong[0], "shape", None) if wrong else None
        raise DTypeError(
            f"{layer.label()}: expected a tensor made by pn.Input or by another layer, received {kind}"
            f"{f' of shape {shape}' if isinstance(shape, tuple) else ''}; a layer alone computes nothing: "
            "put it into a model, pn.Sequential([...]) or pn.Model(inputs, outputs), and call that"
        )
    if layer.is_input:
        raise StateError(f"{layer.label()}: an Input starts a graph and cannot be called; take its tensor, pn.Input(shape)")
    if layer.merges and len(items) < 2:
        raise ShapeError(f"{layer.label()}: expected a list of two or more tensors, received {items[0]!r}")
    if not layer.merges and len(items) > 1:
        raise ShapeError(
            f"{layer.label()}: expected one tensor, received a list of {len(items)}; "
            "bring them together first, by L.Concatenate()([...]) or L.Add()([...])"
        )
    return items


def the_one(layer: Layer, what: str) -> Tensor:
    """The only output of a layer. Raises StateError where it was never called, or more than once."""
    made = layer._made
    if len(made) == 1:
        return made[0]
    if not made:
        raise StateError(
            f"{layer.label()}: has no {what} yet; call it on a tensor, or put it into a model whose input is known"
        )
    raise StateError(
        f"{layer.label()}: expected a layer called once, this one was called {len(made)} times, so {what} could be any of "
        f"several; take layer.outputs[k], k from 0 to {len(made) - 1}"
    )
