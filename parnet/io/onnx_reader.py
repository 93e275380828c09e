"""ONNX files as models. Stage: io, on top. Must not know: plans, kernels.

Each operator becomes the layer that computes it (`onnx_operators`), its arrays that layer's weights. A file with operators
or attributes that parnet has no layer for is refused as a whole. Files of several parts are refused: all numbers must be in
the file itself. Nothing in it is executed.

Images keep their channels last here: where the file's input is (batch, channels, height, width), the model's is (height,
width, channels), and so for outputs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import FileFormatError, MissingExtraError, ParnetError, require_extra
from ..graph import Input
from ..layers.base import Layer, Shape
from ..layers.tensor import Tensor
from ..model import Model
from .fields import clip, damaged
from .onnx_arrays import array_of
from .onnx_operator import Operator
from .onnx_operators import READERS

#: operators after which an image is still the input's, pixel by pixel
_POINTWISE = ("Add", "Mul", "Sub", "Div", "Identity", "Relu", "Sigmoid", "Tanh", "Dropout")
#: domains of operators that are ONNX's own
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Value:
    """A tensor of the file.

    Attributes:
        tensor: what it is here.
        first: in the file it is an image whose channels stand first.
        picture: in the file its features are those of a flattened image (H, W, C), counted channels first.
    """

    tensor: Tensor
    first: bool = False
    picture: Shape | None = None


@dataclass
class Reader:
    """A file on its way to a model; what the readers of `onnx_operators` work with.

    Attributes:
        where: the file's name, for messages.
        values, constants: what is known by name.
        arrays: of each layer, in the order of its weights.
        before: id of a dense layer -> what it was called on, for a bias that comes in an operator of its own.
    """

    where: str
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    arrays: list[tuple[Layer, list[np.ndarray]]] = field(default_factory=list)
    before: dict[int, Value] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def constant(self, name: str) -> np.ndarray:
        """An array of the file. Raises FileFormatError where it is computed or not there."""
        if name not in self.constants:
            raise self.refuse(f"a constant for {clip(name)}", "a computed tensor, or none")
        return self.constants[name]

    def call(self, layer: Layer, *given: Value, arrays: list[np.ndarray] | None = None, **changes: Any) -> Value:
        """The layer's output; its arrays are set once the model is made."""
        tensors = [value.tensor for value in given]
        made = layer(tensors if layer.merges else tensors[0])
        if arrays is not None:
            self.arrays.append((layer, arrays))
        return replace(given[0], tensor=made, **changes)

    def name_of(self, array: str) -> str | None:
        """A layer's name from that of its array, such as fc1 from "fc1.weight"; None where it is taken or odd."""
        name = re.split(r"[/.](?=[^/.]*$)", array)[0].replace("/", "_")
        if name == array or name in self._names or not re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}", name):
            return None
        self._names.add(name)
        return name

    def refuse(self, expected: str, received: Any) -> FileFormatError:
        """The error for what parnet has no layer for."""
        return damaged(self.where, expected, received, "export the model with other layers, or build it with parnet's")


def load_onnx(path: str | os.PathLike[str]) -> Model:
    """The model of an ONNX file.

    Args:
        path: of the file.
    Returns:
        the model, not compiled; float64 where the file's input is, else float32.
    Raises:
        FileFormatError: the file is damaged, or has operators that parnet has no layer for; the message names them.
        MissingExtraError: the package onnx is not installed.
        OSError: the file is not there or cannot be read.
    """
    onnx, name = require_extra("onnx", "onnx", "load_model of an ONNX file"), os.fsdecode(path)
    with open(name, "rb") as file:
        data = file.read()
    with _refusing(name):
        return _model(onnx, onnx.load_model_from_string(data), Reader(name))


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    """Whatever onnx, or layers that are handed a file's numbers, raise about it, as FileFormatError."""
    try:
        yield
    except (FileFormatError, MissingExtraError):
        raise
    except ParnetError as error:
        raise damaged(where, "operators whose numbers fit together", error) from error
    except Exception as error:  # protobuf's and onnx's errors, and those of nonsense in attributes, are of many kinds
        raise damaged(
            where, "an ONNX file that is whole", f"a damaged one ({clip(error) or type(error).__name__})"
        ) from error


def _model(onnx: Any, proto: Any, reader: Reader) -> Model:
    graph = proto.graph
    if not graph.node or not graph.output:
        raise damaged(reader.where, "an ONNX file with a graph", "one without operators", "give a file of an exporter")
    for tensor in graph.initializer:
        reader.constants[tensor.name] = array_of(onnx, tensor, reader.where)
    for node in graph.node:
        if node.op_type == "Constant":
            value = onnx.helper.get_attribute_value(node.attribute[0])
            reader.constants[node.output[0]] = array_of(onnx, value, reader.where)
    nodes = _with_gelu(onnx, [node for node in graph.node if node.op_type != "Constant"], reader.constants)
    _expect_known(nodes, reader)
    inputs = [info for info in graph.input if info.name not in reader.constants]
    for info in inputs:
        reader.values[info.name] = _input(info, nodes, proto.producer_name == "parnet", reader)
    for node in nodes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        given = tuple(reader.values.get(name) for name in node.input)
        reader.values[node.output[0]] = READERS[node.op_type](
            Operator(reader, node.op_type, tuple(node.input), given, attributes)
        )
    outputs = [_output(reader, info.name) for info in graph.output]
    wide = any(info.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for info in inputs)
    model = Model([reader.values[i.name].tensor for i in inputs], outputs, name="model", dtype=("float32", "float64")[wide])
    for layer, arrays in reader.arrays:
        if layer._values is not None:  # else nothing reads it
            layer.set_weights(arrays)
    return model


def _with_gelu(onnx: Any, nodes: list[Any], constants: dict[str, np.ndarray]) -> list[Any]:
    """The operators, x / 2 (1 + erf(x / sqrt 2)) written as one: how older opsets, ours among them, say gelu."""
    made = {name: node for node in nodes for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def scaled(node: Any, kind: str, factor: float) -> str:
        """What the node computes `factor` times of (or, for Add, more than by `factor`); empty where it does not."""
        for name, other in (
            zip(node.input, reversed(node.input), strict=True) if node is not None and len(node.input) == 2 else ()
        ):
            number = constants.get(other)
            if number is None or number.size != 1 or name in constants:
                continue
            value = float(number.reshape(-1)[0])
            value = 1 / value if node.op_type == "Div" and value and other == node.input[1] else value
            if node.op_type in (kind, "Div" if kind == "Mul" else kind) and abs(value - factor) < 1e-4:
                return name
        return ""

    def sole(name: str) -> Any:
        found = readers.get(name, [])
        return found[0] if len(found) == 1 else None

    replaced: dict[int, Any] = {}
    for erf in (node for node in nodes if node.op_type == "Erf"):
        inner, plus = made.get(erf.input[0]), sole(erf.output[0])
        x = scaled(inner, "Mul", 0.5**0.5)
        product = sole(plus.output[0]) if x and scaled(plus, "Add", 1.0) else None
        if product is None or product.op_type != "Mul":
            continue
        other = next((name for name in product.input if name != plus.output[0]), "")
        half, last = (sole(product.output[0]),) * 2 if other == x else (made.get(other), product)
        if scaled(half, "Mul", 0.5) == (product.output[0] if other == x else x):
            replaced |= {id(node): None for node in (inner, erf, plus, product, half)}
            replaced[id(last)] = onnx.helper.make_node("Gelu", [x], [last.output[0]])
    kept = (replaced.get(id(node), node) for node in nodes)
    return [node for node in kept if node is not None]


def _expect_known(nodes: list[Any], reader: Reader) -> None:
    """Raise FileFormatError, naming all of them, where operators are unknown."""
    kinds = {node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}" for node in nodes}
    if unknown := sorted(kinds - {*READERS}):
        raise reader.refuse(f"operators of {', '.join(sorted(READERS))}", ", ".join(unknown))


def _input(info: Any, nodes: list[Any], ours: bool, reader: Reader) -> Value:
    """An input, whose first axis is the batch. ours: parnet wrote it, with channels last."""
    axes = [int(axis.dim_value) if axis.HasField("dim_value") else 0 for axis in info.type.tensor_type.shape.dim]
    if len(axes) < 2 or min(axes[1:]) < 1:
        raise damaged(f"{reader.where}: {clip(info.name)}", "an input (batch, ...) of fixed size but for the batch", axes)
    shape = tuple(axes[1:])
    first = len(shape) == 3 and not ours and _channels_first(info.name, nodes)
    name = info.name if re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}", info.name) else None
    return Value(Input((*shape[1:], shape[0]) if first else shape, name=name), first)


def _channels_first(name: str, nodes: list[Any]) -> bool:
    """Whether an input's images have their channels first: unless the way to the first convolution turns them."""
    names = {name}
    for node in nodes:
        if names.isdisjoint(node.input):
            continue
        if node.op_type == "Transpose":
            return False
        if node.op_type not in _POINTWISE:
            return node.op_type not in ("Flatten", "Reshape", "LayerNormalization")
        names.update(node.output)
    return False


def _output(reader: Reader, name: str) -> Tensor:
    if name not in reader.values:
        raise damaged(reader.where, f"a tensor called {clip(name)}, the graph's output", "none of that name")
    if reader.values[name].picture is not None:
        raise reader.refuse("outputs that are no flattened images", f"{clip(name)}, whose features count channels first")
    return reader.values[name].tensor
