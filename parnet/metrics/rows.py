"""Metrics that are made of a number for each sample, or of sums. Stage: between layers and plan.

Must not know: plans, executors.
"""

from __future__ import annotations

import math

import numpy as np

from ..checks import check_count, check_number
from ..errors import ShapeError
from .base import Metric, Outcome, dense_kernel, registry


@registry.add("acc")
class Accuracy(Metric):
    """Share of right answers; picks its form: class numbers, one-hot rows, or yes/no outputs against 0.5."""

    name, parameter = "accuracy", 0.5

    def kernel(self, outcome: Outcome) -> str:
        if outcome.width == 1:
            return "metric.binary_accuracy"
        return "metric.sparse_accuracy" if outcome.labels else "metric.categorical_accuracy"


@registry.add()
class SparseCategoricalAccuracy(Metric):
    """Share of rows whose largest output is the class named by the target."""

    name = "sparse_categorical_accuracy"

    def kernel(self, outcome: Outcome) -> str:
        if not outcome.labels:
            raise ShapeError(f"metric {self.name}: expected class numbers; use categorical_accuracy for one-hot rows")
        return "metric.sparse_accuracy"


@registry.add()
class CategoricalAccuracy(Metric):
    """Share of rows whose largest output is where the target's largest is."""

    name = "categorical_accuracy"

    def kernel(self, outcome: Outcome) -> str:
        if outcome.labels:
            raise ShapeError(f"metric {self.name}: expected one-hot rows; use sparse_categorical_accuracy")
        return "metric.categorical_accuracy"


@registry.add()
class BinaryAccuracy(Metric):
    """Share of outputs on the target's side of the threshold.

    Args:
        threshold: outputs above it are a yes.
    """

    name = "binary_accuracy"

    def __init__(self, threshold: float = 0.5, **base):
        super().__init__(**base)
        self.threshold = self.parameter = check_number(threshold, "BinaryAccuracy(threshold)")

    def kernel(self, outcome: Outcome) -> str:
        if outcome.labels and outcome.width != 1:
            raise ShapeError(f"metric {self.name}: expected one yes/no output, the model has {outcome.width}")
        return "metric.binary_accuracy"


@registry.add("top_k_accuracy", "sparse_top_k_categorical_accuracy", "top_k_categorical_accuracy")
class TopKAccuracy(Metric):
    """Share of rows whose true class is among the k largest outputs.

    Args:
        k: 1 or more.
    """

    def __init__(self, k: int = 5, **base):
        super().__init__(**base)
        self.k = check_count(k, "TopKAccuracy(k)")
        self.parameter, self.name = float(self.k), self.name or f"top_{self.k}_accuracy"

    def kernel(self, outcome: Outcome) -> str:
        return "metric.top_k"


@registry.add("mse")
class MeanSquaredError(Metric):
    """Mean of (p - t)^2."""

    name, rising = "mse", False

    def kernel(self, outcome: Outcome) -> str:
        return dense_kernel(self, outcome, "metric.squared")


@registry.add("rmse")
class RootMeanSquaredError(Metric):
    """Root of the mean of (p - t)^2 over all samples and outputs."""

    name, rising = "root_mean_squared_error", False

    def kernel(self, outcome: Outcome) -> str:
        return dense_kernel(self, outcome, "metric.squared")

    def result(self, sums: np.ndarray, samples: int) -> float:
        return math.sqrt(sums[0] / samples)


@registry.add("r2")
class R2Score(Metric):
    """1 - sum (p - t)^2 / sum (t - mean t)^2 of each output, and the mean of these: 1 is the best, 0 what the mean gives.

    Of an output whose targets are all alike it is 1 where it is exact, else 0, as in scikit-learn.
    """

    name, counts = "r2_score", True

    def kernel(self, outcome: Outcome) -> str:
        return dense_kernel(self, outcome, "metric.deviations")

    def shape(self, outcome: Outcome) -> tuple[int, ...]:
        """Of each output the sums of t, t^2 and (p - t)^2."""
        return outcome.width, 3

    def result(self, sums: np.ndarray, samples: int) -> float:
        total, squares, rest = sums.T
        spread = squares - total**2 / samples
        alike = spread <= max(1e-14, 4 * samples * np.finfo(np.float64).eps) * squares
        scores = 1 - rest / np.where(alike, 1.0, spread)
        return float(np.mean(np.where(alike & np.isfinite(rest), rest == 0, scores)))


@registry.add("mae")
class MeanAbsoluteError(Metric):
    """Mean of |p - t|."""

    name, rising = "mae", False

    def kernel(self, outcome: Outcome) -> str:
        return dense_kernel(self, outcome, "metric.absolute")
