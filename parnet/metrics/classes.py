"""Metrics that are made of how often each class was called which. Stage: between layers and plan.

Must not know: plans, executors.
"""

from __future__ import annotations

import numpy as np

from ..checks import check_argument, check_choice, check_number
from ..errors import ShapeError
from .base import Metric, Outcome, registry


class _Counting(Metric):
    """A metric made of counts[true class, called class]; of outputs that are a yes or no each, those counts of each.

    Args:
        threshold: above which an output says yes (0.5). Given for a model of several classes and one-hot targets, it makes
            each output a yes or no. `thresholds` is Keras's name of it.
    """

    counts = True
    options = (4,)

    def __init__(self, threshold: float | None = None, *, thresholds: float | None = None, **base):
        super().__init__(**base)
        where = type(self).__name__
        both = threshold is not None and thresholds is not None
        check_argument(
            not both, f"{where}(thresholds)", "one of thresholds and threshold", thresholds, "they are one argument"
        )
        given = thresholds if threshold is None else threshold
        if hasattr(given, "__iter__"):
            advice = "make one metric for each, with a name of its own"
            check_argument(False, f"{where}(threshold)", "one number", given, advice)
        self.threshold = None if given is None else check_number(given, f"{where}(threshold)")
        self.parameter = 0.5 if self.threshold is None else self.threshold

    def kernel(self, outcome: Outcome) -> str:
        if self.threshold is not None and outcome.labels and outcome.width > 1:
            raise ShapeError(
                f"metric {self.name}: expected targets shaped like the {outcome.width} outputs for threshold="
                f"{self.threshold}, received class numbers, with which the largest output is the class; leave the threshold "
                "out, or take one-hot targets"
            )
        return "metric.yes_no" if self._each(outcome) else "metric.confusion"

    def _each(self, outcome: Outcome) -> bool:
        """Whether each output is a yes or no."""
        return outcome.yes_no or self.threshold is not None

    def shape(self, outcome: Outcome) -> tuple[int, ...]:
        """(outputs, 2, 2), 1 for all together; or (classes, classes)."""
        return (outcome.width if self.options[0] else 1, 2, 2) if self._each(outcome) else (outcome.width, outcome.width)


class _Averaged(_Counting):
    """One made of the precision and recall of each class, or of each output where they are a yes or no each.

    They are that where the loss is binary cross-entropy or a hinge loss, where a threshold is given, and of a model with
    one output.

    Args:
        threshold: above which an output says yes (0.5). Given for a model of several classes and one-hot targets, it makes
            each output a yes or no. `thresholds` is Keras's name of it.
        average: "auto": of two classes the second's value, of several the unweighted mean; of yes/no outputs that of all
            their answers together, as Keras has it. "macro": the unweighted mean; "weighted": weighted by how many there
            are of each; "micro": of all counts together; None: an array with the value of each class or output.
    """

    def __init__(self, threshold: float | None = None, *, average: str | None = "auto", **base):
        super().__init__(threshold, **base)
        ways = ("auto", "macro", "micro", "weighted")
        self.average = None if average is None else check_choice(average, f"{type(self).__name__}(average)", ways)
        #: words of an output that is counted apart
        self.options = (0 if self.average in ("auto", "micro") else 4,)

    def result(self, sums: np.ndarray, samples: int):
        several = sums.ndim == 2
        if several:
            right, true, called = np.diag(sums), sums.sum(1), sums.sum(0)
        else:
            right, true, called = sums[:, 1, 1], sums[:, 1].sum(1), sums[:, :, 1].sum(1)
        if self.average == "micro":
            right, true, called = (np.atleast_1d(counts.sum()) for counts in (right, true, called))
        recall = np.divide(right, true, out=np.zeros_like(right), where=true > 0)
        precision = np.divide(right, called, out=np.zeros_like(right), where=called > 0)
        values = self._of(precision, recall)
        if self.average is None:
            return values
        if self.average == "weighted":
            return float(values @ true / true.sum()) if true.sum() else 0.0
        return float(values[1] if several and len(values) == 2 and self.average == "auto" else values.mean())

    def _of(self, precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
        """The values of the classes from their precision and recall."""
        raise ShapeError(f"metric {self.name}: not defined")


@registry.add()
class Precision(_Averaged):
    """Of what was called a class, the share that is one; of several classes the unweighted mean. 0 where undefined.

    Of several yes/no outputs: of all yeses that were called, the share that are one; see `average`.
    """

    name = "precision"

    def _of(self, precision, recall) -> np.ndarray:
        return precision


@registry.add()
class Recall(_Averaged):
    """Of a class, the share that was called so; of several classes the unweighted mean. 0 where undefined.

    Of several yes/no outputs: of all yeses there are, the share that was called; see `average`.
    """

    name = "recall"

    def _of(self, precision, recall) -> np.ndarray:
        return recall


@registry.add("f1", "f1_score")
class F1(_Averaged):
    """Harmonic mean of precision and recall; of several classes the unweighted mean, of several yes/no outputs that of all
    answers together, see `average`. 0 where undefined."""

    name = "f1"

    def _of(self, precision, recall) -> np.ndarray:
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)


@registry.add("confusion")
class ConfusionMatrix(_Counting):
    """counts[true class, called class], int64 (classes, classes). Not for callbacks that compare numbers.

    Of one yes/no output (2, 2): no and yes. Of several (outputs, 2, 2), as scikit-learn's `multilabel_confusion_matrix`.
    """

    name = "confusion_matrix"

    def result(self, sums: np.ndarray, samples: int) -> np.ndarray:
        counts = sums.astype(np.int64)
        return counts[0] if counts.ndim == 3 and len(counts) == 1 else counts
