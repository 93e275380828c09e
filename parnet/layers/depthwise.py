"""Convolution of each channel by itself. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from .. import activations, constraints, initializers, regularizers
from ..checks import check_flag, is_whole
from ..errors import HyperparameterError
from ..kernels.step import COLUMNS, LINE, PIXELS, Buffer, pair, reads, reads_own, writes_own
from .activate import activate, activate_backward, cut_of, usual_share
from .base import Build, Layer, Shape, Weight, count
from .window import PlacedWindow, Window

#: pixels, about, whose weight gradient one part sums, however many parts there are
CHUNK = 128


class DepthwiseConv2D(Layer):
    """Each channel of the image convolved with filters of its own: y[c M + m] = activation(x[c] * W[c, m] + b[c M + m]).

    As Keras's; followed by a Conv2D of one pixel it is a separable convolution. Source: Chollet 2017, "Xception", and
    Howard et al. 2017, "MobileNets", section 3.1.

    Args:
        kernel_size, strides, dilation_rate: of the window, one number or (height, width).
        padding: "valid" (none) or "same" (zeros, so that the output is ceil(input / strides)).
        depth_multiplier: filters M of each channel.
        activation: name, Activation or None for linear.
        use_bias: whether b is added.
        depthwise_initializer, bias_initializer: how W and b start.
        depthwise_regularizer, bias_regularizer: penalties, or None.
        depthwise_constraint, bias_constraint: what they must satisfy after each update, see `parnet.constraints`; or None.
    Input:
        (batch, height, width, C).
    Output:
        (batch, new height, new width, C M).
    Weights:
        kernel (kh, kw, C, M), bias (C M,).
    Raises:
        HyperparameterError: a size that is no whole number above 0, an unknown padding.
        ShapeError: the input is not (batch, height, width, C), or smaller than the window.

    >>> from parnet import layers as L
    >>> L.DepthwiseConv2D(3, padding="same").output_shape((56, 56, 128))
    (56, 56, 128)
    """

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        dilation_rate=1,
        activation=None,
        use_bias: bool = True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **base,
    ):
        super().__init__(**base)
        times = depth_multiplier
        if not is_whole(times, 1):
            raise HyperparameterError(
                f"DepthwiseConv2D: expected depth_multiplier, a whole number above 0, received {times!r}"
            )
        self.depth_multiplier = int(times)
        self.window = Window.of("DepthwiseConv2D", kernel_size, strides, padding, dilation_rate)
        self.kernel_size, self.strides = self.window.taps, self.window.steps
        self.padding, self.dilation_rate = self.window.padding, self.window.dilation
        self.activation = activations.get(activation)
        self.use_bias = check_flag(use_bias, "DepthwiseConv2D(use_bias)")
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    @staticmethod
    def examples() -> list[tuple[DepthwiseConv2D, Shape]]:
        return [
            (DepthwiseConv2D(3, activation="relu"), (5, 6, 3)),
            (DepthwiseConv2D(3, strides=2, padding="same", use_bias=False), (6, 5, 35)),
            (DepthwiseConv2D((2, 5), padding="same", dilation_rate=(2, 1), activation="tanh"), (4, 5, 2)),
            (DepthwiseConv2D(2, strides=3, depth_multiplier=3, depthwise_regularizer="l2"), (5, 6, 2)),
        ]

    def describe(self) -> str:
        return f"DepthwiseConv2D {self.kernel_size[0]}x{self.kernel_size[1]}"

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        times, channels = self.depth_multiplier, input_shape[-1]
        shape = (*self.window.taps, channels, times)
        constraint = self.depthwise_constraint
        kernel = Weight("kernel", shape, self.depthwise_initializer, self.depthwise_regularizer, True, times, constraint)
        bias = Weight(
            "bias", (channels * times,), self.bias_initializer, self.bias_regularizer, constraint=self.bias_constraint
        )
        return (kernel, bias) if self.use_bias else (kernel,)

    def output_shape(self, input_shape: Shape) -> Shape:
        size = self.window.output_size(input_shape, self.label())
        return (*size, input_shape[-1] * self.depth_multiplier)

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        window, packed = self.window.placed(x.shape), self._pack(build, x.shape[-1])
        source = self._repeat(build, x)
        y = build.rows("y", self.output_shape(x.shape))
        relu = self.activation.name == "relu" and not build.fused_output
        operands = (source, packed, y, *_geometry(window), y.shape[-1], int(relu))
        build.step(
            "depthwise.forward", operands, reads(source, packed) + writes_own(y), *cut_of(usual_share(y.shape), y.shape),
            flops=self._flops(y.shape), bytes=4.0 * (source.width + y.width), scratch=self._scratch(),
        )  # fmt: skip
        build.keep(x=x, source=source, packed=packed)
        if relu:
            build.keep(activated=y, summed=y)
            return y
        return activate(build, y, None, self.activation)

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        activate_backward(build, dy, self.activation)
        x, source = build.kept("x"), build.kept("source")
        window = self.window.placed(x.shape)
        if self.trainable:
            self._weight_gradient(build, source, dy, window)
        if not build.input_gradient_wanted:
            return None
        dx, packed = build.rows("dsource", source.shape), build.kept("packed")
        operands = (dy, packed, dx, *_geometry(window), source.shape[-1])
        cut = cut_of(usual_share(dx.shape), dx.shape)
        build.step(
            "depthwise.input_gradient", operands, reads(dy, packed) + writes_own(dx), *cut,
            flops=self._flops((*window.out, source.shape[-1])), bytes=8.0 * dx.width, scratch=self._scratch(),
        )  # fmt: skip
        return dx if self.depth_multiplier == 1 else self._repeat_gradient(build, dx, x.shape)

    def _pack(self, build: Build, channels: int) -> Buffer:
        """The weights as the kernels read them: a row a tap, then the bias, then zeros."""
        width, taps, kernel = channels * self.depth_multiplier, count(self.window.taps), build.weight("kernel")
        packed = build.fixed("packed", (taps + 2) * _pitch(width))
        bias = (build.weight("bias"),) if self.use_bias else ()
        operands = (kernel, *(bias or (0,)), packed, int(self.use_bias), taps, channels, self.depth_multiplier)
        accesses, cost = reads(kernel) + reads_own(*bias) + writes_own(packed), 12.0 * taps * width
        build.step("depthwise.pack", operands, accesses, COLUMNS, (width,), bytes=cost, per_row=False)
        return packed

    def _repeat(self, build: Build, x: Buffer) -> Buffer:
        """Each channel as often as it has filters: what is left has one each."""
        if self.depth_multiplier == 1:
            return x
        height, width, channels = x.shape
        y = build.rows("repeated", (height, width, channels * self.depth_multiplier))
        operands = (x, y, height * width, channels, self.depth_multiplier)
        cut = cut_of(usual_share(y.shape), y.shape)
        build.step("depthwise.repeat", operands, reads(x) + writes_own(y), *cut, bytes=4.0 * (x.width + y.width))
        return y

    def _repeat_gradient(self, build: Build, dy: Buffer, shape: Shape) -> Buffer:
        dx = build.rows("dx", shape)
        operands = (dy, dx, count(shape[:2]), shape[-1], self.depth_multiplier)
        cut = cut_of(usual_share(shape), shape)
        cost = 4.0 * (dx.width + dy.width)
        build.step("depthwise.repeat_gradient", operands, reads(dy) + writes_own(dx), *cut, bytes=cost)
        return dx

    def _weight_gradient(self, build: Build, source: Buffer, dy: Buffer, window: PlacedWindow) -> None:
        taps, width = count(self.window.taps), source.shape[-1]
        lines = max(1, CHUNK // window.out[1])
        chunks = -(-window.out[0] // lines)
        sums = build.rows("gradient_sums", (chunks, taps + 1, _pitch(width)))
        operands: tuple = (source, dy, sums, *_geometry(window), width, lines)
        build.step(
            "depthwise.weight_gradient", operands, reads(source, dy) + writes_own(sums), PIXELS, (-1, chunks, 1),
            flops=self._flops((*window.out, width)), bytes=4.0 * (source.width + count(window.out) * width),
        )  # fmt: skip
        names = ("kernel", "bias") if self.use_bias else ("kernel",)
        targets, modes = tuple(map(build.gradient, names)), tuple(map(build.gradient_mode, names))
        operands = (
            sums, *targets, *(() if self.use_bias else (0,)), int(self.use_bias), chunks, taps,
            width // self.depth_multiplier, self.depth_multiplier, *modes, *(() if self.use_bias else (0,)),
        )  # fmt: skip
        accesses, cut = reads(sums) + writes_own(*targets), (COLUMNS, (-1, width))
        build.step("depthwise.combine", operands, accesses, *cut, bytes=4.0 * sums.width, scratch=width)

    def _flops(self, out: Shape) -> float:
        return 2.0 * count(out) * count(self.window.taps)

    def _scratch(self) -> int:
        return 2 * (count(self.window.taps) + sum(self.window.taps))


def _pitch(width: int) -> int:
    """Numbers from one row of packed weights to the next."""
    return -(-width // LINE) * LINE


def _geometry(placed: PlacedWindow) -> tuple[int, ...]:
    """The window as the kernels read it."""
    window = placed.window
    return (
        pair(*placed.size), pair(*placed.out), pair(*window.taps), pair(*window.dilation), pair(*window.steps),
        pair(*placed.before),
    )  # fmt: skip
