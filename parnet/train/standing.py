"""Where a manual loop stands: what its next verb builds on. Stage: train, beneath the session. Must not know: layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import warn
from ..executors.base import Feed
from ..executors.link import Program
from ..losses import Loss


@dataclass
class Standing:
    """Where a manual loop stands.

    Attributes:
        ticket: number of the last forward pass.
        rows: of its batch.
        program: it ran on; None after a pass in inference mode.
        feed: what it read.
        loss: that the loop used last, so that the next forward pass uses its plan.
        steps_since_zero: updates since `zero_grad`.
        backwards: gradients that the next one is added to.
        measured: the loss's gradient is there, and no backward pass has used it up.
        key: what `program` depends on besides its request.
        updater: what the last update depends on, its program, and the rates (1, 4) it reads.
        warned, diverged: what was warned of once: gradients that add up, a loss that is not finite.
    """

    ticket: int = 0
    rows: int = 0
    program: Program | None = None
    feed: Feed | None = None
    loss: Loss | None = None
    steps_since_zero: int = 0
    backwards: int = 0
    measured: bool = False
    key: tuple = ()
    updater: tuple[tuple, Program, np.ndarray] | None = None
    warned: bool = False
    diverged: bool = False

    def count_step(self) -> None:
        """An update; warn once of gradients that add up."""
        self.steps_since_zero += 1
        if self.steps_since_zero == 2 and not self.warned:
            self.warned = True
            warn(
                "step: called again without zero_grad() since the last one, so old gradients count again; "
                "call optimizer.zero_grad() before each backward()"
            )

    def diverge(self, value: float, where: str) -> None:
        """The loss is not finite; `where` says what was the first not to be."""
        self.diverged = True
        warn(
            f"loss: became {value} in forward pass {self.ticket}; {where}. "
            "Leave the loop before step(), lower the learning rate, clip gradients, or check the data"
        )
