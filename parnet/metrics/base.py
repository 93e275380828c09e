"""What all metrics share. Stage: between layers and plan. Must not know: plans, executors.

A metric names its kernel, says how many sums it keeps, and turns them into a number at the end of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..checks import check_argument
from ..errors import ShapeError
from ..registry import Configurable, Registry


@dataclass(frozen=True)
class Outcome:
    """What a metric is asked to measure.

    Attributes:
        width: numbers of an output a row.
        labels: targets are class numbers, else arrays of the output's shape.
        yes_no: the loss takes each number for a yes or a no of its own; one number is always one.
    """

    width: int
    labels: bool
    yes_no: bool = False


class Metric(Configurable):
    """Base of all metrics.

    Args:
        name: its key in logs; its usual one when left out.
    Attributes:
        name: its key in logs.
        rising: more of it is better.
        counts: the kernel counts into sums of that `shape`; otherwise it gives a number a row, which is averaged.
        parameter, options: the kernel's number, and whole numbers that follow it.
    Raises:
        HyperparameterError: a name that is none, or that logs use for something else.
    """

    name = ""
    rising = True
    counts = False
    parameter = 0.0
    options: tuple[int, ...] = ()

    def __init__(self, *, name: str | None = None):
        if name is not None:
            good = isinstance(name, str) and name.strip() and name != "loss" and not name.startswith("val_")
            expected = "a text other than 'loss' that does not begin with 'val_'"
            check_argument(bool(good), f"{type(self).__name__}(name)", expected, name, "name it for example 'my_metric'")
            self.name = name

    def kernel(self, outcome: Outcome) -> str:
        """The kernel for that kind of output. Raises ShapeError where the metric has no meaning."""
        raise ShapeError(f"metric {self.name}: not defined for {outcome}")

    def shape(self, outcome: Outcome) -> tuple[int, ...]:
        """Of the sums it keeps."""
        return (1,)

    def result(self, sums: np.ndarray, samples: int):
        """The metric from its sums over that many samples, in their `shape`."""
        return float(sums[0] / samples)


registry: Registry[Metric] = Registry("metric", Metric)


def dense_kernel(metric: Metric, outcome: Outcome, kernel: str) -> str:
    if outcome.labels and outcome.width != 1:
        raise ShapeError(f"metric {metric.name}: expected targets shaped like the output, received class numbers")
    return kernel
