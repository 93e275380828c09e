"""What weights must satisfy after each update. Stage: layers. Must not know: layers, plans."""

from __future__ import annotations

import math

from .checks import check_argument, check_number, is_whole
from .errors import HyperparameterError
from .registry import Configurable, Registry

Shape = tuple[int, ...]


class Constraint(Configurable):
    """Base of all constraints, handed to a layer as `kernel_constraint` or `bias_constraint`.

    Attributes:
        kernel: that applies it to a weight.
    """

    kernel = ""

    def check(self, shape: Shape, where: str) -> None:
        """Raise HyperparameterError unless it has a meaning for a weight of that shape."""


class NormConstraint(Constraint):
    """The norm of each vector of weights, taken along `axis`, is brought into a range; one that lies in it keeps its bits.

    Attributes:
        low, high: the range; rate: 1 goes all the way there in each update, less goes a part of it.
    """

    kernel, rate = "constrain.norm", 1.0
    low, high = 0.0, math.inf

    def __init__(self, axis=0):
        axes = axis if isinstance(axis, list | tuple) else (axis,)
        good = len(axes) > 0 and all(is_whole(one, -10) for one in axes)
        check_argument(good, f"{type(self).__name__}(axis)", "a whole number, or a list of them", axis, "take 0")
        self.axis = [int(one) for one in axes] if isinstance(axis, list | tuple) else int(axis)

    def along(self, shape: Shape) -> tuple[bool, ...]:
        """For each axis of a weight whether norms are taken along it."""
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        return tuple(k in axes or k - len(shape) in axes for k in range(len(shape)))

    def check(self, shape: Shape, where: str) -> None:
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        inside = all(-len(shape) <= one < len(shape) for one in axes)
        if not inside or (len(shape) > 1 and self.along(shape)[-1]):
            cure = "0 for the norm of what goes into each unit" if len(shape) < 3 else "[0, 1, 2] for that of each filter"
            meant = "0" if len(shape) == 1 else f"of 0 to {len(shape) - 2}, all but the last"
            raise HyperparameterError(
                f"{where}: expected {type(self).__name__}(axis) {meant}, for weights of shape {shape}, received "
                f"{self.axis!r}; take {cure}"
            )


registry: Registry[Constraint] = Registry("constraint", Constraint)


@registry.add()
class MaxNorm(NormConstraint):
    """Norms above `max_value` are cut down to it. Source: Srivastava et al. 2014, "Dropout", section 5.1.

    Args:
        max_value: 0 or more.
        axis: along which norms are taken: 0 for what goes into each unit of a Dense, [0, 1, 2] for each filter of a Conv2D.

    >>> from parnet import constraints, layers as L
    >>> L.Dense(64, activation="relu", kernel_constraint=constraints.MaxNorm(3)).kernel_constraint
    MaxNorm(max_value=3.0, axis=0)
    """

    def __init__(self, max_value: float = 2.0, axis=0):
        super().__init__(axis)
        self.max_value = self.high = check_number(max_value, "MaxNorm(max_value)", 0)


@registry.add()
class UnitNorm(NormConstraint):
    """All norms become 1; a vector of zeros stays one.

    Args:
        axis: as for `MaxNorm`.
    """

    low = high = 1.0


@registry.add()
class MinMaxNorm(NormConstraint):
    """Norms are brought into a range; a vector of zeros stays one.

    Args:
        min_value, max_value: the range, 0 or more.
        rate: above 0 to 1: the share of the way there that an update goes.
        axis: as for `MaxNorm`.
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis=0):
        super().__init__(axis)
        self.min_value = self.low = check_number(min_value, "MinMaxNorm(min_value)", 0)
        self.max_value = self.high = check_number(max_value, "MinMaxNorm(max_value)", self.min_value)
        self.rate = check_number(rate, "MinMaxNorm(rate)", 0, 1, above=True)


@registry.add()
class NonNeg(Constraint):
    """Weights below 0 become 0."""

    kernel = "constrain.non_negative"


def get(identifier) -> Constraint | None:
    """A constraint from a name ("max_norm"), a configuration, an object; None stays None."""
    return None if identifier is None else registry.get(identifier)
