"""The hand that strikes in a chaos run: who is there, and what is done to them at random times."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

#: seconds between two strikes, on average
PAUSE_S = 3.0
#: seconds that a stopped process stays so, at most
STOPPED_S = 0.5
#: what a hand does to a process: what it sends, and what after a while
STRIKES = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGSEGV": (signal.SIGSEGV,),
    "SIGTERM": (signal.SIGTERM,),
    "stopped, then killed": (signal.SIGSTOP, signal.SIGKILL),
    "stopped for a moment": (signal.SIGSTOP, signal.SIGCONT),
}
#: to a rank, which others watch over
RANK_STRIKES = {**STRIKES, "stopped for good": (signal.SIGSTOP,)}
#: to all that belongs to a job, its launcher too
JOB_STRIKES = {"SIGKILL of a job's process": (signal.SIGKILL,)}
#: words of the commands of what is ours: workers, trainings in a process of their own, MPI jobs
OURS = ("executors.worker", "bench.chaos", "chaos_ranks")


def children(pid: int | str = "self") -> list[int]:
    """Processes that another has started and that are ours."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(number) for number in path.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return sorted(one for one in found if any(name in command(one) for name in OURS))


def command(pid: int) -> str:
    """The words that a process was started with; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def everybody(pid: int | str = "self") -> list[int]:
    """Children, and theirs."""
    return [one for child in children(pid) for one in (child, *everybody(child))]


def ranks() -> list[int]:
    """The ranks of MPI jobs, without their launchers."""
    words = {pid: command(pid).split() for pid in everybody()}
    return [pid for pid, each in words.items() if each[1:3] == ["-m", "mpi4py"]]


@dataclass
class Hand:
    """Strikes at random processes at random times, until it is told to stop.

    Attributes:
        pause_s: on average, between two. kinds: how often it did what. killed: process -> when.
        aims: whom it strikes, and how.
    """

    seed: int
    pause_s: float = PAUSE_S
    over: threading.Event = field(default_factory=threading.Event)
    kinds: Counter[str] = field(default_factory=Counter)
    killed: dict[int, float] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    aims: tuple[Callable[[], list[int]], dict[str, tuple[signal.Signals, ...]]] = (everybody, STRIKES)

    def run(self) -> None:
        """In a thread of its own."""
        rng = np.random.default_rng(self.seed)
        while not self.over.wait(rng.exponential(self.pause_s)):
            targets, strikes = self.aims
            there, kind = targets(), list(strikes)[int(rng.integers(len(strikes)))]
            self.look()
            if there and self._strike(there[int(rng.integers(len(there)))], strikes[kind], STOPPED_S * rng.random()):
                self.kinds[kind] += 1

    def look(self) -> set[int]:
        """Who is there of all that it has ever seen. For any thread."""
        with self._turn:
            self._seen = {pid for pid in self._seen.union(everybody()) if alive(pid)}
            return set(self._seen)

    @contextlib.contextmanager
    def aiming(self, targets: Callable[[], list[int]], strikes: dict, pause_s: float) -> Iterator[None]:
        """Strike these, in these ways, so often, for a while."""
        before = self.aims, self.pause_s
        self.aims, self.pause_s = (targets, strikes), pause_s
        try:
            yield
        finally:
            self.aims, self.pause_s = before

    def _strike(self, pid: int, signals: tuple[signal.Signals, ...], between_s: float) -> bool:
        for number, one in enumerate(signals):
            if number:
                time.sleep(between_s)
            try:
                if one not in (signal.SIGSTOP, signal.SIGCONT):
                    self.killed[pid] = time.monotonic()
                os.kill(pid, one)
            except ProcessLookupError:
                return False
        return True
