"""What the native loop did when: a ring of time stamps for each part of each program. Stage: executors.

    recorder = Recorder()
    recorder.attach(program)          before each run; once makes the rings
    ...
    recorder.close()                  rings off, clock calibrated
    recorder.tapes[0].part(1)         the kept batches of part 1, in cycles; recorder.clock brings them to seconds

Stamps are 16 bytes a step: the last KEPT_STEPS of each program take 1.6 MB. By `bench/test_trace.py`, 30 epochs each
in turn, on the 784-100-10 network at batch 32, 16 steps of 116 us in all: 1.001 times the time without them on one thread,
0.997 on two, 1.005 with four shards; 1.007 on two workers at batch 256. Without a recording it is one branch a batch.
Must not know: training, files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from ..errors import ResourceError
from .link import Program
from .serial import native
from .tapes import Clock, Tape

#: steps of a program that are kept, over all parts
KEPT_STEPS = 100_000
#: seconds between the two looks at both clocks, at least
BASE_S = 0.005


@dataclass
class Recorder:
    """Rings for all programs that are run while it is open, and the clock to read them by.

    Attributes:
        tapes: one a program, in the order of their first run.
        clock: known when it is closed.
        begun: seconds of `time.perf_counter` at its making.
        marks: what else was done when: name, seconds of `time.perf_counter` when it began, seconds it took.
        kept_steps: of a program, over all its parts.
        programs: that are attached.
        process: "rank 1" where other processes record too.
    Raises:
        ResourceError: the processor lets no program read its cycle counter.
    """

    kept_steps: int = KEPT_STEPS
    tapes: list[Tape] = field(default_factory=list)
    clock: Clock | None = None
    marks: list[tuple[str, float, float]] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list, repr=False)
    process: str = ""

    def __post_init__(self) -> None:
        self._first = _both()
        self.begun = self._first[1]

    def attach(self, program: Program) -> None:
        """Have a program's runs recorded from now on. For one that is attached it does nothing."""
        if self.clock is None:
            program.record(self.tapes, self.kept_steps)
            if not any(program is one for one in self.programs):
                self.programs.append(program)

    def close(self, ahead_s: float = 0.0) -> None:
        """Record no more. May be called twice.

        Args:
            ahead_s: that the clock which the tapes shall be read by is ahead of this process's.
        """
        for program in self.programs:
            program.stop_recording()
        self.programs.clear()
        if self.clock is None:
            time.sleep(max(0.0, self.begun + BASE_S - time.perf_counter()))
            (c0, s0), (c1, s1) = self._first, _both()
            self.clock = Clock((c0, c1), (s0 + ahead_s, s1 + ahead_s))
            for tape in self.tapes:
                tape.clock, tape.process = tape.clock or self.clock, tape.process or self.process

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
