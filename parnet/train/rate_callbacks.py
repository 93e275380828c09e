"""The callbacks that change the learning rate between epochs, with Keras' names.

Stage: called by `CallbackList` around epochs.
Rates that change with every step are `parnet.schedules`, given to the optimizer.
Must not know: how the optimizer uses the rate.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Real

from ..checks import check_argument, check_count, check_number
from ..errors import ParnetError, StateError
from ..schedules import Schedule
from .callbacks import Callback, Logs, Mode, Monitor


def _check_learning_rate(callback: Callback) -> None:
    """Fail before the first epoch, rather than at the first change, when the rate cannot be set."""
    optimizer, name = callback.model.optimizer, type(callback).__name__
    message = (
        f"{name}: expected an optimizer whose learning rate is a number, received {optimizer!r}; "
        f"compile with a number such as SGD(learning_rate=0.1), or leave {name} out"
    )
    try:
        rate = optimizer.learning_rate
        if isinstance(rate, Real):
            optimizer.learning_rate = float(rate)
            return
    except (ParnetError, AttributeError, TypeError) as error:
        raise StateError(message) from error
    raise StateError(message)


def _takes(function: Callable[..., float], count: int) -> bool:
    """Whether a function can be called with so many arguments, as far as Python can tell."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch; adds `learning_rate` to the logs.

    Args:
        schedule: (epoch from 0, current learning rate) -> learning rate of this epoch, at least 0; or of the epoch alone.
        verbose: 1 prints each rate.
    Raises:
        HyperparameterError: not such a function, or what it returns is no rate.
        StateError: the optimizer follows a schedule of its own.
    """

    adds = ("learning_rate",)

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        check_argument(
            callable(schedule) and not isinstance(schedule, Schedule) and (_takes(schedule, 2) or _takes(schedule, 1)),
            "LearningRateScheduler(schedule)",
            "a function (epoch, learning_rate) -> learning_rate",
            schedule,
            "a schedule of steps goes to the optimizer: SGD(learning_rate=schedule)",
        )
        self.schedule = schedule
        self._of_epoch_alone = not _takes(schedule, 2)
        self.verbose = verbose

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Check that the rate can be set."""
        _check_learning_rate(self)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        rate = self.schedule(*(epoch, float(self.model.optimizer.learning_rate))[: 1 if self._of_epoch_alone else 2])
        check_argument(
            isinstance(rate, Real) and math.isfinite(rate) and rate >= 0,
            f"LearningRateScheduler, epoch {epoch}",
            "the function to return a finite number of at least 0",
            rate,
            "mend the function",
        )
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {float(rate):g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Report the rate."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` when a metric has not improved for `patience` epochs.

    Adds `learning_rate`, the rate of the epoch that ended, to the logs.

    Args:
        monitor, mode: see EarlyStopping.
        factor: in (0, 1).
        patience: epochs without improvement before the rate falls.
        min_delta: a change of at most this much is no improvement.
        cooldown: epochs after a reduction that are not counted (Keras counts the last of them).
        min_lr: lowest rate.
        verbose: 1 prints each reduction.
    Raises:
        HyperparameterError, UnknownNameError: an argument that makes no sense.
        StateError: the optimizer follows a schedule of its own.
    """

    adds = ("learning_rate",)

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: Mode = "auto",
        verbose: int = 0,
    ):
        self._watch = Monitor(self, monitor, mode, min_delta)
        self.factor = check_number(factor, "ReduceLROnPlateau(factor)", 0, 1, above=True, below=True)
        self.patience = check_count(patience, "ReduceLROnPlateau(patience)", low=0)
        self.cooldown = check_count(cooldown, "ReduceLROnPlateau(cooldown)", low=0)
        self.min_lr = check_number(min_lr, "ReduceLROnPlateau(min_lr)", 0)
        self.verbose = verbose

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training, and check that the rate can be set."""
        _check_learning_rate(self)
        self._watch.look_at(self.model)
        self._watch.warned = False
        self._best = self._watch.worst
        self._wait = self._cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, and reduce the rate when patience is used up."""
        value = self._watch.read(logs)
        rate = float(self.model.optimizer.learning_rate)
        if logs is not None:
            logs["learning_rate"] = rate
        if value is None:
            return
        cooling, self._cooling = self._cooling > 0, max(0, self._cooling - 1)
        if self._watch.improves(value, self._best):
            self._best, self._wait = value, 0
        elif not cooling:
            self._wait += 1
            if self._wait >= self.patience and rate > self.min_lr:
                self._reduce(epoch, rate)

    def _reduce(self, epoch: int, rate: float) -> None:
        lower = max(rate * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = lower
        self._wait, self._cooling = 0, self.cooldown
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate reduced to {lower:g}")
