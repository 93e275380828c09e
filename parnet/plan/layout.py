"""Where every buffer of a plan lies in the arena, by lifetime. Stage: plan. Pure functions; no kernel is needed.

Two buffers may share memory when no step lies between the first and last use of both.
Must not know: executors, kernels' code.
"""

from __future__ import annotations

from ..kernels.step import Buffer, Step
from .builder import align


def lifetimes(steps: tuple[Step, ...], lasting: frozenset[str]) -> dict[str, tuple[int, int]]:
    """First and last step that touches each arena buffer; `lasting` ones live from their first use to the end."""
    spans: dict[str, tuple[int, int]] = {}
    for index, step in enumerate(steps):
        for access in step.accesses:
            if access.buffer.region == "arena":
                name = access.buffer.name
                first = spans.get(name, (index, index))[0]
                spans[name] = (first, len(steps) if name in lasting else index)
    return spans


def size_of(buffer: Buffer, batch: int, parts: int) -> int:
    """Elements a buffer takes, all copies included, each rounded up to a cache line."""
    size = align(buffer.width * (batch if buffer.per_row else 1))
    return size * (parts if buffer.copies else 1)


def place(
    buffers: dict[str, Buffer], spans: dict[str, tuple[int, int]], batch: int, parts: int
) -> tuple[dict[str, int], int]:
    """Offsets of the arena's buffers in elements, and the arena's length.

    The largest buffers are placed first, each at the lowest place where no buffer alive at the same time lies.
    """
    placed: list[tuple[int, int, tuple[int, int]]] = []
    offsets: dict[str, int] = {}
    order = sorted(spans, key=lambda name: (-size_of(buffers[name], batch, parts), spans[name], name))
    for name in order:
        size, (first, last) = size_of(buffers[name], batch, parts), spans[name]
        offset = 0
        for start, end, (begin, until) in sorted(placed):
            if first <= until and begin <= last:  # alive at the same time
                if offset + size <= start:
                    break
                offset = max(offset, end)
        offsets[name] = offset
        placed.append((offset, offset + size, (first, last)))
    return offsets, max((end for _, end, _ in placed), default=0)
