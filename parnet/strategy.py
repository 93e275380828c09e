"""How a model runs, as one argument of `fit`, `evaluate` and `predict`. Stage: between train and executors.

    strategy="serial"                one thread
    strategy="threads"               all usable cores; pn.strategy.Threads(n) for n of them
    strategy="parameter-server"      two worker processes; pn.strategy.ParameterServer(workers, ...)
    strategy="cuda"                  an NVIDIA GPU; pn.strategy.CUDA(device=0)
    strategy="auto"                  threads where the cost model says they pay, else serial (the default)
    strategy="mpi"                   the ranks of an MPI job, see `parnet launch`; pn.strategy.MPI(...)

All give the same bits for the same number of virtual shards, which is 1 unless asked for; but for the GPU, which gives the
same numbers within rounding, and its own bits again in each run. Must not know: models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .checks import check_argument, check_count, check_flag, is_whole
from .comm.mpi import Ranks, ranks_of
from .comm.process import Limits, check_limits
from .config import settings, usable_cores, usable_set
from .errors import DataError, ResourceError, UnknownNameError, unknown_name
from .executors.base import Executor
from .executors.processes import Conduct, ProcessesExecutor
from .executors.ranks import RanksExecutor
from .executors.serial import SerialExecutor
from .executors.server import ServerExecutor
from .executors.threads import ThreadsExecutor, check_threads
from .kernels.entries import MOST_SHARDS
from .server.rules import Rule, rule_of

#: below this much work a batch, microseconds on one thread, `auto` stays serial
WORTH_SHARING_US = 15.0


class Strategy:
    """Base of all strategies.

    Attributes:
        shards: virtual shards of each batch, see `Serial`.
        workers: processes that share them.
        apart: plans run in other processes alone.
        shortcuts: plans may go round work as only the CPU's kernels can, see `parnet.plan.plan.Request`.
        streams: whether it takes data piece by piece, as `DataLoader` brings those that are larger than memory.
        alone: batch normalisation always takes the statistics of a shard alone.
    """

    shards: int = 1
    workers: int = 1
    apart: bool = False
    shortcuts: ClassVar[bool] = True
    streams: ClassVar[bool] = False
    alone: bool = False
    #: seconds of the stretches that `fit` runs between two looks at progress, callbacks and Ctrl-C
    stretch_s: float = 0.1
    #: the ranks of an MPI job, where there is one
    ranks: Ranks | None = None

    @property
    def leads(self) -> bool:
        """Whether this process shows progress, calls callbacks and writes files."""
        return True

    def seconds(self) -> tuple[float, float]:
        """Seconds of this `fit` spent waiting for other processes, and moving numbers between them."""
        return 0.0, 0.0

    def exchanged_bytes(self) -> float:
        """Bytes that the ranks of this `fit` have sent each other."""
        return 0.0

    def threads_for(self, estimate_us: float) -> int:
        """How many threads a plan of that cost runs on.

        Args:
            estimate_us: the plan's time a batch on one thread, by the cost model.
        """
        return 1

    def open(self, threads: int) -> Executor:
        """A running executor for plans of that many parts."""
        return SerialExecutor() if threads == 1 else ThreadsExecutor(threads)


def check_shards(shards, where: str) -> None:
    """Raise HyperparameterError unless it is a number of virtual shards."""
    good = is_whole(shards, 1) and int(shards) <= MOST_SHARDS
    check_argument(good, f"{where}(shards)", f"a whole number from 1 to {MOST_SHARDS}", shards, "leave it out for 1")


@dataclass(frozen=True)
class Serial(Strategy):
    """Everything on the calling thread.

    Args:
        shards: parts that each batch is cut into, whose gradients are then added along a fixed tree: with as many shards
            every strategy gives the same bits, a parameter server's workers and MPI's ranks among them.
    """

    shards: int = 1
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_shards(self.shards, "Serial")


@dataclass(frozen=True)
class Threads(Strategy):
    """A pool of threads.

    Args:
        n: how many, at most the usable cores; None for all of them.
        shards: parts that each batch is cut into, whose gradients are then added along a fixed tree: with as many shards
            every strategy gives the same bits, a parameter server's workers and MPI's ranks among them.
    Raises:
        HyperparameterError, ResourceError: n is no number above 0, or more than the process may use.
    """

    n: int | None = None
    shards: int = 1
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_threads(self.n)
        check_shards(self.shards, "Threads")

    def threads_for(self, estimate_us: float) -> int:
        return check_threads(self.n)


ON_FAILURE = ("abort", "restart", "shrink")


@dataclass(frozen=True)
class ParameterServer(Strategy):
    """Worker processes on this machine, each with its own virtual shards of every batch.

    Data, weights and gradients lie in shared memory, once. In each step every worker computes the gradients of its shards;
    then, as the server of a range of the weights, it adds up that range over all shards and updates it. With the same
    `shards` any number of workers and threads gives the bits of `Serial(shards=...)`. Workers never run the user's script.

    That is mode "sync". The other modes belong to `fit` and let workers go at their own pace, so that a slow one holds up
    the others less; the process that called `fit` then makes the updates. Their results depend on who was faster, but for
    "local", and for staleness=0, which gives the bits of "sync". `history.timing.server` counts what happened.

        "sync", backup=b      each step does without the b slowest workers, whose gradients are dropped and counted
                              (Chen et al. 2016, arXiv 1604.00981)
        "ssp", staleness=s    a worker may be s steps ahead of the slowest (Ho et al. 2013, stale synchronous parallel)
        "async"               nobody waits; each gradient is an update of its own (Dean et al. 2012, Downpour SGD); with
                              `damped` at a rate of 1 / (1 + its staleness) (Zhang et al. 2016, arXiv 1511.05950)
        "local", every=k      workers train by themselves for k batches, then weights and the optimizer's slots are averaged
                              (Stich 2019, arXiv 1805.09767)
        "hogwild"             workers update the weights in place without a lock, plain SGD only; experimental
                              (Recht et al. 2011)

    In these modes batch normalisation takes the statistics of a worker's own shard. The rate of an update is that of the
    newest batch in it, so that a schedule takes as long as in mode "sync"; Adam corrects its averages by the number of
    updates. "async" and "hogwild" make up to `workers` updates a batch, each of a shard's mean gradient, so they may want a
    lower learning rate.

    Args:
        workers: processes.
        mode: see above.
        staleness, backup, every, damped: the parameter of mode "ssp", "sync", "local" or "async".
        threads_per_worker: an even share of the usable cores for None.
        shards: parts that each batch is cut into, see `Serial`; as many as workers for None, and in every mode but "sync".
            Give a number to have the same bits for other numbers of workers too.
        on_failure: when a worker is lost: "abort" raises WorkerLostError; "restart" starts another in its place and
            "shrink" goes on with those that are left. In mode "sync" both go back to a moment at most a second before, with
            the same result. In the others no update is undone and no gradient counts twice: a new worker does the lost one's
            task again, and without one the others take it over in "ssp" and "async"; with "local" and `backup` the
            samples of its shards are left out, and counted. A manual loop always aborts.
        oversubscribe: allow more threads than cores.
        restarts: workers that may be lost before WorkerLostError is raised after all.
        stall_warning_s, stall_limit_s: seconds after which a worker that does nothing is named, and given up.
    Raises:
        HyperparameterError: an argument that makes no sense. ResourceError: more threads than usable cores; at the start
        of a run, too little memory. WorkerLostError: a worker died, failed or hung; the weights are those of the last safe
        moment. StateError: a manual loop in another mode than "sync".
    """

    workers: int = 2
    mode: str = "sync"
    staleness: int = 0
    backup: int = 0
    threads_per_worker: int | None = None
    shards: int | None = None  # type: ignore[assignment]
    on_failure: str = "abort"
    oversubscribe: bool = False
    restarts: int = 3
    stall_warning_s: float = 10.0
    stall_limit_s: float = 60.0
    every: int = 1
    damped: bool = False
    apart = True

    def __post_init__(self) -> None:
        if self.on_failure not in ON_FAILURE:
            raise unknown_name("ParameterServer(on_failure)", self.on_failure, ON_FAILURE)
        workers = check_count(self.workers, "ParameterServer(workers)")
        shards = workers if self.shards is None else self.shards
        check_shards(shards, "ParameterServer")
        object.__setattr__(self, "workers", workers)
        if self._rule() is not None:
            advice = "leave it out, or take mode='sync'"
            check_argument(shards == workers, "ParameterServer(shards)", f"{workers}, one a worker", shards, advice)
        check_argument(
            shards >= workers, "ParameterServer(shards)", f"at least {workers}, one a worker", shards, "give more"
        )
        check_count(self.restarts, "ParameterServer(restarts)", low=0)
        check_limits(self.stall_warning_s, self.stall_limit_s, "ParameterServer")
        threads = self.threads_per_worker
        threads = max(1, usable_cores() // workers) if threads is None else check_count(threads, "threads_per_worker")
        oversubscribe = check_flag(self.oversubscribe, "ParameterServer(oversubscribe)")
        if workers * threads > usable_cores() and not oversubscribe:
            raise ResourceError(
                f"ParameterServer: expected at most {usable_cores()} threads in all, the cores this process may use, "
                f"received {workers} workers of {threads} each; take fewer, or allow it by oversubscribe=True"
            )
        for name, value in (("workers", workers), ("threads_per_worker", threads), ("shards", int(shards))):
            object.__setattr__(self, name, value)

    def threads_for(self, estimate_us: float) -> int:
        return int(self.threads_per_worker or 1)

    def open(self, threads: int) -> Executor:
        limits = Limits(self.stall_warning_s, self.stall_limit_s)
        crowded = self.workers * threads > usable_cores()
        conduct = Conduct(self.workers, threads, self.on_failure, self.restarts, crowded, limits)
        rule = self._rule()
        return ProcessesExecutor(conduct) if rule is None else ServerExecutor(conduct, self.mode, rule)

    def _rule(self) -> Rule | None:
        """When workers may begin; None where they go in step, which needs nobody to decide."""
        given = {"staleness": self.staleness, "backup": self.backup, "every": self.every}
        rule = rule_of(self.mode, self.workers, "ParameterServer", self.damped, **given)
        return None if self.mode == "sync" and not self.backup else rule

    @property
    def alone(self) -> bool:  # type: ignore[override]
        return self._rule() is not None and self.workers > 1

    @property
    def stretch_s(self) -> float:  # type: ignore[override]
        """Longer where all workers must come to rest for it."""
        return 0.1 if self._rule() is None else 0.5


@dataclass(frozen=True)
class Auto(Strategy):
    """Threads where they pay."""

    streams: ClassVar[bool] = True

    def threads_for(self, estimate_us: float) -> int:
        return check_threads(None) if estimate_us >= WORTH_SHARING_US and usable_cores() > 1 else 1


def check_streams(strategy: Strategy, where: str) -> None:
    """Raise DataError unless a strategy takes data piece by piece."""
    if not strategy.streams:
        raise DataError(
            f"{where}: expected arrays with {type(strategy).__name__}, received a loader, files or an iterable; pass arrays "
            "such as np.load(path, mmap_mode='r'), or use strategy='threads'"
        )


@dataclass(frozen=True, eq=False)
class MPI(Strategy):
    """The ranks of an MPI job train one model together; each of them runs the whole script.

    Every rank is given the same model and the same arrays and reads only the rows of its own shards: for data that should
    not lie in every rank's memory, give arrays that `np.load(..., mmap_mode="r")` has opened. Rank 0 shows progress, calls
    the callbacks and writes files; it hands its first weights and its seeds to the others.

    Args:
        comm: a communicator of mpi4py; that of the whole job for None.
        shards: parts that each batch is cut into, see `Serial`, at least as many as ranks; as many as ranks for None.
            With as many shards any number of ranks gives the bits of `Serial(shards=...)`.
        on_failure: what follows when a rank dies. "abort": the job ends. "shrink": the others take over its shards and go on
            where they are, with the bits of an undisturbed run; this needs Open MPI told `--with-ft ulfm`, as by
            `parnet launch --ulfm`, and the death of rank 0, or one between two runs of batches, ends the job all the same.
        threads: of each rank; what `parnet launch --threads` said, or an even share of its machine's cores, for None.
        stall_warning_s, stall_limit_s: seconds after which a rank that gives no sign of life, while others wait for it, is
            named, and given up as if it had died. One that is only late (it compiles, reads, computes) is not; but of a
            rank on another machine only Python can give signs: raise the limit where a call of C code there, which does
            not release Python's lock (GIL), takes longer.
    Raises:
        MissingExtraError: mpi4py is not installed. HyperparameterError: fewer shards than ranks, a time that makes no sense.
        ResourceError: more threads than cores; "shrink" without ULFM; the launcher and mpi4py belong to different libraries.
    """

    comm: Any = None
    shards: int | None = None  # type: ignore[assignment]
    on_failure: str = "abort"
    threads: int | None = None
    stall_warning_s: float = 10.0
    stall_limit_s: float = 60.0
    ranks: Ranks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.on_failure not in ("abort", "shrink"):
            raise unknown_name("MPI(on_failure)", self.on_failure, ("abort", "shrink"))
        limits = check_limits(self.stall_warning_s, self.stall_limit_s, "MPI")
        ranks = ranks_of(self.comm)
        if self.on_failure == "shrink" and ranks.size > 1 and not ranks.can_shrink:
            raise ResourceError(
                "MPI(on_failure='shrink'): expected an MPI that tells of deaths, received none; start with parnet launch "
                "--ulfm and Open MPI (mpirun --with-ft ulfm --mca coll ^han,cuda --mca async_mpi_finalize 1), or take "
                "on_failure='abort'"
            )
        shards = ranks.size if self.shards is None else self.shards
        check_shards(shards, "MPI")
        check_argument(
            shards >= ranks.size, "MPI(shards)", f"at least {ranks.size}, one for each rank", shards, "give more, or None"
        )
        if ranks.watch is not None:
            ranks.watch.limits, ranks.watch.shrinks = limits, self.on_failure == "shrink"
        threads = check_threads(
            settings().threads or ranks.threads_each(usable_set()) if self.threads is None else self.threads, "MPI(threads)"
        )
        for name, value in (("ranks", ranks), ("shards", int(shards)), ("threads", threads)):
            object.__setattr__(self, name, value)

    @property
    def leads(self) -> bool:
        return self.ranks.leads

    def wait(self) -> None:
        """Until all ranks are here, as after rank 0 has written files that the others read."""
        self.ranks.all_objects(None)

    def seconds(self) -> tuple[float, float]:
        return self.ranks.wait_s, self.ranks.comm_s

    def exchanged_bytes(self) -> float:
        return float(self.ranks.sent_bytes * self.ranks.size)

    def threads_for(self, estimate_us: float) -> int:
        return int(self.threads or 1) if estimate_us >= WORTH_SHARING_US else 1

    def open(self, threads: int) -> Executor:
        return RanksExecutor(super().open(threads), self.ranks, self.on_failure == "shrink")


@dataclass(frozen=True)
class CUDA(Strategy):
    """One NVIDIA GPU; needs the extra parnet[cuda].

    Weights, gradients, data and everything between stay on it; weights come back when somebody reads them.

    Args:
        device: which one, from 0; see `pn.cuda.devices()`.
        graph: capture a batch's launches as a CUDA graph and replay it, which spares small networks the time of launching.
            Off until it has been measured on a GPU.
    Raises:
        HyperparameterError: device is no whole number of at least 0.
        MissingExtraError, DeviceError: when it is first used: the extra, the driver or the device is missing.
    """

    shortcuts = False
    device: int = 0
    graph: bool = False

    def __post_init__(self) -> None:
        check_count(self.device, "CUDA(device)", low=0)

    def open(self, threads: int) -> Executor:
        from .executors.cuda import CudaExecutor

        return CudaExecutor(self.device, self.graph)


NAMES = {
    "serial": Serial,
    "threads": Threads,
    "parameter-server": ParameterServer,
    "mpi": MPI,
    "cuda": CUDA,
    "auto": Auto,
}


def get(identifier) -> Strategy:
    """A strategy from a name or an object.

    Raises:
        UnknownNameError: neither; the message lists the names.
    """
    if isinstance(identifier, Strategy):
        return identifier
    if isinstance(identifier, str) and identifier in NAMES:
        return NAMES[identifier]()
    error: UnknownNameError = unknown_name("strategy", identifier, NAMES)
    raise error
