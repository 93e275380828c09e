"""A watch on the other MPI ranks while this one waits for them. Stage: comm.

A rank that hangs (it is stopped, or its machine is) leaves the others waiting inside a call of MPI that nothing ends. So
each rank has a thread that sends a beat to the rank after it twice a second, and hears those of the rank before it: how far
that rank is, and where. The ranks form a ring, so each is looked after by one other, and exactly one speaks of it.
`Neighbour` judges, and knows no threads, ranks or clocks; `Watch` is the thread.

Exchanges are counted: the k-th of one rank is the k-th of all, so that it is certain who is missing, who will never come
because its script is over, and who does something else. A rank that is merely slow beats all the while, and is never ended.
Must not know: what is exchanged.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .process import Address, Limits, Look

#: seconds between two beats
TICK_S = 0.5
#: of the messages with the beats
TAG = 7
#: share of one core below which a rank that is not in an exchange does nothing
IDLE_SHARE = 0.02

#: where a rank is: in no exchange, behind the end of its script, or in an exchange
ELSEWHERE, OVER, START, LAST, LEAD, ALL, WEIGHTS, ROWS, LOSSES, GRADIENTS, CLOCKS, SHRINKING = range(12)
PLACES = {
    START: "the start of MPI",
    LAST: "the meeting at the end of the script",
    LEAD: "what rank 0 tells",
    ALL: "what all ranks tell",
    WEIGHTS: "weights of one rank",
    ROWS: "rows of all ranks",
    LOSSES: "losses of a batch",
    GRADIENTS: "gradients of a batch",
    CLOCKS: "the time on rank 0",
    SHRINKING: "going on without a rank",
}


@dataclass(frozen=True)
class Beat:
    """What a rank tells of itself.

    Attributes:
        cpu_s: processor time that it has used. count: exchanges that it has begun.
        place: see PLACES.
    """

    cpu_s: float
    count: int
    place: int


@dataclass(frozen=True)
class Verdict:
    """What has to be said of the rank before this one. ends: and the job with it; hangs: for it hangs."""

    words: str
    ends: bool = False
    hangs: bool = False


@dataclass
class Neighbour:
    """What this rank knows of the rank before it, while it waits.

    Attributes:
        limits: of patience. name: of the other. beats: it sends them at all.
        beat: the last; ticks: of processor time, where the system says.
        waited_s, silent_s, idle_s: since this rank waits; without a sign of life; without doing anything.
    """

    limits: Limits
    name: str = "the others"
    beats: bool = False
    beat: Beat | None = None
    ticks: int | None = None
    waited_s: float = 0.0
    silent_s: float = 0.0
    idle_s: float = 0.0
    _count: int = -1
    _said: set[str] = field(default_factory=set)

    def judge(self, seconds: float, mine: Beat, heard: Beat | None, look: Look | None) -> Verdict | None:
        """What has to be said now, each thing once in an exchange.

        Args:
            seconds: since the last call. mine: of this rank. heard: the last beat that came since then.
            look: what the system says of the other.
        """
        if mine.place <= OVER or mine.count != self._count:
            back = "silent" in self._said and self._lives(heard, look)
            self._count, self._said = (-1 if mine.place <= OVER else mine.count), set()
            self.waited_s = self.silent_s = self.idle_s = 0.0
            self._take(heard, look)
            return Verdict(f"{self.name} is back") if back else None
        self.waited_s += seconds
        if heard is not None:
            idle = self.beat is not None and heard.cpu_s - self.beat.cpu_s < IDLE_SHARE * seconds
            self.idle_s = self.idle_s + seconds if idle else 0.0
        self.silent_s = 0.0 if self._lives(heard, look) else self.silent_s + seconds
        self._take(heard, look)
        return self._of_the_others(mine) or self._of_silence(mine, look) or self._of_absence(mine)

    def _lives(self, heard: Beat | None, look: Look | None) -> bool:
        """Whether there was a sign of life. A beat may lack where compiled code keeps Python from running."""
        if not self.beats:
            return look is None or not look.stopped
        return heard is not None or (look is not None and self.ticks is not None and look.ticks != self.ticks)

    def _take(self, heard: Beat | None, look: Look | None) -> None:
        self.beat, self.ticks = heard or self.beat, None if look is None else look.ticks

    def _of_the_others(self, mine: Beat) -> Verdict | None:
        """The other will never come."""
        them = self.beat
        if them is None or SHRINKING in (them.place, mine.place):
            return None
        if them.place == OVER and them.count < mine.count:
            return Verdict(f"{self.name} has come to the end of its script, while others wait for it in {_at(mine)}", True)
        if them.place > OVER and them.count == mine.count and them.place != mine.place:
            words = f"{self.name} is in {_at(them)}, while others are in {_at(mine)}"
            return Verdict(f"{words}; call fit, evaluate, predict and save alike on all ranks", True)
        return None

    def _of_silence(self, mine: Beat, look: Look | None) -> Verdict | None:
        """The other gives no sign of life."""
        if self.silent_s < self.limits.warning_s:
            return None
        state = "" if look is None or not look.words else f": {look.words}"
        if self.silent_s >= self.limits.end_s:
            words = f"{self.name} has given no sign of life for {self.silent_s:.0f} s{state}"
            return self._once("lost", words, gives_up=True)
        after = f"; after {self.limits.end_s:.0f} s it is given up"
        words = f"{self.name} has given no sign of life for {self.silent_s:.0f} s{state}; others wait for it in {_at(mine)}"
        return self._once("silent", words + after)

    def _of_absence(self, mine: Beat) -> Verdict | None:
        """The other lives, but does not come."""
        if mine.place == LAST:  # it may have much to do yet, and nothing waits for it but the end
            return None
        if self.beats and (self.beat is None or self.beat.place != ELSEWHERE or self.beat.count >= mine.count):
            return None
        if not self.beats:
            late = self.waited_s >= self.limits.warning_s
            return self._once("late", f"waiting for {self.name} in {_at(mine)}") if late else None
        if self.idle_s >= self.limits.warning_s:
            words = f"{self.name} lives, but has done nothing for {self.idle_s:.0f} s; others wait for it in {_at(mine)}"
            return self._once("idle", f"{words}; does it sleep, or wait for a file, the network or a key?")
        if self.waited_s >= self.limits.end_s:
            words = f"{self.name} has been busy elsewhere for {self.waited_s:.0f} s, while others wait for it in {_at(mine)}"
            return self._once("busy", words)
        return None

    def _once(self, what: str, words: str, gives_up: bool = False) -> Verdict | None:
        if what in self._said:
            return None
        self._said.add(what)
        return Verdict(words, gives_up, gives_up)


def _at(beat: Beat) -> str:
    """The exchange, in words."""
    return f"exchange {beat.count}, {PLACES[beat.place]}"


class Watch:
    """See the module's docstring.

    Args:
        MPI: mpi4py's. rank: of this process, until `begin` tells of the others.

    Attributes:
        limits: of patience; may be set at any time.
        shrinks: a rank of this machine that is given up is killed, so that the others go on without it.
    """

    def __init__(self, MPI: Any, rank: int):
        self._MPI, self._rank, self._comm = MPI, rank, None  # type: Any, int, Any
        self.limits, self.shrinks = Limits(), False
        #: exchanges begun, and the place: one object, for this rank's thread must never see half of a change
        self._at = 0, ELSEWHERE
        self._addresses: list[Address] = []
        #: messages under way, each with its numbers, which MPI reads until it says that it has done so
        self._sent: list[tuple[Any, np.ndarray]] = []
        self._abandoned: list[tuple[Any, np.ndarray]] = []  # of communicators that are gone: nobody may ever say so
        self._neighbour = Neighbour(self.limits)
        self._over, self._turn = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="parnet ranks", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # -- of the main thread ---------------------------------------------------------------------

    def enter(self, place: int) -> None:
        """This rank begins an exchange."""
        self._at = self._at[0] + (place != SHRINKING), place  # ranks come to that from different exchanges

    def leave(self) -> None:
        """It has ended it."""
        self._at = self._at[0], ELSEWHERE

    def begin(self, comm: Any, rank: int, addresses: list[Address]) -> None:
        """These are the ranks from now on; the exchanges of all of them are counted anew. addresses: by rank."""
        beats = self._MPI.Query_thread() == self._MPI.THREAD_MULTIPLE
        before = (rank - 1) % len(addresses)
        with self._turn:
            self._neighbour = Neighbour(self.limits, f"rank {before} ({addresses[before]})", beats)
            self._addresses, self._rank, self._at = addresses, rank, (0, self._at[1])
            self._abandoned, self._sent = self._abandoned + self._sent, []
            self._comm = comm if len(addresses) > 1 else None
        if self._comm is None:  # nobody else is left
            self.close()

    def close(self) -> None:
        """Tell the others that this rank is at its end, and look after nobody any more. May be called twice."""
        atexit.unregister(self.close)
        self._over.set()
        self._thread.join()
        self._at = self._at[0], OVER
        if self._comm is not None and not self._MPI.Is_finalized():
            self._tick(0.0)

    # -- of the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        last = time.monotonic()
        while not self._over.wait(TICK_S) and not self._MPI.Is_finalized():
            now = time.monotonic()
            with self._turn:
                self._tick(min(now - last, 2 * TICK_S))  # longer when this rank was stopped itself, with all others maybe
            last = now

    def _tick(self, seconds: float) -> None:
        heard, look, neighbour = None, None, self._neighbour
        neighbour.limits = self.limits
        if self._comm is not None:
            before = self._addresses[(self._rank - 1) % len(self._addresses)]
            look = before.look()
            if neighbour.beats:
                self._beat()
                heard = self._hear()
        verdict = neighbour.judge(seconds, self._mine(), heard, look)
        if verdict is not None and (self._comm is not None or self._rank < 2):  # two speak, should rank 0 be missing
            self._act(verdict, look is not None)

    def _mine(self) -> Beat:
        return Beat(time.process_time(), *self._at)

    def _beat(self) -> None:
        """Tell the rank after this one. A rank that has died takes no beats: MPI itself tells of that."""
        mine = self._mine()
        self._sent = [(request, words) for request, words in self._sent if not self._done(request)]
        if not self._sent or mine.place == OVER:
            words = np.array([mine.cpu_s, mine.count, mine.place])
            with contextlib.suppress(self._MPI.Exception):
                self._sent.append((self._comm.Isend(words, (self._rank + 1) % len(self._addresses), TAG), words))

    def _done(self, request: Any) -> bool:
        """Whether MPI needs a message's numbers no more; one to a rank that has died is over too."""
        try:
            return bool(request.Test())
        except self._MPI.Exception:
            return True

    def _hear(self) -> Beat | None:
        """The last beat of the rank before this one that has come since the last look."""
        words, heard, before = np.zeros(3), None, (self._rank - 1) % len(self._addresses)
        with contextlib.suppress(self._MPI.Exception):
            while self._comm.Iprobe(before, TAG):
                self._comm.Recv(words, before, TAG)
                heard = Beat(float(words[0]), int(words[1]), int(words[2]))
        return heard

    def _act(self, verdict: Verdict, near: bool) -> None:
        """Say it, and end what has to end."""
        if not verdict.ends:
            print(f"parnet: MPI: {verdict.words}", file=sys.stderr, flush=True)
            return
        kills = verdict.hangs and self.shrinks and near
        end = "it is killed" if kills else "the job ends: start again from the last checkpoint"
        print(f"parnet.errors.RankError: MPI: {verdict.words}; {end}", file=sys.stderr, flush=True)
        if kills:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._addresses[(self._rank - 1) % len(self._addresses)].pid, signal.SIGKILL)
        elif self._neighbour.beats:
            self._MPI.COMM_WORLD.Abort(1)
        else:  # this thread may not call MPI; the launcher ends the others
            os._exit(1)
