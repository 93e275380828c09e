"""Weights as users see them: `layer.kernel`, `net.parameters()`. Stage: train. Must not know: executors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DTypeError, ShapeError
from ..plan.builder import Placed

if TYPE_CHECKING:
    from .session import Session


class Parameter:
    """One array of a layer: a window on the model's flat vector.

    Attributes:
        name: "dense_1/kernel".
        shape: of the array.
        session: of the model.
    """

    def __init__(self, session: Session, placed: Placed):
        self.session, self._placed = session, placed
        self.name, self.shape = placed.key, placed.weight.shape

    def numpy(self) -> np.ndarray:
        """A copy of the values."""
        return self._placed.read(self.session.store.region(self._placed.region))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    @property
    def trainable(self) -> bool:
        """Whether optimizers change it."""
        self.session.refresh()
        return self.session.network.placed[self.name].trainable

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return np.dtype(self.session.dtype)

    @property
    def grad(self) -> np.ndarray:
        """A copy of the gradient that the last `backward` left; zeros before one and after `zero_grad`."""
        store = self.session.store
        if not self.session.has_gradients or self._placed.region != "parameters" or not self.trainable:
            return np.zeros(self.shape, self.session.dtype)
        return self._placed.read(store.gradients)

    def check(self, array) -> np.ndarray:
        """An array that fits. Raises ShapeError or DTypeError."""
        array = np.asarray(array)
        if array.dtype.kind not in "buif":
            raise DTypeError(f"{self.name}: expected numbers, received an array of {array.dtype}")
        if array.shape != self.shape:
            raise ShapeError(f"{self.name}: expected an array {self.shape}, received {array.shape}")
        return array

    def assign(self, array) -> None:
        """Replace the values. Raises ShapeError or DTypeError."""
        self._placed.write(self.session.store.region(self._placed.region), self.check(array))

    def __repr__(self) -> str:
        return f"Parameter({self.name}, shape={self.shape}, trainable={self.trainable})"


class Parameters:
    """All weights of a model, in order; what a manual loop hands to its optimizer.

    Attributes:
        session: where gradients and updates happen.
    """

    def __init__(self, session: Session):
        self.session = session

    def __iter__(self) -> Iterator[Parameter]:
        return (Parameter(self.session, p) for p in self.session.network.placed.values() if p.trainable)

    def __len__(self) -> int:
        return sum(p.trainable for p in self.session.network.placed.values())
