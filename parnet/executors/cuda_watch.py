"""When a GPU did which step: events in its stream around the steps of a batch, written into the ring of a tape.

Stage: executors. An event takes its time on the device, when all before it is done. They are read after a run, when the
device has been waited for; the last batches of it are kept, as of a ring. Must not know: kernels, training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels.control import BATCH_HEAD, RING_HEAD
from ..plan.plan import Plan
from .tapes import Clock, Tape, lines_of_plan, new_rings, room_for

#: stamps are nanoseconds of `time.perf_counter`
NANOSECONDS = Clock((0, 10**9), (0.0, 1.0))


class Watch:
    """Records the runs of one program.

    Args:
        memory: of the device.
        plan: that it runs.
        kept_steps: so many of its last steps.
    Attributes:
        tape: what was done when.
    """

    def __init__(self, memory: Any, plan: Plan, kept_steps: int):
        lines = lines_of_plan(plan)
        self._memory, self._room = memory, room_for(kept_steps, len(lines), 1)
        rings, request = new_rings(self._room, len(lines), 1), plan.request
        device = f"GPU {memory.index}"
        self.tape = Tape(request.purpose, lines, request.batch, rings, clock=NANOSECONDS, device=device)
        #: of each batch of a run that is kept: an event at its begin, and one behind each step
        self._events: dict[int, list[Any]] = {}
        self._base, self._base_s, self._count = memory.event(), 0.0, 0

    def begin(self) -> None:
        """A run begins: one moment that both clocks know."""
        self._base.record(self._memory.stream)
        self._memory.wait("cuda: beginning a recorded run")
        self._base_s, self._count = time.perf_counter(), 0

    def batch(self, steps: Sequence[Callable[[], None]]) -> None:
        """Run the steps of a batch with an event behind each."""
        events = self._events.setdefault(self._count % self._room, [])
        events += [self._memory.event() for _ in range(len(events), len(steps) + 1)]
        events[0].record(self._memory.stream)
        for step, event in zip(steps, events[1:], strict=False):
            step()
            event.record(self._memory.stream)
        self._count += 1

    def end(self, epoch: int, first: int, span: tuple[int, int], batches: int) -> None:
        """Read the events of a run, all of whose work is done.

        Args:
            epoch, first: of the run's first batch.
            span: steps that each batch had.
            batches: that were not behind a loss that is not finite.
        """
        ring, steps = self.tape.rings[0], span[1] - span[0]
        for number in range(max(0, self._count - self._room), min(self._count, batches)):
            begun, *ends = self._events[number % self._room][: steps + 1]
            start = self._base.elapsed_time(begun)  # milliseconds, as float32: short times keep more places
            stamps = [start, *(start + begun.elapsed_time(end) for end in ends)]
            times = np.rint(1e9 * self._base_s + 1e6 * np.maximum.accumulate(stamps)).astype(np.int64)
            words = int(ring[2])
            mine = ring[RING_HEAD + int(ring[1]) % self._room * words :][:words]
            mine[:BATCH_HEAD] = epoch, first + number, span[1], times[0]
            before = np.full(span[0], times[0])  # what was left out takes no time
            mine[BATCH_HEAD : BATCH_HEAD + 2 * span[1]] = np.repeat([*before, *times[1:]], 2)
            ring[1] += 1
