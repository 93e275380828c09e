"""The optimizers: each a rule that turns a gradient into a step. Stage: between layers and plan.

Must not know: plans, executors, layers.
"""

from __future__ import annotations

import numpy as np

from ..checks import check_flag, check_number
from ..errors import HyperparameterError
from .base import Optimizer, registry


@registry.add()
class SGD(Optimizer):
    """w -= lr g; with momentum m: v = m v - lr g, w += v; with Nesterov's: w += m v - lr g.

    Args:
        momentum: 0 to below 1.
        nesterov: Sutskever et al. 2013, "On the importance of initialization and momentum", eq. 3-4.
    """

    default_rate = 0.01

    def __init__(self, parameters=None, learning_rate=None, momentum: float = 0.0, nesterov: bool = False, **base):
        super().__init__(parameters, learning_rate, **base)
        self.momentum, self.nesterov = self._share("momentum", momentum), check_flag(nesterov, "SGD(nesterov)")

    @property
    def kernel(self) -> str:  # type: ignore[override]
        """By what momentum there is."""
        return "update.sgd" if not self.momentum else "update.nesterov" if self.nesterov else "update.momentum"

    @property
    def slots(self) -> int:  # type: ignore[override]
        """By what momentum there is."""
        return 1 if self.momentum else 0

    def numbers(self):
        return (self.momentum, 0.0, 0.0)

    @property
    def rides(self) -> bool:
        plain = not (self.momentum or self.clips or self.weight_decay)
        return plain and self.gradient_accumulation_steps is None


@registry.add()
class RMSprop(Optimizer):
    """s = rho s + (1 - rho) g^2, w -= lr g / sqrt(s + epsilon). Source: Hinton, Coursera lecture 6e, 2012.

    Args:
        rho: 0 to below 1.
        momentum: 0 to below 1.
        epsilon: above 0.
    """

    def __init__(self, parameters=None, learning_rate=None, rho=0.9, momentum=0.0, epsilon=1e-7, **base):
        super().__init__(parameters, learning_rate, **base)
        self.rho, self.momentum = self._share("rho", rho), self._share("momentum", momentum)
        self.epsilon = self._positive("epsilon", epsilon)

    @property
    def kernel(self) -> str:  # type: ignore[override]
        """By what momentum there is."""
        return "update.rmsprop_momentum" if self.momentum else "update.rmsprop"

    @property
    def slots(self) -> int:  # type: ignore[override]
        """By what momentum there is."""
        return 2 if self.momentum else 1

    def numbers(self):
        return (self.rho, self.epsilon, self.momentum)


class _Moments(Optimizer):
    """A rule with an average of gradients, and one of their sizes.

    Args:
        beta_1, beta_2: 0 to below 1.
        epsilon: above 0.
    """

    def __init__(self, parameters=None, learning_rate=None, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **base):
        super().__init__(parameters, learning_rate, **base)
        self.beta_1, self.beta_2 = self._share("beta_1", beta_1), self._share("beta_2", beta_2)
        self.epsilon = self._positive("epsilon", epsilon)

    def numbers(self):
        return (self.beta_1, self.beta_2, self.epsilon)

    def correction(self, updates: np.ndarray) -> np.ndarray:
        time, result = updates.astype(np.float64) + 1, super().correction(updates)
        result[:, 0] = np.sqrt(1 - self.beta_2**time) / (1 - self.beta_1**time)
        return result


@registry.add()
class Adam(_Moments):
    """Kingma & Ba 2015, algorithm 1, in the order of section 2's last paragraph (as Keras computes it).

    Args:
        beta_1, beta_2: 0 to below 1.
        epsilon: above 0.
        amsgrad: divide by the root of the largest average of squares so far. Source: Reddi et al. 2018, "On the convergence
            of Adam and beyond", algorithm 2.
    """

    def __init__(
        self, parameters=None, learning_rate=None, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad: bool = False, **base
    ):
        super().__init__(parameters, learning_rate, beta_1, beta_2, epsilon, **base)
        self.amsgrad = check_flag(amsgrad, f"{type(self).__name__}(amsgrad)")

    @property
    def kernel(self) -> str:  # type: ignore[override]
        """By whether the largest average is kept."""
        return "update.amsgrad" if self.amsgrad else "update.adam"

    @property
    def slots(self) -> int:  # type: ignore[override]
        """By whether the largest average is kept."""
        return 3 if self.amsgrad else 2


@registry.add("adam_w")
class AdamW(Adam):
    """Adam whose weights decay unless told otherwise. Source: Loshchilov & Hutter 2019, algorithm 2.

    Args:
        weight_decay: 0 or more; w -= lr weight_decay w in each step.
    """

    def __init__(self, parameters=None, learning_rate=None, weight_decay: float = 0.004, **base):
        super().__init__(parameters, learning_rate, weight_decay=weight_decay, **base)


@registry.add()
class Adamax(_Moments):
    """m = beta_1 m + (1 - beta_1) g, u = max(beta_2 u, |g|), w -= lr / (1 - beta_1^t) m / (u + epsilon).

    Source: Kingma & Ba 2015, algorithm 2.

    Args:
        beta_1, beta_2: 0 to below 1.
        epsilon: above 0.
    """

    kernel, slots = "update.adamax", 2

    def correction(self, updates: np.ndarray) -> np.ndarray:
        result = Optimizer.correction(self, updates)
        result[:, 0] = 1 / (1 - self.beta_1 ** (updates.astype(np.float64) + 1))
        return result


@registry.add()
class Nadam(_Moments):
    """Adam with Nesterov's momentum: the step looks ahead by the next average of gradients.

    Source: Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 8, with its schedule of momentum; epsilon
    as in `Adam`. Takes no weight_decay.

    Args:
        beta_1, beta_2: 0 to below 1.
        epsilon: above 0.
    """

    kernel, slots = "update.nadam", 2

    def __init__(self, parameters=None, learning_rate=None, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **base):
        super().__init__(parameters, learning_rate, beta_1, beta_2, epsilon, **base)
        if self.weight_decay:
            raise HyperparameterError(
                f"Nadam(weight_decay): expected None, received {self.weight_decay!r}; take AdamW, or a kernel_regularizer"
            )

    def _second_rate(self) -> float:
        return 1.0

    def correction(self, updates: np.ndarray) -> np.ndarray:
        """Of the average of gradients, and of the gradient itself."""
        time = updates.astype(np.float64) + 1
        now, following = (self.beta_1 * (1 - 0.5 * 0.96**t) for t in (time, time + 1))
        size = np.sqrt(1 - self.beta_2**time)
        result = np.empty((len(updates), 2))
        result[:, 0] = size * following / (1 - self._product(time + 1))
        result[:, 1] = size * (1 - now) / (1 - self._product(time))
        return result

    def _product(self, time: np.ndarray) -> np.ndarray:
        """Of the momenta of updates 1 to `time`: their factors 1 - 0.96^t / 2 reach 1 long before number 1000."""
        factors = np.cumprod(1 - 0.5 * 0.96 ** np.arange(1.0, 1001.0))
        return self.beta_1**time * factors[np.minimum(time, 1000).astype(np.int64) - 1]


@registry.add()
class Adadelta(Optimizer):
    """s = rho s + (1 - rho) g^2, d = sqrt(r + epsilon) / sqrt(s + epsilon) g, r = rho r + (1 - rho) d^2, w -= lr d.

    Source: Zeiler 2012, "ADADELTA", algorithm 1, where lr is 1.

    Args:
        rho: 0 to below 1.
        epsilon: above 0.
    """

    kernel, slots = "update.adadelta", 2

    def __init__(self, parameters=None, learning_rate=None, rho=0.95, epsilon=1e-7, **base):
        super().__init__(parameters, learning_rate, **base)
        self.rho, self.epsilon = self._share("rho", rho), self._positive("epsilon", epsilon)

    def numbers(self):
        return (self.rho, self.epsilon, 0.0)


@registry.add()
class Lion(Optimizer):
    """w -= lr sign(beta_1 m + (1 - beta_1) g), then m = beta_2 m + (1 - beta_2) g: every weight moves by lr.

    Source: Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2.

    Args:
        beta_1, beta_2: 0 to below 1.
    """

    kernel, slots = "update.lion", 1

    def __init__(self, parameters=None, learning_rate=None, beta_1=0.9, beta_2=0.99, **base):
        super().__init__(parameters, learning_rate, **base)
        self.beta_1, self.beta_2 = self._share("beta_1", beta_1), self._share("beta_2", beta_2)

    def numbers(self):
        return (self.beta_1, self.beta_2, 0.0)


@registry.add()
class Adagrad(Optimizer):
    """s += g^2, w -= lr g / sqrt(s + epsilon). Source: Duchi et al. 2011, figure 1.

    Args:
        initial_accumulator_value: where s starts, 0 or more; cannot be assigned later.
        epsilon: above 0.
    """

    kernel, slots = "update.adagrad", 1

    def __init__(self, parameters=None, learning_rate=None, initial_accumulator_value=0.1, epsilon=1e-7, **base):
        super().__init__(parameters, learning_rate, **base)
        self.initial_accumulator_value = check_number(initial_accumulator_value, "Adagrad(initial_accumulator_value)", 0)
        self.epsilon = self._positive("epsilon", epsilon)

    def numbers(self):
        return (self.epsilon, 0.0, 0.0)
