"""A model as the planner sees it: calls of layers in the order they run. Stage: plan. Pure; holds no array.

Must not know: steps, executors, models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..activations import Activation
from ..errors import ShapeError
from ..layers.base import Layer, Shape
from .builder import Placed, place_weights


@dataclass(frozen=True)
class Node:
    """One call of a layer.

    Attributes:
        layer: that is called; a shared layer is called by several nodes.
        inputs: who makes its inputs: the number of a node, or -1 - k for input k of the model.
        shape: of one output sample.
        call: which call of its layer it is, from 0.
    """

    layer: Layer
    inputs: tuple[int, ...]
    shape: Shape
    call: int = 0

    @property
    def prefix(self) -> str:
        """What the names of its buffers begin with; no layer's name has a # in it."""
        return f"{self.layer.name}#{self.call + 1}" if self.call else str(self.layer.name)


@dataclass(frozen=True)
class Network:
    """What a model is to the planner.

    Attributes:
        nodes: each behind those that make its inputs.
        input_shapes: of one sample of each of the model's inputs.
        outputs: who makes each of the model's outputs.
        layers: all layers, each once; their weights lie in this order.
        placed: weights by "layer/weight".
        sizes: length of the regions "parameters" and "state".
        names: of the inputs and of the outputs, for messages and logs; may be empty.
    """

    nodes: tuple[Node, ...]
    input_shapes: tuple[Shape, ...]
    outputs: tuple[int, ...]
    layers: tuple[Layer, ...]
    placed: dict[str, Placed]
    sizes: dict[str, int]
    names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @classmethod
    def of(cls, layers: Sequence[Layer], input_shape: Shape) -> Network:
        """Layers one after the other. Raises ShapeError at the first that cannot take its input."""
        nodes: list[Node] = []
        shape = input_shape
        for index, layer in enumerate(layers):
            shape = layer.output_shape(shape)
            nodes.append(Node(layer, (index - 1,), shape))
        return cls.of_nodes(nodes, (input_shape,), (len(nodes) - 1,), tuple(layers))

    @classmethod
    def of_nodes(
        cls,
        nodes: Sequence[Node],
        input_shapes: tuple[Shape, ...],
        outputs: tuple[int, ...],
        layers: tuple[Layer, ...],
        known: Mapping[str, Placed] | None = None,
        sizes: Mapping[str, int] | None = None,
        names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    ) -> Network:
        """A network of any nodes.

        Args:
            layers: of the nodes, each once, in the order of their weights.
            known: weights that have their places already, in regions as long as `sizes` says.
        Raises:
            ShapeError: a shared layer whose inputs want weights of different shapes.
        """
        shapes: dict[int, list] = {}
        for node in nodes:
            given = tuple(_shape_of(nodes, input_shapes, producer) for producer in node.inputs)
            shapes.setdefault(id(node.layer), []).append(given if node.layer.merges else given[0])
        for layer in layers:
            _check_shared(layer, shapes[id(layer)])
        first = tuple(shapes[id(layer)][0] for layer in layers)
        placed, lengths = place_weights(layers, first, known or {}, sizes or {})
        return cls(tuple(nodes), input_shapes, outputs, layers, placed, lengths, names)

    def again(self) -> Network:
        """The same network after its layers' `trainable` was set; weights stay where they are."""
        return Network.of_nodes(
            self.nodes, self.input_shapes, self.outputs, self.layers, self.placed, self.sizes, self.names
        )

    def given(self, node: Node) -> tuple[Shape, ...]:
        """The shapes of a node's inputs."""
        return tuple(self.shape_of(producer) for producer in node.inputs)

    def shape_of(self, producer: int) -> Shape:
        """The shape of one sample of what a producer makes."""
        return _shape_of(self.nodes, self.input_shapes, producer)

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Of one sample of each output."""
        return tuple(self.shape_of(producer) for producer in self.outputs)

    def readers(self, producer: int) -> int:
        """How many nodes and outputs read what a producer makes."""
        return sum(node.inputs.count(producer) for node in self.nodes) + self.outputs.count(producer)

    def activation(self, output: int) -> str:
        """Name of the activation that an output comes out of."""
        producer = self.outputs[output]
        activation = getattr(self.nodes[producer].layer, "activation", None) if producer >= 0 else None
        return activation.name if isinstance(activation, Activation) else ""

    def trains(self, layer: Layer) -> bool:
        """Whether the layer has weights that are trained."""
        return any(p.trainable for key, p in self.placed.items() if key.startswith(f"{layer.name}/"))

    def shared(self) -> frozenset[str]:
        """Keys of the weights of layers that are called more than once."""
        names = {f"{node.layer.name}/" for node in self.nodes if node.call}
        return frozenset(key for key in self.placed if f"{key.rsplit('/', 1)[0]}/" in names)


def _shape_of(nodes: Sequence[Node], input_shapes: tuple[Shape, ...], producer: int) -> Shape:
    return nodes[producer].shape if producer >= 0 else input_shapes[-1 - producer]


def _check_shared(layer: Layer, shapes: list) -> None:
    """All calls of a layer want the same weights."""
    wanted = [tuple((w.name, w.shape) for w in layer.weights(shape)) for shape in shapes]
    for shape, weights in zip(shapes[1:], wanted[1:], strict=True):
        if weights != wanted[0]:
            raise ShapeError(
                f"{layer.label()}: shared by inputs (batch, {_text(shapes[0])}) and (batch, {_text(shape)}), which want "
                f"weights of different shapes: {dict(wanted[0])} and {dict(weights)}; use two layers"
            )


def _text(shape) -> str:
    return ", ".join(map(str, shape))
