"""What a manual loop holds in its hands: the output of a model and the loss of a batch. Stage: train, beneath the session.

Must not know: plans, executors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import StateError

#: ticket of an output that is one of several: no loss of a manual loop can be traced back from it
SEVERAL = -1


class Output(np.ndarray):
    """What `model(x)` returns: an array that a loss can trace back to its forward pass."""

    session: Any
    ticket: int

    @classmethod
    def of(cls, array: np.ndarray, session: Any, ticket: int) -> Output:
        """The array with its origin."""
        result = array.view(cls)
        result.session, result.ticket = session, ticket
        return result

    def __array_finalize__(self, origin) -> None:
        self.session, self.ticket = None, 0  # a slice or a sum of an output is no output


@dataclass(frozen=True)
class LossValue:
    """The loss of one batch.

    Attributes:
        value: the mean over the batch.
    """

    value: float
    session: Any = None
    ticket: int = 0

    def item(self) -> float:
        """The loss as a float."""
        return self.value

    def __float__(self) -> float:
        return self.value

    def backward(self) -> None:
        """Compute the gradients of all trainable weights; `layer.kernel.grad` reads them.

        Raises:
            StateError: the prediction did not come from a model in training mode.
        """
        if self.session is None:
            raise StateError("backward: the prediction was a plain array; use the array that model(x) returned, unchanged")
        self.session.backward(self.ticket)
