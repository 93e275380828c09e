"""Losses. Stage: between layers and plan. Must not know: plans, executors.

A loss names its kernel and says what its targets look like; the plan makes the step. In a manual loop a loss is called:
`loss = loss_fn(net(xb), yb); loss.backward()`.
"""

from __future__ import annotations

import math
from typing import Any

from .checks import check_flag, check_number
from .registry import Configurable, Registry


class Loss(Configurable):
    """Base of all losses: the mean over the batch of sample_weight * loss of a sample.

    Attributes:
        kernel: computes it from the model's output.
        fused: last activation -> kernel that takes the sum before it, exact where the output saturates.
        labels: targets are class numbers (batch,), else arrays shaped like the output.
        yes_no: each output is a yes or a no of its own, whatever the others say.
        parameter: the kernel's number.
    """

    kernel = ""
    fused: dict[str, str] = {}
    labels = False
    yes_no = False
    parameter = 0.0
    #: lowest and highest target that makes sense, or None
    target_range: tuple[float, float] | None = None
    #: targets are -1 and 1; 0 and 1 are turned into them
    signs = False
    #: the kernel turns sums into probabilities where they lie
    from_logits = False

    def kernel_for(self, activation: str) -> tuple[str, bool]:
        """The kernel for a model whose last activation that is, and whether it takes the sum before it."""
        if not self.from_logits and activation in self.fused:
            return self.fused[activation], True
        return self.kernel, False

    def __call__(self, prediction, target, sample_weight=None) -> Any:
        """The loss of a batch, as an object with `item()` and `backward()`.

        Args:
            prediction: what a model returned for the batch; of a plain array no gradient can be had.
            target: class numbers or an array of the prediction's shape; nothing is broadcast.
            sample_weight: (batch,), or None.
        Raises:
            ShapeError, DataError: targets that do not fit, see the message.
        """
        from .train.manual import loss_of

        return loss_of(self, prediction, target, sample_weight)


registry: Registry[Loss] = Registry("loss", Loss)


class _Crossentropy(Loss):
    def __init__(self, from_logits: bool = False):
        self.from_logits = check_flag(from_logits, f"{type(self).__name__}(from_logits)")
        if self.from_logits:
            self.kernel = next(iter(self.fused.values()))


@registry.add("sparse_crossentropy")
class SparseCategoricalCrossentropy(_Crossentropy):
    """-log p[label], targets being class numbers 0..classes-1.

    Args:
        from_logits: the model's last layer has no softmax.
    """

    kernel, fused, labels = "loss.sparse", {"softmax": "loss.softmax_sparse"}, True


class _Smoothed(_Crossentropy):
    """Its kernels smooth the targets: their parameter is the share that is taken from each."""

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0):
        super().__init__(from_logits)
        where = f"{type(self).__name__}(label_smoothing)"
        self.label_smoothing = self.parameter = check_number(label_smoothing, where, 0, 1)


@registry.add("crossentropy")
class CategoricalCrossentropy(_Smoothed):
    """-sum t log p, targets being one-hot rows or probabilities (batch, classes).

    Args:
        from_logits: the model's last layer has no softmax.
        label_smoothing: share of each target, 0..1, that is spread evenly over all classes:
            t becomes (1 - share) t + share / classes. Source: Szegedy et al. 2016, arXiv 1512.00567, section 7.
    """

    kernel, fused, target_range = "loss.categorical", {"softmax": "loss.softmax_dense"}, (0.0, 1.0)


@registry.add("bce")
class BinaryCrossentropy(_Smoothed):
    """Mean over the outputs of -(t log p + (1 - t) log(1 - p)), targets 0..1 shaped like the output.

    Args:
        from_logits: the model's last layer has no sigmoid.
        label_smoothing: how far targets are drawn towards 0.5, 0..1: t becomes (1 - share) t + share / 2.
    """

    kernel, fused, target_range, yes_no = "loss.binary", {"sigmoid": "loss.sigmoid_binary"}, (0.0, 1.0), True


@registry.add("mse")
class MeanSquaredError(Loss):
    """Mean over the outputs of (p - t)^2."""

    kernel = "loss.mean_squared"


@registry.add("mae")
class MeanAbsoluteError(Loss):
    """Mean over the outputs of |p - t|; gradient 0 where they are equal."""

    kernel = "loss.mean_absolute"


@registry.add()
class Huber(Loss):
    """Mean over the outputs of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2). Source: Huber 1964, eq. 1.

    Args:
        delta: above 0.
    """

    kernel = "loss.huber"

    def __init__(self, delta: float = 1.0):
        self.delta = self.parameter = check_number(delta, "Huber(delta)", 0, above=True)


@registry.add()
class Hinge(Loss):
    """Mean over the outputs of max(0, 1 - t p), targets -1 or 1 (0 or 1 are turned into them)."""

    kernel, signs, yes_no = "loss.hinge", True, True


@registry.add()
class SquaredHinge(Loss):
    """Mean over the outputs of max(0, 1 - t p)^2, targets -1 or 1 (0 or 1 are turned into them)."""

    kernel, signs, yes_no = "loss.squared_hinge", True, True


@registry.add("logcosh")
class LogCosh(Loss):
    """Mean over the outputs of log cosh(p - t): as e^2 / 2 near 0 and |e| - log 2 far out."""

    kernel = "loss.log_cosh"


@registry.add()
class Poisson(Loss):
    """Mean over the outputs of p - t log p: for counts t, with rates p above 0, as of an exponential or softplus output."""

    kernel, target_range = "loss.poisson", (0.0, math.inf)


@registry.add("kld", "kullback_leibler_divergence")
class KLDivergence(Loss):
    """sum t log(t / p), targets being probabilities (batch, classes); both are cut to [1e-7, 1] first, as Keras does."""

    kernel, target_range = "loss.divergence", (0.0, 1.0)


def get(identifier) -> Loss:
    """A loss from a name ("mse", "sparse_categorical_crossentropy"), a configuration or an object."""
    return registry.get(identifier)
