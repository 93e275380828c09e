"""What recorded threads did when: rings of time stamps, and what each stamp is of. Stage: executors.

The native loop writes the rings (`kernels/tracing.py`), in this process or in others. Must not know: training, files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..kernels import entries
from ..kernels.control import BATCH_HEAD, RING_HEAD
from ..kernels.step import Step
from ..plan.plan import Plan
from .memory import aligned_zeros
from .outline import Passage

#: kinds of waits: for threads of the same process, and for other processes
WAIT, WAIT_WORKERS, WAIT_RANKS = "wait", "wait for workers", "wait for ranks"
#: what is left of a wait when nobody is missing any more: its own thread has not gone on
RESUME = "wait to resume"
#: what adds up the gradients of the shards, and what goes from rank to rank
FOLD, SEND = "fold", "send"
#: batches that are kept of a plan that has more steps than all that may be kept
KEPT_BATCHES = 4


@dataclass(frozen=True)
class Clock:
    """Cycles as seconds of `time.perf_counter`, by two moments at which both were read."""

    cycles: tuple[int, int]
    seconds: tuple[float, float]

    @property
    def hertz(self) -> float:
        """Cycles a second; the counter's own rate, not that of the core."""
        return (self.cycles[1] - self.cycles[0]) / (self.seconds[1] - self.seconds[0])

    def of(self, cycles: np.ndarray) -> np.ndarray:
        """Seconds of `time.perf_counter` at which the counter stood there."""
        return self.seconds[0] + (cycles - self.cycles[0]) / self.hertz


@dataclass(frozen=True)
class Line:
    """What a recorded batch says one stamp of: a step, or a place where parts meet.

    Attributes:
        name: of the layer, for people. category: the phase.
        kernel: its name; empty for what is none.
        shard: that it is done for; -1 for the whole batch.
        wait: the kind of the wait behind it.
    """

    name: str
    category: str
    kernel: str = ""
    shard: int = -1
    wait: str = WAIT


def lines_of_plan(plan: Plan) -> tuple[Line, ...]:
    """A line a step."""
    return tuple(line_of(step, plan.request.purpose) for step in plan.steps)


def line_of(step: Step, purpose: str, shard: int = -1, wait: str = WAIT) -> Line:
    """The line of a step."""
    if step.kernel == "shards.fold":
        return Line("fold", FOLD, step.kernel, shard, wait)
    return Line(step.label or step.kernel, step.phase or purpose, step.kernel, shard, wait)


def lines_of_script(plan: Plan, passages: Iterable[Passage], wait: str) -> tuple[Line, ...]:
    """The lines of a script, see `outline.py`. wait: where everybody meets."""
    purpose, result = plan.request.purpose, []
    for passage in passages:
        if passage.kind == entries.COMPUTE:
            steps = plan.steps[passage.first : passage.last]
            result += [line_of(step, purpose, passage.shard) for step in steps]
        elif passage.kind == entries.APPLY and passage.own:
            result += [Line("fold", FOLD, "shards.fold_node")] * passage.lines
        elif passage.kind == entries.APPLY and plan.after is not None:
            result += [line_of(step, purpose, wait=wait) for step in plan.after.steps[passage.first : passage.last]]
        else:
            result.append(Line("sums" if passage.kind == entries.TALLY else "meet", "loss", wait=wait))
    return tuple(result)


@dataclass(frozen=True)
class Stretch:
    """The kept batches of one part, oldest first; times in cycles.

    Attributes:
        epoch, batch: (batches,) which they were.
        done: (batches,) lines done in each: all, but in a batch that was stopped.
        begun: (batches,) when each began.
        ended: (batches, lines) when the part had done its share of a line; what the line before left where it had none.
        met: (batches, lines) when all parts had met behind it; equal to `ended` where none meet.
    """

    epoch: np.ndarray
    batch: np.ndarray
    done: np.ndarray
    begun: np.ndarray
    ended: np.ndarray
    met: np.ndarray

    def starts(self) -> np.ndarray:
        """(batches, lines): when the part came to each line."""
        return np.concatenate([self.begun[:, None], self.met[:, :-1]], axis=1)


@dataclass
class Tape:
    """The rings of one program in one process.

    Attributes:
        purpose: of its plan, "train", "evaluate" or "predict".
        lines: what the stamps of a batch are of, in their order.
        rows: of a full batch.
        rings: (parts, words) int64.
        process: who ran it: "", "worker 1", "rank 1".
        clock: that brings its cycles to seconds; known when the recording is closed, or its own.
        device: that ran it, "GPU 0"; empty for threads.
    """

    purpose: str
    lines: tuple[Line, ...]
    rows: int
    rings: np.ndarray
    process: str = ""
    clock: Clock | None = None
    device: str = ""

    @property
    def number(self) -> int:
        """Of the worker or rank; 0 for a process that has no others."""
        return int(self.process.split()[-1]) if self.process else 0

    @property
    def parts(self) -> int:
        """Threads that ran it."""
        return len(self.rings)

    @property
    def batches(self) -> int:
        """Batches that were run while it was attached."""
        return int(self.rings[0, 1])

    @property
    def kept(self) -> int:
        """Batches that are still there, the last ones."""
        return min(self.batches, int(self.rings[0, 0]))

    def part(self, part: int) -> Stretch:
        """What a part did."""
        ring = self.rings[part]
        room, begun, words = (int(n) for n in ring[:3])
        order = np.arange(max(0, begun - room), begun) % room
        table = ring[RING_HEAD : RING_HEAD + room * words].reshape(room, words)[order]
        stamps = table[:, BATCH_HEAD:].reshape(len(order), len(self.lines), 2)
        epoch, batch, done, start = table[:, :BATCH_HEAD].T
        return Stretch(epoch, batch, done, start, stamps[:, :, 0], stamps[:, :, 1])


def room_for(kept_steps: int, lines: int, parts: int) -> int:
    """Batches that a ring holds, where all parts of all processes together shall keep so many steps."""
    return max(KEPT_BATCHES, kept_steps // max(1, parts * lines))


def ring_words(room: int, lines: int) -> int:
    """Words of the ring of one part; parts write to cache lines of their own."""
    return -(-(RING_HEAD + room * (BATCH_HEAD + 2 * lines)) // 16) * 16


def laid(array: np.ndarray, room: int, lines: int) -> np.ndarray:
    """Zeros of (parts, ring_words) as rings, in place."""
    array[:, 0], array[:, 2] = room, BATCH_HEAD + 2 * lines
    return array


def new_rings(room: int, lines: int, parts: int) -> np.ndarray:
    """(parts, ring_words) rings in this process."""
    words = ring_words(room, lines)
    return laid(aligned_zeros(parts * words, np.int64, "recording").reshape(parts, words), room, lines)
