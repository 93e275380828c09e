"""A sharded plan as one process runs it by itself: a worker that waits for nobody, or the server's updates.

Stage: executors. A worker computes one shard of a batch. By `shared_mean` its gradient is that of the mean over the whole
batch, number for number what the same shard gives in mode sync; else the shard is a batch of its own: gradients are those of
the mean over its rows, batch normalisation takes its statistics from them, and an update may follow at once.
Must not know: other processes, who computes what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..kernels import control, entries
from ..kernels.entries import rows_before, rows_in
from ..plan.plan import Plan
from .base import Executor, Feed, address
from .memory import Store, aligned_zeros
from .outline import Passage, outline
from .shards import Common, Place, ShardedProgram


@dataclass(frozen=True)
class Answer:
    """What a worker found in its rows of some batches.

    Attributes:
        rows: that it computed, of all batches together.
        sums: (sums,) of losses and metrics. losses: sum of the losses of its rows in each batch.
        stopped: the last of these losses is not finite, and the batches behind it have not been done.
    """

    rows: int
    sums: np.ndarray
    losses: tuple[float, ...]
    stopped: bool = False


def added(answers: list[Answer]) -> Answer:
    """What was found in batches that follow each other."""
    sums = np.sum([answer.sums for answer in answers], axis=0)
    losses = tuple(loss for answer in answers for loss in answer.losses)
    return Answer(sum(answer.rows for answer in answers), sums, losses, answers[-1].stopped)


class SoloProgram(ShardedProgram):
    """See the module's docstring.

    Args:
        gradient: (1, P) of T, where the gradient of a shard goes.
        exchange: of T, where a shard leaves the statistics that the moving averages need.
        updates: each batch is followed by an update of the store.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        gradient: np.ndarray,
        exchange: np.ndarray,
        updates: bool,
        words: np.ndarray | None = None,
    ):
        shards, after = plan.request.shards, 0 if plan.after is None else plan.after.arena_size
        self.updates, self.shared_mean, self.whole_shards = updates, not (updates or plan.meetings), shards
        sums = aligned_zeros(2 * shards * plan.sums, np.float64).reshape(2, shards, plan.sums)
        common = Common(gradient, sums, exchange, aligned_zeros(after, store.dtype), np.zeros(0, np.int64))
        super().__init__(plan, store, common, Place(0, shards), words)
        self._whole, self._total, self._order = self.plan.request.batch, 0, np.zeros(0, np.int64)
        self.sums, self.losses = np.zeros(plan.sums), np.zeros(1)

    def _fill_header(self, parts: int) -> None:
        super()._fill_header(parts)
        head = self.header
        head[entries.H_PART], head[entries.H_PARTS], head[entries.H_WORDS] = 0, parts, 0

    def _outline(self, first: int, last: int) -> list[Passage]:
        plan = self.plan if self.updates else replace(self.plan, after=None)
        return outline(plan, self.shards, first, last)

    def connect(self, feed: Feed) -> None:
        """As ever, but for sums and losses, which are this process's own."""
        batches = -(-feed.total // self._whole)
        self.losses = np.zeros(max(1, batches))
        order = np.arange(feed.total) if feed.order is None else feed.order
        super().connect(replace(feed, sums=self.sums, losses=self.losses, order=order))
        self._total, self._order = feed.total, order

    def compute(self, executor: Executor, batch: int, shard: int) -> Answer:
        """One shard of a batch."""
        rows = min(self._whole, self._total - batch * self._whole)
        own = rows_in(rows, shard, self.whole_shards)
        self.sums[:] = self.common.sums[:] = 0
        if own == 0:
            return Answer(0, self.sums.copy(), (0.0,))
        first = batch * self._whole + rows_before(rows, shard, self.whole_shards)
        self._cut(batch, shard, rows, own, first)
        steps = self.span(())
        script = self._script(steps)
        script[:, script[0, :, 0] == entries.COMPUTE, 4] = shard if self.shared_mean else 0
        executor.run(self, batch, batch + 1, steps)
        loss = float(self.sums[0])
        return Answer(own, self.sums.copy(), (loss,), not np.isfinite(loss))

    def _cut(self, batch: int, shard: int, rows: int, own: int, first: int) -> None:
        """Say which rows the next batch is: one of many shards of them, or the shard's own rows alone."""
        words, head = self.control, self.header
        words[:, control.ORDER] = address(self._order)
        words[:, control.BATCH], words[:, control.TOTAL], head[entries.H_SHARDS] = (
            self._whole,
            self._total,
            self.whole_shards,
        )
        if not self.shared_mean:
            words[:, control.BATCH], words[:, control.TOTAL], head[entries.H_SHARDS] = own, (batch + 1) * own, 1
            words[:, control.ORDER] = address(self._order) + 8 * (first - batch * own)


class UpdateProgram(SoloProgram):
    """What comes once a batch, on gradients that lie in `common.gradients` (V, P): folded, clipped, applied."""

    def __init__(self, plan: Plan, store: Store):
        exchange = aligned_zeros(plan.exchange, store.dtype)
        gradients = aligned_zeros(plan.request.shards * len(store.parameters), store.dtype)
        super().__init__(plan, store, gradients.reshape(plan.request.shards, -1), exchange, updates=True)

    def _fill_header(self, parts: int) -> None:
        super()._fill_header(1)  # one thread does the parts of all

    def _entries(self, part: int, first: int, last: int) -> list[list[int]]:
        table = self.tables[part]
        entry = [entries.APPLY, table.ctypes.data, len(table), self.common.after.ctypes.data, -1]
        return [[*entry, *[0] * (entries.ENTRY - len(entry))]]

    def update(self, executor: Executor, batch: int, shards: int, rows: int) -> None:
        """The update by that many gradients, `rows` samples in all, at the rate of a batch."""
        self.control[:, control.BATCH], self.control[:, control.TOTAL] = rows, (batch + 1) * rows
        self.header[entries.H_SHARDS] = shards
        executor.run(self, batch, batch + 1, (0, 0))
