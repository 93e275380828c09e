"""A graph of layers as JSON and back: who is called on what, by number. Stage: io, beneath `describe`.

    layers    descriptions, those of the inputs among them
    inputs    for each input, the number of its layer
    calls     for each call {"layer": number, "inputs": producers}; a producer is an earlier call, or -1 - k for input k
    outputs   producers

Every number of a file is checked before it is used. Must not know: zips, arrays, plans.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..graph import Graph
from ..layers.base import Layer
from ..layers.shape import Input
from ..layers.tensor import Tensor
from .fields import damaged, take


def describe_graph(graph: Graph, describe: Callable[[Layer], dict]) -> dict[str, Any]:
    """The lines of a graph."""
    numbers = graph.producers()
    layers: list[Layer] = list(graph.layers)
    inputs: list[int] = []
    for tensor in graph.inputs:
        layer = next((one for one in layers if one is tensor.layer), None)
        if layer is None or not layer.is_input:  # an inner tensor of another model: here it is an input
            called = any(call.layer is layer for call in graph.calls)
            made = Input(tensor.shape, name=f"{tensor.name}_input" if called else tensor.name)
            layers = [*layers, made] if called else [made if one is layer else one for one in layers]
            layer = made
        inputs.append(next(index for index, one in enumerate(layers) if one is layer))
    places = {id(layer): index for index, layer in enumerate(layers)}
    calls = [
        {"layer": places[id(tensor.layer)], "inputs": [numbers[id(source)] for source in tensor.inputs]}
        for tensor in graph.calls
    ]
    return {
        "layers": [describe(layer) for layer in layers],
        "inputs": inputs,
        "calls": calls,
        "outputs": [numbers[id(tensor)] for tensor in graph.outputs],
    }


def connect(layers: list[Layer], inputs: list, calls: list, outputs: list, where: str) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the graph that the lines describe, made by calling the layers.

    Raises:
        FileFormatError: a number that is out of range, or a line of another form. Whatever a layer raises about its input.
    """
    starts: list[Tensor] = []
    for number in inputs:
        layer = layers[_number(number, 0, len(layers), f"{where}: inputs")]
        if not isinstance(layer, Input):
            raise damaged(f"{where}: inputs", "numbers of Input layers", number)
        starts.append(layer.tensor)
    made: list[Tensor] = []

    def producer(number: Any, place: str) -> Tensor:
        value = _number(number, -len(starts), len(made), place)
        return made[value] if value >= 0 else starts[-1 - value]

    for index, line in enumerate(calls):
        place = f"{where}: call {index}"
        which, sources = take(line, place, layer=int, inputs=list)
        layer = layers[_number(which, 0, len(layers), place)]
        tensors = [producer(number, place) for number in sources]
        made.append(layer(tensors if layer.merges or len(tensors) != 1 else tensors[0]))
    return starts, [producer(number, f"{where}: outputs") for number in outputs]


def _number(value: Any, low: int, high: int, where: str) -> int:
    """A whole number from low to below high."""
    if type(value) is not int or not low <= value < high:
        raise damaged(where, f"a whole number from {low} to {high - 1}", repr(value))
    return value
