"""How each layer is written in ONNX's operators. Stage: io, beneath `onnx_writer`. Must not know: files, protobuf.

A writer gets the graph, the layer and the values it is called on, and returns the name of its output and whether that is an
image with its channels first. Sources of the formulas: the operators' pages at https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..activations import Activation
from ..errors import HyperparameterError
from ..layers.window import PlacedWindow

#: what a writer returns
Made = tuple[str, bool]
Writer = Callable[[Any, Any, list[Any]], Made]

WRITERS: dict[str, Writer] = {}

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_PLAIN = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softplus": "Softplus", "softsign": "Softsign",
    "exponential": "Exp",
}  # fmt: skip


def _writes(*kinds: str) -> Callable[[Writer], Writer]:
    def enter(writer: Writer) -> Writer:
        WRITERS.update(dict.fromkeys(kinds, writer))
        return writer

    return enter


def activated(graph: Any, x: str, activation: Activation, channels: int = -1) -> str:
    """x after an activation. channels: axis of softmax and its logarithm. Raises HyperparameterError for a user's own."""
    name = activation.name
    if activation.place == "user":
        raise HyperparameterError(
            f"export: expected activations that ONNX knows, received {name!r}, one of your own; use another"
        )
    if name == "linear":
        return x
    if name in _PLAIN:
        return graph.add(_PLAIN[name], [x])
    if name in ("softmax", "log_softmax"):
        return graph.add("Softmax" if name == "softmax" else "LogSoftmax", [x], axis=channels)
    if name == "leaky_relu":
        return graph.add("LeakyRelu", [x], alpha=activation.alpha)
    if name == "elu":
        return graph.add("Elu", [x], alpha=activation.alpha)
    if name == "selu":
        return graph.add("Selu", [x], alpha=SELU_ALPHA, gamma=SELU_SCALE)
    if name == "hard_sigmoid":
        return graph.add("HardSigmoid", [x], alpha=1 / 6, beta=0.5)
    if name == "mish":  # an operator of that name came with opset 18
        return graph.add("Mul", [x, graph.add("Tanh", [graph.add("Softplus", [x])])])
    if name == "relu6":
        return graph.add("Clip", [x, graph.constant(0.0), graph.constant(6.0)])
    if name == "silu":
        return graph.add("Mul", [x, graph.add("Sigmoid", [x])])
    if name == "gelu":  # x / 2 (1 + erf(x / sqrt 2)); an operator of that name came with opset 20
        error = graph.add("Erf", [graph.add("Mul", [x, graph.constant(math.sqrt(0.5))])])
        half = graph.add("Mul", [x, graph.constant(0.5)])
        return graph.add("Mul", [half, graph.add("Add", [error, graph.constant(1.0)])])
    raise HyperparameterError(f"export: no ONNX operators are known for the activation {name!r}")


# -- shapes -------------------------------------------------------------------------------------


@_writes("Input", "Dropout", "GaussianNoise", "RandomErasing", "RandomFlip", "RandomRotation", "RandomTranslation")
def _same(graph: Any, layer: Any, given: list[Any]) -> Made:
    """In inference nothing happens."""
    return given[0].name, given[0].first


@_writes("Flatten", "Reshape")
def _reshape(graph: Any, layer: Any, given: list[Any]) -> Made:
    x = graph.last(given[0])
    shape = layer.output_shape(x.shape)
    return graph.add("Reshape", [x.name, graph.constant([0, *shape], np.int64)]), False


@_writes("Permute")
def _permute(graph: Any, layer: Any, given: list[Any]) -> Made:
    """Of three axes with one of length 1 before them: readers take a plain Transpose for a move of the channels."""
    x = graph.last(given[0])
    if len(x.shape) != 3:
        return graph.add("Transpose", [x.name], perm=[0, *layer.dims]), False
    name = graph.add("Reshape", [x.name, graph.constant([0, 1, *x.shape], np.int64)])
    name = graph.add("Transpose", [name], perm=[0, 1, *(n + 1 for n in layer.dims)])
    return graph.add("Reshape", [name, graph.constant([0, *layer.output_shape(x.shape)], np.int64)]), False


@_writes("Rescaling")
def _rescaling(graph: Any, layer: Any, given: list[Any]) -> Made:
    (x,) = given
    name = graph.add("Mul", [x.name, graph.constant(layer.scale)])
    return graph.add("Add", [name, graph.constant(layer.offset)]) if layer.offset else name, x.first


@_writes("Activation", "ELU", "LeakyReLU", "ReLU", "Softmax")
def _activation(graph: Any, layer: Any, given: list[Any]) -> Made:
    (x,) = given
    return activated(graph, x.name, layer.activation, 1 if x.first else -1), x.first


# -- products -----------------------------------------------------------------------------------


@_writes("Dense")
def _dense(graph: Any, layer: Any, given: list[Any]) -> Made:
    bias = [graph.weight(layer, "bias")] if layer.use_bias else []
    name = graph.add("Gemm", [given[0].name, graph.weight(layer, "kernel"), *bias])
    return activated(graph, name, layer.activation), False


@_writes("Conv2D", "DepthwiseConv2D")
def _convolution(graph: Any, layer: Any, given: list[Any]) -> Made:
    x = graph.first(given[0])
    if type(layer).__name__ == "DepthwiseConv2D":
        groups = x.shape[-1]
        kernel = graph.weight(layer, "kernel", lambda a: a.reshape(*a.shape[:2], 1, -1).transpose(3, 2, 0, 1))
    else:
        groups, kernel = layer.groups, graph.weight(layer, "kernel", lambda a: a.transpose(3, 2, 0, 1))
    bias = [graph.weight(layer, "bias")] if layer.use_bias else []
    window = {"kernel_shape": layer.kernel_size, "dilations": layer.dilation_rate, "group": groups}
    name = graph.add("Conv", [x.name, kernel, *bias], **window, **_steps(layer.window.placed(x.shape)))
    return activated(graph, name, layer.activation, 1), True


@_writes("SeparableConv2D")
def _separable(graph: Any, layer: Any, given: list[Any]) -> Made:
    x, (first, second) = graph.first(given[0]), layer._halves()
    depthwise = graph.weight(layer, "depthwise_kernel", lambda a: a.reshape(*a.shape[:2], 1, -1).transpose(3, 2, 0, 1))
    pointwise = graph.weight(layer, "pointwise_kernel", lambda a: a.transpose(3, 2, 0, 1))
    bias = [graph.weight(layer, "bias")] if layer.use_bias else []
    window = {"kernel_shape": layer.kernel_size, "dilations": layer.dilation_rate, "group": x.shape[-1]}
    name = graph.add("Conv", [x.name, depthwise], **window, **_steps(first.window.placed(x.shape)))
    name = graph.add("Conv", [name, pointwise, *bias], kernel_shape=second.kernel_size)
    return activated(graph, name, layer.activation, 1), True


def _steps(placed: PlacedWindow) -> dict[str, Any]:
    """Strides and padding of a window, (above, left, below, right)."""
    window, after = placed.window, []
    for n, out, step, reach, before in zip(placed.size, placed.out, window.steps, window.reach, placed.before, strict=True):
        after.append(max(0, (out - 1) * step + reach - n - before))
    return {"strides": window.steps, "pads": [*placed.before, *after]}


# -- normalisation ------------------------------------------------------------------------------


@_writes("BatchNormalization")
def _batch_norm(graph: Any, layer: Any, given: list[Any]) -> Made:
    x = graph.first(given[0])
    arrays = [graph.weight(layer, name) for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    return graph.add("BatchNormalization", [x.name, *arrays], epsilon=layer.epsilon), x.first


@_writes("LayerNormalization")
def _layer_norm(graph: Any, layer: Any, given: list[Any]) -> Made:
    x = graph.last(given[0])
    ones = np.ones(x.shape[-1])
    gamma = graph.weight(layer, "gamma") if layer.scale else graph.constant(ones)
    beta = [graph.weight(layer, "beta")] if layer.center else []
    return graph.add("LayerNormalization", [x.name, gamma, *beta], axis=-1, epsilon=layer.epsilon), False


# -- images -------------------------------------------------------------------------------------


@_writes("MaxPooling2D", "AveragePooling2D")
def _pooling(graph: Any, layer: Any, given: list[Any]) -> Made:
    x = graph.first(given[0])
    kind, more = ("MaxPool", {}) if type(layer).__name__ == "MaxPooling2D" else ("AveragePool", {"count_include_pad": 0})
    return graph.add(kind, [x.name], kernel_shape=layer.pool_size, **_steps(layer.window.placed(x.shape)), **more), True


@_writes("GlobalAveragePooling2D", "GlobalMaxPooling2D")
def _global_pooling(graph: Any, layer: Any, given: list[Any]) -> Made:
    kind = "GlobalAveragePool" if "Average" in type(layer).__name__ else "GlobalMaxPool"
    name = graph.add(kind, [graph.first(given[0]).name])
    return (name, True) if layer.keepdims else (graph.add("Flatten", [name], axis=1), False)


@_writes("ZeroPadding2D")
def _padding(graph: Any, layer: Any, given: list[Any]) -> Made:
    x, ((above, below), (left, right)) = graph.first(given[0]), layer.padding
    return graph.add("Pad", [x.name, graph.constant([0, 0, above, left, 0, 0, below, right], np.int64)]), True


@_writes("Cropping2D")
def _cropping(graph: Any, layer: Any, given: list[Any]) -> Made:
    x, ((above, below), (left, right)) = graph.first(given[0]), layer.cropping
    numbers = (above, left), (x.shape[0] - below, x.shape[1] - right), (2, 3)
    return graph.add("Slice", [x.name, *(graph.constant(n, np.int64) for n in numbers)]), True


@_writes("RandomCrop")
def _crop(graph: Any, layer: Any, given: list[Any]) -> Made:
    """The middle."""
    x = graph.first(given[0])
    size = layer.height, layer.width
    start = [(n - wanted) // 2 for n, wanted in zip(x.shape, size, strict=False)]
    end = [first + wanted for first, wanted in zip(start, size, strict=True)]
    bounds = [graph.constant(numbers, np.int64) for numbers in (start, end, (2, 3))]
    return graph.add("Slice", [x.name, *bounds]), True


@_writes("UpSampling2D")
def _upsampling(graph: Any, layer: Any, given: list[Any]) -> Made:
    x, scales = graph.first(given[0]), graph.constant([1, 1, *layer.size], np.float32)
    if layer.interpolation == "nearest":
        way = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        way = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return graph.add("Resize", [x.name, "", scales], **way), True


# -- merging ------------------------------------------------------------------------------------


@_writes("Add", "Average", "Maximum", "Multiply", "Subtract")
def _merge(graph: Any, layer: Any, given: list[Any]) -> Made:
    first = any(value.first for value in given)
    names = [(graph.first if first else graph.last)(value).name for value in given]
    kind = {"Add": "Sum", "Average": "Mean", "Maximum": "Max", "Multiply": "Mul", "Subtract": "Sub"}[type(layer).__name__]
    if kind in ("Sum", "Mean", "Max"):
        return graph.add(kind, names), first
    result = names[0]
    for name in names[1:]:
        result = graph.add(kind, [result, name])
    return result, first


@_writes("Concatenate")
def _concatenate(graph: Any, layer: Any, given: list[Any]) -> Made:
    first = any(value.first for value in given)
    axis = layer._axis(given[0].shape)  # of one sample, channels last
    place = {0: 2, 1: 3, 2: 1}[axis] if first else axis + 1
    return graph.add("Concat", [(graph.first if first else graph.last)(v).name for v in given], axis=place), first
