"""A plan made runnable: its arena, and its step table with addresses. Stage: executors. Must not know: threads.

Offsets in the table count elements from the arena's start; weights lie elsewhere and are reached by their distance from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import StateError
from ..kernels import control, library
from ..kernels.step import SCRATCH, TABLE_ROW, Buffer, pair, row_stride
from ..plan.builder import align
from ..plan.plan import Plan
from ..server.machine import Tally
from .memory import Store, aligned_zeros
from .pace import Pace
from .tapes import Line, Tape, lines_of_plan, new_rings, room_for

if TYPE_CHECKING:
    from .base import Feed

#: words of the barrier's state, with the stop flag on a cache line of its own
BARRIER_WORDS, STOP_WORD = 32, 24


@dataclass(frozen=True)
class Addresses:
    """Addresses that every run needs, asked for once."""

    tables: tuple[int, ...]
    control: tuple[int, ...]
    barrier: int
    arena: int


@dataclass(repr=False)
class Program:
    """One plan, linked to one store.

    Attributes:
        loop: the kernel that runs it.
        plan: what it runs.
        store: whose weights.
        arena: (arena_size,) of T.
        scratch: (parts, at least SCRATCH) of T.
        tables: (parts, steps, TABLE_ROW) int64: kernel's address, parts, barrier, operands.
        control: (parts, control.WIDTH) int64.
        barrier: int64 words that the parts meet at.
        addresses: of each part's table and control words, of the barrier and of the arena.
        spans: phases -> run of steps, filled as they are asked for.
        vectors: the store's, as the tables address them; held, so that they outlive whatever the store gets instead.
        runs_on: what its owner finds its executor by.
        missed: rows of the feed's batches so far that nobody computed.
        tally: what a parameter server has counted, where it decides who goes when.
        paces: run of steps -> whether threads pay for it, see `pace.py`.
        prepared: the version of the weights that the plan's first steps have been run with, None before.
    """

    loop: ClassVar[str] = "loop.run"

    plan: Plan
    store: Store
    arena: np.ndarray
    scratch: np.ndarray
    tables: np.ndarray
    control: np.ndarray
    barrier: np.ndarray
    addresses: Addresses
    spans: dict[tuple[str, ...], tuple[int, int]]
    vectors: tuple[np.ndarray, ...]
    runs_on: Any = None
    missed: int = 0
    tally: Tally | None = None
    paces: dict[tuple[int, int], Pace] = field(default_factory=dict)
    prepared: int | None = None

    def __repr__(self) -> str:
        """What it is, without its arrays, and without asking processes or devices for theirs."""
        plan = self.plan
        return f"<{type(self).__name__}: {plan.request.purpose}, batches of {plan.request.batch}, {len(plan.steps)} steps>"

    def span(self, phases: tuple[str, ...]) -> tuple[int, int]:
        """The run of steps that belong to the phases; all steps for none."""
        if phases not in self.spans:
            self.spans[phases] = self.plan.span(*phases) if phases else (0, len(self.plan.steps))
        return self.spans[phases]

    def connect(self, feed: Feed) -> None:
        """Hand the addresses of a feed's arrays to the kernels."""
        self.control[:, control.FEED : control.FEED_END] = feed.words()
        for word, value in feed.more_words().items():
            self.control[:, word] = value
        self.control[:, control.STEP] = -1
        self.barrier[STOP_WORD] = 0

    def job(self, part: int, first: int, last: int, steps: tuple[int, int]) -> tuple[int, ...]:
        """The operands of the kernel `loop` for one part: batches first..last, steps from steps[0] up to before steps[1]."""
        where = self.addresses
        table = where.tables[part] + steps[0] * TABLE_ROW * 8
        return (table, pair(steps[0], steps[1] - steps[0]), first, last, where.barrier, where.arena, 0)

    def view(self, buffer: Buffer, rows: int) -> np.ndarray:
        """The first rows of an arena buffer, shaped (rows, width), as a view."""
        return view_of(self.plan, self.arena, buffer, rows)

    def batches_done(self) -> int:
        """How many batches of the feed have been run."""
        return int(self.control[0, control.STEP]) + 1

    @property
    def undone(self) -> int:
        """Batches that `run` has done, but whose updates the weights no longer hold after a failure."""
        return 0

    def lines(self) -> tuple[Line, ...]:
        """What a recorded batch is made of."""
        return lines_of_plan(self.plan)

    def record(self, tapes: list[Tape], kept_steps: int) -> None:
        """Have the next runs recorded, so many steps of them. tapes: where new ones are put."""
        if self.control[0, control.TRACE]:
            return
        lines, parts, request = self.lines(), len(self.control), self.plan.request
        rings = new_rings(room_for(kept_steps, len(lines), parts), len(lines), parts)
        self.control[:, control.TRACE] = [ring.ctypes.data for ring in rings]
        tapes.append(Tape(request.purpose, lines, request.batch, rings))

    def stop_recording(self) -> None:
        """Record no more."""
        self.control[:, control.TRACE] = 0

    def resume(self, accumulate: bool) -> None:
        """Ready for further phases of the batch that was fed last, whatever its loss was."""
        self.control[:, control.ACCUMULATE] = accumulate
        self.barrier[STOP_WORD] = 0

    def stopped(self) -> bool:
        """Whether the loss has raised the stop flag."""
        return bool(self.barrier[STOP_WORD])


def view_of(plan: Plan, arena: np.ndarray, buffer: Buffer, rows: int) -> np.ndarray:
    """The first rows of a buffer of a plan's arena, shaped (rows, width), as a view."""
    first, stride = plan.offsets[buffer.name], row_stride(buffer.width)
    return arena[first : first + rows * stride].reshape(rows, stride)[:, : buffer.width]


def link(plan: Plan, store: Store, words: np.ndarray | None = None) -> Program:
    """Allocate a plan's arena and write its table. Compiles the kernels that are not in the cache.

    Args:
        words: room for the control words, where others shall see them.
    Raises:
        ResourceError: the arena does not fit into memory.
    """
    parts = plan.request.threads
    arena, scratch = make_arena(plan, store.dtype), make_scratch(plan, store.dtype, parts)
    tables = make_tables(plan, store, arena)
    words, barrier = make_control(plan.request.batch, scratch, words), aligned_zeros(BARRIER_WORDS, np.int64)
    words[:, control.STOP] = barrier.ctypes.data + STOP_WORD * 8
    addresses = Addresses(
        tuple(tables[p].ctypes.data for p in range(parts)),
        tuple(words[p].ctypes.data for p in range(parts)),
        barrier.ctypes.data,
        arena.ctypes.data,
    )
    vectors = (store.parameters, store.gradients, store.state, store.slots)
    return Program(plan, store, arena, scratch, tables, words, barrier, addresses, {}, vectors)


def make_arena(plan: Plan, dtype: str) -> np.ndarray:
    """Room for a plan's activations. Raises ResourceError where there is none."""
    what = f"plan for batch {plan.request.batch}: activations"
    return aligned_zeros(plan.arena_size, dtype, what, "use a smaller batch_size")


def make_scratch(plan: Plan, dtype: str, parts: int) -> np.ndarray:
    """(parts, numbers) of scratch memory, as much as the plan's steps need."""
    wanted = max((step.scratch for step in plan.steps), default=0) * 8 // np.dtype(dtype).itemsize
    each = max(SCRATCH, align(wanted))
    return aligned_zeros(parts * each, dtype).reshape(parts, each)


def make_control(batch: int, scratch: np.ndarray, words: np.ndarray | None = None) -> np.ndarray:
    """(parts, control.WIDTH) control words: rows of a batch, and each part's scratch memory."""
    parts = len(scratch)
    if words is None:
        words = aligned_zeros(parts * control.WIDTH, np.int64).reshape(parts, control.WIDTH)
    words[:, control.BATCH], words[:, control.TRACE] = batch, 0
    for part in range(parts):
        words[part, control.SCRATCH] = scratch[part].ctypes.data
    return words


def make_tables(plan: Plan, store: Store, arena: np.ndarray, parts: int | None = None) -> np.ndarray:
    """(parts, steps, TABLE_ROW): each part's table of the plan's steps."""
    parts = plan.request.threads if parts is None else parts
    tables = np.zeros((parts, len(plan.steps), TABLE_ROW), np.int64)
    for part in range(parts):
        for index, (step, slot) in enumerate(zip(plan.steps, plan.slots, strict=True)):
            operands = [_word(operand, part, plan, store, arena) for operand in step.operands]
            address = library.address(step.kernel, store.dtype)
            tables[part, index, : 3 + len(operands)] = [address, slot.parts, slot.barrier, *operands]
    return tables


def _word(operand, part: int, plan: Plan, store: Store, arena: np.ndarray) -> int:
    """An operand as the kernel reads it."""
    if isinstance(operand, Buffer):
        operand = (operand, 0)
    if not isinstance(operand, tuple):
        return int(operand)
    buffer, further = plan.buffers[operand[0].name], operand[1]
    if buffer.region == "arena":
        place = plan.offsets[buffer.name] + further
        if buffer.copies:
            place += part * align(row_stride(buffer.width) * plan.request.batch)
        return place
    vector = store.region(buffer.region)
    offset = _offset(buffer, plan) + further
    distance, rest = divmod(vector.ctypes.data - arena.ctypes.data, vector.itemsize)
    if rest:
        raise StateError(f"operand {buffer.name}: its vector and the arena are not aligned alike")
    return distance + offset


def _offset(buffer: Buffer, plan: Plan) -> int:
    """Where a weight, its gradient or a whole region starts in its vector."""
    if buffer.name == buffer.region:
        return 0
    return plan.places[buffer.name.removeprefix("d ")]
