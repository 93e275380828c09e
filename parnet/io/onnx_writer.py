"""Models as ONNX files, for ONNX Runtime and all else that reads them. Stage: io, on top. Must not know: kernels.

What the file computes is inference: dropout and augmentation do nothing there. Its inputs and outputs are the model's:
their names, their dtype, (batch, height, width, channels). Within, images are kept as ONNX wants them, channels first, and
turned only where a layer needs the other order. Operators are those of opset 17.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._version import __version__
from ..checks import check_path
from ..errors import HyperparameterError, require_extra
from ..layers.base import Layer, Shape
from ..plan.network import Node
from .atomic import replacing
from .onnx_layers import WRITERS

#: of the operators, and of the file format that knows them; ONNX Runtime has read both since 1.12
OPSET, IR_VERSION = 17, 8
#: bytes of a protobuf message
LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph.

    Attributes:
        name: in the graph.
        shape: of one sample as parnet has it, channels last.
        first: it is an image whose channels stand first.
    """

    name: str
    shape: Shape
    first: bool = False


@dataclass
class OnnxGraph:
    """The graph as it grows; what a writer of `onnx_layers` works with.

    Attributes:
        weights: "layer/weight" -> its array.
        dtype: of all arrays.
        prefix: of the names of the nodes that the layer at hand makes.
    """

    helper: Any
    weights: dict[str, np.ndarray]
    dtype: np.dtype
    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _turned: dict[str, Value] = field(default_factory=dict)
    _count: int = 0

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A node of one output. Returns the output's name."""
        self._count += 1
        name = f"{self.prefix}/{kind}_{self._count}"
        self.nodes.append(self.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, layer: Layer, name: str, convert: Callable[[np.ndarray], np.ndarray] = lambda a: a) -> str:
        """A layer's array as an initializer, under its own name, brought to ONNX's order of axes."""
        key = f"{layer.name}/{name}"
        if key not in self.arrays:
            self.arrays[key] = np.ascontiguousarray(convert(self.weights[key]))
        return key

    def has(self, layer: Layer, name: str) -> bool:
        """Whether the layer has an array of that name."""
        return f"{layer.name}/{name}" in self.weights

    def constant(self, value: Any, dtype: Any = None) -> str:
        """An initializer of our own, in the model's dtype if no other is named."""
        self._count += 1
        name = f"{self.prefix}/constant_{self._count}"
        self.arrays[name] = np.asarray(value, self.dtype if dtype is None else dtype)
        return name

    def last(self, value: Value) -> Value:
        """The value with its channels last."""
        return self._turn(value, (0, 2, 3, 1)) if value.first else value

    def first(self, value: Value) -> Value:
        """An image with its channels first."""
        return value if value.first or len(value.shape) != 3 else self._turn(value, (0, 3, 1, 2))

    def _turn(self, value: Value, order: tuple[int, ...]) -> Value:
        if value.name not in self._turned:
            turned = Value(self.add("Transpose", [value.name], perm=order), value.shape, not value.first)
            self._turned[value.name] = turned
        return self._turned[value.name]


def save_onnx(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model as an ONNX file for inference.

    Args:
        model: built.
        path: of the file; an older one there is replaced as a whole or not at all.
    Raises:
        HyperparameterError: a layer or activation that ONNX has no operators for, or more than 2 GiB of weights.
        StateError: the model's input shape is not known.
        MissingExtraError: the package onnx is not installed.
        OSError: the file cannot be written.
    """
    where = f"{model.name}.export"
    check_path(path, f"{where}: path")
    onnx = require_extra("onnx", "onnx", where)
    data = _made(onnx, model, where).SerializeToString()
    with replacing(path, where) as file:
        file.write(data)


def _made(onnx: Any, model: Any, where: str) -> Any:
    """The file's content, checked by onnx itself."""
    helper, network = onnx.helper, model.session.network
    arrays = {p.name: p.numpy() for p in model.weights}
    if (size := sum(array.nbytes for array in arrays.values())) > LIMIT * 0.99:
        raise HyperparameterError(f"{where}: expected at most 2 GiB of weights, as ONNX files have, received {size} bytes")
    graph = OnnxGraph(helper, arrays, np.dtype(model.dtype))
    inputs = [Value(name, shape) for name, shape in zip(network.names[0], network.input_shapes, strict=True)]
    made: list[Value] = []
    for node in network.nodes:
        made.append(_written(graph, node, [made[i] if i >= 0 else inputs[-1 - i] for i in node.inputs], where))
    outputs = _outputs(graph, [made[i] if i >= 0 else inputs[-1 - i] for i in network.outputs], network.names)
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)

    def info(values: list[Value]) -> list[Any]:
        return [helper.make_tensor_value_info(v.name, kind, ["batch", *v.shape]) for v in values]

    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in graph.arrays.items()]
    whole = helper.make_graph(graph.nodes, model.name, info(inputs), info(outputs), tensors)
    opset = [helper.make_opsetid("", OPSET)]
    named = {"producer_name": "parnet", "producer_version": __version__, "ir_version": IR_VERSION}
    result = helper.make_model(whole, opset_imports=opset, **named)
    onnx.checker.check_model(result)
    return result


def _written(graph: OnnxGraph, node: Node, given: list[Value], where: str) -> Value:
    """What a call of a layer makes."""
    layer = node.layer
    writer = WRITERS.get(type(layer).__name__)
    if writer is None or type(layer).__module__.partition(".")[0] != __name__.partition(".")[0]:
        raise HyperparameterError(
            f"{where}: expected layers of {', '.join(sorted(WRITERS))}, received {layer.label()}, which ONNX does not have"
        )
    graph.prefix = node.prefix
    name, first = writer(graph, layer, given)
    return Value(name, node.shape, first)


def _outputs(graph: OnnxGraph, made: list[Value], names: tuple[tuple[str, ...], tuple[str, ...]]) -> list[Value]:
    """The model's outputs under their names; no two values of a graph may have the same."""
    taken, result = set(names[0]), []
    for value, name in zip(made, names[1], strict=True):
        while name in taken:
            name = f"{name}_output"
        taken.add(name)
        graph.nodes.append(graph.helper.make_node("Identity", [graph.last(value).name], [name], name=f"{name}/output"))
        result.append(Value(name, value.shape))
    return result
