"""Metrics that are made of how often each class was called which. Stage: between layers and plan.

Must not know: plans, executors.
"""

from __future__ import annotations

import math

import numpy as np

from ..checks import check_argument, check_choice, check_number
from ..errors import ShapeError
from .base import Metric, Outcome, registry


class _Counting(Metric):
    """A metric made of counts[true class, predicted class].

    Args:
        threshold: for a model with one output, above which it says yes (0.5); `thresholds` is Keras's name of it.
    """

    counts = True

    def __init__(self, threshold: float | None = None, *, thresholds: float | None = None, **base):
        super().__init__(**base)
        where = type(self).__name__
        both = threshold is not None and thresholds is not None
        check_argument(
            not both, f"{where}(thresholds)", "one of thresholds and threshold", thresholds, "they are one argument"
        )
        given = thresholds if threshold is None else threshold
        self.threshold = None if given is None else check_number(given, f"{where}(threshold), one number")
        self.parameter = 0.5 if self.threshold is None else self.threshold

    def kernel(self, outcome: Outcome) -> str:
        if self.threshold is not None and outcome.width > 1:
            raise ShapeError(
                f"metric {self.name}: expected a model with one output for threshold={self.threshold}, received one with "
                f"{outcome.width}, of which the largest is the class; leave the threshold out"
            )
        return "metric.confusion"


class _Averaged(_Counting):
    """One made of each class's precision and recall.

    Args:
        threshold: for a model with one output, above which it says yes (0.5); `thresholds` is Keras's name of it.
        average: "auto": of two classes the second's value, of several the unweighted mean. "macro": the unweighted mean;
            "weighted": weighted by how many there are of each class; "micro": of all classes' counts together; None: an
            array with the value of each class.
    """

    def __init__(self, threshold: float | None = None, *, average: str | None = "auto", **base):
        super().__init__(threshold, **base)
        ways = ("auto", "macro", "micro", "weighted")
        self.average = None if average is None else check_choice(average, f"{type(self).__name__}(average)", ways)

    def result(self, sums: np.ndarray, samples: int):
        counts = sums.reshape(math.isqrt(len(sums)), -1)
        true, predicted, right = counts.sum(1), counts.sum(0), np.diag(counts)
        if self.average == "micro":  # each sample has one class and is called one
            return float(right.sum() / true.sum()) if true.sum() else 0.0
        recall = np.divide(right, true, out=np.zeros_like(right), where=true > 0)
        precision = np.divide(right, predicted, out=np.zeros_like(right), where=predicted > 0)
        values = self._of(precision, recall)
        if self.average is None:
            return values
        if self.average == "weighted":
            return float(values @ true / true.sum()) if true.sum() else 0.0
        return float(values[1] if len(values) == 2 and self.average == "auto" else values.mean())

    def _of(self, precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
        """The values of the classes from their precision and recall."""
        raise ShapeError(f"metric {self.name}: not defined")


@registry.add()
class Precision(_Averaged):
    """Of what was called a class, the share that is one; of several classes the unweighted mean. 0 where undefined."""

    name = "precision"

    def _of(self, precision, recall) -> np.ndarray:
        return precision


@registry.add()
class Recall(_Averaged):
    """Of a class, the share that was called so; of several classes the unweighted mean. 0 where undefined."""

    name = "recall"

    def _of(self, precision, recall) -> np.ndarray:
        return recall


@registry.add("f1", "f1_score")
class F1(_Averaged):
    """Harmonic mean of precision and recall; of several classes the unweighted mean. 0 where undefined."""

    name = "f1"

    def _of(self, precision, recall) -> np.ndarray:
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)


@registry.add("confusion")
class ConfusionMatrix(_Counting):
    """counts[true class, predicted class], int64 (classes, classes). Not for callbacks that compare numbers."""

    name = "confusion_matrix"

    def result(self, sums: np.ndarray, samples: int) -> np.ndarray:
        return sums.reshape(math.isqrt(len(sums)), -1).astype(np.int64)
