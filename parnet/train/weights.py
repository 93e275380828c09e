"""The arrays of some layers, shared by all models made of these layers. Stage: train, beneath the session.

A model that is made of another one's layers works on the same two vectors; layers of its own get places behind the others.
Gradients and the optimizer's state belong to a model alone. Must not know: plans, executors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .. import seeding
from ..errors import ResourceError
from ..executors.memory import aligned_copy, aligned_zeros, bring_home
from ..plan.builder import Placed


class Weights:
    """Two vectors, and where the layers' arrays lie in them.

    Args:
        seed: of the first values.
        dtype: "float32" or "float64".

    Attributes:
        sizes: length of the regions "parameters" and "state".
        models: how many models work on them.
        version: rises whenever somebody may have changed the numbers.
        fetch: brings them up to date where other processes have been working on them; None where they are.
    """

    def __init__(self, seed: int, dtype: str):
        self.seed, self.dtype = seed, dtype
        self.sizes: dict[str, int] = {"parameters": 0, "state": 0}
        self.models = 0
        self.version = 0
        self._vectors: dict[str, np.ndarray] = {}
        self.fetch: Callable[[], None] | None = None
        self._placed: list[Placed] = []
        self._initialized = 0

    def __getstate__(self) -> dict:
        """For copies and pickles."""
        if self.fetch is not None:
            self.vectors()
        return self.__dict__ | {"fetch": None}

    def __setstate__(self, state: dict) -> None:
        """A copy, or weights read from a pickle: the vectors must lie as `aligned_zeros` lays them."""
        self.__dict__.update(state)
        self._vectors = {region: aligned_copy(vector) for region, vector in self._vectors.items()}

    def take_in(self, placed: Iterable[Placed], sizes: dict[str, int]) -> None:
        """Arrays that have been given places, and the length of the regions with them."""
        self._placed += placed
        self.sizes = dict(sizes)

    @property
    def made(self) -> bool:
        """Whether the arrays have been made."""
        return bool(self._vectors)

    def vectors(self) -> dict[str, np.ndarray]:
        """The regions, made, lengthened and initialised as far as need be; as they were where memory runs out."""
        if self.fetch is not None:
            fetch, self.fetch = self.fetch, None
            fetch()
        if self._initialized < len(self._placed) or not self._vectors:
            before = dict(self._vectors)
            try:
                self.allocate()
                self._initialize()
            except BaseException as error:
                self._vectors = before
                if not isinstance(error, MemoryError):
                    raise
                raise ResourceError(
                    f"model: its {sum(self.sizes.values()):,} weights do not fit into memory while they are drawn; make the "
                    "model smaller"
                ) from error
        return self._vectors

    def _initialize(self) -> None:
        """Draw the arrays that have no values yet."""
        for index in range(self._initialized, len(self._placed)):
            placed = self._placed[index]
            rng = seeding.generator(self.seed, seeding.WEIGHTS, index)
            values = placed.weight.initializer(placed.weight.shape, rng, np.dtype(self.dtype))
            placed.write(self._vectors[placed.region], np.asarray(values).reshape(placed.weight.shape))
        self._initialized = len(self._placed)

    def allocate(self, initialized: bool = False) -> None:
        """Make or lengthen the vectors. initialized: somebody is about to set all values."""
        for region, size in self.sizes.items():
            old = self._vectors.get(region)
            if old is None or len(old) < size:
                self._vectors[region] = aligned_zeros(size, self.dtype)
                if old is not None:
                    self._vectors[region][: len(old)] = bring_home(old)
        if initialized:
            self._initialized = len(self._placed)
