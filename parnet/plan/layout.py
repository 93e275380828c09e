"""Where every buffer of a plan lies in the arena, by lifetime. Stage: plan. Pure functions; no kernel is needed.

Steps between two barriers may run at the same time on different parts: together they are one stage. Two buffers may share
memory only when no stage uses both, or lies between the first and last use of both. Must not know: executors, kernels' code.
"""

from __future__ import annotations

from ..kernels.step import Buffer, Step, row_stride
from .builder import align
from .schedule import NO_BARRIER, Slot


def stages(slots: tuple[Slot, ...], threads: int) -> list[int]:
    """The stage of each step. The list is run again and again: without a barrier at its end, its last stage is its first."""
    if threads == 1:
        return list(range(len(slots)))
    result, stage = [], 0
    for slot in slots:
        result.append(stage)
        stage += slot.barrier != NO_BARRIER
    return [0 if s == stage else s for s in result]


def lifetimes(steps: tuple[Step, ...], stage: list[int], lasting: frozenset[str]) -> dict[str, frozenset[int]]:
    """The stages in which each arena buffer is alive; `lasting` ones live from their first use to the end."""
    uses: dict[str, list[int]] = {}
    for index, step in enumerate(steps):
        for access in step.accesses:
            if access.buffer.region == "arena":
                uses.setdefault(access.buffer.name, []).append(index)
    alive = {}
    for name, indices in uses.items():
        last = len(steps) - 1 if name in lasting else indices[-1]
        alive[name] = frozenset(stage[indices[0] : last + 1])
    return alive


def size_of(buffer: Buffer, batch: int, parts: int) -> int:
    """Elements a buffer takes, all copies included, each rounded up to a cache line."""
    size = align(row_stride(buffer.width) * batch if buffer.per_row else buffer.width)
    return size * (parts if buffer.copies else 1)


def place(
    buffers: dict[str, Buffer], alive: dict[str, frozenset[int]], batch: int, parts: int
) -> tuple[dict[str, int], int]:
    """Offsets of the arena's buffers in elements, and the arena's length.

    The largest buffers are placed first, each at the lowest place where no buffer alive at the same time lies.
    """
    placed: list[tuple[int, int, frozenset[int]]] = []
    offsets: dict[str, int] = {}
    order = sorted(alive, key=lambda name: (-size_of(buffers[name], batch, parts), min(alive[name]), name))
    for name in order:
        size, mine, offset = size_of(buffers[name], batch, parts), alive[name], 0
        for start, end, others in sorted(placed, key=lambda entry: entry[:2]):
            if mine & others:
                if offset + size <= start:
                    break
                offset = max(offset, end)
        offsets[name] = offset
        placed.append((offset, offset + size, mine))
    return offsets, max((end for _, end, _ in placed), default=0)
