"""A program that lies with worker processes, as the process that started them sees it. Stage: executors.

Must not know: how workers are started, or what they do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import StateError
from ..kernels.step import Buffer
from ..plan.plan import Plan
from .link import Program
from .memory import Store
from .outline import outline
from .remote_rings import Recorded
from .shards import Place
from .tapes import WAIT, WAIT_WORKERS, Line, Tape, lines_of_plan, lines_of_script

if TYPE_CHECKING:
    from .processes import ProcessesExecutor

#: names of the store's vectors
VECTORS = ("parameters", "gradients", "state", "slots")


class RemoteProgram(Program):
    """A program that lies with the workers; here are its plan, its control words and what comes back.

    Attributes:
        key: its number. shown: blocks of what a manual loop is shown, (rows, width), one for each output.
        flags: the workers' stop flags of the last run.
    """

    def __init__(self, executor: ProcessesExecutor, key: int, plan: Plan, store: Store, words: list[np.ndarray]):
        self.executor, self.key, self._store = executor, key, store
        self.shown: list[np.ndarray] = []
        self.flags: list[int] = []
        self.words = words
        empty = np.zeros(0)
        self.vectors = tuple(getattr(store, name) for name in VECTORS)
        whole = plan.after.request.batch if plan.after is not None else plan.request.batch
        self.plan = replace(plan, request=replace(plan.request, batch=whole))
        self.arena = self.scratch = self.tables = self.barrier = empty
        self.spans, self.runs_on, self.addresses = {}, None, None  # type: ignore[assignment]

    @property
    def store(self) -> Store:  # type: ignore[override]
        """The model's, up to date."""
        self.executor.fetch()
        return self._store

    @property
    def control(self) -> np.ndarray:  # type: ignore[override]
        """(parts of all workers, control.WIDTH), as they are now."""
        return np.concatenate(self.words)

    @property
    def undone(self) -> int:
        return self.executor.undone

    def batches_done(self) -> int:
        return self.executor.batches_done

    def stopped(self) -> bool:
        return any(self.flags)

    def record(self, tapes: list[Tape], kept_steps: int) -> None:
        request = self.plan.request
        self.executor.rings.record(self.key, Recorded(request.purpose, request.batch, self.lines_at, tapes, kept_steps))

    def lines_at(self, place: Place) -> tuple[Line, ...]:
        """What a recorded batch of the worker at that place is made of."""
        plan = self.plan
        if plan.request.shards == 1:
            return lines_of_plan(plan)
        passages = outline(plan, place.shards(plan.request.shards), 0, len(plan.steps))
        return lines_of_script(plan, passages, WAIT_WORKERS if place.workers > 1 else WAIT)

    def stop_recording(self) -> None:
        self.executor.rings.stop(self.key)

    def resume(self, accumulate: bool) -> None:
        self.flags = []
        self.executor.crew.tell("resume", self.key, accumulate)

    def view(self, buffer: Buffer, rows: int) -> np.ndarray:
        """What a manual loop is shown; other buffers lie with the workers."""
        names = [shown.name for shown in self.plan.shown]
        if buffer.name not in names:
            raise StateError(f"{buffer.name}: lies with the workers; use strategy='serial' to look at it")
        return self.shown[names.index(buffer.name)][:rows]


def bare_plan(plan: Plan) -> Plan:
    """A plan without what workers do not need: losses and optimizers of the user's own, which they could not read."""
    request = replace(plan.request, loss=None, metrics=(), optimizer=None, aims=())
    return replace(plan, request=request, targets=(), after=None if plan.after is None else bare_plan(plan.after))
