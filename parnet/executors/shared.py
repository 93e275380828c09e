"""The arrays that an executor shares with its workers, in blocks of their own. Stage: executors.

Must not know: what they mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..comm.blocks import Block, new_block
from .memory import Store
from .worker import Ref

#: arrays of fewer bytes are handed over anew each time, larger ones once while a fit lasts
SMALL = 1 << 20


class Shared:
    """See the module's docstring.

    Args:
        tell: sends a message, and open files, to all workers.

    Attributes:
        blocks: by number.
    """

    def __init__(self, tell: Callable[..., None]):
        self.tell = tell
        self.blocks: dict[int, Block] = {}
        self._numbers = 0
        self._vectors: dict[tuple[str, int], tuple[np.ndarray, Ref]] = {}
        self._roles: dict[tuple, int] = {}
        self._data: dict[int, tuple[np.ndarray, Ref]] = {}

    def array(self, shape: tuple[int, ...], dtype: str, what: str) -> Ref:
        """A block of its own for an array."""
        block = new_block(int(np.prod(shape)) * np.dtype(dtype).itemsize, what)
        number, self._numbers = self._numbers, self._numbers + 1
        self.blocks[number] = block
        self.tell("block", number, block.size, handles=(block.handle,))
        return Ref(number, tuple(shape), str(dtype))

    def view(self, ref: Ref) -> np.ndarray:
        """The array that a reference stands for."""
        return self.blocks[ref.block].array(ref.shape, ref.dtype)

    def vector(self, store: Store, name: str) -> Ref:
        """The shared copy of one of the store's vectors."""
        vector = getattr(store, name)
        key = (name, id(vector))
        if key not in self._vectors:
            self._vectors[key] = (vector, self.array(vector.shape, vector.dtype.name, "parameter server: weights"))
        return self._vectors[key][1]

    def role(self, role: tuple, shape: tuple[int, ...], dtype: str) -> Ref:
        """Room for an array that comes anew each time, in a block that is kept for its like."""
        size, number = int(np.prod(shape)) * np.dtype(dtype).itemsize, self._roles.get(role)
        if number is None or self.blocks[number].size < size:
            if number is not None:
                self._forget([number])
            number = self._roles[role] = self.array((size + size // 4,), "uint8", "parameter server: data").block
        return Ref(number, tuple(shape), str(dtype))

    def _forget(self, blocks: list[int]) -> None:
        self.tell("forget", blocks, [])
        for number in blocks:
            self.blocks.pop(number).close()

    def fed(self, role: tuple, like: np.ndarray) -> np.ndarray:
        """The shared copy of an array that has been handed over under that role."""
        return self.view(Ref(self._roles[role], like.shape, like.dtype.name))

    def pair(self, store: Store, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """One of the store's vectors, and its shared copy, if it has one."""
        found = self._vectors.get((name, id(getattr(store, name))))
        return None if found is None else (found[0], self.view(found[1]))

    def hand_over(self, role: tuple, array: np.ndarray | None, once: bool) -> Ref | None:
        """An array's copy in shared memory; once: it stays as it is until the executor is closed."""
        if array is None or not array.size:
            return None
        if once and array.nbytes > SMALL:
            if id(array) not in self._data:
                ref = self.array(array.shape, array.dtype.name, "parameter server: data")
                self.view(ref)[...] = array
                self._data[id(array)] = (array, ref)
            return self._data[id(array)][1]
        ref = self.role(role, array.shape, array.dtype.name)
        self.view(ref)[...] = array
        return ref

    def close(self) -> None:
        """Let go of everything."""
        for block in self.blocks.values():
            block.close()
        for kept in (self.blocks, self._vectors, self._roles, self._data):
            kept.clear()
