"""Aligned arrays, and the store of a model's weights. Stage: executors, lowest. Must not know: kernels, threads."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ResourceError

#: bytes; arrays start at page boundaries, so that equal layouts meet the caches alike
PAGE = 4096


def aligned_zeros(size: int, dtype, what: str = "weights", cure: str = "make the model smaller") -> np.ndarray:
    """A zeroed vector that starts at a page boundary, with a spare page behind it.

    Args:
        size: elements.
        what, cure: for the message where it does not fit: what it is for, and what to do.
    Raises:
        ResourceError: it does not fit into memory.
    """
    item = np.dtype(dtype).itemsize
    try:
        raw = np.zeros(size * item + 2 * PAGE, np.uint8)
    except (MemoryError, ValueError) as error:  # ValueError: more than any machine could address
        raise ResourceError(
            f"{what}: expected {size * item / 2**20:,.0f} MiB of memory, which the machine has not; {cure}"
        ) from error
    start = -raw.ctypes.data % PAGE
    return raw[start : start + size * item].view(dtype)


def aligned_copy(vector: np.ndarray) -> np.ndarray:
    """The numbers of a vector, laid as `aligned_zeros` lays them."""
    result = aligned_zeros(vector.size, vector.dtype)
    result[:] = vector
    return result


def lengthened(slots: np.ndarray, before: int, after: int) -> np.ndarray:
    """An optimizer's slots, each `before` long, made `after` long."""
    count = len(slots) // before if before else 0
    result = aligned_zeros(count * after, slots.dtype)
    result.reshape(count, after)[:, :before] = slots.reshape(count, before)
    return result


#: vectors whose newest numbers lie on a device: id -> a reference to the vector, and what fetches them
_away: dict[int, tuple[weakref.ref, Callable[[np.ndarray], None]]] = {}


def send_away(vector: np.ndarray, fetch: Callable[[np.ndarray], None]) -> None:
    """From now on the newest numbers of a vector lie elsewhere; `fetch(vector)` writes them into it."""
    key = id(vector)
    _away[key] = (weakref.ref(vector, lambda _: _away.pop(key, None)), fetch)


def is_away(vector: np.ndarray) -> bool:
    """Whether the newest numbers of a vector lie elsewhere."""
    return id(vector) in _away


def forget_away(vector: np.ndarray) -> None:
    """What lies elsewhere is lost: the numbers in the vector count again."""
    _away.pop(id(vector), None)


def bring_home(vector: np.ndarray) -> np.ndarray:
    """The vector, with its newest numbers in it; whoever has it may write to it."""
    found = _away.get(id(vector))
    if found is not None:
        found[1](vector)
        forget_away(vector)
    return vector


@dataclass
class Store:
    """The flat vectors of one model; every plan of the model works on them.

    Attributes:
        dtype: "float32" or "float64".
        parameters, gradients: (P,) trainable weights and their gradients.
        state: (S,) moving averages.
        slots: (slots * P,) what the optimizer keeps.
    """

    dtype: str
    parameters: np.ndarray
    gradients: np.ndarray
    state: np.ndarray
    slots: np.ndarray

    @classmethod
    def of_vectors(cls, vectors: dict[str, np.ndarray], old: Store | None = None) -> Store:
        """Weights and states that have been made, or those of an older store made longer; its slots are kept."""
        parameters, state = vectors["parameters"], vectors["state"]
        empty = np.zeros(0, parameters.dtype)
        slots = empty if old is None else lengthened(old.slots, len(old.parameters), len(parameters))
        return cls(parameters.dtype.name, parameters, empty, state, slots)

    def without_weights(self) -> Store:
        """The same gradients and slots, on no weights."""
        empty = np.zeros(0, self.dtype)
        return replace(self, parameters=empty, state=empty)

    @classmethod
    def of_sizes(cls, sizes: dict[str, int], dtype: str = "float32") -> Store:
        """Zeros of the sizes that the plan's `place_weights` gave; gradients and slots come when they are needed."""
        empty = aligned_zeros(0, dtype)
        parameters, state = (aligned_zeros(sizes[r], dtype) for r in ("parameters", "state"))
        return cls(dtype, parameters, empty, state, empty)

    def __setstate__(self, vectors: dict) -> None:
        """A copy, or a store read from a pickle: its vectors must lie as `aligned_zeros` lays them."""
        self.dtype = vectors.pop("dtype")
        for name, vector in vectors.items():
            setattr(self, name, aligned_copy(vector))

    @property
    def vectors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All of them, wherever their newest numbers lie."""
        return self.parameters, self.gradients, self.state, self.slots

    def bring_home(self) -> Store:
        """The store, with the newest numbers in its vectors."""
        if _away:
            for vector in self.vectors:
                bring_home(vector)
        return self

    def region(self, name: str) -> np.ndarray:
        """The vector of a plan's region."""
        return getattr(self, name)

    def need_gradients(self) -> None:
        """Make room for the gradients, once."""
        if len(self.gradients) != len(self.parameters):
            self.gradients = aligned_zeros(len(self.parameters), self.dtype)

    def need_slots(self, size: int, starts: tuple[float, ...] = ()) -> None:
        """Make room for the optimizer's slots, if there is none of that size yet, each filled with its number."""
        if len(self.slots) != size:
            self.slots = aligned_zeros(size, self.dtype)
            for slot, value in zip(self.slots.reshape(len(starts), -1), starts, strict=True) if starts else ():
                slot[:] = value
