"""What happens to the parameter server, and what it answers. Stage: server, lowest: plain data.

A worker's life: it joins; it is told to `Begin` a step with the parameters of a version; it computes and pushes; it is told
to begin the next step, and so on until it leaves. Steps count from 0 for each worker: step k is the one that follows its
k-th accepted push. A message that may have been lost is sent again, word for word: each push counts once.
Must not know: arrays, processes, transports.
"""

from __future__ import annotations

from dataclasses import dataclass

# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Join:
    """A worker is ready for its first step, or comes back after it was lost."""

    worker: int


@dataclass(frozen=True)
class Push:
    """A worker has finished a step; its gradient (in mode local its parameters) lies ready.

    Attributes:
        worker: its number.
        step: the one it was told to begin.
        rows: samples that the gradient is a sum over; 0 for an empty shard.
    """

    worker: int
    step: int
    rows: int


@dataclass(frozen=True)
class Leave:
    """A worker has no more steps to do, or was lost. What it has pushed before counts."""

    worker: int


Event = Join | Push | Leave

# -- replies --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begin:
    """To a worker: begin this step with the parameters of this version."""

    worker: int
    step: int
    version: int


@dataclass(frozen=True)
class Drop:
    """A gradient came after its update had been made without it: it is not used, and its place is free again."""

    worker: int
    step: int
    rows: int


@dataclass(frozen=True)
class Share:
    """One worker's gradient in an update.

    Attributes:
        worker, step, rows: as pushed.
        staleness: updates made since the parameters that it was computed with.
    """

    worker: int
    step: int
    rows: int
    staleness: int


@dataclass(frozen=True)
class Update:
    """Sum up these gradients, divide once by `rows`, and let the optimizer make one step: that makes `version`.

    Attributes:
        version: of the parameters after it, from 1.
        shares: whose gradients, in the order of the workers' numbers.
        rows: of all of them together, above 0.
        rate_factor: what the learning rate is multiplied by for this update.
    """

    version: int
    shares: tuple[Share, ...]
    rows: int
    rate_factor: float = 1.0


@dataclass(frozen=True)
class Average:
    """Replace the parameters by the mean of these workers' own, weighted by their rows: that makes `version`."""

    version: int
    shares: tuple[Share, ...]
    rows: int


Reply = Begin | Drop | Update | Average
