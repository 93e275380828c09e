"""How far the clock of rank 0 is ahead of another rank's, by messages. Stage: comm. Must not know: who asks, and why."""

from __future__ import annotations

import time
from typing import Any

#: times that a rank asks, and the tag of these messages
ASKED, TAG = 50, 8


def seconds_ahead(comm: Any, far: list[int]) -> float:
    """Seconds by which rank 0's `time.perf_counter` is ahead of this rank's: of several answers the one that came soonest.

    Source: F. Cristian, "Probabilistic clock synchronization" (1989).

    Args:
        comm: of mpi4py; all its ranks call this. far: those who ask; 0 for the others.
    """
    rank, looks = comm.Get_rank(), [(0.0, 0.0)]
    for asking in far:
        if rank == 0:
            for _ in range(ASKED):
                comm.recv(source=asking, tag=TAG)
                comm.send(time.perf_counter(), asking, TAG)
        elif asking == rank:
            looks = [_ask(comm) for _ in range(ASKED)]
    return min(looks)[1]


def _ask(comm: Any) -> tuple[float, float]:
    """Seconds that the answer took, and that rank 0's clock is ahead."""
    before = time.perf_counter()
    comm.send(None, 0, TAG)
    there = comm.recv(source=0, tag=TAG)
    after = time.perf_counter()
    return after - before, there - (before + after) / 2
