"""Means over windows of an image. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from ..kernels.step import Buffer, pair, reads, writes_own
from .activate import cut_of, usual_share
from .base import Build, Layer, Shape
from .window import Window


class AveragePooling2D(Layer):
    """The mean of each window, channel by channel. Source: LeCun et al. 1998, section II.B.

    Args:
        pool_size: of the window, one number or (height, width).
        strides: from one window to the next; pool_size when left out.
        padding: "valid" or "same"; as in Keras, pixels of the padding are not counted.
    Input, output:
        (batch, height, width, C), (batch, new height, new width, C).
    Raises:
        HyperparameterError: a size that is no whole number above 0, an unknown padding.
        ShapeError: the input is not (batch, height, width, C), or smaller than the window.

    >>> from parnet import layers as L
    >>> L.AveragePooling2D().output_shape((28, 28, 6))
    (14, 14, 6)
    """

    def __init__(self, pool_size=2, strides=None, padding: str = "valid", **base):
        super().__init__(**base)
        self.window = Window.of("AveragePooling2D", pool_size, pool_size if strides is None else strides, padding)
        self.pool_size, self.strides, self.padding = self.window.taps, self.window.steps, self.window.padding

    @staticmethod
    def examples() -> list[tuple[AveragePooling2D, Shape]]:
        return [
            (AveragePooling2D(), (5, 4, 3)),
            (AveragePooling2D(3, 2, "same"), (6, 5, 2)),
            (AveragePooling2D((2, 3), (1, 4), "same"), (4, 7, 17)),
        ]

    def describe(self) -> str:
        return f"AveragePooling2D {self.pool_size[0]}x{self.pool_size[1]}"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*self.window.output_size(input_shape, self.label()), input_shape[-1])

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y = build.rows("y", self.output_shape(x.shape))
        operands = (x, y, *self._geometry(x.shape))
        cut, cost = cut_of(usual_share(y.shape), y.shape), 4.0 * (x.width + y.width)
        build.step("average_pool.forward", operands, reads(x) + writes_own(y), *cut, bytes=cost)
        build.keep(x=x)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        x = build.kept("x")
        dx, cut = build.rows("dx", x.shape), cut_of(usual_share(x.shape), x.shape)
        operands = (dy, dx, *self._geometry(x.shape))
        build.step("average_pool.input_gradient", operands, reads(dy) + writes_own(dx), *cut, bytes=8.0 * dx.width)
        return dx

    def _geometry(self, shape: Shape) -> tuple[int, ...]:
        placed = self.window.placed(shape)
        window = placed.window
        return (
            pair(*placed.size), pair(*placed.out), pair(*window.taps), pair(*window.steps), pair(*placed.before),
            placed.channels,
        )  # fmt: skip
