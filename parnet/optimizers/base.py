"""What all optimizers share. Stage: between layers and plan. Must not know: plans, executors, layers.

An optimizer names its kernel, the slots it keeps beside each weight, and the rates of each step; the plan makes the steps.
In a manual loop it is made with `net.parameters()` and driven by `zero_grad()` and `step()`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import schedules
from ..checks import check_count, check_number
from ..errors import HyperparameterError, StateError, unknown_name
from ..registry import Configurable, Registry, arguments, plain

#: where parnet's own optimizers are
_OWN = __name__.rpartition(".")[0] + "."


class Optimizer(Configurable):
    """Base of all optimizers.

    Args:
        parameters: `net.parameters()`, for a manual loop; left out with `compile`.
        learning_rate, lr: a number above 0, or a schedule of `parnet.schedules`.
        weight_decay: 0 or more; w -= lr weight_decay w before each update, apart from the gradient. None: no decay.
        decay: Keras 2's: the rate of update n is lr / (1 + decay n), as `schedules.InverseTimeDecay(lr, 1, decay)` has it.
        clipnorm: cut the gradient of each weight array to that norm.
        global_clipnorm: cut the gradient of all weights together to that norm.
        clipvalue: cut each number of the gradient to [-clipvalue, clipvalue].
        gradient_accumulation_steps: k of 2 or more: the gradients of k batches are averaged, each batch counting alike, and
            make one update, clipped if at all as their mean. A group that an epoch leaves unfinished goes on in the next,
            and in the next `fit`. Schedules count batches, as Keras has it. None: each batch is an update.

    Arguments can be assigned later, too, as `optimizer.momentum = 0.8`; they are checked then as in the call.

    Attributes:
        batches: whose gradients have been handed over; iterations: updates done, fewer where gradients are accumulated.
        slots: arrays that the rule keeps beside each weight; vectors: those and the sum of accumulated gradients.
    """

    kernel = ""
    slots = 0
    batches = 0
    default_rate = 0.001
    _session: Any = None

    def __init__(
        self,
        parameters: Any = None,
        learning_rate=None,
        *,
        lr=None,
        weight_decay: float | None = None,
        decay: float | None = None,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        gradient_accumulation_steps: int | None = None,
    ):
        if parameters is not None and not _are_parameters(parameters):
            parameters, learning_rate = None, self._first_argument(parameters, learning_rate)
        if learning_rate is not None and lr is not None:
            raise HyperparameterError(f"{type(self).__name__}: lr and learning_rate are one argument; give one of them")
        rate = lr if learning_rate is None else learning_rate
        self._rate = self._checked_rate(self.default_rate if rate is None else rate)
        if decay is not None and check_number(decay, f"{type(self).__name__}(decay)", 0) > 0:
            self._rate = schedules.InverseTimeDecay(self._rate, 1, decay)
        where = f"{type(self).__name__}(weight_decay)"
        self.weight_decay = None if weight_decay is None else check_number(weight_decay, where, 0)
        self.clipnorm = self._limit("clipnorm", clipnorm)
        self.global_clipnorm = self._limit("global_clipnorm", global_clipnorm)
        self.clipvalue = self._limit("clipvalue", clipvalue)
        where, steps = f"{type(self).__name__}(gradient_accumulation_steps)", gradient_accumulation_steps
        self.gradient_accumulation_steps = None if steps is None else check_count(steps, where, low=2)
        if parameters is not None:
            self.bind(self._session_of(parameters))

    def _first_argument(self, value, learning_rate):
        """SGD(0.1): the first argument is the rate where it is no parameters."""
        if learning_rate is not None:
            raise HyperparameterError(
                f"{type(self).__name__}: expected net.parameters() or a learning rate first, received {value!r} and then "
                f"{learning_rate!r}; after a rate write the names of arguments"
            )
        return value

    def _session_of(self, parameters):
        """The session of `net.parameters()`, or of a list of all of them."""
        if hasattr(parameters, "session"):
            return parameters.session
        session, given = parameters[0].session, {p.name for p in parameters}
        wanted = {p.key for p in session.network.placed.values() if p.trainable}
        if given != wanted or any(p.session is not session for p in parameters):
            raise HyperparameterError(
                f"{type(self).__name__}: expected all trainable weights of one model, {', '.join(sorted(wanted))}, "
                f"received {', '.join(sorted(given))}; set layer.trainable = False for those that shall stay as they are"
            )
        return session

    def bind(self, session) -> None:
        """This optimizer's state belongs to that session's weights.

        Raises:
            StateError: it belongs to another model's already.
        """
        if self._session is not None and self._session is not session and self._session.has_weights:
            raise StateError(
                f"{type(self).__name__}: expected an optimizer of this model alone, received that of another model, with "
                f"{self.iterations} updates done there; make a new {type(self).__name__} for each model"
            )
        self._session = session

    def _checked_rate(self, rate):
        if isinstance(rate, schedules.Schedule):
            return rate
        if isinstance(rate, dict):
            return schedules.get(rate)
        return check_number(rate, f"{type(self).__name__}(learning_rate), unless a schedule", 0)

    def _positive(self, name: str, value) -> float:
        return check_number(value, f"{type(self).__name__}({name})", 0, above=True)

    def _limit(self, name: str, value) -> float | None:
        return None if value is None else self._positive(name, value)

    def _share(self, name: str, value) -> float:
        return check_number(value, f"{type(self).__name__}({name})", 0, 1, below=True)

    def __setattr__(self, name: str, value) -> None:
        """Refuse names that mean nothing: `optimizer.momentun = 0.9` would change nothing, in silence."""
        if not (name.startswith("_") or hasattr(type(self), name)):
            known = arguments(type(self))
            if name not in known:
                raise unknown_name(f"{type(self).__name__}: attribute", name, {*known, "iterations"} - {"parameters"})
            made = name == "initial_accumulator_value" and name in self.__dict__  # what it fills may be filled already
            if (made or name in ("decay", "parameters")) and type(self).__module__.startswith(_OWN):
                advice = "assign a schedule to learning_rate" if name == "decay" else "make a new optimizer"
                raise HyperparameterError(
                    f"{type(self).__name__}: expected {name} when the optimizer is made, received an assignment; {advice}"
                )
            # a user's own class may assign in its __init__
            if name in self.__dict__ and type(self).__module__.startswith(_OWN):
                value = self._checked(name, value)
        super().__setattr__(name, value)

    def _checked(self, name: str, value) -> Any:
        """The value as the constructor takes it.

        Raises:
            StateError: another optimizer state would be needed, and there is one already.
        """
        other = type(self).from_config(self.get_config() | {"learning_rate": self._rate, name: value})
        mine, wanted = ((rule.vectors, rule.gradient_accumulation_steps) for rule in (self, other))
        if self.batches and mine != wanted:
            kind = type(self).__name__
            raise StateError(
                f"{kind}: {name} cannot change from {getattr(self, name)!r} to {value!r} after {self.batches} batches, for "
                "what the optimizer keeps beside each weight would no longer fit; compile the model with a new "
                f"{kind}({name}={value!r})"
            )
        return getattr(other, name)

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._rate(self.batches)) if isinstance(self._rate, schedules.Schedule) else self._rate

    @learning_rate.setter
    def learning_rate(self, value) -> None:
        if isinstance(self._rate, schedules.Schedule) and not isinstance(value, schedules.Schedule):
            raise StateError(
                f"{type(self).__name__}: the rate follows {self._rate!r} and cannot be set; "
                "give the optimizer a number to steer it by hand or by callback"
            )
        self._rate = self._checked_rate(value)

    @property
    def lr(self) -> float:
        """Another name of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value) -> None:
        self.learning_rate = value

    @property
    def iterations(self) -> int:
        """Updates done."""
        return self.batches // (self.gradient_accumulation_steps or 1)

    @iterations.setter
    def iterations(self, updates: int) -> None:
        self.batches = updates * (self.gradient_accumulation_steps or 1)

    @property
    def vectors(self) -> int:
        """Arrays kept beside each weight: the rule's, and the sum of gradients where they are accumulated."""
        return self.slots + (self.gradient_accumulation_steps is not None)

    def starts(self) -> tuple[float, ...]:
        """The number that each of those arrays is filled with at first."""
        rest = (0.0,) * (self.vectors - self.slots)
        return (float(getattr(self, "initial_accumulator_value", 0.0)),) * self.slots + rest

    # -- what the plan asks ---------------------------------------------------------------------

    def numbers(self) -> tuple[float, float, float]:
        """The three numbers of the rule."""
        return (0.0, 0.0, 0.0)

    def rates(self, batches: np.ndarray) -> np.ndarray:
        """(n, 4) float64 for batches number `batches` (n,), counted from 0: see `parnet.kernels.control.RATES`."""
        rate = self._rate(batches) if isinstance(self._rate, schedules.Schedule) else np.full(len(batches), self._rate)
        result = np.zeros((len(batches), 4))
        result[:, 0], result[:, 1] = rate, rate * self._second_rate()
        result[:, :2] *= self._corrections(batches // (self.gradient_accumulation_steps or 1))
        if self.gradient_accumulation_steps is not None:
            place = batches % self.gradient_accumulation_steps
            result[:, 2], result[:, 3] = place < self.gradient_accumulation_steps - 1, place == 0
        return result

    def _corrections(self, updates: np.ndarray) -> np.ndarray:
        factors = np.asarray(self.correction(updates), np.float64)
        if factors.shape != (len(updates), 2):
            raise HyperparameterError(
                f"{type(self).__name__}.correction: expected an array ({len(updates)}, 2), two factors for each update, "
                f"received shape {factors.shape}"
            )
        return factors

    def _second_rate(self) -> float:
        """The second number of `rates`, in learning rates: by how much the weights decay."""
        return self.weight_decay or 0.0

    def correction(self, updates: np.ndarray) -> np.ndarray:
        """(n, 2) float64, what the first numbers of `rates` are multiplied by at updates of these numbers, counted from 0,
        because averages that the rule keeps are young yet."""
        return np.ones((len(updates), 2))

    @property
    def rides(self) -> bool:
        """The update may be done by the step that makes the gradient, which is then never stored."""
        return False

    @property
    def clips(self) -> bool:
        """Whether any clipping is on."""
        return any(v is not None for v in (self.clipnorm, self.global_clipnorm, self.clipvalue))

    # -- the manual loop ------------------------------------------------------------------------

    def _open_session(self):
        if self._session is None:
            raise StateError(
                f"{type(self).__name__}: made without parameters; "
                f"write {type(self).__name__}(net.parameters(), lr=...) for a manual loop"
            )
        return self._session

    def zero_grad(self) -> None:
        """Forget the gradients; the next `backward` starts from zero."""
        self._open_session().zero_gradients()

    def step(self) -> None:
        """Update all trainable weights from their gradients; while they are accumulated, with the last of a group.

        Raises:
            StateError: the optimizer has no parameters, or no backward pass has been run.
        """
        self._open_session().update(self)

    def get_config(self) -> dict:
        config = super().get_config() | {"learning_rate": plain(self._rate)}
        config.pop("lr")
        return config


def _are_parameters(thing) -> bool:
    """Whether it is `net.parameters()`, or a list of them."""
    several = isinstance(thing, list | tuple) and len(thing) > 0
    return hasattr(thing, "session") or (several and all(hasattr(p, "session") for p in thing))


registry: Registry[Optimizer] = Registry("optimizer", Optimizer)
