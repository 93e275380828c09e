"""What the native loop did when: a ring of time stamps for each part of each program. Stage: executors.

    recorder = Recorder()
    recorder.attach(program)          before each run; once makes the rings
    ...
    recorder.close()                  rings off, clock calibrated
    recorder.tapes[0].part(1)         the kept batches of part 1, in cycles; recorder.clock brings them to seconds

Stamps are 16 bytes a step: the last KEPT_STEPS of each program take 1.6 MB. By `bench/test_trace.py`, 30 epochs each
in turn, on the 784-100-10 network at batch 32, 16 steps of 116 us in all: 1.001 times the time without them on one thread,
0.997 on two; without a recording it is one branch a batch. Must not know: training, files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from ..errors import HyperparameterError, ResourceError
from ..kernels import control
from ..kernels.control import BATCH_HEAD, RING_HEAD
from ..kernels.step import Step
from .link import Program
from .memory import aligned_zeros
from .serial import native

#: steps of a program that are kept, over all parts; and batches, where a plan has more steps than that
KEPT_STEPS, KEPT_BATCHES = 100_000, 4
#: seconds between the two looks at both clocks, at least
BASE_S = 0.005


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
class Stretch:
    """The kept batches of one part, oldest first; times in cycles.

    Attributes:
        epoch, batch: (batches,) which they were.
        done: (batches,) steps done in each: all, but in a batch that was stopped.
        begun: (batches,) when each began.
        ended: (batches, steps) when the part had done its share of a step; what the step before left where it had none.
        met: (batches, steps) when all parts had met behind the step; equal to `ended` where none meet.
    """

    epoch: np.ndarray
    batch: np.ndarray
    done: np.ndarray
    begun: np.ndarray
    ended: np.ndarray
    met: np.ndarray

    def starts(self) -> np.ndarray:
        """(batches, steps): when the part came to each step."""
        return np.concatenate([self.begun[:, None], self.met[:, :-1]], axis=1)


@dataclass
class Tape:
    """The rings of one program.

    Attributes:
        purpose: of its plan, "train", "evaluate" or "predict".
        steps: of its plan, in their order.
        rows: of a full batch.
        rings: (parts, words) int64.
    """

    purpose: str
    steps: tuple[Step, ...]
    rows: int
    rings: np.ndarray

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
        stamps = table[:, BATCH_HEAD:].reshape(len(order), len(self.steps), 2)
        epoch, batch, done, start = table[:, :BATCH_HEAD].T
        return Stretch(epoch, batch, done, start, stamps[:, :, 0], stamps[:, :, 1])


@dataclass
class Recorder:
    """Rings for all programs that are run while it is open, and the clock to read them by.

    Attributes:
        tapes: one a program, in the order of their first run.
        clock: known when it is closed.
        begun: seconds of `time.perf_counter` at its making.
        marks: what else was done when: name, seconds of `time.perf_counter` when it began, seconds it took.
        kept_steps: of a program, over all its parts.
    Raises:
        ResourceError: the processor lets no program read its cycle counter.
    """

    kept_steps: int = KEPT_STEPS
    tapes: list[Tape] = field(default_factory=list)
    clock: Clock | None = None
    marks: list[tuple[str, float, float]] = field(default_factory=list)
    _programs: dict[int, Program] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._first = _both()
        self.begun = self._first[1]

    def attach(self, program: Program) -> None:
        """Have a program's runs recorded from now on. For one that is attached it does nothing.

        Raises:
            HyperparameterError: it runs in virtual shards, in other processes or on a GPU.
        """
        if id(program) in self._programs or self.clock is not None:
            return
        if type(program) is not Program:
            raise HyperparameterError(
                "trace: expected a strategy whose threads this process runs itself, in one shard, received one of virtual "
                "shards, of other processes or of a GPU; take strategy='serial', 'threads' or 'auto', or leave the trace out"
            )
        plan, parts = program.plan, len(program.control)
        words = BATCH_HEAD + 2 * len(plan.steps)
        room = max(KEPT_BATCHES, self.kept_steps // max(1, parts * len(plan.steps)))
        length = -(-(RING_HEAD + room * words) // 16) * 16  # parts write to cache lines of their own
        rings = aligned_zeros(parts * length, np.int64, "recording").reshape(parts, length)
        rings[:, 0], rings[:, 2] = room, words
        program.control[:, control.TRACE] = [ring.ctypes.data for ring in rings]
        self._programs[id(program)] = program
        self.tapes.append(Tape(plan.request.purpose, plan.steps, plan.request.batch, rings))

    @property
    def programs(self) -> list[Program]:
        """Those that are attached, in the order of the tapes."""
        return list(self._programs.values())

    def close(self) -> None:
        """Record no more. May be called twice."""
        for program in self._programs.values():
            program.control[:, control.TRACE] = 0
        self._programs.clear()
        if self.clock is None:
            time.sleep(max(0.0, self.begun + BASE_S - time.perf_counter()))
            (c0, s0), (c1, s1) = self._first, _both()
            self.clock = Clock((c0, c1), (s0, s1))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _both() -> tuple[int, float]:
    """The cycle counter and `time.perf_counter` at one moment: of several looks the one that took least."""
    read, word = native("loop.now"), np.zeros(1, np.int64)
    looks = []
    for _ in range(20):
        before = time.perf_counter()
        read(word.ctypes.data, None, None, 0, 1)
        after = time.perf_counter()
        looks.append((after - before, int(word[0]), (before + after) / 2))
    if not word[0]:
        raise ResourceError(
            "trace: expected a cycle counter that programs may read, which this processor does not give; "
            "leave the trace out, or use an x86-64 machine"
        )
    return min(looks)[1:]
