"""Learning rates as functions of the step. Stage: read by the optimizer, for a chunk of updates at once.

A step is the count of updates done, from 0. Every schedule is a pure function of it, so a training that is
resumed, or split over workers, follows the same rates. Must not know: optimizers, epochs or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, overload

import numpy as np

from .checks import check_count, check_flag, check_list, check_number
from .errors import HyperparameterError
from .registry import Configurable, Registry


class Schedule(Configurable):
    """Base of all schedules; a kind of schedule overrides `rate`."""

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: np.ndarray) -> np.ndarray: ...
    def __call__(self, step):
        """The learning rate at `step`: a float for a number, float64 of the same shape for an array."""
        steps = np.asarray(step, dtype=np.float64)
        rates = self.rate(steps)
        return rates if steps.ndim else float(rates)

    def rate(self, step: np.ndarray) -> np.ndarray:
        """The learning rates (float64) at an array of steps (float64), entry by entry."""
        raise NotImplementedError


registry: Registry[Schedule] = Registry("schedule", Schedule)


def get(identifier: Any) -> Schedule:
    """A schedule from a configuration or an object; see `Registry.get`.

    Raises:
        HyperparameterError: a bare name or class; every schedule needs arguments.
    """
    try:
        return registry.get(identifier)
    except TypeError as error:
        raise HyperparameterError(
            f"schedule: expected an object, received {identifier!r}, which needs arguments ({error}); "
            "write for example schedules.CosineDecay(0.1, decay_steps=1000)"
        ) from error


@registry.add()
class StepDecay(Schedule):
    """initial_learning_rate * drop ** floor(step / every_steps).

    Args:
        initial_learning_rate: the rate of the first `every_steps` steps, above 0.
        drop: factor applied each time, in (0, 1].
        every_steps: steps between two drops, above 0.
    Raises:
        HyperparameterError: an argument outside its range.
    """

    def __init__(self, initial_learning_rate: float, drop: float = 0.5, *, every_steps: float):
        self.initial_learning_rate = check_number(
            initial_learning_rate, "StepDecay(initial_learning_rate)", low=0, above=True
        )
        self.drop = check_number(drop, "StepDecay(drop)", low=0, high=1, above=True)
        self.every_steps = check_number(every_steps, "StepDecay(every_steps)", low=0, above=True)

    def rate(self, step):
        return self.initial_learning_rate * self.drop ** np.floor(step / self.every_steps)


@registry.add()
class ExponentialDecay(Schedule):
    """initial_learning_rate * decay_rate ** (step / decay_steps), as in Keras.

    Args:
        initial_learning_rate: the rate at step 0, above 0.
        decay_steps: steps that multiply the rate by `decay_rate`, above 0.
        decay_rate: that factor, above 0.
        staircase: round step / decay_steps down, so that the rate falls at intervals.
    Raises:
        HyperparameterError: an argument outside its range.
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False):
        self.initial_learning_rate = check_number(
            initial_learning_rate, "ExponentialDecay(initial_learning_rate)", low=0, above=True
        )
        self.decay_steps = check_number(decay_steps, "ExponentialDecay(decay_steps)", low=0, above=True)
        self.decay_rate = check_number(decay_rate, "ExponentialDecay(decay_rate)", low=0, above=True)
        self.staircase = check_flag(staircase, "ExponentialDecay(staircase)")

    def rate(self, step):
        exponent = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (np.floor(exponent) if self.staircase else exponent)


@registry.add()
class InverseTimeDecay(Schedule):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps), as in Keras.

    Args:
        initial_learning_rate: the rate at step 0, above 0.
        decay_steps: steps that add `decay_rate` to the denominator, above 0.
        decay_rate: that summand, 0 or more.
        staircase: round step / decay_steps down, so that the rate falls at intervals.
    Raises:
        HyperparameterError: an argument outside its range.
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False):
        where = "InverseTimeDecay"
        self.initial_learning_rate = check_number(
            initial_learning_rate, f"{where}(initial_learning_rate)", low=0, above=True
        )
        self.decay_steps = check_number(decay_steps, f"{where}(decay_steps)", low=0, above=True)
        self.decay_rate = check_number(decay_rate, f"{where}(decay_rate)", low=0)
        self.staircase = check_flag(staircase, f"{where}(staircase)")

    def rate(self, step):
        times = step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (np.floor(times) if self.staircase else times))


@registry.add()
class PolynomialDecay(Schedule):
    """(initial_learning_rate - end_learning_rate) * (1 - t) ** power + end_learning_rate, as in Keras.

    t = min(step / decay_steps, 1). With a power of 1 a straight line.

    Args:
        initial_learning_rate: the rate at step 0, above 0.
        decay_steps: steps until the last rate, above 0.
        end_learning_rate: the last rate, 0 or more.
        power: above 0.
    Raises:
        HyperparameterError: an argument outside its range.
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: float, end_learning_rate: float = 0.0001, power: float = 1.0
    ):
        where = "PolynomialDecay"
        self.initial_learning_rate = check_number(
            initial_learning_rate, f"{where}(initial_learning_rate)", low=0, above=True
        )
        self.decay_steps = check_number(decay_steps, f"{where}(decay_steps)", low=0, above=True)
        self.end_learning_rate = check_number(end_learning_rate, f"{where}(end_learning_rate)", low=0)
        self.power = check_number(power, f"{where}(power)", low=0, above=True)

    def rate(self, step):
        rest = 1 - np.minimum(step / self.decay_steps, 1)
        return (self.initial_learning_rate - self.end_learning_rate) * rest**self.power + self.end_learning_rate


@registry.add()
class CosineDecay(Schedule):
    """Half a cosine down to a lowest rate: Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5.

    top * ((1 - alpha) * (1 + cos(pi * t)) / 2 + alpha), t = min(step / decay_steps, 1), as in Keras; with
    `warmup_target` after a straight line up to it, whose steps do not count.

    Args:
        initial_learning_rate: the rate at step 0; above 0, or 0 with a `warmup_target`.
        decay_steps: steps until the lowest rate, above 0.
        alpha: lowest rate as a fraction of the top, in [0, 1].
        warmup_target: where a warm-up ends, which is the top then; None for no warm-up: the top is the first rate.
        warmup_steps: its length, 0 or more.
    Raises:
        HyperparameterError: an argument outside its range.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        *,
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ):
        self.initial_learning_rate = check_number(
            initial_learning_rate, "CosineDecay(initial_learning_rate)", low=0, above=warmup_target is None
        )
        self.decay_steps = check_number(decay_steps, "CosineDecay(decay_steps)", low=0, above=True)
        self.alpha = check_number(alpha, "CosineDecay(alpha)", low=0, high=1)
        where = "CosineDecay(warmup_target)"
        self.warmup_target = None if warmup_target is None else check_number(warmup_target, where, low=0, above=True)
        self.warmup_steps = check_number(warmup_steps, "CosineDecay(warmup_steps)", low=0)

    def rate(self, step):
        if self.warmup_target is None:
            return self._cosine(self.initial_learning_rate, step)
        done = step / max(self.warmup_steps, 1e-300)
        line = self.initial_learning_rate + (self.warmup_target - self.initial_learning_rate) * np.minimum(done, 1)
        return np.where(step < self.warmup_steps, line, self._cosine(self.warmup_target, step - self.warmup_steps))

    def _cosine(self, top, step):
        cosine = (1 + np.cos(np.pi * np.minimum(step / self.decay_steps, 1))) / 2
        return top * ((1 - self.alpha) * cosine + self.alpha)


@registry.add()
class CosineDecayRestarts(Schedule):
    """Half cosines one after the other, each from the top again: Loshchilov and Hutter 2017, arXiv 1608.03983, section 3.

    initial_learning_rate * ((1 - alpha) * m_mul ** i * (1 + cos(pi * t)) / 2 + alpha), i counting the restarts and t going
    from 0 to 1 within a run of first_decay_steps * t_mul ** i steps, as in Keras.

    Args:
        initial_learning_rate: the rate at step 0, above 0.
        first_decay_steps: steps until the first restart, above 0.
        t_mul: each run is so many times as long as the one before, at least 1.
        m_mul: each begins at so many times the height of the one before, at least 0.
        alpha: lowest rate as a fraction of the first, in [0, 1].
    Raises:
        HyperparameterError: an argument outside its range.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ):
        where = "CosineDecayRestarts"
        self.initial_learning_rate = check_number(
            initial_learning_rate, f"{where}(initial_learning_rate)", low=0, above=True
        )
        self.first_decay_steps = check_number(first_decay_steps, f"{where}(first_decay_steps)", low=0, above=True)
        self.t_mul = check_number(t_mul, f"{where}(t_mul)", low=1)
        self.m_mul = check_number(m_mul, f"{where}(m_mul)", low=0)
        self.alpha = check_number(alpha, f"{where}(alpha)", low=0, high=1)

    def rate(self, step):
        done = step / self.first_decay_steps
        if self.t_mul == 1:
            restarts, begun = np.floor(done), np.floor(done)
        else:
            restarts = np.floor(np.log1p(done * (self.t_mul - 1)) / np.log(self.t_mul))
            restarts += done >= self._begin(restarts + 1)  # the logarithm is rounded: a run begins at its first step
            restarts -= done < self._begin(restarts)
            begun = self._begin(restarts)
        cosine = self.m_mul**restarts * (1 + np.cos(np.pi * (done - begun) / self.t_mul**restarts)) / 2
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)

    def _begin(self, restarts: np.ndarray) -> np.ndarray:
        """Where a run begins, in lengths of the first."""
        return (self.t_mul**restarts - 1) / (self.t_mul - 1)


@registry.add()
class PiecewiseConstantDecay(Schedule):
    """values[i] while boundaries[i - 1] < step <= boundaries[i], as in Keras.

    Args:
        boundaries: steps after which the rate changes, each above the one before.
        values: the rates, at least 0, one more than there are boundaries.
    Raises:
        HyperparameterError: lengths that do not fit, boundaries out of order, a rate below 0.
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float]):
        where = "PiecewiseConstantDecay"
        self.boundaries = [
            check_number(b, f"{where}(boundaries)", low=0) for b in check_list(boundaries, f"{where}(boundaries)", "steps")
        ]
        self.values = [check_number(v, f"{where}(values)", low=0) for v in check_list(values, f"{where}(values)", "rates")]
        if len(self.values) != len(self.boundaries) + 1:
            raise HyperparameterError(
                f"{where}: expected one value more than boundaries, received {len(self.values)} values and "
                f"{len(self.boundaries)} boundaries; the last value holds after the last boundary"
            )
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise HyperparameterError(
                f"{where}(boundaries): expected rising steps, received {list(boundaries)!r}; sort them"
            )

    def rate(self, step):
        return np.asarray(self.values)[np.searchsorted(self.boundaries, step, side="left")]


@registry.add()
class WarmUp(Schedule):
    """A straight line up to `after`, then `after`: Goyal et al. 2017, arXiv 1706.02677, section 2.2.

    start + (after(0) - start) * step / warmup_steps while step < warmup_steps, then
    after(step - warmup_steps): `after` counts from the end of the warm-up, as in Keras' CosineDecay.

    Args:
        after: the rate, or schedule (object or configuration), that follows.
        warmup_steps: length of the line, above 0.
        start: rate at step 0, at least 0.
    Raises:
        HyperparameterError: an argument outside its range.
    """

    def __init__(self, after: float | Schedule | dict, warmup_steps: float, start: float = 0.0):
        self.after = check_number(after, "WarmUp(after)", low=0, above=True) if isinstance(after, Real) else get(after)
        self.warmup_steps = check_number(warmup_steps, "WarmUp(warmup_steps)", low=0, above=True)
        self.start = check_number(start, "WarmUp(start)", low=0)

    def get_config(self) -> dict:
        """As `Configurable.get_config`, with `after` as a number or a configuration of its own."""
        after = registry.dump(self.after) if isinstance(self.after, Schedule) else self.after
        return {**super().get_config(), "after": after}

    def rate(self, step):
        if isinstance(self.after, Schedule):
            later = self.after.rate(np.maximum(step - self.warmup_steps, 0))
            target = self.after(0)
        else:
            later = target = self.after
        line = self.start + (target - self.start) * step / self.warmup_steps
        return np.where(step < self.warmup_steps, line, later)


def scale_lr(learning_rate: float, batch_size: int, *, reference: int, warmup_steps: float = 0) -> Schedule | float:
    """A rate for larger batches: times `batch_size` / `reference`, reached along a line from the rate itself.

    A batch k times as large makes a k-th of the updates, each by a mean of k times as many samples; with k times the rate it
    goes about as far. That fails in the first steps, when gradients change fast, so the rate grows during a warm-up. It
    holds up to some size of batch that hangs on the task: look at the loss. No optimizer does this unless it is told to.
    Meant for SGD. Source: Goyal et al. 2017, arXiv 1706.02677, sections 2.1 and 2.2.

    Args:
        learning_rate: that suits batches of `reference` samples, above 0.
        batch_size: of the training, all workers together.
        reference: batch size that the rate was found for.
        warmup_steps: updates until the rate is reached; 0 for none. Goyal et al. take five epochs.
    Returns:
        a schedule for an optimizer, or a number where there is no warm-up, as for batches no larger than `reference`.
    Raises:
        HyperparameterError: an argument outside its range.
    """
    rate = check_number(learning_rate, "scale_lr(learning_rate)", low=0, above=True)
    larger = check_count(batch_size, "scale_lr(batch_size)") / check_count(reference, "scale_lr(reference)")
    steps = check_number(warmup_steps, "scale_lr(warmup_steps)", low=0)
    return WarmUp(rate * larger, steps, start=rate) if steps and larger > 1 else rate * larger
