"""Activations as layers of their own. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from .. import activations
from ..checks import check_number, is_whole
from ..errors import HyperparameterError
from ..kernels.step import Buffer
from .activate import activate, activate_backward
from .base import Build, Layer, Shape


class _Activated(Layer):
    """A layer that is an activation and nothing else.

    Attributes:
        activation: which.
    """

    activation: activations.Activation

    def _be(self, activation: activations.Activation) -> None:
        self.activation = activation
        self.tail_part = "relu" if activation.name == "relu" else ""

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        if build.fused_output or self.activation.name == "linear":
            return activate(build, x, None, activations.linear)
        return activate(build, x, None, self.activation, own=False)

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        activate_backward(build, dy, self.activation)
        return dy


class Activation(_Activated):
    """An activation as a layer of its own.

    Args:
        activation: name or Activation.
    """

    def __init__(self, activation, **base):
        super().__init__(**base)
        self._be(activations.get(activation))

    @staticmethod
    def examples() -> list[tuple[Activation, Shape]]:
        return [(Activation(one), (7,)) for one in activations._BUILTIN]

    def describe(self) -> str:
        return f"Activation {self.activation.name}"


class ReLU(_Activated):
    """y = x above 0, else negative_slope x; and at most max_value. `Activation("relu")`, "relu6" or "leaky_relu".

    Args:
        max_value: None for no limit, or 6.
        negative_slope: 0 or more; above 0 only without a limit.
        threshold: 0; another one is refused.
    Raises:
        HyperparameterError: a combination that parnet has no kernel for.
    """

    def __init__(self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **base):
        super().__init__(**base)
        slope = check_number(negative_slope, "ReLU(negative_slope)", 0)
        if check_number(threshold, "ReLU(threshold)") != 0:
            raise HyperparameterError(
                f"ReLU(threshold): expected 0, received {threshold!r}; write others by activations.define"
            )
        limit = None if max_value is None else check_number(max_value, "ReLU(max_value)")
        if limit not in (None, 6.0) or (limit is not None and slope):
            raise HyperparameterError(
                f"ReLU: expected max_value None, or 6 with a negative_slope of 0, received max_value={max_value!r} and "
                f"negative_slope={negative_slope!r}; write others by activations.define"
            )
        kind = activations.relu6 if limit else activations.relu
        self._be(activations.leaky_relu.with_alpha(slope) if slope else kind)
        self.max_value, self.negative_slope, self.threshold = limit, slope, 0.0

    @staticmethod
    def examples() -> list[tuple[ReLU, Shape]]:
        return [(ReLU(6), (7,)), (ReLU(negative_slope=0.1), (2, 2, 3))]


class LeakyReLU(_Activated):
    """y = x above 0, else negative_slope x. Source: Maas et al. 2013, "Rectifier nonlinearities", section 2.

    Args:
        negative_slope: 0 or more.
        alpha: Keras 2's name of it.
    """

    def __init__(self, negative_slope: float | None = None, *, alpha: float | None = None, **base):
        super().__init__(**base)
        if negative_slope is not None and alpha is not None:
            raise HyperparameterError("LeakyReLU: alpha and negative_slope are one argument; give one of them")
        given = alpha if negative_slope is None else negative_slope
        self.negative_slope = check_number(0.3 if given is None else given, "LeakyReLU(negative_slope)", 0)
        self._be(activations.leaky_relu.with_alpha(self.negative_slope))

    @staticmethod
    def examples() -> list[tuple[LeakyReLU, Shape]]:
        return [(LeakyReLU(0.05), (3, 5))]


class ELU(_Activated):
    """y = x above 0, else alpha (e^x - 1). Source: Clevert et al. 2016, "Exponential linear units", eq. 15.

    Args:
        alpha: 0 or more.
    """

    def __init__(self, alpha: float = 1.0, **base):
        super().__init__(**base)
        self.alpha = check_number(alpha, "ELU(alpha)", 0)
        self._be(activations.elu.with_alpha(self.alpha))

    @staticmethod
    def examples() -> list[tuple[ELU, Shape]]:
        return [(ELU(0.5), (3, 5))]


class Softmax(_Activated):
    """y = e^x / sum e^x along the last axis: rows that sum to 1.

    Args:
        axis: -1; another one is refused.
    """

    def __init__(self, axis: int = -1, **base):
        super().__init__(**base)
        if not is_whole(axis) or int(axis) != -1:
            raise HyperparameterError(
                f"Softmax(axis): expected -1, the last axis, received {axis!r}; put a Permute before it"
            )
        self.axis = -1
        self._be(activations.softmax)

    @staticmethod
    def examples() -> list[tuple[Softmax, Shape]]:
        return [(Softmax(), (3, 5))]
