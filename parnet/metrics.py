"""Metrics. Stage: between layers and plan. Must not know: plans, executors.

A metric names its kernel, says how many sums it keeps, and turns them into a number at the end of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .checks import check_argument, check_count, check_flag, check_list, check_number
from .errors import HyperparameterError, ShapeError, unknown_name
from .registry import Configurable, Registry, arguments


@dataclass(frozen=True)
class Outcome:
    """What a metric is asked to measure: width of the output, whether targets are class numbers."""

    width: int
    labels: bool


class Metric(Configurable):
    """Base of all metrics.

    Args:
        name: its key in logs; its usual one when left out.
    Attributes:
        name: its key in logs.
        rising: more of it is better.
        counts: the kernel counts classes into `size` sums; otherwise it gives a number a row, which is averaged.
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

    def size(self, outcome: Outcome) -> int:
        """How many sums it keeps."""
        return max(outcome.width, 2) ** 2 if self.counts else 1

    def result(self, sums: np.ndarray, samples: int):
        """The metric from its sums over that many samples."""
        return float(sums[0] / samples)


registry: Registry[Metric] = Registry("metric", Metric)


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
        return _dense_kernel(self, outcome, "metric.squared")


@registry.add("mae")
class MeanAbsoluteError(Metric):
    """Mean of |p - t|."""

    name, rising = "mae", False

    def kernel(self, outcome: Outcome) -> str:
        return _dense_kernel(self, outcome, "metric.absolute")


class _Counting(Metric):
    """A metric made of counts[true class, predicted class].

    Args:
        threshold: for a model with one output, above which it says yes.
    """

    counts = True

    def __init__(self, threshold: float = 0.5, **base):
        super().__init__(**base)
        self.threshold = self.parameter = check_number(threshold, f"{type(self).__name__}(threshold)")

    def kernel(self, outcome: Outcome) -> str:
        return "metric.confusion"

    def result(self, sums: np.ndarray, samples: int):
        counts = sums.reshape(math.isqrt(len(sums)), -1)
        true, predicted, right = counts.sum(1), counts.sum(0), np.diag(counts)
        recall = np.divide(right, true, out=np.zeros_like(right), where=true > 0)
        precision = np.divide(right, predicted, out=np.zeros_like(right), where=predicted > 0)
        return self._of(precision, recall)

    def _of(self, precision: np.ndarray, recall: np.ndarray) -> float:
        """The number from the precision and recall of each class."""
        raise ShapeError(f"metric {self.name}: not defined")


def _one_or_mean(values: np.ndarray) -> float:
    """Of two classes the second's value, of several the unweighted mean ("macro")."""
    return float(values[1] if len(values) == 2 else values.mean())


@registry.add()
class Precision(_Counting):
    """Of what was called a class, the share that is one; of several classes the unweighted mean. 0 where undefined."""

    name = "precision"

    def _of(self, precision, recall) -> float:
        return _one_or_mean(precision)


@registry.add()
class Recall(_Counting):
    """Of a class, the share that was called so; of several classes the unweighted mean. 0 where undefined."""

    name = "recall"

    def _of(self, precision, recall) -> float:
        return _one_or_mean(recall)


@registry.add("f1", "f1_score")
class F1(_Counting):
    """Harmonic mean of precision and recall; of several classes the unweighted mean. 0 where undefined."""

    name = "f1"

    def _of(self, precision, recall) -> float:
        total = precision + recall
        return _one_or_mean(np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0))


@registry.add("confusion")
class ConfusionMatrix(_Counting):
    """counts[true class, predicted class], int64 (classes, classes). Not for callbacks that compare numbers."""

    name = "confusion_matrix"

    def result(self, sums: np.ndarray, samples: int) -> np.ndarray:
        return sums.reshape(math.isqrt(len(sums)), -1).astype(np.int64)


@registry.add()
class AUC(Metric):
    """Area under a curve over all thresholds, of a yes or no; of several yes/no outputs all of them together, or their mean.

    Outputs are counted in `num_thresholds - 1` equal ranges from 0 to 1, as Keras does it. With the ROC curve that is the
    probability that a yes has the larger output than a no, those in one range counting half: at most half the share of such
    pairs away from the exact area. 0 where there is no yes, or for ROC no no.

    Args:
        num_thresholds: 2 or more.
        curve: "ROC" (true positives by false positives), or "PR" (precision by recall; between two thresholds as Davis &
            Goadrich 2006, "The relationship between precision-recall and ROC curves", section 4, has it).
        multi_label: the mean of the outputs' own areas, in place of the area of all of them together.
        num_labels: how many outputs the model has, to be checked; only with `multi_label`.
        label_weights: of each output in that mean; without `multi_label`, of each output's counts.
        from_logits: the model's outputs are sums before a sigmoid.
    Raises:
        HyperparameterError: an argument that makes no sense; while it measures, outputs outside of 0 to 1.
        ShapeError: the model has another number of outputs.
    """

    counts = True

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        from_logits: bool = False,
        *,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Iterable[float] | None = None,
        **base,
    ):
        super().__init__(**base)
        self.num_thresholds = check_count(num_thresholds, "AUC(num_thresholds)", low=2)
        if not isinstance(curve, str) or curve not in ("ROC", "PR"):
            raise unknown_name("AUC(curve)", curve, ("ROC", "PR"))
        self.curve, self.from_logits = curve, check_flag(from_logits, "AUC(from_logits)")
        self.name = self.name or ("auc" if curve == "ROC" else "auc_pr")
        self.parameter = float(self.num_thresholds - 1)
        self.multi_label = check_flag(multi_label, "AUC(multi_label)")
        advice = "pass multi_label=True too, or leave it out"
        check_argument(num_labels is None or self.multi_label, "AUC(num_labels)", "None", num_labels, advice)
        self.num_labels = None if num_labels is None else check_count(num_labels, "AUC(num_labels)")
        self.label_weights = None if label_weights is None else _weights(label_weights)
        #: words of an output that is counted apart
        self.options = (1 + 2 * (self.num_thresholds - 1) if self.multi_label or self.label_weights else 0,)

    def kernel(self, outcome: Outcome) -> str:
        if outcome.labels and outcome.width != 1:
            raise ShapeError(f"metric {self.name}: expected one yes/no output, the model has {outcome.width}")
        for what, expected in (("num_labels", self.num_labels), ("label_weights", self.label_weights)):
            count = len(expected) if isinstance(expected, list) else expected
            if count not in (None, outcome.width):
                raise ShapeError(
                    f"metric {self.name}: expected as many outputs as {what} says, {count}, the model has {outcome.width}"
                )
        return "metric.logit_ranges" if self.from_logits else "metric.ranges"

    def size(self, outcome: Outcome) -> int:
        """How many outputs were outside of 0 to 1; then those of each range whose target is no, and is yes."""
        return (1 + 2 * (self.num_thresholds - 1)) * (outcome.width if self.options[0] else 1)

    def result(self, sums: np.ndarray, samples: int) -> float:
        counts = sums.reshape(-1, 1 + 2 * (self.num_thresholds - 1))
        outside = counts[:, 0].sum()
        if outside:
            raise HyperparameterError(
                f"metric {self.name}: expected outputs from 0 to 1, received {outside:.0f} outside of it in {samples} "
                "samples; end the model with activation='sigmoid', or take AUC(from_logits=True)"
            )
        weights = np.ones(len(counts)) if self.label_weights is None else np.array(self.label_weights)
        if self.multi_label:
            return float(np.average([self._area(label) for label in counts[:, 1:]], weights=weights))
        return self._area(weights @ counts[:, 1:])

    def _area(self, counts: np.ndarray) -> float:
        """The area from the counts of each range, no and then yes."""
        found = counts.reshape(2, -1)[:, ::-1].cumsum(axis=1)  # no and yes above each threshold, the highest first
        no, yes = np.concatenate([np.zeros((2, 1)), found], axis=1)
        if not yes[-1] or (self.curve == "ROC" and not no[-1]):
            return 0.0
        if self.curve == "ROC":
            return float(np.sum(np.diff(no) * (yes[1:] + yes[:-1]) / 2) / (no[-1] * yes[-1]))
        return float(_area_of_precision(no, yes) / yes[-1])


def _weights(given: Iterable[float]) -> list[float]:
    """Weights of labels as a list. Raises HyperparameterError: one below 0, or none above it."""
    where = "AUC(label_weights)"
    found = [check_number(w, where, 0) for w in check_list(given, where, "numbers, one for each output")]
    check_argument(sum(found) > 0, where, "a weight above 0", found, "give each output its weight")
    return found


def _area_of_precision(no: np.ndarray, yes: np.ndarray) -> float:
    """The integral of precision by true positives: between two thresholds false positives grow along with the true ones."""
    called, new = no + yes, np.diff(yes)
    more = np.diff(called)
    slope = np.divide(new, more, out=np.zeros_like(new), where=more > 0)
    start = yes[:-1] - slope * called[:-1]
    both = (called[:-1] > 0) & (called[1:] > 0)
    ratio = np.divide(called[1:], called[:-1], out=np.ones_like(new), where=both)
    return float(np.sum(slope * (new + start * np.log(ratio))))


def _dense_kernel(metric: Metric, outcome: Outcome, kernel: str) -> str:
    if outcome.labels and outcome.width != 1:
        raise ShapeError(f"metric {metric.name}: expected targets shaped like the output, received class numbers")
    return kernel


def get_all(identifiers) -> tuple[Metric, ...]:
    """Metrics from a list of names or objects, from one of them, or from None for none."""
    if identifiers is None:
        return ()
    single = isinstance(identifiers, str | dict | Metric | type) or not hasattr(identifiers, "__iter__")
    return tuple(get(item) for item in ([identifiers] if single else identifiers))


def get(identifier) -> Metric:
    """A metric from a name ("accuracy"), which is its key in logs then, a configuration or an object."""
    if isinstance(identifier, str):
        cls = registry.find(identifier)
        made = cls(name=identifier) if cls.name != identifier and "name" in arguments(cls) else cls()
        made.name = identifier
        return made
    return registry.get(identifier)
