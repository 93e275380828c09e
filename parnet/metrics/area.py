"""The area under a curve over all thresholds. Stage: between layers and plan. Must not know: plans, executors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..checks import check_argument, check_count, check_flag, check_list, check_number
from ..errors import HyperparameterError, ShapeError, unknown_name
from .base import Metric, Outcome, registry


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

    def shape(self, outcome: Outcome) -> tuple[int, ...]:
        """How many outputs were outside of 0 to 1; then those of each range whose target is no, and is yes."""
        return outcome.width if self.options[0] else 1, 1 + 2 * (self.num_thresholds - 1)

    def result(self, counts: np.ndarray, samples: int) -> float:
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
