"""Arguments that users give, checked alike. Stage: beneath everything but errors. Must not know: what they mean."""

from __future__ import annotations

import math
from numbers import Real

from .errors import HyperparameterError


def check_argument(condition: bool, where: str, expected: str, received: object, advice: str) -> None:
    """Raise HyperparameterError, saying all four, unless the condition holds."""
    if not condition:
        raise HyperparameterError(f"{where}: expected {expected}, received {received!r}; {advice}")


def check_count(value, where: str, low: int = 1) -> int:
    """The value as an int of at least `low`. Raises HyperparameterError."""
    good = hasattr(value, "__index__") and not isinstance(value, bool) and int(value) >= low
    check_argument(good, where, f"a whole number of {low} or more", value, "pass such a number")
    return int(value)


def check_number(
    value,
    where: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> float:
    """The value as a finite float in [low, high]; `above` leaves out `low` itself, `below` leaves out `high`.

    Raises:
        HyperparameterError: it is no number, not finite, or outside.
    """
    good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and low <= float(value) <= high
    good = good and not (above and value == low) and not (below and value == high)
    bounds = [f"{'above' if above else 'of at least'} {low:g}"] if low > -math.inf else []
    bounds += [f"{'below' if below else 'at most'} {high:g}"] if high < math.inf else []
    check_argument(good, where, " ".join(["a finite number", " and ".join(bounds)]).strip(), value, "pass such a number")
    return float(value)
