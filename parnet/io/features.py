"""Which layers see flattened pictures, whose features PyTorch counts in another order. Stage: io. Pure.

Must not know: files, arrays.
"""

from __future__ import annotations

from .. import layers as L
from ..layers.base import Layer, count
from ..plan.plan import Network
from .found import Shape

#: of the features of a sample, one after the other: (H, W, C) of a flattened picture, (n,) of n that are none
Pieces = tuple[Shape, ...]

#: classes of layers that leave the order of features as it is
_KEEPING = (
    "Activation", "BatchNormalization", "Dropout", "ELU", "Flatten", "GaussianNoise", "LayerNormalization", "LeakyReLU",
    "ReLU", "Rescaling", "Softmax",
)  # fmt: skip


def flattened(network: Network) -> dict[str, Pieces]:
    """The layers whose input has a flattened picture in it, by name, and the pieces of that input."""
    made: list[Pieces | None] = []
    seen: dict[str, Pieces] = {}
    for node in network.nodes:
        given = [made[i] if i >= 0 else None for i in node.inputs]
        if (pieces := given[0]) is not None:
            seen[str(node.layer.name)] = pieces
        made.append(_after(node.layer, given, network.given(node)))
    return seen


def _after(layer: Layer, given: list[Pieces | None], shapes: tuple[Shape, ...]) -> Pieces | None:
    """The pieces of a layer's output, None where there is no picture among them."""
    if isinstance(layer, L.Flatten) and len(shapes[0]) == 3:
        return (shapes[0],)
    if isinstance(layer, L.Concatenate) and any(given):
        parts = [pieces or ((count(shape),),) for pieces, shape in zip(given, shapes, strict=True)]
        return tuple(piece for part in parts for piece in part)
    keeps = type(layer).__name__ in _KEEPING or (layer.merges and not isinstance(layer, L.Concatenate))
    return given[0] if keeps and len(set(given)) == 1 else None
