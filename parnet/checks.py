"""Arguments that users give, checked alike. Stage: beneath everything but errors. Must not know: what they mean."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from numbers import Real
from typing import Any

from .errors import HyperparameterError, unknown_name


def check_argument(condition: bool, where: str, expected: str, received: object, advice: str) -> None:
    """Raise HyperparameterError, saying all four, unless the condition holds."""
    if not condition:
        raise HyperparameterError(f"{where}: expected {expected}, received {received!r}; {advice}")


def is_whole(value: Any, low: float = -math.inf) -> bool:
    """Whether the value is one whole number of at least `low`, Python's or NumPy's; a bool is none, nor is an array."""
    try:
        return not isinstance(value, bool) and operator.index(value) >= low
    except TypeError:
        return False


def check_flag(value: Any, where: str) -> bool:
    """The value as a bool: True and False, Python's or NumPy's, or 1 and 0. Raises HyperparameterError."""
    good = type(value).__name__ in ("bool", "bool_") or (is_whole(value) and int(value) in (0, 1))
    check_argument(good, where, "True or False", value, "pass one of them")
    return bool(value)


def check_choice(value: Any, where: str, valid: Iterable[str]) -> str:
    """The value as one of some names. Raises UnknownNameError, which lists them."""
    names = tuple(valid)
    if not isinstance(value, str) or value not in names:
        raise unknown_name(where, value, names)
    return value


def check_path(value: Any, where: str) -> str:
    """The path of a file as a string. Raises HyperparameterError."""
    good = isinstance(value, str | bytes | os.PathLike) and len(os.fspath(value)) > 0
    check_argument(good, where, "the path of a file", value, "pass a string or a pathlib.Path")
    return os.fsdecode(value)


def check_list(value: Any, where: str, of: str) -> list:
    """The value as a list. Raises HyperparameterError where it has no items to go through."""
    good = hasattr(value, "__iter__") and not isinstance(value, str | bytes | dict)
    check_argument(good, where, f"a list of {of}", value, "put it in [ ]")
    return list(value)


def check_count(value, where: str, low: int = 1) -> int:
    """The value as an int of at least `low`. Raises HyperparameterError."""
    good = is_whole(value, low)
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


def check_model(value: Any, where: str) -> None:
    """Raise HyperparameterError unless the value is a model: by what it has, as this module knows no classes."""
    good = all(hasattr(type(value), name) for name in ("graph", "session", "compile"))
    check_argument(good, where, "a model first", value, "pass a pn.Sequential or a pn.Model")
