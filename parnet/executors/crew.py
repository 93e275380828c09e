"""The worker processes of one executor: started, told, waited for, ended. Stage: executors.

A worker is lost when its end of the channel closes: the system does that at once, however the worker died. One that has
neither answered nor used the processor for a while is named, and given up after a limit. Must not know: plans, programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import spawn
from typing import Any

from ..comm.channel import TICK_S, Channel, ChannelEnded
from ..comm.process import Limits, look_at
from ..config import usable_cores
from ..errors import ResourceError, WorkerLostError, warn
from .interrupts import interrupts_held_back

#: seconds that a worker may take from its start to its first word
START_LIMIT_S = 60.0
#: seconds that a worker may take to end when told to
END_LIMIT_S = 2.0

#: stands for the answer of a worker that is lost
LOST = object()

BOOT = (
    "import json, sys; s = json.loads(sys.argv[1]); sys.path[:] = s.pop('path'); "
    "from parnet.executors.worker import main; main(s)"
)
#: libraries that would start threads of their own in every worker
BUDGETS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(eq=False)
class Member:
    """One worker process.

    Attributes:
        number: from 0; process: the system's; channel: to it.
        ticks: of processor time that it had used when it was last looked at; idle_s: since they last rose.
        error: the traceback that it sent.
    """

    number: int
    process: subprocess.Popen
    channel: Channel
    lifeline: int
    ticks: int = -1
    idle_s: float = 0.0
    warned: bool = False
    error: str = ""

    def fileno(self) -> int:
        """For `select`."""
        return self.channel.fileno()

    def rest(self) -> None:
        """What it did before does not count: it is watched from now on."""
        self.idle_s, self.ticks, self.warned = 0.0, -1, False

    @property
    def name(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"

    def how(self) -> str:
        """How it ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_LIMIT_S)
        code = self.process.returncode
        if self.error:
            return "failed"
        if code is None:
            return "does not answer"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
            return f"was ended by signal {-code}"
        return f"left with exit code {code}"


@dataclass
class Crew:
    """All workers.

    Attributes:
        threads: of each.
        limits: of patience.
        members: that are alive, in order.
    """

    threads: int
    limits: Limits = field(default_factory=Limits)
    members: list[Member] = field(default_factory=list)

    def start(self, numbers: list[int], workers: int) -> None:
        """Start workers and wait until they are there.

        Raises:
            WorkerLostError: one did not come up. ResourceError: the system gives no more processes.
        """
        fresh = []
        for number in numbers:
            with interrupts_held_back():
                try:
                    fresh.append(self._spawn(number, workers))
                except OSError as cause:
                    raise ResourceError(
                        f"parameter server: worker {number} could not be started ({cause}); ask for fewer"
                    ) from cause
                self.members = sorted([*self.members, fresh[-1]], key=lambda member: member.number)
        _, lost = self.collect(fresh, START_LIMIT_S)
        if lost:
            error = lost_error(lost, "at the start")
            self.drop(lost)
            raise error

    def _spawn(self, number: int, workers: int) -> Member:
        ours, theirs = Channel.pair()
        try:
            watched, lifeline = os.pipe()
        except OSError:
            ours.close()
            theirs.close()
            raise
        settings = {
            "path": [os.path.abspath(place or ".") for place in sys.path],
            "parent": os.getpid(),
            "main_thread": threading.current_thread() is threading.main_thread(),
            "socket": theirs.fileno(),
            "lifeline": watched,
            "worker": number,
            "threads": self.threads,
            "cores": _cores(number, workers, self.threads),
        }
        command = [spawn.get_executable() or sys.executable, "-c", BOOT, json.dumps(settings)]
        environment = os.environ | {name: str(self.threads) for name in BUDGETS}
        try:
            with _born_deaf():
                process = subprocess.Popen(
                    command, pass_fds=(theirs.fileno(), watched), env=environment, stdin=subprocess.DEVNULL
                )
        except OSError:
            ours.close()
            os.close(lifeline)
            raise
        finally:
            theirs.close()
            os.close(watched)
        ours.socket.settimeout(START_LIMIT_S)
        return Member(number, process, ours, lifeline)

    # -- messages -------------------------------------------------------------------------------

    def tell(self, *message: Any, handles: tuple[int, ...] = (), to: list[Member] | None = None) -> None:
        """Send a message to all workers, or some; one that is gone is found when its answer is waited for."""
        for member in self.members if to is None else to:
            member.rest()
            with contextlib.suppress(ChannelEnded), interrupts_held_back() as pressed:
                member.channel.send(message, handles, partial(self._wait_for, member, pressed))

    def _wait_for(self, member: Member, pressed: list) -> None:
        """It reads nothing; give up one that is silent too long, or that somebody does not want to wait for any more."""
        if pressed or self._silent(member, TICK_S):
            member.process.kill()
            raise ChannelEnded("it does not read")

    def collect(
        self,
        members: list[Member],
        limit_s: float | None = None,
        on_loss: Callable[[Member], None] | None = None,
        all_of_them: bool = True,
    ) -> tuple[dict[int, Any], list[Member]]:
        """Wait for one answer of each. Returns (answer by number, those that are lost).

        Args:
            limit_s: seconds for all of it; by default as long as the workers work.
            on_loss: called as soon as one is lost, so that those who wait for it can be told.
            all_of_them: False returns as soon as one is lost, whatever the others do.
        """
        waiting, answers = list(members), {}
        lost: list[Member] = []
        until = None if limit_s is None else time.monotonic() + limit_s
        for member in members:
            member.rest()
        while waiting and (all_of_them or not lost):
            heard = self.listen(waiting)
            for member, value in heard:
                waiting.remove(member)
                if value is LOST:
                    lost.append(member)
                    if on_loss:
                        on_loss(member)
                else:
                    answers[member.number] = value
            if not heard and until is not None and time.monotonic() > until:
                for member in waiting:
                    member.process.kill()  # its channel closes then, which makes it lost
                until = None
        return answers, lost

    def listen(self, members: list[Member]) -> list[tuple[Member, Any]]:
        """The answers, or LOST, of those that have one; waits a moment for the first. Gives up who is silent too long."""
        began = time.monotonic()
        ready, _, _ = select.select(members, [], [], TICK_S)
        heard = []
        for member in ready:
            try:
                (verb, value), _ = member.channel.receive()
            except ChannelEnded:
                verb, value = "lost", None
            if verb == "error":
                member.error = value
            heard.append((member, LOST if verb in ("lost", "error") else value))
        if not heard:
            for member in members:
                if self._silent(member, min(time.monotonic() - began, 1.0)):
                    member.process.kill()  # its channel closes then, which makes it lost
        return heard

    def _silent(self, member: Member, seconds: float) -> bool:
        """Whether a worker has been silent beyond the limit; those who wait for another still use the processor."""
        look = look_at(member.process.pid)
        if look is None or look.ticks != member.ticks:
            member.ticks, member.idle_s = (0 if look is None else look.ticks), 0.0
            return False
        member.idle_s += seconds
        if member.idle_s > self.limits.warning_s and not member.warned:
            member.warned = True
            warn(
                f"parameter server: {member.name} has done nothing for {member.idle_s:.0f} s, and the others wait for "
                f"it; is it stopped, or the machine overloaded? After {self.limits.end_s:.0f} s it is given up"
            )
        if member.idle_s > self.limits.end_s:
            member.error = (
                f"it had used no processor time for {member.idle_s:.0f} s; it was stopped, or waited for something"
            )
            return True
        return False

    def drop(self, lost: list[Member]) -> None:
        """Forget workers that are gone."""
        with interrupts_held_back():
            self.members = [m for m in self.members if m not in lost]
            for member in lost:
                _end(member, 0.0)

    def close(self, at_once: bool = False) -> None:
        """End all workers, within END_LIMIT_S. May be called twice."""
        with interrupts_held_back():
            members, self.members = self.members, []
            if not at_once:
                self.tell("end", to=members)
            until = time.monotonic() + (0.0 if at_once else END_LIMIT_S)
            for member in members:
                _end(member, max(0.0, until - time.monotonic()))


def lost_error(lost: list[Member], when: str) -> WorkerLostError:
    """The error that names the first of the lost workers, with its traceback."""
    first = lost[0]
    others = f", and so is {', '.join(m.name for m in lost[1:])}" if lost[1:] else ""
    text = f"parameter server: {first.name} {first.how()} {when}{others}"
    if first.error:
        *more, last = first.error.strip().splitlines()
        text += f": {last}" + (f"\n{first.error}" if more else "")
    error = WorkerLostError(text)
    error.worker, error.pid = first.number, first.process.pid
    return error


def _end(member: Member, patience_s: float) -> None:
    """See a process out."""
    member.channel.close() if patience_s == 0 else None
    try:
        member.process.wait(patience_s)
    except subprocess.TimeoutExpired:
        member.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            member.process.wait(END_LIMIT_S)
    member.channel.close()
    with contextlib.suppress(OSError):
        os.close(member.lifeline)


def _cores(number: int, workers: int, threads: int) -> list[int]:
    """The cores of a worker's own, where the workers take all that there are; else the system is left to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if workers * threads != len(cores) or len(cores) != usable_cores():
        return []
    return cores[number * threads : (number + 1) * threads]


@contextlib.contextmanager
def _born_deaf():
    """A process started within does not hear Ctrl-C until it says so itself: it must not die of one while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
