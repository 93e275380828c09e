"""The threaded executor: our own pool of threads, each in the native loop. Stage: executors. Must not know: models,
training.

The calling thread is part 0. The others wait for work in native code, spinning for about a millisecond and sleeping after
that, so that a run costs a fraction of a microsecond to start while the work keeps coming and nothing when it stops. All
parts are real threads, so the barrier between steps always ends; it gives its core away when it waits long.
Measured beside it: Numba's prange starts a region in 2.5 us on OpenMP, which a bare machine may lack, and in 20 to 25 us
on its own workqueue, which dies when two Python threads use it.
"""

from __future__ import annotations

import logging
import threading
import time

import numpy as np

from ..checks import is_whole
from ..config import usable_cores
from ..errors import HyperparameterError, ResourceError
from ..kernels import library
from ..kernels.step import pair
from .base import Executor, waited_share
from .link import TABLE_ROW, Program
from .memory import aligned_zeros
from .pace import Pace
from .serial import DONE_WORD, ENDED, native

#: what is said is of the machine's load: no warning that users may have turned into an error
LOG = logging.getLogger("parnet")
#: spins of an idle helper before it sleeps, about a millisecond
IDLE_SPINS = 20_000
#: seconds a thread may take to report at the start of the pool
START_LIMIT_S = 20.0
MAILBOX_FIRST, MAILBOX_STRIDE = 8, 16


def check_threads(count, where: str = "Threads") -> int:
    """A usable number of threads, None for all.

    Raises:
        HyperparameterError: not a whole number above 0.
        ResourceError: more than this process may use.
    """
    from ..config import settings

    cores = usable_cores()
    if count is None:
        return min(settings().threads or cores, cores)
    if not is_whole(count, 1):
        raise HyperparameterError(f"{where}: expected a number of threads above 0, received {count!r}")
    if int(count) > cores:
        raise ResourceError(
            f"{where}: expected at most {cores} threads, the cores this process may use (affinity and quota), "
            f"received {count}; take fewer, or give the process more cores"
        )
    return int(count)


class ThreadsExecutor(Executor):
    """A pool of threads - 1 helpers and the caller.

    Args:
        threads: parts that run at once.
    Raises:
        ResourceError: the system gives fewer threads, or one did not report within START_LIMIT_S.
    """

    name = "threads"
    keeps = True
    #: whether one thread may do the work of all where they mostly wait, see `pace.py`; not where threads are measured
    gives_way = True

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._serve, self._post = native("loop.serve"), native("loop.post")
        native("loop.run")  # compiled now, not in the first run
        self._alone, self._said = native("loop.run_alone"), False
        self._jobs = aligned_zeros(threads * 16, np.int64).reshape(threads, 16)
        self._job_addresses = [job.ctypes.data for job in self._jobs]
        self._mailbox = aligned_zeros(MAILBOX_FIRST + MAILBOX_STRIDE * (threads + 1), np.int64)
        self._post_op = np.array([self._mailbox.ctypes.data, 0], np.int64)
        self._serve_op = np.array([self._mailbox.ctypes.data, IDLE_SPINS], np.int64)
        self._wake = [threading.Semaphore(1) for _ in range(threads)]
        self._closing = False
        self._helpers: list[threading.Thread] = []
        self._start()

    def _start(self) -> None:
        ready = [threading.Event() for _ in range(self.threads)]
        try:
            for part in range(1, self.threads):
                helper = threading.Thread(target=self._help, args=(part, ready[part]), name=f"parnet-{part}", daemon=True)
                helper.start()
                self._helpers.append(helper)
        except RuntimeError as error:
            self.close()
            raise ResourceError(
                f"threads: the system gave {len(self._helpers) + 1} of {self.threads} threads ({error}); ask for fewer"
            ) from error
        for part in range(1, self.threads):
            if not ready[part].wait(START_LIMIT_S):
                self.close()
                raise ResourceError(f"threads: thread {part} did not start within {START_LIMIT_S:.0f} s; ask for fewer")

    def _help(self, part: int, ready: threading.Event) -> None:
        """A helper's life: asleep in Python, at work in native code."""
        ready.set()
        while True:
            self._wake[part].acquire()
            if self._closing:
                return
            self._serve(self._serve_op.ctypes.data, None, None, part, self.threads)

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        span = steps or program.span(())
        if not self.gives_way or not program.addresses.tables:  # the tables of a script's shards are all over the place
            self._run_threads(program, first, last, span)
            return
        pace, now = program.paces.setdefault(span, Pace()), time.perf_counter()
        some = pace.to_try(last - first, now)
        behind = last
        if some and pace.alone:  # threads come back behind the others: before, the thread that reads samples may be at work
            behind = last - some
        elif some:
            self._try(program, pace, first, first + some, span)
            first = last if program.stopped() else first + some
        if first < behind:
            now = time.perf_counter()
            share = self._timed(program, first, behind, span, pace.alone)
            seconds = time.perf_counter() - now
            if not program.stopped():
                pace.ran(seconds / (behind - first), share, seconds)
        if behind < last and not program.stopped():
            self._try(program, pace, behind, last, span)

    def _try(self, program: Program, pace: Pace, first: int, last: int, span: tuple[int, int]) -> None:
        """Run the batches the other way, and let the clock judge."""
        before = time.perf_counter()
        self._timed(program, first, last, span, not pace.alone)
        now = time.perf_counter()
        if not program.stopped() and pace.tried((now - before) / (last - first), now) and pace.alone:
            self._say_so()

    def _timed(self, program: Program, first: int, last: int, span: tuple[int, int], alone: bool) -> float:
        """Run the batches. Returns the share of the time since the program's feed that its parts waited for each other."""
        if alone:
            self._run_alone(program, first, last, span)
            return 0.0
        self._run_threads(program, first, last, span)
        return waited_share(program)

    def _say_so(self) -> None:
        """Once: results are the same, the speed is not."""
        if not self._said:
            self._said = True
            LOG.info(
                "threads: %d threads mostly waited for each other, as where other programs keep the cores busy; "
                "one alone is faster and goes on, all are tried again from time to time. The numbers are the same",
                self.threads,
            )

    def _run_alone(self, program: Program, first: int, last: int, span: tuple[int, int]) -> None:
        """All parts on the calling thread."""
        where, parts = program.addresses, program.plan.request.threads
        tables = [table + span[0] * TABLE_ROW * 8 for table in where.tables]
        op = np.array([*tables, *where.control, pair(span[0], span[1] - span[0]), first, last, where.arena], np.int64)
        self._alone(op.ctypes.data, where.control[0], None, 0, parts)

    def _run_threads(self, program: Program, first: int, last: int, span: tuple[int, int]) -> None:
        parts = min(self.threads, program.plan.request.threads)
        run, kernel = native(program.loop), library.address(program.loop, "float32")
        for part in range(parts):
            self._jobs[part, : DONE_WORD + 1] = program.job(part, first, last, span)
            mine = MAILBOX_FIRST + MAILBOX_STRIDE * part
            words = (self._job_addresses[part], program.addresses.control[part], parts, kernel)
            self._mailbox[mine + 2 : mine + 6] = words
        for part in range(parts, self.threads):
            self._mailbox[MAILBOX_FIRST + MAILBOX_STRIDE * part + 4] = 0  # not for this helper
        self._jobs[0, DONE_WORD] = 0
        number = int(self._mailbox[0]) + 1
        lead = (self._job_addresses[0], program.addresses.control[0], None, 0, parts)
        try:
            self._announce()
            run(*lead)
        except BaseException:
            # Ctrl-C between two lines: where the job was posted the helpers wait for part 0, so do its work before going
            if self._mailbox[0] == number and not self._jobs[0, DONE_WORD]:
                self._wake_all()
                run(*lead)
            raise
        self.ended = bool(self._jobs[0, DONE_WORD] == ENDED)

    def _announce(self) -> None:
        """Post the job and wake the helpers that sleep."""
        self._post(self._post_op.ctypes.data, None, None, 0, self.threads)
        asleep = int(self._post_op[1])
        for part in range(1, self.threads) if asleep else ():
            if asleep >> part & 1:
                self._wake[part].release()

    def _wake_all(self) -> None:
        for part in range(1, self.threads):
            self._wake[part].release()

    def close(self) -> None:
        self._closing = True
        for part in range(1, len(self._helpers) + 1):
            self._wake[part].release()
        for helper in self._helpers:
            helper.join()
        self._helpers = []
