"""The executor of an MPI rank: its share of each batch by the serial or the threaded executor, the rest by messages.

Stage: executors. Every rank runs the same batches in the same order; between two stretches of native code they exchange
what the next one reads. Must not know: models, training.
"""

from __future__ import annotations

from ..comm.mpi import Ranks
from ..comm.tree import share_of
from ..kernels import control
from ..plan.plan import Plan
from .base import Executor, Feed, listed
from .link import Program
from .memory import Store
from .rank_program import RankProgram, Stretch


class RanksExecutor(Executor):
    """One rank's part of a training on several.

    Args:
        inner: runs this rank's native code.
        ranks: all of them.
    """

    name = "mpi"

    def __init__(self, inner: Executor, ranks: Ranks):
        self.inner, self.ranks, self.threads = inner, ranks, inner.threads
        self._feed: Feed | None = None

    def open(self, plan: Plan, store: Store) -> Program:
        """Rank 0 first: it fills the cache of kernels for the others."""
        return self.ranks.lead_first(lambda: self._open(plan, store))

    def _open(self, plan: Plan, store: Store) -> Program:
        if plan.request.shards == 1 or self.ranks.size == 1:
            return self.inner.open(plan, store)
        return RankProgram(plan, store, self.ranks.rank, self.ranks.size)

    def start(self, program: Program, feed: Feed) -> None:
        self._feed = feed
        self.inner.start(program, feed)

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        """Raises KeyboardInterrupt on all ranks after the same batch, where one of them was asked to stop."""
        if not isinstance(program, RankProgram):
            self.inner.run(program, first, last, steps)
            return
        span = steps or program.span(())
        stretches = program.stretches(span)
        for batch in range(first, last):
            stop = False
            for stretch in stretches:
                program.run_stretch(span, stretch)
                self.inner.run(program, batch, batch + 1, span)
                if program.stopped():
                    return
                stop |= self._exchange(program, stretch, batch)
            if program.plan.request.purpose == "predict":
                self._gather_outputs(program, batch)
            if stop:
                raise KeyboardInterrupt

    def _exchange(self, program: RankProgram, stretch: Stretch, batch: int) -> bool:
        """What the next stretch reads. Returns whether some rank was asked to stop."""
        ranks, common, stop = self.ranks, program.common, False
        if stretch.sums:
            program.tell(batch, ranks.stop_wanted)
            ranks.gather_words(*program.words)
            stop = program.hear(batch)
        for first, width in stretch.shown:
            shards = common.exchange[first : first + program.plan.request.shards * width].reshape(-1, width)
            ranks.gather_rows(shards, program.owners)
        if stretch.gradients:
            self._fold(program, batch)
        return stop

    def _fold(self, program: RankProgram, batch: int) -> None:
        """The whole gradient, on every rank."""
        ranges, ranks, gradient = program.ranges, self.ranks, program.store.gradients
        ranks.swap(program.out, program.into, ranges.sent, ranges.received)
        before = gradient.copy() if program.accumulates() else None
        program.add_up(batch, gradient[ranges.ends[ranks.rank] : ranges.ends[ranks.rank + 1]])
        ranks.gather_rows(gradient, ranges.ends)
        if before is not None:
            gradient += before

    def _gather_outputs(self, program: RankProgram, batch: int) -> None:
        """The rows that each rank predicted of a batch."""
        rows, shards, size = program.rows_of(batch), program.plan.request.shards, self.ranks.size
        begin = batch * int(program.control[0, control.BATCH])
        owned = [share_of(r, size, shards)[0] for r in range(size)] + [shards]
        ends = [rows * shard // shards for shard in owned]
        for out in listed(self._feed.out) if self._feed is not None else ():
            if out is not None:
                self.ranks.gather_rows(out[begin : begin + rows], ends)

    def close(self) -> None:
        self.inner.close()
