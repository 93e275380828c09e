"""Random numbers from seeds, never from time or place. Stage: beneath training. Must not know: models.

Every stream is Philox keyed by (seed, purpose, ...): weights by layer and name, shuffles by epoch. The same seed gives
the same numbers in every strategy. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from .checks import is_whole
from .errors import HyperparameterError

WEIGHTS, SHUFFLE = 1, 2

_global: dict[str, Any] = {"seed": None, "drawn": 0}


def set_seed(seed: int) -> None:
    """Fix the seeds of all models made from now on.

    Args:
        seed: a whole number, 0 or more.
    """
    _global["seed"], _global["drawn"] = check_seed(seed), 0


def check_seed(seed) -> int:
    """A seed as an int. Raises HyperparameterError where it is none."""
    if not is_whole(seed, 0) or int(seed) >= 2**63:
        raise HyperparameterError(f"seed: expected a whole number from 0 to 2**63 - 1, received {seed!r}")
    return int(seed)


def next_seed() -> int:
    """The seed of a new model: derived from `set_seed`, or from the system where it was not called."""
    base = _global["seed"]
    if base is None:
        return secrets.randbits(62)
    _global["drawn"] = _global["drawn"] + 1
    return int(np.random.SeedSequence([base, _global["drawn"]]).generate_state(1, np.uint64)[0]) >> 2


def generator(seed: int, *key: int) -> np.random.Generator:
    """The stream of a seed and a key."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *key])))


def shuffled(seed: int, epoch: int, rows: int) -> np.ndarray:
    """The order of an epoch: a permutation of 0..rows-1, int64."""
    return generator(seed, SHUFFLE, epoch).permutation(rows).astype(np.int64, copy=False)
