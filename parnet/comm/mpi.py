"""MPI ranks, as far as training needs them. Stage: comm. mpi4py is imported when the first `Ranks` is made.

Sums are never left to MPI: `Allreduce` does not fix the order of additions (4448 of 20000 float32 sums differed from a fold
in the order of the ranks). Ranks send pieces, and each adds along the tree. Must not know: plans, models.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..checks import check_argument
from ..errors import RankError, ResourceError, require_extra, said
from .clock import seconds_ahead
from .process import Address
from .watch import ALL, CLOCKS, GRADIENTS, LAST, LEAD, LOSSES, PLACES, ROWS, SHRINKING, START, WEIGHTS, Watch

#: set by `parnet launch`: how many ranks it started
RANKS = "PARNET_RANKS"
#: set by Open MPI's launcher where it was told `--with-ft ulfm`
ULFM = "OMPI_MCA_mpi_ft_enable"
#: ask for a stop after the step at hand: Ctrl-C, what `parnet launch` makes of it, the end of a batch job's time
STOPPING = ("SIGINT", "SIGUSR1", "SIGTERM")
#: seconds after a run that was stopped in which this rank may hear the Ctrl-C that another one heard before
LATE_S = 10.0

#: seconds between two looks at whether others have come to the end
WAIT_S = 0.005

#: parts of an array, one for each rank: their lengths, and where they begin
Cut = tuple[list[int], list[int]]

#: ranks in the world -> their Ranks: handles of communicators that have been freed are given out again
_made: dict[tuple[int, ...], Ranks] = {}


def ranks_of(comm: Any = None) -> Ranks:
    """The ranks of a communicator of mpi4py, the world's for None. Collective at the first call for these processes.

    Raises:
        MissingExtraError: mpi4py is not installed. HyperparameterError: that is no communicator of processes that can meet.
        ResourceError: it and the launcher belong to different MPI libraries.
    """
    MPI = require_extra("mpi4py.MPI", "mpi", "MPI")
    comm = MPI.COMM_WORLD if comm is None else comm
    good = isinstance(comm, MPI.Comm) and comm != MPI.COMM_NULL and not comm.Is_inter()
    check_argument(good, "MPI(comm)", "a communicator of mpi4py", comm, "pass one such as MPI.COMM_WORLD, or leave it out")
    world = tuple(comm.Get_group().Translate_ranks(None, MPI.COMM_WORLD.Get_group()))
    if world not in _made:
        _made[world] = Ranks(MPI, comm)
    return _made[world]


class Stopped(KeyboardInterrupt):
    """Ctrl-C, after which all ranks have stopped behind the same step."""


class Apart(RankError):
    """Ranks that stand at different places and cannot go on together: nothing that all must take part in may follow."""


class Died(Apart):
    """Some rank has died; only an MPI that goes on after deaths tells of it."""


class Ranks:
    """The processes that train together; every method but `check` is collective unless it says otherwise.

    Attributes:
        rank, size: this one's number, and how many there are.
        wait_s, comm_s: seconds that this rank waited for others, and moved numbers, since `reset_clocks`.
        sent_bytes: that this rank has sent since then; each of the others has sent about as many.
        stop_wanted: somebody asked this rank to stop after the step at hand.
        can_shrink: the MPI library tells the survivors of a rank's death.
        alone: this rank does something that the others do not, until it tells them of it.
        watch: on the other ranks, while this one waits for them; where there are others.
    """

    def __init__(self, MPI: Any, comm: Any):
        self._MPI, self.alone = MPI, False
        self.can_shrink = os.environ.get(ULFM) == "1" and hasattr(comm, "Shrink")
        self._comm = comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.watch = Watch(MPI, self.rank) if self.size > 1 else None
        self._comm = self._meet(START, comm.Dup)  # so that our messages never meet the user's
        #: by the numbers that ranks began with, and those of the ranks that are left: each knows its own, whatever it has
        #: heard of deaths
        self._addresses = self._meet(START, self._comm.allgather, Address.mine())
        self._first, self._left = self.rank, list(range(self.size))
        if self.watch is not None:
            self.watch.begin(self._comm, self.rank, self._addresses)
        self.reset_clocks()
        self.stop_wanted = False
        self._late_until = 0.0
        self._old: dict[int, Any] = {}
        wanted = os.environ.get(RANKS, "1")
        if MPI.COMM_WORLD.Get_size() == 1 and wanted.isdigit() and int(wanted) > 1:
            library = MPI.Get_library_version().split(",")[0]
            raise ResourceError(
                f"MPI: expected {wanted} ranks, as launched, received 1: mpi4py uses {library!r}, "
                "which is not the launcher's; start with that library's mpirun (--launcher), or set MPI4PY_LIBMPI"
            )
        if self.size > 1:
            _end_together(MPI, comm, self)

    @property
    def leads(self) -> bool:
        """Whether this rank shows progress, calls callbacks and writes files. Not collective."""
        return self.rank == 0

    def reset_clocks(self) -> None:
        """Start counting seconds and bytes anew. Not collective."""
        self.wait_s = self.comm_s = 0.0
        self.sent_bytes = 0

    def _meet(self, place: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call of MPI that waits for other ranks, as `place` names it. Raises Died where one never comes."""
        if self.alone:
            raise RankError(
                "MPI: expected nothing that all ranks must take part in, inside a callback, which rank 0 runs alone; call "
                "evaluate and predict there with strategy='threads'"
            )
        if self.watch is None:
            return call(*arguments)
        self.watch.enter(place)
        try:
            result = call(*arguments)
        except Exception as error:
            classes = self._MPI.ERR_PROC_FAILED, self._MPI.ERR_REVOKED
            known = isinstance(error, self._MPI.Exception) and error.Get_error_class() in classes
            # Open MPI has other classes for it too, and objects may have come in pieces
            if not known and not (self.can_shrink and self._knows_of_deaths()):
                raise
            raise self._died(place) from error
        finally:
            self.watch.leave()
        if self.can_shrink and self._knows_of_deaths():
            raise self._died(place)
        return result

    @staticmethod
    def _died(place: int) -> Died:
        words = f"MPI: a rank has died, and others wait for it in {PLACES[place]}"
        return Died(f"{words}; start again from the last checkpoint")

    def _knows_of_deaths(self) -> bool:
        """Whether this rank has heard of a death. Not collective.

        Asked after each exchange: Open MPI has been seen to report no error to one in which a rank died, and to leave in its
        place whatever was in memory.
        """
        failed = self._comm.Get_failed()
        some = failed.size > 0
        failed.Free()
        return some or bool(self._comm.Is_revoked())

    # -- objects --------------------------------------------------------------------------------

    def from_lead(self, thing: Any = None) -> Any:
        """What rank 0 gives, on every rank."""
        return self._meet(LEAD, self._comm.bcast, thing)

    def all_objects(self, thing: Any) -> list[Any]:
        """What each rank gives, in their order."""
        return self._meet(ALL, self._comm.allgather, thing)

    def lead_first(self, work: Callable[[], Any]) -> Any:
        """Each rank's own result of the work: rank 0 does it first (it fills the cache of kernels), then the others.

        Raises:
            RankError: rank 0 failed; there its own error goes on.
        """
        if not self.leads:
            self.raise_from_lead(self.from_lead())
            return work()
        try:
            result = work()
        except Exception as error:
            self.from_lead(said(error))
            raise
        self.from_lead(None)
        return result

    def raise_from_lead(self, failure: str | None) -> None:
        """Raise RankError if rank 0 told of a failure. Not collective."""
        if failure is not None:
            raise RankError(f"rank 0 failed: {failure}")

    def check_alike(self, what: dict[str, Any], where: str) -> None:
        """Raise RankError on every rank unless all of them give the same, naming the first that does not."""
        everybody = self.all_objects({"call": where, **what})
        for rank, theirs in enumerate(everybody):
            for name, value in theirs.items():
                if value != everybody[0].get(name):
                    raise RankError(
                        f"{where}: expected the same {name} on all ranks, received {everybody[0].get(name)} on rank 0 and "
                        f"{value} on rank {rank}; give every rank the whole data and the same arguments"
                    )

    def threads_each(self, cores: set[int]) -> int:
        """Threads for each rank of this machine, so that they share its cores evenly. cores: that this rank may use."""
        everybody = self._of_this_machine(cores)
        return max(1, len(set().union(*everybody)) // len(everybody))

    def _of_this_machine(self, thing: Any) -> list[Any]:
        """What each rank of this rank's machine gives."""
        near = self._meet(ALL, self._comm.Split_type, self._MPI.COMM_TYPE_SHARED)
        everybody = self._meet(ALL, near.allgather, thing)
        near.Free()
        return everybody

    def clock_ahead(self) -> float:
        """Seconds by which rank 0's `time.perf_counter` is ahead of this rank's: 0 on its machine."""
        near = self.all_objects(0 in self._of_this_machine(self.rank))
        return self.asked_clock([rank for rank, here in enumerate(near) if not here])

    def asked_clock(self, far: list[int]) -> float:
        """As `clock_ahead`, of ranks that ask rank 0 for its time. far: those; 0 for the others."""
        return self._meet(CLOCKS, seconds_ahead, self._comm, far)

    # -- numbers --------------------------------------------------------------------------------

    def broadcast(self, array: np.ndarray, root: int = 0) -> None:
        """The numbers of one rank, on every rank."""
        self._meet(WEIGHTS, self._comm.Bcast, _bytes(array), root)

    def gather_rows(self, array: np.ndarray, first: Sequence[int]) -> None:
        """Each rank's own rows of an array, on every rank.

        Args:
            array: (rows, ...) C-contiguous, in place.
            first: (size + 1,) rank r has rows first[r] .. first[r + 1].
        """
        begun = time.perf_counter()
        each = array.itemsize * (array.size // len(array) if len(array) else 0)
        counts = [each * (b - a) for a, b in pairwise(first)]
        places = [each * a for a in first[:-1]]
        mine = self._MPI.IN_PLACE
        self._meet(ROWS, self._comm.Allgatherv, mine, [_bytes(array), counts, places, self._MPI.BYTE])
        self.sent_bytes += counts[self.rank] * (self.size - 1)
        self.comm_s += time.perf_counter() - begun

    def gather_words(self, mine: np.ndarray, all_of_them: np.ndarray) -> None:
        """A few numbers of each rank, on every rank; the time goes into `wait_s`: whoever is early waits here.

        Args:
            mine: (n,) float64. all_of_them: (size, n) float64, written.
        """
        begun = time.perf_counter()
        self._meet(LOSSES, self._comm.Allgather, mine, all_of_them)
        self.sent_bytes += mine.nbytes * (self.size - 1)
        self.wait_s += time.perf_counter() - begun

    def swap(self, out: np.ndarray, into: np.ndarray, sent: Cut, received: Cut) -> None:
        """To each rank its part of `out`, from each rank a part of `into`."""
        begun = time.perf_counter()
        kind = self._MPI.FLOAT if out.itemsize == 4 else self._MPI.DOUBLE
        self._meet(GRADIENTS, self._comm.Alltoallv, [out, *sent, kind], [into, *received, kind])
        self.sent_bytes += out.itemsize * (sum(sent[0]) - sent[0][self.rank])
        self.comm_s += time.perf_counter() - begun

    # -- going on without a rank ----------------------------------------------------------------

    def shrink(self) -> str:
        """Go on as fewer ranks, on all that are left; every call of the others that still waits ends with an error.

        Returns:
            who is gone, in words.
        Raises:
            Died: another rank has died meanwhile: this has to be done again.
            Apart: rank 0 is gone, which led.
        """
        self._comm.Revoke()
        left = self._meet(SHRINKING, self._joined)
        gone = [place for place, first in enumerate(self._left) if first not in left]
        words = f"rank {', '.join(map(str, gone))} of {self.size} {'is' if len(gone) == 1 else 'are'} gone"
        if 0 not in left:
            raise Apart(f"MPI: {words}, and rank 0 led; start again from the last checkpoint")
        self.rank, self.size, self._left = self._comm.Get_rank(), self._comm.Get_size(), left
        if self.watch is not None:
            self.watch.begin(self._comm, self.rank, [self._addresses[first] for first in left])
        return words if gone else "no rank more is gone"

    def _joined(self) -> list[int]:
        """The numbers that ranks began with, of those that are left and have a communicator of their own now."""
        self._comm = self._comm.Shrink()
        return self._comm.allgather(self._first)

    # -- stopping -------------------------------------------------------------------------------

    def leave(self) -> None:
        """End MPI, when all ranks do."""
        with contextlib.suppress(RankError):  # rank 0 is gone: the others have stopped all the same
            self.meet_at_the_end()
        if self.watch is not None:
            self.watch.close()
        self._MPI.Finalize()

    def meet_at_the_end(self) -> bool:
        """Wait until all ranks have done what their scripts do: the end of MPI would wait unwatched, or for nobody.

        Returns:
            whether rank 0 has, as far as is known.
        Raises:
            RankError: rank 0 has died, where MPI goes on after deaths: what it had yet to do is not done.
        """
        lost = False
        while self.size > 1 and not self._MPI.Is_finalized():
            try:
                if lost:
                    self.shrink()
                self._meet(LAST, lambda: self._wait(self._comm.Ibarrier()))
                return True
            except Died:
                lost = True
        return self.leads

    @staticmethod
    def _wait(request: Any) -> None:
        """As `request.Wait`, without keeping a core busy."""
        while not request.Test():
            time.sleep(WAIT_S)

    def listen(self) -> None:
        """From now on Ctrl-C only sets `stop_wanted`: ranks must leave together. Not collective; main thread only."""
        self.stop_wanted = False
        if self.size == 1 or threading.current_thread() is not threading.main_thread():
            return
        self.stop_listening()
        for name in STOPPING:
            number = getattr(signal, name, None)
            if number is not None:
                self._old[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.stop_wanted = True

    def stop_listening(self, stopped: bool = False) -> None:
        """Ctrl-C does again what it did before `listen`. Not collective.

        Args:
            stopped: the run was. On a rank that another one has stopped, the same Ctrl-C may still come: it counts once.
        """
        if stopped and not self.stop_wanted:
            self._late_until = time.monotonic() + LATE_S
            for number in self._old:
                signal.signal(number, self._come_late)
            return
        while self._old:
            signal.signal(*self._old.popitem())

    def _come_late(self, number: int, frame: object) -> None:
        self.stop_listening()
        if time.monotonic() > self._late_until:
            signal.raise_signal(number)


def _bytes(array: np.ndarray) -> np.ndarray:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8)


def _end_together(MPI: Any, comm: Any, ranks: Ranks) -> None:
    """An exception that nobody catches ends all ranks, also where the script was not started by `python -m mpi4py`: at once,
    but after `Stopped`, which all of them have got, when each has done what its script does at its end, such as saving.
    """
    before = sys.excepthook

    def hook(kind, error, trace):
        before(kind, error, trace)
        sys.stderr.flush()
        if issubclass(kind, Stopped):
            ranks.leave()
        else:
            comm.Abort(128 + signal.SIGINT if issubclass(kind, KeyboardInterrupt) else 1)

    if not getattr(before, "ends_all_ranks", False):
        hook.ends_all_ranks = True  # type: ignore[attr-defined]
        sys.excepthook = hook
