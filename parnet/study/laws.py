"""Laws of scaling, fitted to measured points, with intervals and residuals. Stage: study, on plain numbers.

    Amdahl      S(p) = 1 / (s + (1 - s) / p)                          strong scaling; s: the serial part
    Gustafson   S(p) = p - s (p - 1)                                  weak scaling, scaled speedup
    USL         X(p) = g p / (1 + a (p - 1) + b p (p - 1))            throughput; a: contention, b: coherency

G. M. Amdahl, AFIPS 1967, 483; J. L. Gustafson, CACM 31 (1988), 532; N. J. Gunther, "Guerrilla capacity planning", 2007,
chapter 4. Least squares by SciPy; intervals from the curvature at the minimum and Student's t. Must not know: studies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, HyperparameterError, require_extra, unknown_name


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes:
        name: for people. formula: value at p for the parameters.
        parameters: their names; start, low, high: where the fit begins and the bounds it keeps.
        points: distinct numbers of workers that a fit needs: one more than parameters, so that there is a residual, and of
            those whose value is 1 at one worker in any case one more.
        quantity: what is fitted, "speedup" or "throughput".
        title: in a sentence.
    """

    name: str
    formula: Callable[..., np.ndarray]
    parameters: tuple[str, ...]
    start: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    points: int
    quantity: str = "speedup"
    title: str = ""


def amdahl(p, serial):
    """Speedup of p workers where the part `serial` of the work is not shared."""
    return 1 / (serial + (1 - serial) / np.asarray(p, float))


def gustafson(p, serial):
    """Scaled speedup of p workers, each with its own work."""
    p = np.asarray(p, float)
    return p - serial * (p - 1)


def usl(p, contention, coherency, unit):
    """Throughput of p workers; `unit` is that of one."""
    p = np.asarray(p, float)
    return unit * p / (1 + contention * (p - 1) + coherency * p * (p - 1))


LAWS = {
    "amdahl": Law("Amdahl", amdahl, ("serial part",), (0.1,), (0.0,), (1.0,), 3, title="Amdahl's law"),
    "gustafson": Law("Gustafson", gustafson, ("serial part",), (0.1,), (0.0,), (1.0,), 3, title="Gustafson's law"),
    "usl": Law(
        "USL",
        usl,
        ("contention", "coherency", "one worker"),
        (0.05, 0.001, 1.0),
        (0.0, 0.0, 1e-12),
        (1.0, 1.0, np.inf),
        4,
        "throughput",
        "the Universal Scalability Law",
    ),
}


@dataclass(frozen=True)
class Fit:
    """A law with the parameters that suit the points best.

    Attributes:
        law: which. values, low, high: the parameters and their 95 % intervals.
        workers, measured, residuals: the points, and measured less fitted.
        r2: the part of the variance that the law explains.
        scale: what `measured` was divided by before the fit (of USL: the throughput of one worker as measured).
    """

    law: Law
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    workers: tuple[float, ...]
    measured: tuple[float, ...]
    residuals: tuple[float, ...]
    r2: float

    def at(self, workers) -> np.ndarray:
        """The law's value for so many workers."""
        return self.law.formula(workers, *self.values)

    @property
    def peak(self) -> float:
        """The number of workers beyond which more make it slower; infinite where the law has none."""
        if self.law.name != "USL" or self.values[1] <= 0:
            return math.inf
        return math.sqrt(max(0.0, 1 - self.values[0]) / self.values[1])

    @property
    def limit(self) -> float:
        """The largest value that the law allows for any number of workers."""
        if self.law.name == "Amdahl":
            return 1 / self.values[0] if self.values[0] > 0 else math.inf
        if self.law.name == "USL":
            if self.values[1] > 0:
                return float(self.at(max(1.0, self.peak)))
            return self.values[2] / self.values[0] if self.values[0] > 0 else math.inf
        return math.inf

    def text(self) -> str:
        """One line: "Amdahl: serial part 0.031 [0.02, 0.042], R2 0.998"."""
        listed = [
            f"{name} {value:.3g} [{low:.3g}, {high:.3g}]"
            for name, value, low, high in zip(self.law.parameters, self.values, self.low, self.high, strict=True)
        ]
        return f"{self.law.name}: {', '.join(listed)}; R² {self.r2:.4f}"


def fit(name: str, workers: Sequence[float], measured: Sequence[float]) -> Fit:
    """Fit a law.

    Args:
        name: "amdahl", "gustafson" or "usl".
        workers: numbers of workers, 1 or more, repeated where there are several measurements.
        measured: speedups, for "usl" throughputs in any unit.
    Raises:
        UnknownNameError: no such law. DataError: too few points, and why. HyperparameterError: no numbers above 0.
        MissingExtraError: SciPy is not installed.
    """
    if name not in LAWS:
        raise unknown_name("law", name, LAWS)
    law = LAWS[name]
    p, y = np.asarray(workers, float), np.asarray(measured, float)
    if p.shape != y.shape or p.ndim != 1 or not (np.isfinite(p).all() and np.isfinite(y).all() and (p >= 1).all()):
        raise HyperparameterError(
            f"{law.name}: expected as many finite values as numbers of workers of 1 or more, received {p.shape} and "
            f"{y.shape}"
        )
    if (y <= 0).any():
        raise HyperparameterError(f"{law.name}: expected values above 0, received {float(y.min()):g}")
    check_enough(law, p)
    return _fitted(law, p, y)


def check_enough(law: Law, workers: np.ndarray) -> None:
    """Raise DataError, with the reason, where the points cannot tell the parameters apart."""
    distinct = sorted({float(p) for p in workers})
    if len(distinct) < law.points:
        listed = ", ".join(f"{p:g}" for p in distinct) or "none"
        why = f"one for each of {len(law.parameters)} parameters, and one to check the fit by"
        if law.quantity == "speedup":
            why = "1, where the law is 1 in any case, one for its parameter, and one to check the fit by"
        raise DataError(
            f"{law.title}: expected {law.points} or more different numbers of workers ({why}), received {len(distinct)} "
            f"({listed}); measure more"
        )


def _fitted(law: Law, p: np.ndarray, y: np.ndarray) -> Fit:
    optimize = require_extra("scipy.optimize", "study", law.title)
    scale = float(np.max(y / p)) if law.quantity == "throughput" else 1.0
    found = optimize.least_squares(
        lambda values: law.formula(p, *values) - y / scale,
        law.start,
        bounds=(law.low, law.high),
        x_scale=[max(s, 1e-3) for s in law.start],
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
        max_nfev=2_000,
    )
    spread = _spread(found, len(p))
    units = [scale if name == "one worker" else 1.0 for name in law.parameters]
    values = tuple(float(v * u) for v, u in zip(found.x, units, strict=True))
    low = tuple(float(max(v - d, b) * u) for v, d, b, u in zip(found.x, spread, law.low, units, strict=True))
    high = tuple(float(min(v + d, b) * u) for v, d, b, u in zip(found.x, spread, law.high, units, strict=True))
    residuals = y - law.formula(p, *values)
    variance = float(np.sum((y - y.mean()) ** 2))
    r2 = 1 - float(np.sum(residuals**2)) / variance if variance else math.nan
    return Fit(law, values, low, high, tuple(p), tuple(y), tuple(residuals.tolist()), r2)


def _spread(found, points: int) -> np.ndarray:
    """Half the width of each parameter's 95 % interval, from the curvature at the minimum."""
    free = points - len(found.x)
    stats = require_extra("scipy.stats", "study", "intervals of a law")
    curvature = found.jac.T @ found.jac
    variance = 2 * found.cost / free
    with np.errstate(all="ignore"):
        covariance = np.linalg.pinv(curvature) * variance
    return stats.t.ppf(0.975, free) * np.sqrt(np.maximum(np.diag(covariance), 0))
