"""The contract of callbacks: the hooks, the list that calls them, a monitor of one metric.

Stage: around every epoch of `fit`.
A callback sees its model only as `stop_training`, `get_weights`, `set_weights`, `save`, `save_weights` and
`optimizer.learning_rate`. The stock callbacks are in `stock_callbacks` and `rate_callbacks`.
Must not know: plans, executors, or how a batch is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from ..checks import check_argument, check_choice, check_number
from ..errors import unknown_name, warn
from .aims import rising

Logs = dict[str, float]
Mode = Literal["auto", "min", "max"]
#: words in the name of something that no metric of the model measures, and of which more is better, for mode "auto"
RISING = {"acc", "accuracy", "auc", "precision", "recall", "f1", "r2", "score", "similarity", "iou"}

#: the older names of the batch hooks, which a user may override instead
ALIASES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
BATCH_HOOKS = tuple(ALIASES)
HOOKS = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", *BATCH_HOOKS)


class Callback:
    """Base of all callbacks: override the hooks you need.

    Epochs and batches count from 0. `logs` maps names of metrics to floats, and is shared by the list:
    what one callback adds in `on_epoch_end`, those after it and the history see.
    Set `self.model.stop_training = True` to end the training after the epoch.
    """

    #: the model in training; written by set_model
    model: Any = None
    #: what `fit` was called with: epochs, samples, batch_size, ...; written by set_params
    params: dict[str, Any] = {}
    #: names that the callback adds to the logs of an epoch
    adds: tuple[str, ...] = ()

    def set_model(self, model: Any) -> None:
        """Called by `fit` before the first hook."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called by `fit` before the first hook."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, also when the training failed or was interrupted."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch. Overriding a batch hook slows training: Python is then entered for each batch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch; `logs` holds the loss and metrics of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of on_train_batch_begin."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of on_train_batch_end."""


def listens(callback: Callback, hook: str) -> bool:
    """Whether the callback overrides this hook, under either of its names, in its class or on the object."""
    for name in filter(None, (hook, ALIASES.get(hook))):
        method = getattr(callback, name)
        if getattr(method, "__func__", method) is not getattr(Callback, name):
            return True
    return False


class CallbackList:
    """Calls the hooks of several callbacks, in the order of the list; hooks nobody overrides cost nothing.

    Args:
        callbacks: one callback, several, or None.
        model: handed to each.
        params: handed to each.
    Raises:
        HyperparameterError: an entry that is not a callback object.
    """

    def __init__(self, callbacks: Callback | Iterable[Callback] | None, model: Any, params: dict[str, Any]):
        several = callbacks if isinstance(callbacks, Iterable) else [callbacks]
        self.callbacks: list[Any] = [] if callbacks is None else list(several)
        for callback in self.callbacks:
            self._check(callback)
        added = [name for callback in self.callbacks for name in callback.adds]
        if added:
            params = {**params, "metrics": list(dict.fromkeys([*params.get("metrics", ()), *added]))}
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)
        self._listeners: dict[str, list[Callable[..., None]]] = {
            hook: [getattr(c, hook) for c in self.callbacks if listens(c, hook)] for hook in HOOKS
        }
        #: whether somebody listens to batches; the engine skips the work for each batch otherwise
        self.wants_batches: bool = any(self._listeners[hook] for hook in BATCH_HOOKS)

    @staticmethod
    def _check(callback: object) -> None:
        advice = "derive its class from parnet's Callback"
        if isinstance(callback, type) and issubclass(callback, Callback):
            advice = f"write {callback.__name__}()"
        check_argument(isinstance(callback, Callback), "callbacks", "Callback objects", callback, advice)

    def _call(self, hook: str, logs: Logs | None, *position: int) -> None:
        shared = {} if logs is None else logs
        for listener in self._listeners[hook]:
            listener(*position, shared)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call("on_train_begin", logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Reaches every callback. Where several raise, the last error comes with the others as context."""
        self._end(self._listeners["on_train_end"], {} if logs is None else logs)

    def _end(self, listeners: list[Callable[..., None]], logs: Logs) -> None:
        if listeners:
            try:
                listeners[0](logs)
            finally:
                self._end(listeners[1:], logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call("on_epoch_begin", logs, epoch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call("on_epoch_end", logs, epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call("on_train_batch_begin", logs, batch)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call("on_train_batch_end", logs, batch)


class Monitor:
    """Reads one metric from the logs, unrounded, and tells which of two values is better."""

    def __init__(self, owner: Callback, name: str, mode: Mode, min_delta: float = 0.0):
        self.where = f"{type(owner).__name__}(monitor={name!r})"
        check_choice(mode, f"{type(owner).__name__}(mode)", ("auto", "min", "max"))
        check_argument(isinstance(name, str), f"{type(owner).__name__}(monitor)", "a metric's name", name, "pass a string")
        self.name, self.mode = name, mode
        self.sign = 1.0
        self.min_delta = abs(check_number(min_delta, f"{type(owner).__name__}(min_delta)"))
        self.warned = False
        self.look_at(None)

    @property
    def worst(self) -> float:
        """What every finite value improves on."""
        return self.sign * math.inf

    def look_at(self, model: Any) -> None:
        """Where mode is "auto", ask the model's metrics whether more is better; of what is none of theirs its name tells."""
        named = not RISING.isdisjoint(self.name.lower().split("_"))
        measured = rising(model.aims, model.output_names) if getattr(model, "aims", None) else {}
        more = self.mode == "max" or (self.mode == "auto" and measured.get(self.name.removeprefix("val_"), named))
        self.sign = -1.0 if more else 1.0

    def read(self, logs: Logs | None) -> float | None:
        """The metric, or None after one warning where the fit has no such metric."""
        logs = logs or {}
        if self.name in logs:
            value = logs[self.name]
            check_argument(np.ndim(value) == 0, self.where, "a metric that is one number", value, "monitor another one")
            return float(value)
        if not self.warned:
            self.warned = True
            data = "pass validation_data or validation_split to fit, or " if self.name.startswith("val_") else ""
            warn(
                f"{self.where}: expected one of the metrics {', '.join(logs) or '(none)'}; "
                f"received {self.name!r}, so the callback does nothing; {data}monitor one of those"
            )
        return None

    def improves(self, value: float, reference: float) -> bool:
        """Whether `value` is better than `reference` by more than min_delta; NaN never is."""
        return self.sign * value < self.sign * reference - self.min_delta


class LambdaCallback(Callback):
    """A callback from functions: `LambdaCallback(on_epoch_end=lambda epoch, logs: print(logs["loss"]))`.

    Args:
        hooks: hook name -> function with the arguments of that hook.
    Raises:
        UnknownNameError: no hook of that name.
    """

    def __init__(self, **hooks: Callable[..., Any]):
        names = (*HOOKS, *ALIASES.values())
        for name, function in hooks.items():
            if name not in names:
                raise unknown_name("LambdaCallback", name, names)
            check_argument(callable(function), f"LambdaCallback({name})", "a function", function, "leave the hook out")
            setattr(self, name, function)
