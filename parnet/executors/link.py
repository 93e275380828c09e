"""A plan made runnable: its arena, and its step table with addresses. Stage: executors. Must not know: threads.

Offsets in the table count elements from the arena's start; weights lie elsewhere and are reached by their distance from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import StateError
from ..kernels import control, library
from ..kernels.step import TABLE_ROW, Buffer, row_stride
from ..plan.builder import align
from ..plan.plan import Plan
from .memory import Store, aligned_zeros
from .pace import Pace

#: elements of each part's scratch memory; the largest user is batch normalisation (4 x 512)
SCRATCH = 4096
#: words of the barrier's state, with the stop flag on a cache line of its own
BARRIER_WORDS, STOP_WORD = 32, 24


@dataclass(frozen=True)
class Addresses:
    """Addresses that every run needs, asked for once."""

    tables: tuple[int, ...]
    control: tuple[int, ...]
    barrier: int
    arena: int


@dataclass
class Program:
    """One plan, linked to one store.

    Attributes:
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
        paces: run of steps -> whether threads pay for it, see `pace.py`.
    """

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
    paces: dict[tuple[int, int], Pace] = field(default_factory=dict)

    def span(self, phases: tuple[str, ...]) -> tuple[int, int]:
        """The run of steps that belong to the phases; all steps for none."""
        if phases not in self.spans:
            self.spans[phases] = self.plan.span(*phases) if phases else (0, len(self.plan.steps))
        return self.spans[phases]

    def view(self, buffer: Buffer, rows: int) -> np.ndarray:
        """The first rows of an arena buffer, shaped (rows, width), as a view."""
        first, stride = self.plan.offsets[buffer.name], row_stride(buffer.width)
        return self.arena[first : first + rows * stride].reshape(rows, stride)[:, : buffer.width]

    def batches_done(self) -> int:
        """How many batches of the feed have been run."""
        return int(self.control[0, control.STEP]) + 1

    def resume(self, accumulate: bool) -> None:
        """Ready for further phases of the batch that was fed last, whatever its loss was."""
        self.control[:, control.ACCUMULATE] = accumulate
        self.barrier[STOP_WORD] = 0

    def stopped(self) -> bool:
        """Whether the loss has raised the stop flag."""
        return bool(self.barrier[STOP_WORD])


def link(plan: Plan, store: Store) -> Program:
    """Allocate a plan's arena and write its table. Compiles the kernels that are not in the cache.

    Raises:
        ResourceError: the arena does not fit into memory.
    """
    parts = plan.request.threads
    what = f"plan for batch {plan.request.batch}: activations"
    arena = aligned_zeros(plan.arena_size, store.dtype, what, "use a smaller batch_size")
    wanted = max((step.scratch for step in plan.steps), default=0) * 8 // np.dtype(store.dtype).itemsize
    words_each = max(SCRATCH, align(wanted))
    scratch = aligned_zeros(parts * words_each, store.dtype).reshape(parts, words_each)
    tables = np.zeros((parts, len(plan.steps), TABLE_ROW), np.int64)
    for part in range(parts):
        for index, (step, slot) in enumerate(zip(plan.steps, plan.slots, strict=True)):
            operands = [_word(operand, part, plan, store, arena) for operand in step.operands]
            address = library.address(step.kernel, store.dtype)
            tables[part, index, : 3 + len(operands)] = [address, slot.parts, slot.barrier, *operands]
    words = aligned_zeros(parts * control.WIDTH, np.int64).reshape(parts, control.WIDTH)
    barrier = aligned_zeros(BARRIER_WORDS, np.int64)
    words[:, control.BATCH] = plan.request.batch
    words[:, control.STOP] = barrier.ctypes.data + STOP_WORD * 8
    for part in range(parts):
        words[part, control.SCRATCH] = scratch[part].ctypes.data
    addresses = Addresses(
        tuple(tables[p].ctypes.data for p in range(parts)),
        tuple(words[p].ctypes.data for p in range(parts)),
        barrier.ctypes.data,
        arena.ctypes.data,
    )
    vectors = (store.parameters, store.gradients, store.state, store.slots)
    return Program(plan, store, arena, scratch, tables, words, barrier, addresses, {}, vectors)


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
    if buffer.name in ("parameters", "gradients", "slots"):
        return 0
    return plan.places[buffer.name.removeprefix("d ")]
