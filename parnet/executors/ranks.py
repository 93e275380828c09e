"""The executor of an MPI rank: its share of each batch by the serial or the threaded executor, the rest by messages.

Stage: executors. Every rank runs the same batches in the same order; between two stretches of native code they exchange
what the next one reads. Must not know: models, training.
"""

from __future__ import annotations

from ..comm.mpi import Apart, Died, Ranks, Stopped
from ..comm.tree import share_of
from ..errors import warn
from ..kernels import control
from ..plan.plan import Plan
from .base import Executor, Feed, listed
from .link import Program
from .memory import Store
from .rank_program import RankProgram, Stretch

#: purpose of a plan -> what the user called
CALLS = {"train": "fit", "evaluate": "evaluate", "predict": "predict"}


class RanksExecutor(Executor):
    """One rank's part of a training on several.

    Args:
        inner: runs this rank's native code.
        ranks: all of them.
        shrinks: the others go on where a rank dies.
    """

    name = "mpi"

    def __init__(self, inner: Executor, ranks: Ranks, shrinks: bool = False):
        self.inner, self.ranks, self.threads, self.shrinks = inner, ranks, inner.threads, shrinks
        self._feed: Feed | None = None
        #: feeds that were started; batches of the last one that are done; those that others did before a rank died
        self._starts = self._done = self._ahead = 0

    def open(self, plan: Plan, store: Store) -> Program:
        """Rank 0 first: it fills the cache of kernels for the others."""
        return self.ranks.lead_first(lambda: self._open(plan, store))

    def _open(self, plan: Plan, store: Store) -> Program:
        if plan.request.shards == 1 or self.ranks.size == 1:
            return self.inner.open(plan, store)
        return RankProgram(plan, store, self.ranks.rank, self.ranks.size)

    def start(self, program: Program, feed: Feed) -> None:
        """Raises RankError where ranks do different things, or have different numbers of rows."""
        request = program.plan.request
        if isinstance(program, RankProgram) and request.purpose in CALLS:
            self.ranks.check_alike({"number of rows": feed.total, "batch size": request.batch}, CALLS[request.purpose])
        self._feed, self._ahead = feed, 0
        self._starts += 1
        if isinstance(program, RankProgram) and (program.place.worker, program.place.workers) != self._place:
            program.cut_anew(*self._place)
        self.inner.start(program, feed)

    @property
    def _place(self) -> tuple[int, int]:
        return self.ranks.rank, self.ranks.size

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        """Raises Stopped, a KeyboardInterrupt, on all ranks after the same batch, where one of them was asked to stop."""
        if not isinstance(program, RankProgram):
            self.inner.run(program, first, last, steps)
            return
        span = steps or program.span(())
        self._done, lost = max(first, self._ahead), False
        while self._done < last:
            try:
                if lost:
                    self._go_on_without(program)
                    lost = False
                    continue
                stop = self._run_batch(program, self._done, span)
            except Died:
                if not self.shrinks or span != program.span(()):  # of a part, such as "backward", the lost rank has the rest
                    raise
                lost = True
                continue
            if program.stopped():
                return
            self._done += 1
            if stop:
                raise Stopped("all ranks stop behind the same step")

    def _run_batch(self, program: RankProgram, batch: int, span: tuple[int, int]) -> bool:
        """One batch, in stretches. Returns whether some rank was asked to stop."""
        stop = False
        for stretch in program.stretches(span):
            program.run_stretch(span, stretch)
            self.inner.run(program, batch, batch + 1, span)
            if program.stopped():
                return stop
            stop |= self._exchange(program, stretch, batch)
        if program.plan.request.purpose == "predict":
            self._gather_outputs(program, batch)
            program.mark(program.last_line)
        return stop

    def _go_on_without(self, program: RankProgram) -> None:
        """A rank has died: the others take over its shards, from where the one that got farthest is.

        Weights change, and sums of losses grow, only in native code behind the last exchange of a batch, so each rank stands
        between two batches, and they stand at most one apart. Each keeps its own numbers until it has all of the farthest
        one's: should another one die meanwhile, this is done again, by ranks that all have whole weights. What `predict`
        gives is in the last exchange itself: a batch that not all have is done again.
        Raises:
            Apart: rank 0 died, or some were already done with this run: there is nobody to go on with them.
        """
        ranks, store, feed = self.ranks, program.store, self._feed
        words = ranks.shrink()
        places = ranks.all_objects((self._starts, self._done))
        if feed is None or len({starts for starts, _ in places}) > 1:
            raise Apart(f"MPI: {words}, while ranks went from one run to the next; start again from the last checkpoint")
        which = min if program.plan.request.purpose == "predict" else max
        chosen = which(range(ranks.size), key=lambda rank: places[rank][1])
        mine = store.parameters, store.state, store.slots, feed.sums, feed.losses
        theirs = [vector.copy() for vector in mine]
        for vector in theirs:
            ranks.broadcast(vector, chosen)
        for vector, whole in zip(mine, theirs, strict=True):
            vector[...] = whole
        self._done = self._ahead = places[chosen][1]
        program.cut_anew(*self._place)
        self.inner.start(program, feed)
        if ranks.leads:
            go = "1 goes" if ranks.size == 1 else f"{ranks.size} go"
            warn(f"MPI: {words}; {go} on with all shards, from batch {self._done + 1}")

    def _exchange(self, program: RankProgram, stretch: Stretch, batch: int) -> bool:
        """What the next stretch reads. Returns whether some rank was asked to stop."""
        ranks, common, stop, line = self.ranks, program.common, False, stretch.line
        if stretch.sums:
            program.tell(batch, ranks.stop_wanted)
            ranks.gather_words(*program.words)
            stop = program.hear(batch)
            line = program.mark(line)
        for first, width in stretch.shown:
            shards = common.exchange[first : first + program.plan.request.shards * width].reshape(-1, width)
            ranks.gather_rows(shards, program.owners)
            line = program.mark(line)
        if stretch.gradients:
            self._fold(program, batch, line)
        return stop

    def _fold(self, program: RankProgram, batch: int, line: int) -> None:
        """The whole gradient, on every rank. line: of a recorded batch, that this begins with."""
        ranges, ranks, gradient = program.ranges, self.ranks, program.store.gradients
        ranks.swap(program.out, program.into, ranges.sent, ranges.received)
        line = program.mark(line)
        before = gradient.copy() if program.accumulates() else None
        program.add_up(batch, gradient[ranges.ends[ranks.rank] : ranges.ends[ranks.rank + 1]])
        line = program.mark(line)
        ranks.gather_rows(gradient, ranges.ends)
        if before is not None:
            gradient += before
        program.mark(line)

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
