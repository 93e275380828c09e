"""A plan in virtual shards made runnable: tables for each shard, and the script that says who runs what. Stage: executors.

One process may hold all shards of a batch (`Serial(shards=V)`, `Threads(n, shards=V)`), or some of them, with others
elsewhere. Must not know: how processes are started, or where shared memory comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..kernels import control, entries, library
from ..kernels.entries import LINE, SPINS, rows_before, rows_in
from ..kernels.step import TABLE_ROW, Buffer
from ..plan.plan import Plan
from .link import BARRIER_WORDS, STOP_WORD, Addresses, Program, make_arena, make_control, make_scratch, make_tables, view_of
from .memory import Store, aligned_zeros
from .outline import BETWEEN, Passage, outline
from .tapes import WAIT, WAIT_WORKERS, Line, lines_of_script

if TYPE_CHECKING:
    from .base import Feed


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that share the shards.

    Attributes:
        worker, workers: its number, and how many there are.
        spins: looks at a meeting before it offers its core to others.
    """

    worker: int = 0
    workers: int = 1
    spins: int = SPINS

    def shards(self, shards: int) -> range:
        """The shards that are its own: a run of them, as many as the others have or one more or less."""
        return range(shards * self.worker // self.workers, shards * (self.worker + 1) // self.workers)


@dataclass
class Common:
    """What all processes read and write.

    Attributes:
        gradients: (V, P) of T, one vector for each shard.
        sums: (2, V, sums) float64: losses and metrics of each shard, for two batches in turn.
        exchange: of T, what shards show each other within a batch.
        after: of T, the arena of the steps that come once a batch.
        words: int64, where processes meet; empty for one process.
    """

    gradients: np.ndarray
    sums: np.ndarray
    exchange: np.ndarray
    after: np.ndarray
    words: np.ndarray

    @staticmethod
    def sizes(plan: Plan, parameters: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each, for a model with so many parameters."""
        request, dtype = plan.request, plan.request.dtype
        trains = plan.after is not None and request.purpose in ("train", "manual")
        parts = request.workers * request.threads
        return {
            "gradients": ((request.shards, parameters if trains else 0), dtype),
            "sums": ((2, request.shards, plan.sums), "float64"),
            "exchange": ((plan.exchange,), dtype),
            "after": ((plan.after.arena_size if plan.after else 0,), dtype),
            "words": ((LINE * (1 + parts) if request.workers > 1 else 0,), "int64"),
        }

    @classmethod
    def of(cls, plan: Plan, parameters: int) -> Common:
        """All of it in this process alone."""
        made = {}
        for name, (shape, dtype) in cls.sizes(plan, parameters).items():
            made[name] = aligned_zeros(int(np.prod(shape)), dtype, "virtual shards", "take fewer shards").reshape(shape)
        return cls(**made)


@dataclass
class View(Store):
    """A store as one shard sees it, or as the steps do that come once a batch."""

    shards: np.ndarray = field(default_factory=lambda: np.zeros(0))
    exchange: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass
class Shard:
    """One shard's tables.

    Attributes:
        arena: its activations; other shards' too where one is done with them before the next begins.
        tables: (parts, steps, TABLE_ROW).
    """

    arena: np.ndarray
    tables: np.ndarray


class ShardedProgram(Program):
    """A plan in virtual shards, as far as this process runs it. Its `plan` is that of a shard, but for `request.batch`.

    Attributes:
        place: of this process.
        common: what it shares with the others.
        shards: its own, by number.
        header: int64 words that the script reads.
    """

    loop = "loop.run_script"

    def __init__(self, plan: Plan, store: Store, common: Common, place: Place, control_words: np.ndarray | None = None):
        library.address(self.loop, "float32")  # compiled now, not in the first batch
        parts = plan.request.threads
        self.place, self.common, self.after = place, common, plan.after
        self.shards: dict[int, Shard] = {}
        own = place.shards(plan.request.shards)
        view = View(store.dtype, store.parameters, store.gradients, store.state, store.slots)
        view.shards, view.exchange = common.gradients, common.exchange
        apart = plan.meetings or plan.request.purpose == "manual"  # then a shard is left while others go on
        arena = make_arena(plan, store.dtype)
        for number, shard in enumerate(own):
            arena = make_arena(plan, store.dtype) if apart and number else arena
            mine = replace(view, gradients=common.gradients[shard])
            self.shards[shard] = Shard(arena, make_tables(plan, mine, arena))
        tables = np.zeros((parts, 0, TABLE_ROW), np.int64)
        if plan.after is not None:
            tables = make_tables(plan.after, view, common.after, parts)
        scratch = make_scratch(plan, store.dtype, parts)
        words, barrier = make_control(_whole(plan), scratch, control_words), aligned_zeros(BARRIER_WORDS, np.int64)
        self.header = aligned_zeros(entries.HEADER + 2, np.int64)
        self._scripts: dict[tuple[int, int], np.ndarray] = {}
        vectors = (store.parameters, store.gradients, store.state, store.slots)
        outer = replace(plan, request=replace(plan.request, batch=_whole(plan)))
        control_at = tuple(words[p].ctypes.data for p in range(parts))
        addresses = Addresses((), control_at, barrier.ctypes.data, arena.ctypes.data)
        super().__init__(outer, store, arena, scratch, tables, words, barrier, addresses, {}, vectors)
        self._fill_header(parts)

    def _fill_header(self, parts: int) -> None:
        head, common, place = self.header, self.common, self.place
        head[entries.H_SHARDS], head[entries.H_WIDTH] = self.plan.request.shards, self.plan.sums
        head[entries.H_SUMS] = common.sums.ctypes.data
        head[entries.H_STOP] = self.barrier.ctypes.data + STOP_WORD * 8
        head[entries.H_PART], head[entries.H_PARTS] = place.worker * parts, place.workers * parts
        head[entries.H_WORDS] = common.words.ctypes.data if place.workers > 1 else 0
        head[entries.H_SPARE], head[entries.H_SPINS] = head.ctypes.data + 8 * entries.HEADER, place.spins

    def connect(self, feed: Feed) -> None:
        super().connect(feed)
        head = self.header
        head[entries.H_TOTALS], head[entries.H_LOSSES] = self.control[0, [control.SUMS, control.LOSSES]]
        self.resume(feed.accumulate)

    def resume(self, accumulate: bool) -> None:
        self.control[:, [control.APPLIED, control.UPDATED]] = 0
        self.control[:, control.ACCUMULATE] = 0  # a shard's gradient is its own; what is added up is their sum
        self.header[entries.H_ACCUMULATE] = accumulate
        self.barrier[STOP_WORD] = 0

    def job(self, part: int, first: int, last: int, steps: tuple[int, int]) -> tuple[int, ...]:
        script = self._script(steps)
        return (
            script[part].ctypes.data,
            script.shape[1],
            first,
            last,
            self.barrier.ctypes.data,
            self.header.ctypes.data,
            0,
        )

    # -- the script -----------------------------------------------------------------------------

    def _script(self, steps: tuple[int, int]) -> np.ndarray:
        """(parts, entries, ENTRY) for a run of the shards' steps, and what comes once a batch behind it."""
        found = self._scripts.get(steps)
        if found is None:
            parts = [self._entries(part, *steps) for part in range(self.plan.request.threads)]
            found = self._scripts[steps] = np.array(parts, np.int64).reshape(len(parts), -1, entries.ENTRY)
        return found

    def _outline(self, first: int, last: int) -> list[Passage]:
        """What the script says for the steps first..last."""
        return outline(self.plan, self.shards, first, last)

    def _entries(self, part: int, first: int, last: int) -> list[list[int]]:
        """One part's entries for the steps first..last."""
        result, line = [], 0
        for passage in self._outline(first, last):
            if passage.kind != BETWEEN:
                entry = self._entry(passage, part)
                result.append([*entry, *[0] * (entries.ENTRY - len(entry))])
                result[-1][entries.E_LINE] = line
            line += passage.lines
        return result

    def _entry(self, passage: Passage, part: int) -> list[int]:
        begin, end = passage.first, passage.last
        if passage.kind == entries.COMPUTE:
            shard = self.shards[passage.shard]
            return _words(passage, shard.tables[part, begin:end], shard.arena)
        if passage.kind == entries.APPLY:
            return _words(passage, self.tables[part, begin:end], self.common.after)
        return [passage.kind]

    def lines(self) -> tuple[Line, ...]:
        passages = self._outline(0, len(self.plan.steps))
        return lines_of_script(self.plan, passages, WAIT_WORKERS if self.place.workers > 1 else WAIT)

    # -- looking in -----------------------------------------------------------------------------

    def view(self, buffer: Buffer, rows: int) -> np.ndarray:
        """The first rows of an arena buffer of all shards, shaped (rows, width), as a copy."""
        plan, shards = self.plan, self.plan.request.shards
        result = np.empty((rows, buffer.width), self.arena.dtype)
        for number, shard in self.shards.items():
            first, count = rows_before(rows, number, shards), rows_in(rows, number, shards)
            result[first : first + count] = view_of(plan, shard.arena, buffer, count)
        return result


def _words(passage: Passage, table: np.ndarray, memory: np.ndarray) -> list[int]:
    """The entry of a table."""
    where = table.ctypes.data, table.shape[0], memory.ctypes.data
    return [passage.kind, *where, passage.shard, int(passage.flag)]


def _whole(plan: Plan) -> int:
    """Rows of a full batch."""
    return plan.after.request.batch if plan.after is not None else plan.request.batch


def link_shards(
    plan: Plan, store: Store, common: Common | None = None, place: Place = Place(), words: np.ndarray | None = None
) -> ShardedProgram:
    """As `link`, for a plan in virtual shards.

    Args:
        common: what is shared with other processes; made here where there are none.
        place: of this process among them.
        words: room for the control words, where others shall see them.
    """
    if common is None:
        common = Common.of(plan, len(store.parameters))
    return ShardedProgram(plan, store, common, place, words)
