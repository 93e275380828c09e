"""Layers that change shape or scale only: Input, Flatten, Reshape, Permute, Rescaling. Stage: layers.

Must not know: executors, threads.
"""

from __future__ import annotations

import dataclasses

from ..checks import check_list, check_number, is_whole
from ..errors import HyperparameterError, ShapeError
from ..kernels.step import ROWS_SHARED, Buffer, number, reads_own, writes_own
from .activate import cut_of, usual_share
from .base import Build, Layer, Shape, check_shape, count
from .tensor import Tensor, record

#: axes of a sample that `Permute` can move
MOST_AXES = 4


class _View(Layer):
    """A layer whose output is its input's memory under another shape: no step at all."""

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        return dataclasses.replace(x, shape=self.output_shape(x.shape))

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        return dataclasses.replace(dy, shape=build.given[0])


class Input(_View):
    """States the shape of one sample: Input((28, 28)), as the first layer of a Sequential. `pn.Input` makes its tensor."""

    is_input = True

    def __init__(self, shape, *, name: str | None = None):
        super().__init__(name=name, input_shape=shape)

    @property
    def tensor(self) -> Tensor:
        """The start of a graph."""
        return self._made[0] if self._made else record(self, (), self.shape)

    @property
    def shape(self) -> Shape:
        """Of one sample."""
        return self.input_shape or ()

    @staticmethod
    def examples() -> list[tuple[Input, Shape]]:
        return [(Input((4, 2)), (4, 2))]


class Flatten(_View):
    """Each sample as one row: (batch, a, b, ...) to (batch, a b ...)."""

    def __init__(self, **base):
        super().__init__(**base)

    @staticmethod
    def examples() -> list[tuple[Flatten, Shape]]:
        return [(Flatten(), (3, 4)), (Flatten(), (5,))]

    def output_shape(self, input_shape: Shape) -> Shape:
        return (count(input_shape),)


class Reshape(_View):
    """Each sample in another shape.

    Args:
        target_shape: of one sample; one entry may be -1.
    """

    def __init__(self, target_shape, **base):
        super().__init__(**base)
        items = (target_shape,) if is_whole(target_shape) else target_shape
        listed = hasattr(items, "__iter__") and not isinstance(items, str | bytes | dict)
        if not listed or not all(is_whole(n, 1) or (is_whole(n) and n == -1) for n in items):
            raise ShapeError(f"Reshape: expected whole numbers above 0, or one -1, received {target_shape!r}")
        self.target_shape = tuple(int(n) for n in items)

    @staticmethod
    def examples() -> list[tuple[Reshape, Shape]]:
        return [(Reshape((2, -1)), (3, 4))]

    def output_shape(self, input_shape: Shape) -> Shape:
        total, target = count(input_shape), list(self.target_shape)
        if target.count(-1) == 1:
            rest = count(tuple(n for n in target if n != -1))
            target[target.index(-1)] = total // rest if rest > 0 else 0
        if any(not isinstance(n, int) or n < 1 for n in target) or count(tuple(target)) != total:
            raise ShapeError(
                f"{self.label()}: expected a target of {total} numbers, received {self.target_shape}; "
                f"the input is (batch, {', '.join(map(str, input_shape))})"
            )
        return check_shape(target, self.label())


class Permute(Layer):
    """The axes of each sample in another order.

    Args:
        dims: the axes of the input that become the first, second, ... of the output, counted from 1: (2, 1) turns
            (batch, a, b) into (batch, b, a). At most four.
    Raises:
        HyperparameterError: dims that do not name each axis from 1 on once.
        ShapeError: an input of another number of axes.

    >>> from parnet import layers as L
    >>> L.Permute((3, 1, 2)).output_shape((28, 14, 3))
    (3, 28, 14)
    """

    def __init__(self, dims, **base):
        super().__init__(**base)
        given = check_list(dims, "Permute(dims)", "axes, counted from 1")
        if not (0 < len(given) <= MOST_AXES and all(map(is_whole, given)) and sorted(given) == [*range(1, len(given) + 1)]):
            raise HyperparameterError(
                f"Permute(dims): expected each axis of a sample once, counted from 1, and at most {MOST_AXES}, such as "
                f"(2, 1), received {dims!r}"
            )
        self.dims = tuple(int(n) for n in given)

    @staticmethod
    def examples() -> list[tuple[Permute, Shape]]:
        return [(Permute((2, 1)), (3, 17)), (Permute((3, 1, 2)), (4, 3, 5)), (Permute((4, 2, 1, 3)), (2, 3, 2, 3))]

    def describe(self) -> str:
        return f"Permute {self.dims}"

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.dims):
            raise ShapeError(
                f"{self.label()}: expected input of {len(self.dims)} axes beside the batch, "
                f"received (batch, {', '.join(map(str, input_shape))})"
            )
        return tuple(input_shape[n - 1] for n in self.dims)

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y = build.rows("y", self.output_shape(x.shape))
        _permute(build, x, y, [n - 1 for n in self.dims])
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not build.input_gradient_wanted:
            return None
        dx = build.rows("dx", build.given[0])
        _permute(build, dy, dx, [self.dims.index(n) for n in range(1, len(self.dims) + 1)])
        return dx


def _permute(build: Build, x: Buffer, y: Buffer, axes: list[int]) -> None:
    """The step y = x with those of its axes in turn."""
    missing = MOST_AXES - len(axes)
    steps = [count(x.shape[axis + 1 :]) for axis in axes]
    operands = (x, y, *[1] * missing, *y.shape, *[0] * missing, *steps)
    build.step("image.permute", operands, reads_own(x) + writes_own(y), ROWS_SHARED, (-1,), bytes=8.0 * x.width)


class Rescaling(Layer):
    """y = scale x + offset. As a first layer it costs nothing: it is folded into the step that gathers the batch.

    Args:
        scale, offset: finite numbers; scale=1/255 brings uint8 images to 0..1.
    """

    def __init__(self, scale: float, offset: float = 0.0, **base):
        super().__init__(**base)
        self.scale = check_number(scale, "Rescaling(scale)")
        self.offset = check_number(offset, "Rescaling(offset)")

    @staticmethod
    def examples() -> list[tuple[Rescaling, Shape]]:
        return [(Rescaling(0.5, -1.0), (3, 2))]

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        if build.fold_into_input(x, self.scale, self.offset):
            return x
        y = build.rows("y", x.shape)
        self._scale(build, x, y, self.offset)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if build.input_gradient_wanted:
            self._scale(build, dy, dy, 0.0)
        return dy

    def _scale(self, build: Build, x: Buffer, y: Buffer, offset: float) -> None:
        share = usual_share(x.shape)
        operands = (x, y, x.width, number(self.scale), number(offset), share)
        accesses = (reads_own(x) if x.name != y.name else ()) + writes_own(y)
        build.step("elementwise.scale", operands, accesses, *cut_of(share, x.shape), bytes=8.0 * x.width)
