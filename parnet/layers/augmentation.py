"""Images changed at random in training: flipped, shifted, turned, cropped, erased. Stage: layers.

Names and arguments are Keras's. In inference they do nothing (RandomCrop takes the middle). What happens to an image depends
on the seed, the epoch, the sample and the layer alone: not on threads, workers or the batch it is in.
Must not know: executors, threads.
"""

from __future__ import annotations

import math

from ..checks import is_whole
from ..errors import HyperparameterError, ShapeError, unknown_name
from ..kernels.step import PIXELS, Buffer, number, pair, reads, reads_own, writes_own
from .activate import cut_of, usual_share
from .base import Build, Layer, Shape
from .window import expect_image

FLIPS = {"horizontal": 1, "vertical": 2, "horizontal_and_vertical": 3}
FILL_MODES = {"constant": 0, "reflect": 1, "wrap": 2, "nearest": 3}
INTERPOLATIONS = {"bilinear": 0, "nearest": 1}
#: bit of the fill word that asks for the nearest pixel
NEAREST_PIXEL = 4


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def range_of(value, what: str, low: float, high: float, negative: bool = True) -> tuple[float, float]:
    """(least, most) from a pair, or from one number f: (-f, f), or (0, f) where nothing is negative.

    Raises:
        HyperparameterError: it is neither, or outside of low..high.
    """
    if _is_number(value) and value >= 0:
        items: tuple = (-value if negative else 0.0, value)
    else:
        items = tuple(value) if isinstance(value, tuple | list) else ()
    if len(items) != 2 or not all(_is_number(v) and low <= v <= high for v in items) or items[0] > items[1]:
        raise HyperparameterError(
            f"{what}: expected a number of 0 to {high:g}, or a pair (least, most) within {low:g} to {high:g}, "
            f"received {value!r}"
        )
    return float(items[0]), float(items[1])


def _known(value, what: str, names) -> str:
    """The name, in lower case. Raises UnknownNameError."""
    if str(value).lower() not in names:
        raise unknown_name(what, value, names)
    return str(value).lower()


class _Random(Layer):
    """A layer that changes images in training only; one that could change nothing is left out there too."""

    def output_shape(self, input_shape: Shape) -> Shape:
        expect_image(input_shape, self.label())
        return input_shape

    @property
    def idle(self) -> bool:
        """Whether it changes nothing in training either."""
        return False

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        if not training or self.idle:
            return x
        y = build.rows("y", x.shape)
        self._change(build, x, y)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if self.idle or not build.input_gradient_wanted:
            return dy
        return self._change_gradient(build, dy)

    def _change(self, build: Build, x: Buffer, y: Buffer) -> None:
        raise NotImplementedError

    def _change_gradient(self, build: Build, dy: Buffer) -> Buffer:
        raise NotImplementedError


class RandomFlip(_Random):
    """Mirrors each image with probability 1/2, in each of the ways asked for.

    Args:
        mode: "horizontal" (left and right change places), "vertical" or "horizontal_and_vertical".
    Input, output:
        (batch, height, width, C).
    Raises:
        UnknownNameError: another mode.
        ShapeError: the input is not (batch, height, width, C).
    """

    def __init__(self, mode: str = "horizontal_and_vertical", **base):
        super().__init__(**base)
        self.mode = _known(mode, "RandomFlip mode", FLIPS)

    @staticmethod
    def examples() -> list[tuple[RandomFlip, Shape]]:
        return [(RandomFlip(), (3, 4, 2)), (RandomFlip("horizontal"), (2, 5, 17))]

    def _change(self, build: Build, x: Buffer, y: Buffer) -> None:
        operands = (x, y, pair(*x.shape[:2]), x.shape[2], FLIPS[self.mode], build.node)
        cut = cut_of(usual_share(x.shape), x.shape)
        build.step("augment.flip", operands, reads(x) + writes_own(y), *cut, bytes=8.0 * x.width)
        build.keep(x=x)

    def _change_gradient(self, build: Build, dy: Buffer) -> Buffer:
        x = build.kept("x")
        dx, cut = build.rows("dx", x.shape), cut_of(usual_share(x.shape), x.shape)
        operands = (dy, dx, pair(*x.shape[:2]), x.shape[2], FLIPS[self.mode], build.node)
        build.step("augment.flip", operands, reads(dy) + writes_own(dx), *cut, bytes=8.0 * dx.width)
        return dx


class _Warp(_Random):
    """An image moved as a whole; what comes in from beyond its edge is made by `fill_mode`."""

    def __init__(self, fill_mode: str, interpolation: str, fill_value: float, **base):
        super().__init__(**base)
        where = type(self).__name__
        self.fill_mode = _known(fill_mode, f"{where} fill_mode", FILL_MODES)
        self.interpolation = _known(interpolation, f"{where} interpolation", INTERPOLATIONS)
        if not _is_number(fill_value):
            raise HyperparameterError(f"{where}: expected a finite fill_value, received {fill_value!r}")
        self.fill_value = float(fill_value)

    def _ranges(self) -> tuple[int, tuple[float, float], tuple[float, float]]:
        """Whether the image is turned, and from where to where it may be moved."""
        raise NotImplementedError

    def _operands(self, build: Build, source: Buffer, out: Buffer, shape: Shape) -> tuple:
        turn, first, second = self._ranges()
        fill = FILL_MODES[self.fill_mode] + NEAREST_PIXEL * INTERPOLATIONS[self.interpolation]
        values = tuple(number(v) for v in (*first, *second, self.fill_value))
        return (source, out, pair(*shape[:2]), shape[2], build.node, turn, fill, *values)

    @property
    def idle(self) -> bool:
        _, first, second = self._ranges()
        return first == second == (0, 0)

    def _change(self, build: Build, x: Buffer, y: Buffer) -> None:
        accesses, cut = reads(x) + writes_own(y), cut_of(usual_share(x.shape), x.shape)
        cost = 20.0 * x.width + 300.0 * x.width / x.shape[2]
        build.step("augment.warp", self._operands(build, x, y, x.shape), accesses, *cut, bytes=cost)
        build.keep(x=x)

    def _change_gradient(self, build: Build, dy: Buffer) -> Buffer:
        x = build.kept("x")
        dx, accesses = build.rows("dx", x.shape), reads(dy)
        cost = 40.0 * x.width + 300.0 * x.width / x.shape[2]
        operands = self._operands(build, dy, dx, x.shape)
        build.step("augment.warp_gradient", operands, accesses + writes_own(dx), PIXELS, (-1, 1, 1), bytes=cost)
        return dx


class RandomTranslation(_Warp):
    """Shifts each image down and to the right by random parts of its height and width.

    Args:
        height_factor, width_factor: the part, one number f for (-f, f) or a pair (least, most), within -1 to 1; above 0 is
            down, or right.
        fill_mode: what comes in at the edge: "reflect" (d c b a | a b c d | d c b a), "constant" (fill_value), "wrap"
            (a b c d | a b c d | a b c d) or "nearest" (a a a a | a b c d | d d d d).
        interpolation: "bilinear", or "nearest" for numbers of the image alone.
        fill_value: for fill_mode="constant".
    Input, output:
        (batch, height, width, C).
    Raises:
        HyperparameterError: a factor or fill value outside of its range.
        UnknownNameError: another fill mode or interpolation.
        ShapeError: the input is not (batch, height, width, C).
    """

    def __init__(
        self,
        height_factor,
        width_factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        **base,
    ):
        super().__init__(fill_mode, interpolation, fill_value, **base)
        self.height_factor = range_of(height_factor, "RandomTranslation: height_factor", -1, 1)
        self.width_factor = range_of(width_factor, "RandomTranslation: width_factor", -1, 1)

    @staticmethod
    def examples() -> list[tuple[RandomTranslation, Shape]]:
        return [
            (RandomTranslation(0.4, 0.3), (4, 5, 2)),
            (RandomTranslation((-1, 1), (0, 0.5), "constant", "nearest", 0.5), (3, 4, 17)),
            (RandomTranslation(0.9, 0.9, "wrap"), (3, 2, 1)),
        ]

    def _ranges(self) -> tuple[int, tuple[float, float], tuple[float, float]]:
        return 0, self.height_factor, self.width_factor


class RandomRotation(_Warp):
    """Turns each image about its middle by a random angle.

    Args:
        factor: parts of a whole turn, one number f for (-f, f) or a pair (least, most), within -1 to 1; above 0 is
            counter-clockwise.
        fill_mode, interpolation, fill_value: as of RandomTranslation.
    Input, output:
        (batch, height, width, C).
    Raises:
        HyperparameterError: a factor or fill value outside of its range.
        UnknownNameError: another fill mode or interpolation.
        ShapeError: the input is not (batch, height, width, C).
    """

    def __init__(self, factor, fill_mode: str = "reflect", interpolation: str = "bilinear", fill_value: float = 0.0, **base):
        super().__init__(fill_mode, interpolation, fill_value, **base)
        self.factor = range_of(factor, "RandomRotation: factor", -1, 1)

    @staticmethod
    def examples() -> list[tuple[RandomRotation, Shape]]:
        return [(RandomRotation(0.2), (4, 5, 2)), (RandomRotation((0.1, 1), "nearest", "nearest"), (3, 3, 1))]

    def _ranges(self) -> tuple[int, tuple[float, float], tuple[float, float]]:
        return 1, self.factor, (0.0, 0.0)


class RandomCrop(_Random):
    """A part of each image of the size asked for: anywhere in training, the middle in inference.

    Args:
        height, width: of the part, whole numbers above 0. Unlike Keras's it never resizes: in inference Keras first scales
            the image so that more of it fits.
    Input:
        (batch, H, W, C).
    Output:
        (batch, height, width, C).
    Raises:
        HyperparameterError: a size that is no whole number above 0.
        ShapeError: the input is not (batch, height, width, C), or smaller than the part.
    """

    def __init__(self, height: int, width: int, **base):
        super().__init__(**base)
        for name, value in (("height", height), ("width", width)):
            if not is_whole(value, 1):
                raise HyperparameterError(f"RandomCrop: expected {name}, a whole number above 0, received {value!r}")
        self.height, self.width = int(height), int(width)

    @staticmethod
    def examples() -> list[tuple[RandomCrop, Shape]]:
        return [(RandomCrop(3, 4), (5, 7, 2)), (RandomCrop(2, 1), (4, 3, 17))]

    def describe(self) -> str:
        return f"RandomCrop {self.height}x{self.width}"

    def output_shape(self, input_shape: Shape) -> Shape:
        expect_image(input_shape, self.label())
        if self.height > input_shape[0] or self.width > input_shape[1]:
            raise ShapeError(
                f"{self.label()}: expected an image of at least {self.height} x {self.width}, received "
                f"{input_shape[0]} x {input_shape[1]}; crop less, or pad the image before"
            )
        return (self.height, self.width, input_shape[2])

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y = build.rows("y", self.output_shape(x.shape))
        (high, wide, channels), size = x.shape, (self.height, self.width)
        middle = pair((high - self.height) // 2, (wide - self.width) // 2)
        last = (channels, build.node) if training else (middle, channels)
        operands = (x, y, pair(high, wide), pair(*size), *last)
        kernel = "augment.crop" if training else "image.crop"
        build.step(kernel, operands, reads(x) + writes_own(y), *cut_of(usual_share(y.shape), y.shape), bytes=8.0 * y.width)
        build.keep(x=x)
        return y

    def _change_gradient(self, build: Build, dy: Buffer) -> Buffer:
        x = build.kept("x")
        dx, cut = build.rows("dx", x.shape), cut_of(usual_share(x.shape), x.shape)
        operands = (dy, dx, pair(*x.shape[:2]), pair(self.height, self.width), x.shape[2], build.node)
        build.step("augment.crop_gradient", operands, reads(dy) + writes_own(dx), *cut, bytes=8.0 * dx.width)
        return dx


class RandomErasing(_Random):
    """Paints over a rectangle of an image. Source: Zhong et al. 2017, "Random Erasing Data Augmentation"; as Keras's.

    Args:
        factor: the probability that an image is touched, one number, for one drawn between 0 and it, or a pair
            (least, most), for one drawn between them; within 0 to 1.
        scale: (least, most), within 0 to 1: height and width of the rectangle are the square roots of two numbers drawn
            between them, times those of the image. One number f stands for (0, f).
        fill_value: what it is painted with; None for normal noise times the end of value_range, cut to that range.
        value_range: (least, most) of the images' numbers.
    Input, output:
        (batch, height, width, C).
    Raises:
        HyperparameterError: an argument outside of its range.
        ShapeError: the input is not (batch, height, width, C).
    """

    def __init__(self, factor=1.0, scale=(0.02, 0.33), fill_value: float | None = None, value_range=(0, 255), **base):
        super().__init__(**base)
        self.factor = range_of(factor, "RandomErasing: factor", 0, 1, negative=False)
        self.scale = range_of(scale, "RandomErasing: scale", 0, 1, negative=False)
        if fill_value is not None and not _is_number(fill_value):
            raise HyperparameterError(f"RandomErasing: expected a finite fill_value or None, received {fill_value!r}")
        self.fill_value = None if fill_value is None else float(fill_value)
        pair_given = isinstance(value_range, tuple | list) and len(value_range) == 2 and all(map(_is_number, value_range))
        if not pair_given or value_range[0] > value_range[1]:
            raise HyperparameterError(f"RandomErasing: expected value_range (least, most), received {value_range!r}")
        self.value_range = (float(value_range[0]), float(value_range[1]))

    @staticmethod
    def examples() -> list[tuple[RandomErasing, Shape]]:
        return [
            (RandomErasing((1, 1), (0.1, 0.5), value_range=(-1, 1)), (4, 5, 2)),
            (RandomErasing(1.0, (0.3, 1), fill_value=0.5), (3, 4, 17)),
        ]

    @property
    def idle(self) -> bool:
        return self.factor[1] == 0 or self.scale[1] == 0

    def _which(self, build: Build, shape: Shape) -> tuple:
        values = (number(v) for v in (*self.factor, *self.scale))
        return (pair(*shape[:2]), shape[2], build.node, *values)

    def _change(self, build: Build, x: Buffer, y: Buffer) -> None:
        fill = number(self.fill_value or 0.0), int(self.fill_value is None), *map(number, self.value_range)
        accesses, cut = reads_own(x) + writes_own(y), cut_of(usual_share(x.shape), x.shape)
        build.step("augment.erase", (x, y, *self._which(build, x.shape), *fill), accesses, *cut, bytes=30.0 * x.width)
        build.keep(x=x)

    def _change_gradient(self, build: Build, dy: Buffer) -> Buffer:
        x = build.kept("x")
        cut = cut_of(usual_share(x.shape), x.shape)
        build.step(
            "augment.erase_gradient", (dy, 0, *self._which(build, x.shape)), writes_own(dy), *cut, bytes=4.0 * x.width
        )
        return dy
