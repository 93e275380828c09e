"""Pooling, padding and cropping of images. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from dataclasses import replace

from ..checks import check_flag, is_whole
from ..errors import HyperparameterError, ShapeError
from ..kernels.step import ROWS_SHARED, Buffer, pair, reads, writes_own
from .activate import cut_of, usual_share
from .base import Build, Layer, Shape
from .window import PlacedWindow, Window, add_padding, expect_image, pair_of, take_padding_off


class MaxPooling2D(Layer):
    """The largest number of each window, channel by channel.

    Args:
        pool_size: of the window, one number or (height, width).
        strides: from one window to the next; pool_size when left out.
        padding: "valid" or "same"; padded places never win.
    Input, output:
        (batch, height, width, C), (batch, new height, new width, C).
    Raises:
        ShapeError: the input is no image, or smaller than the window.

    >>> from parnet import layers as L
    >>> L.MaxPooling2D().output_shape((26, 26, 64))
    (13, 13, 64)
    """

    def __init__(self, pool_size=2, strides=None, padding: str = "valid", **base):
        super().__init__(**base)
        self.window = Window.of("MaxPooling2D", pool_size, pool_size if strides is None else strides, padding)
        self.pool_size, self.strides, self.padding = self.window.taps, self.window.steps, self.window.padding

    @staticmethod
    def examples() -> list[tuple[MaxPooling2D, Shape]]:
        return [
            (MaxPooling2D(), (5, 4, 3)),
            (MaxPooling2D(3, 2, "same"), (6, 5, 2)),
            (MaxPooling2D((2, 3), (1, 2)), (3, 5, 7)),
        ]

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*self.window.output_size(input_shape, self.label()), input_shape[-1])

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y = build.rows("y", self.output_shape(x.shape))
        where = build.rows("where", y.shape) if training else None
        written = (y, where) if where else (y,)
        placed, zeros = self.window.placed(x.shape), 0
        if build.shortcuts and not training and self.padding == "valid":
            x, before = build.without_padding(x, self.window.taps)
            zeros = int(x.shape[:2] != placed.size)
            placed = replace(placed, size=(x.shape[0], x.shape[1]), before=before)
        operands = (x, y, where or 0, *self._geometry(placed), zeros)
        cost = 4.0 * (x.width + y.width) * (1 if where is None else 1.5)
        build.step(
            "pool.largest", operands, reads(x) + writes_own(*written), *cut_of(usual_share(y.shape), y.shape), bytes=cost
        )
        if where:
            build.keep(x=x, where=where)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        x, where = build.kept("x"), build.kept("where")
        dx = build.rows("dx", x.shape)
        operands = (where, dy, dx, *self._geometry(self.window.placed(x.shape)))
        cut = cut_of(usual_share(x.shape), x.shape)
        build.step("pool.largest_gradient", operands, reads(where, dy) + writes_own(dx), *cut, bytes=6.0 * x.width)
        return dx

    @staticmethod
    def _geometry(placed: PlacedWindow) -> tuple[int, ...]:
        window = placed.window
        return (
            pair(*placed.size), pair(*placed.out), pair(*window.taps), pair(*window.steps), pair(*placed.before),
            placed.channels,
        )  # fmt: skip


class _Global(Layer):
    """What is taken of each channel of a whole image: (batch, H, W, C) to (batch, C).

    Args:
        keepdims: the output is (batch, 1, 1, C).
    """

    def __init__(self, keepdims: bool = False, **base):
        super().__init__(**base)
        self.keepdims = check_flag(keepdims, f"{type(self).__name__}(keepdims)")

    def output_shape(self, input_shape: Shape) -> Shape:
        expect_image(input_shape, self.label())
        return (1, 1, input_shape[-1]) if self.keepdims else (input_shape[-1],)


class GlobalAveragePooling2D(_Global):
    __doc__ = f"The mean. {_Global.__doc__}"

    @staticmethod
    def examples() -> list[tuple[GlobalAveragePooling2D, Shape]]:
        return [(GlobalAveragePooling2D(), (3, 4, 5)), (GlobalAveragePooling2D(keepdims=True), (2, 2, 3))]

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y, (height, width, channels) = build.rows("y", self.output_shape(x.shape)), x.shape
        operands = (x, y, height * width, channels)
        build.step("pool.image_mean", operands, reads(x) + writes_own(y), ROWS_SHARED, (-1,), bytes=4.0 * x.width)
        build.keep(x=x)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        x = build.kept("x")
        dx, (height, width, channels) = build.rows("dx", x.shape), x.shape
        operands, cut = (dy, dx, height * width, channels), cut_of(usual_share(x.shape), x.shape)
        build.step("pool.image_mean_gradient", operands, reads(dy) + writes_own(dx), *cut, bytes=4.0 * x.width)
        return dx


class GlobalMaxPooling2D(_Global):
    __doc__ = f"The largest number. {_Global.__doc__}"

    @staticmethod
    def examples() -> list[tuple[GlobalMaxPooling2D, Shape]]:
        return [(GlobalMaxPooling2D(), (3, 4, 5)), (GlobalMaxPooling2D(keepdims=True), (2, 2, 3))]

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y, (height, width, channels) = build.rows("y", self.output_shape(x.shape)), x.shape
        where = build.rows("where", y.shape)
        operands = (x, y, where, height * width, channels)
        accesses = reads(x) + writes_own(y, where)
        build.step("pool.image_largest", operands, accesses, ROWS_SHARED, (-1,), bytes=4.0 * x.width)
        build.keep(x=x, where=where)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        x, where = build.kept("x"), build.kept("where")
        dx, (height, width, channels) = build.rows("dx", x.shape), x.shape
        operands, cut = (where, dy, dx, height * width, channels), cut_of(usual_share(x.shape), x.shape)
        build.step("pool.image_largest_gradient", operands, reads(where, dy) + writes_own(dx), *cut, bytes=4.0 * x.width)
        return dx


def _sides(value, what: str) -> tuple[tuple[int, int], ...]:
    """((above, below), (left, right)) from one number, a pair, or a pair of pairs. Raises HyperparameterError."""
    try:
        sides = (value, value) if is_whole(value) else tuple(value)
    except TypeError:
        sides = ()
    if len(sides) != 2:
        raise HyperparameterError(f"{what}: expected one number, a pair, or a pair of pairs, received {value!r}")
    return tuple(pair_of(side, what, smallest=0) for side in sides)


class ZeroPadding2D(Layer):
    """Zeros around an image.

    Args:
        padding: pixels on every side, or (rows, columns), or ((above, below), (left, right)).
    Input, output:
        (batch, H, W, C), (batch, H + above + below, W + left + right, C).
    """

    def __init__(self, padding=1, **base):
        super().__init__(**base)
        self.padding = _sides(padding, "ZeroPadding2D: padding")

    @staticmethod
    def examples() -> list[tuple[ZeroPadding2D, Shape]]:
        return [(ZeroPadding2D(2), (3, 2, 3)), (ZeroPadding2D(((1, 0), (0, 2))), (2, 3, 2))]

    def output_shape(self, input_shape: Shape) -> Shape:
        expect_image(input_shape, self.label())
        (above, below), (left, right) = self.padding
        return (input_shape[0] + above + below, input_shape[1] + left + right, input_shape[2])

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y = build.rows("y", self.output_shape(x.shape))
        add_padding(build, x, y, (self.padding[0][0], self.padding[1][0]))
        build.keep(x=x)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        dx, shape = build.rows("dx", build.kept("x").shape), self.output_shape(build.kept("x").shape)
        take_padding_off(build, dy, shape, dx, (self.padding[0][0], self.padding[1][0]))
        return dx


class Cropping2D(Layer):
    """An image without its outer pixels.

    Args:
        cropping: pixels to cut off on every side, or (rows, columns), or ((above, below), (left, right)).
    Input, output:
        (batch, H, W, C), (batch, H - above - below, W - left - right, C).
    Raises:
        ShapeError: the input is no image, or nothing of it would be left.

    >>> from parnet import layers as L
    >>> L.Cropping2D(((2, 0), (1, 1))).output_shape((28, 28, 3))
    (26, 26, 3)
    """

    def __init__(self, cropping=0, **base):
        super().__init__(**base)
        self.cropping = _sides(cropping, "Cropping2D: cropping")

    @staticmethod
    def examples() -> list[tuple[Cropping2D, Shape]]:
        return [(Cropping2D(1), (4, 5, 3)), (Cropping2D(((1, 0), (0, 2))), (2, 4, 17))]

    def output_shape(self, input_shape: Shape) -> Shape:
        expect_image(input_shape, self.label())
        (above, below), (left, right) = self.cropping
        height, width = input_shape[0] - above - below, input_shape[1] - left - right
        if height < 1 or width < 1:
            raise ShapeError(
                f"{self.label()}: expected an image of more than {above + below} x {left + right} pixels, "
                f"received {input_shape[0]} x {input_shape[1]}; crop less"
            )
        return (height, width, input_shape[2])

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y = build.rows("y", self.output_shape(x.shape))
        take_padding_off(build, x, x.shape, y, (self.cropping[0][0], self.cropping[1][0]))
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        dx = build.rows("dx", build.given[0])
        add_padding(build, dy, dx, (self.cropping[0][0], self.cropping[1][0]))
        return dx
