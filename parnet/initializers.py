"""Initial values of weights, drawn from a generator that is passed in. Stage: when a model is built.

A draw is in float64 and rounded once, so a float64 copy of a model (gradient checks) starts from the same
weights.
Must not know: layers, the order in which a model draws, or who owns the generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .checks import check_choice, check_number
from .errors import HyperparameterError
from .registry import Configurable, Registry

#: standard deviation of a standard normal cut at -2 and +2, to the digits Keras divides by
TRUNCATED_STDDEV = 0.87962566103423978
MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Inputs and outputs of one weight: (fan_in, fan_out).

    Args:
        shape: (n,), (k_in, k_out) or (..., c_in, c_out), where the leading axes are those of a filter.
    """
    if len(shape) < 2:
        size = shape[0] if shape else 1
        return size, size
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


def truncated_normal(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Standard normal values of this shape (float64), each beyond two standard deviations drawn again."""
    values = rng.standard_normal(math.prod(shape))
    outside = np.flatnonzero(np.abs(values) > 2)
    while outside.size:
        values[outside] = rng.standard_normal(outside.size)
        outside = outside[np.abs(values[outside]) > 2]
    return values.reshape(shape)


class Initializer(Configurable):
    """Base of all initializers; a kind of initializer overrides `draw`.

    Args:
        seed: None draws from the generator passed to the call. A whole number draws from a Philox generator
            started anew in each call, so the same shape always gets the same values.
    Raises:
        HyperparameterError: the seed is not a whole number of at least 0.
    """

    def __init__(self, seed: int | None = None):
        if seed is not None and not (isinstance(seed, Integral) and seed >= 0):
            raise HyperparameterError(
                f"{type(self).__name__}(seed): expected None or a whole number of at least 0, "
                f"received {seed!r}; leave it out to draw from the model's generator"
            )
        self.seed = None if seed is None else int(seed)

    def __call__(self, shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> np.ndarray:
        """A new array of this shape and dtype; `rng` stays untouched where the initializer has a seed."""
        source = rng if self.seed is None else np.random.Generator(np.random.Philox(self.seed))
        return self.draw(tuple(shape), source).astype(dtype, copy=False)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """The values, in float64."""
        raise NotImplementedError


registry: Registry[Initializer] = Registry("initializer", Initializer)


def get(identifier: Any) -> Initializer:
    """An initializer from a name, a configuration, a class or an object; see `Registry.get`."""
    return registry.get(identifier)


@registry.add("zero")
class Zeros(Initializer):
    """All 0."""

    def draw(self, shape, rng):
        return np.zeros(shape)


@registry.add("one")
class Ones(Initializer):
    """All 1."""

    def draw(self, shape, rng):
        return np.ones(shape)


@registry.add()
class Constant(Initializer):
    """All `value`."""

    def __init__(self, value: float = 0.0, seed: int | None = None):
        super().__init__(seed)
        self.value = check_number(value, "Constant(value)")

    def draw(self, shape, rng):
        return np.full(shape, self.value)


@registry.add("uniform")
class RandomUniform(Initializer):
    """Uniform on [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None):
        super().__init__(seed)
        self.minval = check_number(minval, "RandomUniform(minval)")
        self.maxval = check_number(maxval, "RandomUniform(maxval)")
        if self.minval > self.maxval:
            raise HyperparameterError(
                f"RandomUniform: expected minval <= maxval, received {minval!r} and {maxval!r}; swap them"
            )

    def draw(self, shape, rng):
        return rng.uniform(self.minval, self.maxval, shape)


class _Normal(Initializer):
    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        super().__init__(seed)
        self.mean = check_number(mean, f"{type(self).__name__}(mean)")
        self.stddev = check_number(stddev, f"{type(self).__name__}(stddev)", low=0)


@registry.add("normal")
class RandomNormal(_Normal):
    """Normal with this mean and standard deviation."""

    def draw(self, shape, rng):
        return rng.normal(self.mean, self.stddev, shape)


@registry.add()
class TruncatedNormal(_Normal):
    """Normal, cut at two `stddev` from the mean, so that it spreads by TRUNCATED_STDDEV * stddev."""

    def draw(self, shape, rng):
        return self.mean + self.stddev * truncated_normal(shape, rng)


class _Scaled(Initializer):
    """Mean 0 and variance scale / fan; the three attributes are set by each kind."""

    scale: float
    mode: str
    distribution: str

    def draw(self, shape, rng):
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            limit = math.sqrt(3) * stddev
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0.0, stddev, shape)
        return stddev / TRUNCATED_STDDEV * truncated_normal(shape, rng)


@registry.add()
class VarianceScaling(_Scaled):
    """Mean 0 and variance scale / fan, whatever the distribution.

    Args:
        scale: variance times fan, above 0.
        mode: the fan: "fan_in", "fan_out" or their mean "fan_avg".
        distribution: "truncated_normal" (or "normal"; cut at two standard deviations of the uncut one),
            "untruncated_normal" or "uniform".
        seed: see `Initializer`.
    Raises:
        HyperparameterError: a scale that is not above 0.
        UnknownNameError: an unknown mode or distribution.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ):
        super().__init__(seed)
        self.scale = check_number(scale, "VarianceScaling(scale)", low=0)
        if self.scale == 0:
            raise HyperparameterError("VarianceScaling(scale): expected a number above 0, received 0; use Zeros() for zeros")
        self.mode = check_choice(mode, "VarianceScaling(mode)", MODES)
        named = check_choice(distribution, "VarianceScaling(distribution)", (*DISTRIBUTIONS, "normal"))
        self.distribution = "truncated_normal" if named == "normal" else named


@registry.add()
class GlorotUniform(_Scaled):
    """Uniform within sqrt(6 / (fan_in + fan_out)): Glorot and Bengio 2010, eq. 16."""

    scale, mode, distribution = 1.0, "fan_avg", "uniform"


@registry.add()
class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out): Glorot and Bengio 2010, eq. 12."""

    scale, mode, distribution = 1.0, "fan_avg", "truncated_normal"


@registry.add()
class HeUniform(_Scaled):
    """Uniform within sqrt(6 / fan_in), for ReLU: He et al. 2015, arXiv 1502.01852, eq. 10."""

    scale, mode, distribution = 2.0, "fan_in", "uniform"


@registry.add()
class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in, for ReLU: He et al. 2015, arXiv 1502.01852, eq. 10."""

    scale, mode, distribution = 2.0, "fan_in", "truncated_normal"


@registry.add()
class LecunUniform(_Scaled):
    """Uniform within sqrt(3 / fan_in): LeCun et al. 1998 (Efficient BackProp), eq. 16."""

    scale, mode, distribution = 1.0, "fan_in", "uniform"


@registry.add()
class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in, for SELU: LeCun et al. 1998 (Efficient BackProp), eq. 16."""

    scale, mode, distribution = 1.0, "fan_in", "truncated_normal"
