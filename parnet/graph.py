"""From symbolic tensors to the calls of a model, in order. Stage: model. Must not know: plans, arrays, training.

The order is Keras's: by depth, the longest way to an output first; layers of equal depth as a walk back from the outputs
meets them. So summaries and weight files list the layers as Keras does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import DTypeError, HyperparameterError, ShapeError, StateError
from .layers.base import Layer, Shape
from .layers.shape import Input as InputLayer
from .layers.tensor import Tensor, of_input
from .plan.network import Node
from .registry import snake_case

#: addresses of inputs and outputs that a run has room for (`parnet.kernels.control`)
MOST = 8


def Input(shape, name: str | None = None) -> Tensor:
    """An input of a graph model, as a symbolic tensor.

    Args:
        shape: of one sample, without the batch: (28, 28, 1).
        name: unique in its model; the key of its array where inputs are handed over as a dict.
    Raises:
        ShapeError: not a shape of whole numbers above 0.

    >>> Input((4,), name="x")
    Tensor(x, shape=(4,))
    """
    return InputLayer(shape, name=name).tensor


@dataclass(frozen=True)
class Graph:
    """The calls between some inputs and outputs.

    Attributes:
        inputs, outputs: tensors.
        calls: the tensors made in between, each behind those it is made of.
        layers: all layers, each once, those of the inputs among them.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    calls: tuple[Tensor, ...]
    layers: tuple[Layer, ...]

    def producers(self) -> dict[int, int]:
        """id of a tensor -> its number: that of its call, or -1 - k for input k."""
        numbers = {id(tensor): index for index, tensor in enumerate(self.calls)}
        return numbers | {id(tensor): -1 - k for k, tensor in enumerate(self.inputs)}

    def nodes(self) -> list[Node]:
        """The calls as the planner has them."""
        numbers, seen, result = self.producers(), dict[int, int](), []
        for tensor in self.calls:
            count = seen.get(id(tensor.layer), 0)
            seen[id(tensor.layer)] = count + 1
            inputs = tuple(numbers[id(source)] for source in tensor.inputs)
            result.append(Node(tensor.layer, inputs, tensor.shape, count))
        return result

    def called(self) -> tuple[Layer, ...]:
        """The layers without those of the inputs."""
        made = {id(tensor.layer) for tensor in self.calls}
        return tuple(layer for layer in self.layers if id(layer) in made)


def trace(inputs: Any, outputs: Any, where: str) -> Graph:
    """Walk back from the outputs to the inputs.

    Args:
        inputs, outputs: a tensor, or a list of them.
        where: name of the model, for messages.
    Raises:
        DTypeError: not tensors. StateError: outputs that need other inputs, or inputs that no output needs.
        HyperparameterError: a layer's name twice. ShapeError: too many inputs or outputs.
    """
    starts, ends = _listed(inputs, "inputs", where), _listed(outputs, "outputs", where)
    if len({id(tensor) for tensor in starts}) < len(starts):
        raise StateError(f"{where}: expected each input once, received {starts}")
    stop = {id(tensor) for tensor in starts}
    order, visited = _walk(ends, stop)
    missing = [t for t in visited if t.layer.is_input and id(t) not in stop]
    if missing:
        raise StateError(
            f"{where}: the outputs depend on {_names(missing)}, which is not among the inputs ({_names(starts)}); add it to "
            "inputs, or make the outputs from the inputs given"
        )
    met = {id(tensor) for tensor in visited}
    unused = [tensor for tensor in starts if id(tensor) not in met]
    if unused:
        raise StateError(
            f"{where}: no output depends on the input {_names(unused)}; leave it out of inputs, or make an output of it"
        )
    graph = _sorted(starts, ends, order, visited, stop)
    name_layers(graph.layers, where)
    return graph


def follow(call: Callable[..., Any], shapes: Sequence[Shape], where: str) -> Graph:
    """The graph of what a method makes of symbolic inputs of these shapes, called once.

    Raises:
        StateError: the method does something else with tensors than call layers on them. Others as `trace`.
    """
    inputs = [Input(shape) for shape in shapes]
    given = {"training": True} if "training" in inspect.signature(call).parameters else {}
    try:
        outputs = call(inputs[0] if len(inputs) == 1 else inputs, **given)
    except TypeError as error:
        raise StateError(
            f"{where}.call: expected layers called on tensors and on what they make, received other work ({error}); bring "
            "tensors together by layers, such as L.Add()([a, b]), L.Multiply and L.Concatenate"
        ) from error
    return trace(inputs, outputs, where)


def _listed(tensors: Any, what: str, where: str) -> tuple[Tensor, ...]:
    if isinstance(tensors, dict):
        tensors = list(tensors.values())
    items = tuple(tensors) if isinstance(tensors, list | tuple) else (tensors,)
    items = tuple(map(of_input, items))
    for item in items:
        if not isinstance(item, Tensor):
            raise DTypeError(f"{where}: expected {what} that are symbolic tensors, received {type(item).__name__}")
    if not 1 <= len(items) <= MOST:
        raise ShapeError(f"{where}: expected 1 to {MOST} {what}, received {len(items)}")
    return items


def _names(tensors: Iterable[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.shape}" for tensor in tensors)


def _walk(ends: Sequence[Tensor], stop: set[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors in the order in which a walk back leaves them (each behind its inputs), and in which it meets them."""
    left: list[Tensor] = []
    met: dict[int, Tensor] = {}
    for end in ends:
        stack: list[tuple[Tensor, int]] = [(end, 0)]
        while stack:
            tensor, place = stack.pop()
            if place == 0:
                if id(tensor) in met:
                    continue
                met[id(tensor)] = tensor
            inputs = () if id(tensor) in stop else tensor.inputs
            if place < len(inputs):
                stack += [(tensor, place + 1), (inputs[place], 0)]
            else:
                left.append(tensor)
    return left, list(met.values())


def _sorted(starts, ends, order: list[Tensor], visited: list[Tensor], stop: set[int]) -> Graph:
    """By depth, then as the walk met the layers."""
    first: dict[int, int] = {}
    for tensor in visited:
        first.setdefault(id(tensor.layer), len(first))
    depth: dict[int, int] = {}
    layer_depth: dict[int, int] = {}
    for tensor in reversed(order):
        mine = max(depth.get(id(tensor), 0), layer_depth.get(id(tensor.layer), 0))
        depth[id(tensor)] = layer_depth[id(tensor.layer)] = mine
        for source in () if id(tensor) in stop else tensor.inputs:
            depth[id(source)] = max(mine + 1, depth.get(id(source), 0))
    calls = [tensor for tensor in order if id(tensor) not in stop]
    calls.sort(key=lambda tensor: (-depth[id(tensor)], first[id(tensor.layer)]))
    layers = {id(tensor.layer): tensor.layer for tensor in visited}
    listed = sorted(layers.values(), key=lambda layer: (-layer_depth[id(layer)], first[id(layer)]))
    return Graph(starts, ends, tuple(calls), tuple(listed))


def name_layers(layers: Iterable[Layer], where: str, taken: Iterable[str | None] = ()) -> None:
    """Give layers without a name of their own one that is free.

    Raises:
        HyperparameterError: two layers were given the same name.
    """
    layers = tuple(layers)
    used = set(taken)
    for layer in layers:
        if layer.name is None or (layer._auto_named and layer._values is None):
            continue
        if layer.name in used:
            raise HyperparameterError(f"{where}: two layers are called {layer.name!r}; give each its own name")
        used.add(layer.name)
    for layer in layers:
        if layer.name is not None and (not layer._auto_named or layer._values is not None):
            continue
        if layer.name is None or layer.name in used:
            base, number = snake_case(type(layer).__name__), 0
            while (name := base if not number else f"{base}_{number}") in used:
                number += 1
            layer.name, layer._auto_named = name, True
        used.add(layer.name)


def sample_shape(shapes: Sequence[Shape]) -> Shape | list[Shape]:
    """The one shape, or a list of several."""
    return shapes[0] if len(shapes) == 1 else list(shapes)
