"""The contract of an executor, and what a run is fed with. Stage: executors. Must not know: models, training.

    with open_executor(...) as executor:
        program = executor.open(plan, store)
        executor.run(program, feed, 0, batches)

Every executor gives the same bits. Use as a context manager, or call `close`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..kernels import control
from ..plan.plan import Plan
from .interrupts import interrupts_held_back
from .link import Program, link
from .memory import Store
from .shards import link_shards

#: one array, or those of several inputs or outputs, where one without a loss has no targets
Arrays = np.ndarray | tuple[np.ndarray | None, ...] | tuple[np.ndarray, ...] | None


@dataclass
class Feed:
    """The arrays of one run; the executor hands their addresses to the kernels and keeps them alive.

    Attributes:
        x: (rows, ...) C-contiguous, of the dtype the plan was made for; of several inputs a tuple.
        y: (rows, width) of T, or None, of several outputs a tuple; weight: (rows,) of T, or None.
        order: (total,) int64 rows in the order of the run, or None for 0, 1, 2, ...
        out: (total, width) of T that predictions go to, or None; of several outputs a tuple.
        rates: (batches, 4) float64, or None.
        sums: float64 that losses and metrics add to.
        losses: (batches,) float64.
        total: rows of the run.
        epoch, seed: keys of the random numbers.
        accumulate: add to the gradients instead of overwriting them.
        unchanged: what vouches that x, y and weight are what they were in the last feed with the same voucher, so that a
            device need not be sent them again; None for nothing.
        first_row: number in the data set of the row that x, y and weight begin with.
        first_place: position in the run that order and out begin with; a whole number of full batches.
        first_batch: number in the run of the batch that rates and losses begin with. These three are 0 but for the
            executors of strategies with `streams`.
    """

    x: Arrays
    total: int
    y: Arrays = None
    weight: np.ndarray | None = None
    order: np.ndarray | None = None
    out: Arrays = None
    rates: np.ndarray | None = None
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))
    losses: np.ndarray = field(default_factory=lambda: np.zeros(1))
    epoch: int = 0
    seed: int = 0
    accumulate: bool = False
    unchanged: object = None
    first_row: int = 0
    first_place: int = 0
    first_batch: int = 0

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        """The arrays of all inputs."""
        return tuple(x for x in listed(self.x) if x is not None)

    def words(self) -> tuple[int, ...]:
        """The control words from FEED to FEED_END, in their order."""
        return (
            *(0, 0),
            address(listed(self.x)[0], self.first_row),
            self.total,
            address(listed(self.y)[0], self.first_row),
            address(self.weight, self.first_row),
            address(self.order, self.first_place),
            address(listed(self.out)[0], self.first_place),
            address(self.rates, self.first_batch),
            address(self.sums),
            address(self.losses, self.first_batch),
            self.epoch,
            self.seed,
            int(self.accumulate),
        )

    def more_words(self) -> dict[int, int]:
        """Control words of the inputs, targets and predictions behind the first."""
        row, place = self.first_row, self.first_place
        kinds = ((control.MORE_X, self.x, row), (control.MORE_Y, self.y, row), (control.MORE_OUT, self.out, place))
        return {first + k: address(a, before) for first, arrays, before in kinds for k, a in enumerate(listed(arrays)[1:])}


def listed(arrays: Arrays) -> Sequence[np.ndarray | None]:
    """One or several arrays, as a sequence."""
    return arrays if isinstance(arrays, tuple) else (arrays,)


def address(array: np.ndarray | None, before: int = 0) -> int:
    """Where a C-contiguous array would start if so many rows came before it, 0 for none.

    Three times as fast as `array.ctypes.data`.
    """
    if array is None or not array.size:
        return 0
    return array.__array_interface__["data"][0] - (before * (array.nbytes // len(array)) if before else 0)


class Executor(ABC):
    """Runs programs.

    Attributes:
        name: of the strategy.
        threads: how many parts it runs at once; plans are made for that many.
    """

    name: str = ""
    threads: int = 1
    #: the last run was ended because another process that it waited for is gone
    ended: bool = False
    #: what a run leaves in a program's arena is there in the next
    keeps: bool = False
    #: brings the store up to date, where other processes work on copies of its vectors
    fetch: Callable[[], None] | None = None

    def open(self, plan: Plan, store: Store) -> Program:
        """Make a plan runnable on a model's weights."""
        store.bring_home()
        return link(plan, store) if plan.request.shards == 1 else link_shards(plan, store)

    def start(self, program: Program, feed: Feed) -> None:
        """Connect a feed; to be called when its arrays change, before `run`."""
        program.store.bring_home()
        program.connect(feed)

    @abstractmethod
    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        """Batches first..last of the feed, all steps or those from steps[0] up to before steps[1]."""

    def infer(self, program: Program, first: int, last: int, version: int) -> None:
        """Batches first..last in inference; what the plan makes of weights alone is made once for a version of them."""
        plan = program.plan
        if not (self.keeps and plan.prepared and plan.after is None):
            self.run(program, first, last)
            return
        if program.prepared != version:
            rings = program.control[:, control.TRACE].copy()
            program.control[:, control.TRACE] = 0  # it is no batch
            try:
                self.run(program, first, first + 1, (0, plan.prepared))
            finally:
                program.control[:, control.TRACE] = rings
            program.prepared = version
        self.run(program, first, last, (plan.prepared, len(plan.steps)))

    def close(self) -> None:  # noqa: B027 - nothing to close is the common case
        """Give back threads and processes. May be called twice."""

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.close()


def waited_share(program: Program) -> float:
    """The share of the run that parts spent waiting for each other, the mean over the parts; 0 where not measured."""
    cycles, waited = program.control[:, control.CYCLES].tolist(), program.control[:, control.WAITED].tolist()
    # a helper may not have counted its last stretch yet, while its waiting has been counted as it went
    shares = [min(1.0, some / all_) if all_ else 0.0 for some, all_ in zip(waited, cycles, strict=True)]
    return sum(shares) / len(shares) if all(cycles) else 0.0


def close_all(executors: dict[Any, Executor]) -> None:
    """Close them and forget them; Ctrl-C meanwhile is heard when none is left."""
    with interrupts_held_back():
        for executor in executors.values():
            executor.close()
        executors.clear()
