"""Noise in training: numbers left out, or random ones added. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from ..checks import check_number
from ..errors import HyperparameterError
from ..kernels.step import COLUMNS, Buffer, number, reads_own, writes_own
from .base import Build, Layer, Shape


class Dropout(Layer):
    """In training each number is 0 with probability `rate` and divided by 1 - rate otherwise; else nothing happens.

    Which numbers fall out depends on the seed, the epoch, the sample and the place alone, so it is the same for any
    number of threads or workers. Source: Srivastava et al. 2014, "Dropout", section 4.

    Args:
        rate: 0 <= rate < 1.
    """

    def __init__(self, rate: float, **base):
        super().__init__(**base)
        if not (isinstance(rate, int | float) and 0 <= rate < 1):
            raise HyperparameterError(f"Dropout: expected a rate of at least 0 and below 1, received {rate!r}")
        self.rate = float(rate)

    @staticmethod
    def examples() -> list[tuple[Dropout, Shape]]:
        return [(Dropout(0.3), (10,)), (Dropout(0.5), (3, 7)), (Dropout(0.0), (4,))]

    def describe(self) -> str:
        return f"Dropout {self.rate}"

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        if not training or self.rate == 0:
            return x
        y, mask = build.rows("y", x.shape), build.rows("mask", x.shape)
        operands = (x, y, mask, x.width, number(self.rate), build.node, COLUMNS)
        accesses = reads_own(x) + writes_own(y, mask)
        build.step("noise.dropout", operands, accesses, COLUMNS, (-1, x.width), bytes=80.0 * x.width)
        build.keep(mask=mask)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if self.rate == 0 or not build.input_gradient_wanted:
            return dy
        mask = build.kept("mask")
        operands = (mask, dy, dy.width, COLUMNS)
        accesses = reads_own(mask) + writes_own(dy)
        build.step("noise.dropout_grad", operands, accesses, COLUMNS, (-1, dy.width), bytes=12.0 * dy.width)
        return dy


class GaussianNoise(Layer):
    """In training y = x + stddev n with normally distributed n; else nothing happens.

    n depends on the seed, the epoch, the sample and the place alone, as in `Dropout`.

    Args:
        stddev: 0 or more.
    """

    def __init__(self, stddev: float, **base):
        super().__init__(**base)
        self.stddev = check_number(stddev, "GaussianNoise(stddev)", 0)

    @staticmethod
    def examples() -> list[tuple[GaussianNoise, Shape]]:
        return [(GaussianNoise(0.3), (10,)), (GaussianNoise(0.0), (3, 2))]

    def describe(self) -> str:
        return f"GaussianNoise {self.stddev}"

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        if not training or self.stddev == 0:
            return x
        y = build.rows("y", x.shape)
        operands = (x, y, x.width, number(self.stddev), build.node, COLUMNS)
        build.step("noise.gaussian", operands, reads_own(x) + writes_own(y), COLUMNS, (-1, x.width), bytes=200.0 * x.width)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        return dy
