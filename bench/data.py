"""The samples everything is measured on: MNIST, or random numbers of its shape where it cannot be had.

Times are the same on both; accuracies are not measured without MNIST.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parnet.datasets import mnist
from parnet.errors import ParnetError


@dataclass(frozen=True)
class Samples:
    """Images (rows, 28, 28) uint8 and labels (rows,), for training and for testing.

    Attributes:
        kind: "mnist" or "random".
    """

    kind: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def scaled(self, rows: int) -> np.ndarray:
        """The first training images as float32 from 0 to 1, as the peers get them."""
        return self.x_train[:rows].astype(np.float32) / 255

    def export(self, path: Path) -> Path:
        """A file for other interpreters: uncompressed, so that reading it costs nothing."""
        np.savez(path, x=self.x_train, y=self.y_train)
        return path


def load() -> Samples:
    """MNIST from PARNET_DATA, the cache or the network; see `parnet.datasets.mnist`."""
    try:
        (x_train, y_train), (x_test, y_test) = mnist.load_data()
    except (ParnetError, OSError):
        rng = np.random.default_rng(0)
        x_train, x_test = (rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (60_000, 10_000))
        y_train, y_test = (rng.integers(0, 10, n, dtype=np.uint8) for n in (60_000, 10_000))
        return Samples("random", x_train, y_train, x_test, y_test)
    return Samples("mnist", x_train, y_train, x_test, y_test)
