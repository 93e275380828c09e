"""Which layer computes each of ONNX's operators. Stage: io, beneath `onnx_reader`. Must not know: files, protobuf.

A reader gets the file and one operator of it, and returns the value of that operator's output.
Sources: the operators' pages at https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import activations
from .. import layers as L
from ..layers.base import Shape, count
from ..layers.window import Window
from .onnx_layers import SELU_ALPHA, SELU_SCALE
from .onnx_operator import Operator
from .torch_layout import layout

#: axes of (batch, channels, height, width) -> of (batch, height, width, channels)
TURNED = {0: 0, 1: 3, 2: 1, 3: 2}
#: a bound of Clip that is no bound: the largest float32, as exporters write it
HUGE = 3e38


Reading = Callable[[Operator], Any]
READERS: dict[str, Reading] = {}


def _reads(*kinds: str) -> Callable[[Reading], Reading]:
    def enter(reader: Reading) -> Reading:
        READERS.update(dict.fromkeys(kinds, reader))
        return reader

    return enter


# -- number by number ---------------------------------------------------------------------------


@_reads("Identity", "Dropout")
def _same(op: Operator) -> Any:
    return op.x


@_reads("Exp", "Mish", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
def _activation(op: Operator) -> Any:
    return op.file.call(L.Activation({"Exp": "exponential"}.get(op.kind, op.kind.lower())), op.x)


@_reads("HardSigmoid")
def _hard_sigmoid(op: Operator) -> Any:
    numbers = op.get("alpha", 0.2), op.get("beta", 0.5)
    if not np.allclose(numbers, (1 / 6, 0.5), rtol=1e-5):
        raise op.file.refuse("HardSigmoid of alpha 1/6 and beta 1/2", numbers)
    return op.file.call(L.Activation("hard_sigmoid"), op.x)


@_reads("Elu", "LeakyRelu")
def _alpha(op: Operator) -> Any:
    kind, usual = (activations.elu, 1.0) if op.kind == "Elu" else (activations.leaky_relu, 0.01)
    return op.file.call(L.Activation(kind.with_alpha(op.get("alpha", usual))), op.x)


@_reads("Clip")
def _clip(op: Operator) -> Any:
    """The cut-offs that an activation has: at 0, or at 0 and 6. Bounds are inputs from opset 11 on, attributes before."""
    low, high = (
        float(op.array(place).reshape(-1)[0]) if op.has(place) else op.get(name, otherwise)
        for place, name, otherwise in ((1, "min", -math.inf), (2, "max", math.inf))
    )
    low, high = (-math.inf if low < -HUGE else low), (math.inf if high > HUGE else high)
    known = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu", (-math.inf, math.inf): "linear"}
    if (low, high) not in known:
        raise op.file.refuse("Clip at 0, or at 0 and 6, as relu and relu6 have it", f"Clip at {low:g} and {high:g}")
    return op.file.call(L.Activation(known[low, high]), op.x)


@_reads("Selu")
def _selu(op: Operator) -> Any:
    numbers = op.get("alpha", SELU_ALPHA), op.get("gamma", SELU_SCALE)
    if not np.allclose(numbers, (SELU_ALPHA, SELU_SCALE), rtol=1e-5):
        raise op.file.refuse("Selu of the usual alpha and gamma", numbers)
    return op.file.call(L.Activation("selu"), op.x)


@_reads("Gelu")
def _gelu(op: Operator) -> Any:
    op.expect(approximate="none")
    return op.file.call(L.Activation("gelu"), op.x)


@_reads("Softmax", "LogSoftmax")
def _softmax(op: Operator) -> Any:
    axes = len(op.x.tensor.shape) + 1
    axis = op.get("axis", -1) % axes
    if axis != (1 if op.x.first else axes - 1):
        raise op.file.refuse(f"{op.kind} over the channels", f"axis {axis}")
    return op.file.call(L.Activation("softmax" if op.kind == "Softmax" else "log_softmax"), op.x)


@_reads("Add", "Sum", "Sub", "Mul", "Div", "Mean", "Max")
def _arithmetic(op: Operator) -> Any:
    if any(value is None for value in op.given):
        return _with_constant(op)
    if len({(value.first, value.picture) for value in op.given}) > 1:
        raise op.file.refuse(f"inputs of {op.kind} with their channels in the same place", "others")
    kinds = {"Add": L.Add, "Sum": L.Add, "Sub": L.Subtract, "Mul": L.Multiply, "Mean": L.Average, "Max": L.Maximum}
    if op.kind not in kinds:
        raise op.file.refuse("a number as the second input of Div", "a computed tensor")
    return op.x if len(op.given) == 1 else op.file.call(kinds[op.kind](), *op.given)


def _with_constant(op: Operator) -> Any:
    """x with a number, or with the bias of a product."""
    if len(op.given) != 2 or op.kind not in ("Add", "Sub", "Mul", "Div"):
        raise op.file.refuse(f"{op.kind} of computed tensors", "constants among them")
    place = 0 if op.given[0] is not None else 1
    x, number = op.given[place], op.array(1 - place)
    layer = x.tensor.layer if x is not None else None
    if op.kind == "Add" and isinstance(layer, L.Dense) and not layer.use_bias and number.size == layer.units:
        (kernel,) = next(arrays for owner, arrays in op.file.arrays if owner is layer)
        return _dense(op, op.file.before[id(layer)], kernel, number.reshape(-1), layer.name)
    if x is None or number.size != 1 or (place == 1 and op.kind == "Div"):
        raise op.file.refuse(f"{op.kind} with one number", f"an array {number.shape}")
    value = float(number.reshape(-1)[0])
    scale, offset = {"Add": (1, value), "Sub": (1, -value), "Mul": (value, 0), "Div": (1 / value if value else np.nan, 0)}[
        op.kind
    ]
    if place == 1 and op.kind == "Sub":
        scale, offset = -1, value
    return op.file.call(L.Rescaling(scale, offset), x)


# -- products -----------------------------------------------------------------------------------


@_reads("Gemm")
def _gemm(op: Operator) -> Any:
    op.expect(alpha=1.0, beta=1.0, transA=0)
    kernel = op.array(1)
    bias = op.array(2).reshape(-1) if op.has(2) else None
    return _dense(op, op.x, kernel.T if op.get("transB", 0) else kernel, bias, op.file.name_of(op.names[1]))


@_reads("MatMul")
def _matmul(op: Operator) -> Any:
    return _dense(op, op.x, op.array(1), None, op.file.name_of(op.names[1]))


def _dense(op: Operator, x: Any, kernel: np.ndarray, bias: np.ndarray | None, name: str | None) -> Any:
    if x.first or kernel.ndim != 2:
        raise op.file.refuse("a product of rows and a matrix", f"an array {kernel.shape}")
    if x.picture is not None:
        kernel = _rows_turned(kernel, x.picture)
    layer = L.Dense(kernel.shape[1], use_bias=bias is not None, name=name)
    op.file.before[id(layer)] = type(x)(x.tensor)  # its kernel has been turned, and shall not be again
    return op.file.call(layer, x, arrays=[kernel] if bias is None else [kernel, bias], picture=None)


def _rows_turned(array: np.ndarray, picture: Shape) -> np.ndarray:
    """Rows counted by channels, rows, columns brought to rows, columns, channels."""
    if len(array) != count(picture):
        return array  # the layer says that they do not fit
    return (
        layout("Dense", "kernel", array.shape, (picture,)).convert(array.T) if array.ndim == 2 else _turned(array, picture)
    )


def _turned(array: np.ndarray, picture: Shape) -> np.ndarray:
    return layout("BatchNormalization", "gamma", array.shape, (picture,)).convert(array)


@_reads("Conv")
def _convolution(op: Operator) -> Any:
    x, kernel, groups = op.image(), op.array(1), op.get("group", 1)
    if kernel.ndim != 4:
        raise op.file.refuse("a kernel (filters, channels, height, width)", f"an array {kernel.shape}")
    taps, channels, filters = kernel.shape[2:], x.tensor.shape[-1], len(kernel)
    steps, dilation = op.get("strides", [1, 1]), op.get("dilations", [1, 1])
    x, padding = _padded(op, x, Window(tuple(taps), tuple(steps), "same", tuple(dilation)))
    shared = {"strides": steps, "padding": padding, "dilation_rate": dilation, "use_bias": op.has(2)}
    shared["name"] = op.file.name_of(op.names[1])
    arrays = [kernel.transpose(2, 3, 1, 0), *([op.array(2)] if op.has(2) else [])]
    if groups == channels and groups > 1 and filters % channels == 0:
        arrays[0] = kernel.reshape(channels, -1, *taps).transpose(2, 3, 0, 1)
        return op.file.call(L.DepthwiseConv2D(taps, depth_multiplier=filters // channels, **shared), x, arrays=arrays)
    return op.file.call(L.Conv2D(filters, taps, groups=groups, **shared), x, arrays=arrays)


def _padded(op: Operator, x: Any, window: Window, zeros: bool = True) -> tuple[Any, str]:
    """The image as the window finds it, and the padding that the layer has to add.

    Args:
        zeros: places outside the image count as 0; else they may not be made up.
    """
    where = op.get("auto_pad", "NOTSET")
    if where in ("VALID", "SAME_UPPER"):
        return x, "same" if where == "SAME_UPPER" else "valid"
    op.expect(auto_pad="NOTSET")
    pads = tuple(op.get("pads", [0, 0, 0, 0]))
    if not any(pads):
        return x, "valid"
    placed = window.placed(x.tensor.shape)
    after = [
        max(0, (out - 1) * step + reach - size - before)
        for out, step, reach, size, before in zip(
            placed.out, window.steps, window.reach, placed.size, placed.before, strict=True
        )
    ]
    if pads == (*placed.before, *after):
        return x, "same"
    if not zeros:
        raise op.file.refuse(f"{op.kind} without padding, or padded as TensorFlow's 'same'", f"pads {pads}")
    return op.file.call(L.ZeroPadding2D(((pads[0], pads[2]), (pads[1], pads[3]))), x), "valid"


# -- images -------------------------------------------------------------------------------------


@_reads("MaxPool", "AveragePool")
def _pooling(op: Operator) -> Any:
    op.expect(ceil_mode=0, dilations=[1, 1], storage_order=0)
    x, taps, steps = op.image(), op.get("kernel_shape", [1, 1]), op.get("strides", [1, 1])
    largest = op.kind == "MaxPool"
    positive = getattr(getattr(x.tensor.layer, "activation", None), "name", "") in (
        "relu",
        "relu6",
        "sigmoid",
        "softmax",
        "softplus",
    )
    counted = bool(op.get("count_include_pad", 0))
    x, padding = _padded(op, x, Window(tuple(taps), tuple(steps), "same"), zeros=positive if largest else counted)
    if not largest and padding == "same" and counted:
        raise op.file.refuse("AveragePool that does not count its padding", "count_include_pad=1")
    return op.file.call((L.MaxPooling2D if largest else L.AveragePooling2D)(taps, steps, padding), x)


@_reads("GlobalAveragePool", "GlobalMaxPool")
def _global(op: Operator) -> Any:
    kind = L.GlobalAveragePooling2D if op.kind == "GlobalAveragePool" else L.GlobalMaxPooling2D
    return op.file.call(kind(keepdims=True), op.image())


@_reads("ReduceMean")
def _mean(op: Operator) -> Any:
    """Over height and width, as `x.mean((2, 3))` in PyTorch writes it."""
    axes = [int(n) for n in (op.array(1).reshape(-1) if op.has(1) else op.get("axes", []))]
    if sorted(axis % 4 for axis in axes) != [2, 3] or not op.x.first:
        raise op.file.refuse("ReduceMean over height and width of an image (batch, channels, height, width)", f"axes {axes}")
    if op.get("keepdims", 1):
        return op.file.call(L.GlobalAveragePooling2D(keepdims=True), op.image())
    return op.file.call(L.GlobalAveragePooling2D(), op.image(), first=False)


@_reads("Pad")
def _pad(op: Operator) -> Any:
    op.expect(mode="constant")
    pads = [int(n) for n in (op.array(1) if op.has(1) else op.get("pads", []))]
    filler = float(op.array(2, 0.0).reshape(-1)[0])
    image = op.image()
    if len(pads) != 8 or any(pads[i] for i in (0, 1, 4, 5)) or filler or op.has(3) or min(pads) < 0:
        raise op.file.refuse("Pad of zeros around an image", f"pads {pads}, value {filler:g}")
    return op.file.call(L.ZeroPadding2D(((pads[2], pads[6]), (pads[3], pads[7]))), image)


@_reads("Slice")
def _slice(op: Operator) -> Any:
    """The part of an image that is left when its sides are cut off."""
    image = op.image()
    starts, ends = op.array(1).reshape(-1).tolist(), op.array(2).reshape(-1).tolist()
    axes, steps = op.array(3, range(len(starts))).reshape(-1).tolist(), op.array(4, [1]).reshape(-1).tolist()
    sides = {2: (0, 0), 3: (0, 0)}
    for axis, start, end in zip(axes, starts, ends, strict=True):
        if axis % 4 not in sides or set(steps) != {1}:
            raise op.file.refuse("Slice of height and width of an image, in steps of 1", f"axes {axes}, steps {steps}")
        size = image.tensor.shape[axis % 4 - 2]
        first, last, _ = slice(start, end).indices(size)
        sides[axis % 4] = (first, size - last)
    return op.file.call(L.Cropping2D((sides[2], sides[3])), image)


@_reads("Resize")
def _resize(op: Operator) -> Any:
    image, scales = op.image(), op.array(2)
    mode, way = op.get("mode", "nearest"), op.get("coordinate_transformation_mode", "half_pixel")
    nearest = mode == "nearest" and way == "asymmetric" and op.get("nearest_mode", "round_prefer_floor") == "floor"
    whole = scales.shape == (4,) and tuple(scales[:2]) == (1, 1) and all(s >= 1 and s == int(s) for s in scales[2:])
    if not whole or not (nearest or (mode == "linear" and way == "half_pixel")):
        raise op.file.refuse("Resize by whole numbers, nearest (asymmetric, floor) or linear (half_pixel)", f"{mode}, {way}")
    size = int(scales[2]), int(scales[3])
    return op.file.call(L.UpSampling2D(size, "nearest" if nearest else "bilinear"), image)


# -- normalisation ------------------------------------------------------------------------------


@_reads("BatchNormalization")
def _batch_norm(op: Operator) -> Any:
    op.expect(training_mode=0)
    arrays = [op.array(index) for index in range(1, 5)]
    if op.x.picture is not None:
        arrays = [_rows_turned(array, op.x.picture) for array in arrays]
    layer = L.BatchNormalization(epsilon=float(op.get("epsilon", 1e-5)), name=op.file.name_of(op.names[1]))
    return op.file.call(layer, op.x, arrays=arrays)


@_reads("LayerNormalization")
def _layer_norm(op: Operator) -> Any:
    x = op.plain()
    if op.get("axis", -1) not in (-1, len(x.tensor.shape)):
        raise op.file.refuse("LayerNormalization over the last axis", f"axis {op.get('axis', -1)}")
    arrays = [op.array(1), *([op.array(2)] if op.has(2) else [])]
    layer = L.LayerNormalization(epsilon=float(op.get("epsilon", 1e-5)), center=op.has(2))
    return op.file.call(layer, x, arrays=arrays)


# -- shapes -------------------------------------------------------------------------------------


@_reads("Transpose")
def _transpose(op: Operator) -> Any:
    order, x = tuple(op.get("perm", ())), op.x
    if len(x.tensor.shape) == 3 and order == ((0, 2, 3, 1) if x.first else (0, 3, 1, 2)):
        return type(x)(x.tensor, not x.first)
    if sorted(order) != [*range(len(x.tensor.shape) + 1)] or order[0] != 0 or len(order) > 5:
        raise op.file.refuse("Transpose of each sample by itself, of at most four axes", order)
    return op.file.call(L.Permute(order[1:]), op.plain())


@_reads("Flatten")
def _flatten(op: Operator) -> Any:
    op.expect(axis=1)
    return _flat(op)


def _flat(op: Operator) -> Any:
    """A row of features, counted in the file channels first where an image was."""
    x = op.x
    if len(x.tensor.shape) == 1:
        return x
    high, wide, channels = x.tensor.shape if x.first else (1, 1, 1)
    picture = (high, wide, channels) if high * wide > 1 and channels > 1 else None
    return op.file.call(L.Flatten(), x, first=False, picture=picture)


@_reads("Reshape")
def _reshape(op: Operator) -> Any:
    wanted, x = [int(n) for n in op.array(1).reshape(-1)], op.x
    if 0 in wanted:
        op.expect(allowzero=0)
    shape = (x.tensor.shape[2], *x.tensor.shape[:2]) if x.first else x.tensor.shape
    target = [shape[i - 1] if n == 0 and 0 < i <= len(shape) else n for i, n in enumerate(wanted)][1:]
    if len(target) == 1 and target[0] in (-1, count(shape)):
        return _flat(op)
    if wanted[:1] not in ([0], [-1]) or not target:
        raise op.file.refuse("Reshape of each sample by itself", f"shape {wanted}")
    return op.file.call(L.Reshape(target), op.plain())


@_reads("Concat")
def _concatenate(op: Operator) -> Any:
    first = op.x.first
    if any(value is None or value.first != first or value.picture is not None for value in op.given):
        raise op.file.refuse("Concat of tensors with their channels in the same place", "others")
    axis = op.get("axis", 1) % (len(op.x.tensor.shape) + 1)
    return op.file.call(L.Concatenate(axis=TURNED[axis] if first else axis), *op.given)
