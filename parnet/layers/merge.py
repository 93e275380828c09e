"""Layers of several inputs: Add, Subtract, Multiply, Average, Maximum, Concatenate. Stage: layers.

All but Concatenate want inputs of one shape and work number by number; nothing is broadcast.
Must not know: executors, threads.
"""

from __future__ import annotations

from ..checks import is_whole
from ..errors import HyperparameterError, ShapeError
from ..kernels.step import ROWS_SHARED, Buffer, number, reads_own, writes_own
from .activate import cut_of, usual_share
from .base import Build, Layer, Shape, count

#: inputs of an elementwise merge: their places must fit into a row of the step table
MOST_INPUTS = 15

Examples = list[tuple[Layer, tuple[Shape, ...]]]


def _text(shape: Shape) -> str:
    return f"(batch, {', '.join(map(str, shape))})"


class _Merge(Layer):
    """A layer that works on inputs of one shape, number by number."""

    merges = True
    kernel = ""

    def __init__(self, **base):
        super().__init__(**base)

    def output_shape(self, input_shape: tuple[Shape, ...]) -> Shape:  # type: ignore[override]
        first = input_shape[0]
        for place, shape in enumerate(input_shape[1:], 2):
            if shape != first:
                raise ShapeError(
                    f"{self.label()}: expected inputs of one shape, received {_text(first)} and, as input {place}, "
                    f"{_text(shape)}; bring them to one shape first, for example by a layer with as many units or filters"
                )
        if len(input_shape) > MOST_INPUTS:
            raise ShapeError(
                f"{self.label()}: expected at most {MOST_INPUTS} inputs, received {len(input_shape)}; merge in two layers"
            )
        return first

    def forward(self, build: Build, x: tuple[Buffer, ...], training: bool) -> Buffer:  # type: ignore[override]
        y = build.rows("y", x[0].shape)
        fold(build, self.kernel, y, x)
        return y


def fold(build: Build, kernel: str, y: Buffer, x: tuple[Buffer, ...], further: tuple = ()) -> None:
    """y = kernel of all x. further: operands behind the inputs, buffers among them read as they are."""
    buffers = tuple(item for item in further if isinstance(item, Buffer))
    share = usual_share(y.shape)
    operands = (y, y.width, share, len(x), *x, *further)
    accesses = reads_own(*dict.fromkeys((*x, *buffers))) + writes_own(y)
    cost = 4.0 * y.width * (1 + len(x) + len(buffers))
    build.step(kernel, operands, accesses, *cut_of(share, y.shape), flops=float(y.width), bytes=cost)


def scale(build: Build, y: Buffer, factor: float) -> None:
    """y *= factor."""
    share = usual_share(y.shape)
    operands = (y, y.width, share, number(factor))
    build.step("merge.scale", operands, writes_own(y), *cut_of(share, y.shape), bytes=8.0 * y.width)


class Add(_Merge):
    """y = x1 + x2 + ..., from left to right.

    Input:
        two or more tensors (batch, ...) of one shape.
    Output:
        of that shape.
    Raises:
        ShapeError: inputs of different shapes; nothing is broadcast.

    >>> from parnet import layers as L
    >>> L.Add().output_shape(((8, 8, 4), (8, 8, 4)))
    (8, 8, 4)
    """

    kernel = "merge.add"
    tail_part = "add"

    @staticmethod
    def examples() -> Examples:
        return [(Add(), ((7,), (7,))), (Add(), ((3, 5), (3, 5), (3, 5)))]

    def backward(self, build: Build, dy: Buffer) -> tuple[Buffer | None, ...]:  # type: ignore[override]
        return tuple(dy if wanted else None for wanted in build.gradients_wanted)


class Subtract(_Merge):
    """y = x1 - x2, of exactly two inputs of one shape. Raises ShapeError for others."""

    kernel = "merge.subtract"

    @staticmethod
    def examples() -> Examples:
        return [(Subtract(), ((7,), (7,))), (Subtract(), ((2, 9), (2, 9)))]

    def output_shape(self, input_shape: tuple[Shape, ...]) -> Shape:  # type: ignore[override]
        if len(input_shape) != 2:
            raise ShapeError(f"{self.label()}: expected exactly 2 inputs, received {len(input_shape)}")
        return super().output_shape(input_shape)

    def backward(self, build: Build, dy: Buffer) -> tuple[Buffer | None, ...]:  # type: ignore[override]
        first, second = build.gradients_wanted
        if not second:
            return dy, None
        dx = build.rows("dx2", dy.shape) if first else dy
        if first:
            share = usual_share(dy.shape)
            operands = (dy, dx, dy.width, number(-1.0), number(0.0), share)
            accesses = reads_own(dy) + writes_own(dx)
            build.step("elementwise.scale", operands, accesses, *cut_of(share, dy.shape), bytes=8.0 * dy.width)
        else:
            scale(build, dx, -1.0)
        return (dy if first else None), dx


class Multiply(_Merge):
    """y = x1 x2 ..., number by number, of two or more inputs of one shape. Raises ShapeError for others."""

    kernel = "merge.multiply"

    @staticmethod
    def examples() -> Examples:
        return [(Multiply(), ((7,), (7,))), (Multiply(), ((4, 3), (4, 3), (4, 3)))]

    def forward(self, build: Build, x: tuple[Buffer, ...], training: bool) -> Buffer:  # type: ignore[override]
        build.keep(**{f"x{k}": one for k, one in enumerate(x)})
        return super().forward(build, x, training)

    def backward(self, build: Build, dy: Buffer) -> tuple[Buffer | None, ...]:  # type: ignore[override]
        wanted = build.gradients_wanted
        x = [build.kept(f"x{k}") for k in range(len(wanted))]
        result: list[Buffer | None] = [None] * len(x)
        for k in (k for k, needed in enumerate(wanted) if needed):
            dx = result[k] = build.rows(f"dx{k + 1}", dy.shape)
            fold(build, "merge.multiply", dx, (dy, *x[:k], *x[k + 1 :]))
        return tuple(result)


class Average(_Merge):
    """y = (x1 + x2 + ... + xn) / n, of two or more inputs of one shape. Raises ShapeError for others."""

    kernel = "merge.add"

    @staticmethod
    def examples() -> Examples:
        return [(Average(), ((7,), (7,))), (Average(), ((5, 4), (5, 4), (5, 4)))]

    def forward(self, build: Build, x: tuple[Buffer, ...], training: bool) -> Buffer:  # type: ignore[override]
        y = super().forward(build, x, training)
        scale(build, y, 1.0 / len(x))
        return y

    def backward(self, build: Build, dy: Buffer) -> tuple[Buffer | None, ...]:  # type: ignore[override]
        scale(build, dy, 1.0 / len(build.gradients_wanted))
        return tuple(dy if wanted else None for wanted in build.gradients_wanted)


class Maximum(_Merge):
    """y = the largest of x1, x2, ..., number by number, of two or more inputs of one shape.

    The gradient goes to the first input that reaches the maximum. Raises ShapeError for inputs of different shapes.
    """

    kernel = "merge.maximum"

    @staticmethod
    def examples() -> Examples:
        return [(Maximum(), ((7,), (7,))), (Maximum(), ((5, 4), (5, 4), (5, 4)))]

    def forward(self, build: Build, x: tuple[Buffer, ...], training: bool) -> Buffer:  # type: ignore[override]
        build.keep(**{f"x{k}": one for k, one in enumerate(x)})
        return super().forward(build, x, training)

    def backward(self, build: Build, dy: Buffer) -> tuple[Buffer | None, ...]:  # type: ignore[override]
        wanted = build.gradients_wanted
        x = tuple(build.kept(f"x{k}") for k in range(len(wanted)))
        result: list[Buffer | None] = [None] * len(x)
        for k in (k for k, needed in enumerate(wanted) if needed):
            dx = result[k] = build.rows(f"dx{k + 1}", dy.shape)
            fold(build, "merge.maximum_grad", dx, x, (dy, k))
        return tuple(result)


class Concatenate(Layer):
    """The inputs side by side along one axis.

    Args:
        axis: of the batch (batch, ...): 1 is the first axis of a sample, -1 the last; 0, the rows, is refused.
    Input:
        two or more tensors of one shape but for their lengths along the axis.
    Output:
        of that shape, its length along the axis being the sum of theirs.
    Raises:
        HyperparameterError: the axis is 0 or no whole number.
        ShapeError: inputs that differ along another axis, or have no such axis.

    >>> from parnet import layers as L
    >>> L.Concatenate().output_shape(((8, 8, 4), (8, 8, 3)))
    (8, 8, 7)
    """

    merges = True

    def __init__(self, axis: int = -1, **base):
        super().__init__(**base)
        if not is_whole(axis) or int(axis) == 0:
            raise HyperparameterError(
                f"Concatenate: expected an axis of the batch other than 0, which are its rows, received {axis!r}"
            )
        self.axis = int(axis)

    @staticmethod
    def examples() -> Examples:
        return [
            (Concatenate(), ((5,), (3,), (20,))),
            (Concatenate(axis=1), ((2, 3), (4, 3))),
            (Concatenate(axis=-2), ((2, 3, 2), (2, 1, 2))),
        ]

    def describe(self) -> str:
        return f"Concatenate axis={self.axis}"

    def output_shape(self, input_shape: tuple[Shape, ...]) -> Shape:  # type: ignore[override]
        first = input_shape[0]
        axis = self._axis(first)
        for place, shape in enumerate(input_shape[1:], 2):
            if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
                raise ShapeError(
                    f"{self.label()}: expected inputs that differ along axis {self.axis} alone, received {_text(first)} "
                    f"and, as input {place}, {_text(shape)}"
                )
        return (*first[:axis], sum(shape[axis] for shape in input_shape), *first[axis + 1 :])

    def _axis(self, shape: Shape) -> int:
        """The axis among those of one sample."""
        axis = self.axis - 1 if self.axis > 0 else self.axis + len(shape)
        if not 0 <= axis < len(shape):
            raise ShapeError(f"{self.label()}: expected inputs with an axis {self.axis}, received {_text(shape)}")
        return axis

    def forward(self, build: Build, x: tuple[Buffer, ...], training: bool) -> Buffer:  # type: ignore[override]
        y = build.rows("y", self.output_shape(tuple(one.shape for one in x)))
        for one, operands in zip(x, self._blocks(tuple(one.shape for one in x)), strict=True):
            accesses = reads_own(one) + writes_own(y)
            build.step("merge.join", (one, y, *operands), accesses, ROWS_SHARED, (-1,), bytes=8.0 * one.width)
        return y

    def _blocks(self, shapes: tuple[Shape, ...]) -> list[tuple[int, int, int, int]]:
        """For each input how it lies in the output: runs, numbers in a run, numbers in a run of the output, first."""
        axis, first, result = self._axis(shapes[0]), 0, []
        total = count(self.output_shape(shapes)[axis:])
        for shape in shapes:
            run = count(shape[axis:])
            result.append((count(shape[:axis]), run, total, first))
            first += run
        return result

    def backward(self, build: Build, dy: Buffer) -> tuple[Buffer | None, ...]:  # type: ignore[override]
        result: list[Buffer | None] = []
        shapes = build.given
        for k, (operands, wanted) in enumerate(zip(self._blocks(shapes), build.gradients_wanted, strict=True)):
            dx = build.rows(f"dx{k + 1}", shapes[k]) if wanted else None
            if dx is not None:
                accesses = reads_own(dy) + writes_own(dx)
                build.step("merge.take", (dx, dy, *operands), accesses, ROWS_SHARED, (-1,), bytes=8.0 * dx.width)
            result.append(dx)
        return tuple(result)
