"""Notices inputs of another scale than those trained on. Stage: train. Must not know: models, executors.

Images divided by 255 once in training and twice in evaluation cost an accuracy of 0.98 all but half of it, without an error.
"""

from __future__ import annotations

import numpy as np

from ..errors import warn

#: rows looked at, spread over the data
ROWS = 512
#: how many times larger or smaller the range must be
FACTOR = 16.0


def largest(x: np.ndarray) -> float:
    """The largest magnitude among a sample of the rows."""
    rows = x[:: max(1, len(x) // ROWS)]
    return float(np.abs(rows.astype(np.float64)).max()) if rows.size else 0.0


class InputRange:
    """The largest magnitude seen in `fit`."""

    def __init__(self) -> None:
        self.seen: float | None = None
        self._warned = False

    def learn(self, x: np.ndarray) -> None:
        """Remember the range of the training inputs."""
        self.seen, self._warned = largest(x), False

    def compare(self, x: np.ndarray, where: str) -> None:
        """Warn once where inputs are of another scale."""
        now = largest(x)
        if self._warned or not self.seen or not now or 1 / FACTOR < now / self.seen < FACTOR:
            return
        self._warned = True
        warn(
            f"{where}: the inputs reach {now:g}, those of fit reached {self.seen:g}: they look scaled differently; "
            "scale both alike, best by a Rescaling layer in the model"
        )
