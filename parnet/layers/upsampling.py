"""Images made larger. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from ..checks import check_choice
from ..kernels.step import Buffer, pair, reads, writes_own
from .activate import cut_of, usual_share
from .base import Build, Layer, Shape
from .window import expect_image, pair_of

INTERPOLATIONS = ("bilinear", "nearest")


class UpSampling2D(Layer):
    """The image enlarged by whole numbers. As Keras's.

    Args:
        size: how many times higher and wider, one number or (height, width).
        interpolation: "nearest" repeats each pixel; "bilinear" goes straight from the middle of one to the middle of the
            next.
    Input, output:
        (batch, H, W, C), (batch, H size, W size, C).
    Raises:
        HyperparameterError: a size that is no whole number above 0.
        UnknownNameError: another interpolation.
        ShapeError: the input is not (batch, height, width, C).

    >>> from parnet import layers as L
    >>> L.UpSampling2D((2, 3)).output_shape((7, 7, 16))
    (14, 21, 16)
    """

    def __init__(self, size=2, interpolation: str = "nearest", **base):
        super().__init__(**base)
        self.size = pair_of(size, "UpSampling2D: size")
        self.interpolation = check_choice(interpolation, "UpSampling2D interpolation", INTERPOLATIONS)

    @staticmethod
    def examples() -> list[tuple[UpSampling2D, Shape]]:
        return [
            (UpSampling2D(), (3, 4, 5)),
            (UpSampling2D((3, 1)), (2, 3, 17)),
            (UpSampling2D((2, 3), "bilinear"), (3, 4, 2)),
            (UpSampling2D(4, interpolation="bilinear"), (1, 2, 3)),
        ]

    def describe(self) -> str:
        return f"UpSampling2D {self.size[0]}x{self.size[1]}"

    def output_shape(self, input_shape: Shape) -> Shape:
        expect_image(input_shape, self.label())
        return (input_shape[0] * self.size[0], input_shape[1] * self.size[1], input_shape[2])

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y = build.rows("y", self.output_shape(x.shape))
        operands = (x, y, pair(x.shape[0], x.shape[1]), pair(*self.size), x.shape[2])
        kernel = "upsample.nearest" if self.interpolation == "nearest" else "upsample.bilinear"
        cut, cost = cut_of(usual_share(y.shape), y.shape), 4.0 * (x.width + y.width)
        build.step(kernel, operands, reads(x) + writes_own(y), *cut, bytes=cost)
        build.keep(x=x)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        x = build.kept("x")
        dx, cut = build.rows("dx", x.shape), cut_of(usual_share(x.shape), x.shape)
        operands = (dy, dx, pair(x.shape[0], x.shape[1]), pair(*self.size), x.shape[2])
        kernel = "upsample.nearest_gradient" if self.interpolation == "nearest" else "upsample.bilinear_gradient"
        cost = 4.0 * (dx.width + dy.width * (1 if self.interpolation == "nearest" else 9))
        build.step(kernel, operands, reads(dy) + writes_own(dx), *cut, bytes=cost)
        return dx
