"""Convolution in two steps: of each channel by itself, then across the channels. Stage: layers.

Both are declared by the layers that do them, `DepthwiseConv2D` and `Conv2D`. Must not know: executors, threads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import activations, constraints, initializers, regularizers
from ..checks import check_flag, is_whole
from ..errors import HyperparameterError
from ..kernels.step import Buffer
from .base import Build, Layer, Shape, Tail, Weight
from .convolution import Conv2D
from .depthwise import DepthwiseConv2D
from .window import Window


class _Half:
    """The build of a layer within a layer: its weights have other names, its buffers names of their own.

    Args:
        build: of the whole layer.
        name: of the half.
        fused_output, gradients_wanted: as the half shall see them, see `Build`.
    """

    def __init__(self, build: Build, name: str, fused_output: bool, gradients_wanted: tuple[bool, ...]):
        self._build, self._name = build, name
        self.fused_output, self.gradients_wanted = fused_output, gradients_wanted
        self.input_gradient_wanted = any(gradients_wanted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._build, name)

    def _full(self, name: str) -> str:
        return name if name == "bias" else f"{self._name}_{name}"

    def weight(self, name: str, owner: str = "") -> Buffer:
        return self._build.weight(name if owner else self._full(name), owner)

    def gradient(self, name: str) -> Buffer:
        return self._build.gradient(self._full(name))

    def gradient_mode(self, name: str) -> int:
        return self._build.gradient_mode(self._full(name))

    def rides(self, name: str) -> bool:
        return self._build.rides(self._full(name))

    def rows(self, name: str, shape: Shape) -> Buffer:
        return self._build.rows(f"{self._name}/{name}", shape)

    def fixed(self, name: str, width: int) -> Buffer:
        return self._build.fixed(f"{self._name}/{name}", width)

    def keep(self, **buffers: Buffer) -> None:
        self._build.keep(**{f"{self._name}/{name}": buffer for name, buffer in buffers.items()})

    def kept(self, name: str) -> Buffer:
        return self._build.kept(f"{self._name}/{name}")


class SeparableConv2D(Layer):
    """y = activation(depthwise convolution of x, then W of one pixel, + b), with far fewer weights than Conv2D.

    The same as a `DepthwiseConv2D` without bias and a `Conv2D` of one pixel after it. Source: Chollet 2017, "Xception".

    Args:
        filters: output channels F.
        kernel_size, strides, dilation_rate: of the window, one number or (height, width).
        padding: "valid" (none) or "same" (zeros, so that the output is ceil(input / strides)).
        depth_multiplier: filters M of each channel in the first step.
        activation: name, Activation or None for linear.
        use_bias: whether b is added.
        depthwise_initializer, pointwise_initializer, bias_initializer: how the weights start.
        depthwise_regularizer, pointwise_regularizer, bias_regularizer: penalties, or None.
        depthwise_constraint, pointwise_constraint, bias_constraint: what they must satisfy after each update, or None.
    Input:
        (batch, height, width, C).
    Output:
        (batch, new height, new width, F).
    Weights:
        depthwise_kernel (kh, kw, C, M), pointwise_kernel (1, 1, C M, F), bias (F,).
    Raises:
        HyperparameterError: a size that is no whole number above 0, an unknown padding.
        ShapeError: the input is not (batch, height, width, C), or smaller than the window.

    >>> from parnet import layers as L
    >>> L.SeparableConv2D(64, 3, padding="same").output_shape((56, 56, 32))
    (56, 56, 64)
    """

    def __init__(
        self,
        filters: int,
        kernel_size,
        strides=1,
        padding: str = "valid",
        dilation_rate=1,
        depth_multiplier: int = 1,
        activation=None,
        use_bias: bool = True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **base,
    ):
        super().__init__(**base)
        for name, value in (("filters", filters), ("depth_multiplier", depth_multiplier)):
            if not is_whole(value, 1):  # asked here, in this layer's name; the halves would in theirs
                raise HyperparameterError(f"SeparableConv2D: expected {name}, a whole number above 0, received {value!r}")
        self.filters, self.depth_multiplier = int(filters), int(depth_multiplier)
        window = Window.of("SeparableConv2D", kernel_size, strides, padding, dilation_rate)
        self.kernel_size, self.strides = window.taps, window.steps
        self.padding, self.dilation_rate = window.padding, window.dilation
        self.activation = activations.get(activation)
        self.use_bias = check_flag(use_bias, "SeparableConv2D(use_bias)")
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        self.pointwise_constraint = constraints.get(pointwise_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    @staticmethod
    def examples() -> list[tuple[SeparableConv2D, Shape]]:
        return [
            (SeparableConv2D(5, 3), (5, 6, 2)),
            (SeparableConv2D(50, 2, 2, "same", activation="relu"), (5, 4, 3)),
            (SeparableConv2D(3, (2, 3), depth_multiplier=3, use_bias=False, activation="gelu"), (3, 4, 2)),
            (SeparableConv2D(4, 3, padding="same", dilation_rate=2, pointwise_regularizer="l2"), (4, 5, 17)),
        ]

    def describe(self) -> str:
        return f"SeparableConv2D {self.filters}"

    def _halves(self) -> tuple[DepthwiseConv2D, Conv2D]:
        """The layers that declare the two steps; they are in no model."""
        first = DepthwiseConv2D(
            self.kernel_size, self.strides, self.padding, self.depth_multiplier, self.dilation_rate, use_bias=False,
            depthwise_initializer=self.depthwise_initializer, depthwise_regularizer=self.depthwise_regularizer,
            depthwise_constraint=self.depthwise_constraint, name=self.name, trainable=self.trainable,
        )  # fmt: skip
        second = Conv2D(
            self.filters, 1, activation=self.activation, use_bias=self.use_bias,
            kernel_initializer=self.pointwise_initializer, kernel_regularizer=self.pointwise_regularizer,
            kernel_constraint=self.pointwise_constraint, bias_initializer=self.bias_initializer,
            bias_regularizer=self.bias_regularizer, bias_constraint=self.bias_constraint,
            name=self.name, trainable=self.trainable,
        )  # fmt: skip
        return first, second

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        first, second = self._halves()
        (depthwise,), (pointwise, *bias) = first.weights(input_shape), second.weights(first.output_shape(input_shape))
        return (replace(depthwise, name="depthwise_kernel"), replace(pointwise, name="pointwise_kernel"), *bias)

    def output_shape(self, input_shape: Shape) -> Shape:
        first, second = self._halves()
        first.window.output_size(input_shape, self.label())  # raises in this layer's name
        return second.output_shape(first.output_shape(input_shape))

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        first, second = self._halves()
        middle = first.forward(self._first(build), x, training)
        return second.forward(self._second(build), middle, training)

    def takes(self, tail: Tail) -> bool:
        return self._halves()[1].takes(tail)

    def forward_with(self, build: Build, x: Buffer, tail: Tail) -> Buffer:
        first, second = self._halves()
        middle = first.forward(self._first(build), x, training=False)
        return second.forward_with(self._second(build), middle, tail)

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        first, second = self._halves()
        middle = second.backward(self._second(build), dy)
        return None if middle is None else first.backward(self._first(build), middle)

    def _first(self, build: Build) -> Any:
        return _Half(build, "depthwise", False, build.gradients_wanted)

    def _second(self, build: Build) -> Any:
        return _Half(build, "pointwise", build.fused_output, (self.trainable or build.input_gradient_wanted,))
