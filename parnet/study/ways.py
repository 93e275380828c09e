"""The strategies that a study knows by name, and what a worker of each is. Stage: study.

A strategy is taken up here by its name alone; its class is looked for in `parnet.strategy` when a study asks for it.
Must not know: processes, files, statistics.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from .. import strategy as how
from ..checks import is_whole
from ..config import usable_cores
from ..errors import HyperparameterError, ResourceError, require_extra, unknown_name
from ..executors.threads import ThreadsExecutor


@dataclass(frozen=True)
class Way:
    """How one kind of strategy is counted and started.

    Attributes:
        kind: the class in `parnet.strategy`.
        count: its argument that takes the number of workers; empty where it has none.
        noun: what a worker is.
        ranks: each worker is a process that `mpirun` starts.
        cores: workers are cores of this machine, of which there must be enough.
        single: its argument that holds a worker to one thread, so that workers and not threads are counted.
    """

    kind: str
    count: str
    noun: str
    ranks: bool = False
    cores: bool = True
    single: str = ""


#: name -> way; the first is what all others are compared with
WAYS = {
    "serial": Way("Serial", "", "thread"),
    "threads": Way("Threads", "n", "thread"),
    "parameter-server": Way("ParameterServer", "workers", "worker", single="threads_per_worker"),
    "mpi": Way("MPI", "", "rank", ranks=True, single="threads"),
    "cuda": Way("CUDA", "", "GPU", cores=False),
}
SERIAL = "serial"


@dataclass(frozen=True)
class Crowd(how.Strategy):
    """More threads than cores, which `Threads` refuses: for showing what that costs."""

    n: int

    def threads_for(self, estimate_us: float) -> int:
        return self.n

    def open(self, threads: int):
        executor = ThreadsExecutor(threads)
        executor.gives_way = False
        return executor


@dataclass(frozen=True)
class Chosen:
    """One strategy at one number of workers, as plain data.

    Attributes:
        label: its name in tables, "threads".
        kind: a class of `parnet.strategy`.
        workers: how many.
        options: the arguments of that class, less the number of workers.
    """

    label: str
    kind: str
    workers: int
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def way(self) -> Way:
        """What is known of its kind."""
        return way_of(self.kind)

    def make(self, oversubscribe: bool = False) -> how.Strategy:
        """The strategy itself."""
        if self.kind == "Threads" and oversubscribe and self.workers > usable_cores():
            return Crowd(self.workers)
        arguments = dict(self.options)
        if self.way.count:
            arguments[self.way.count] = self.workers
        cls = getattr(how, self.kind)
        if oversubscribe and "oversubscribe" in {field.name for field in fields(cls)}:
            arguments["oversubscribe"] = True
        return cls(**arguments)


def way_of(kind: str) -> Way:
    """The way of a class's name."""
    return next((way for way in WAYS.values() if way.kind == kind), Way(kind, "", "worker"))


def available() -> list[str]:
    """Names of the strategies that this parnet has."""
    return [name for name, way in WAYS.items() if hasattr(how, way.kind)]


def choose(strategies: Any, oversubscribe: bool) -> list[Chosen]:
    """What a study runs: serial first, then every strategy at each of its counts, smallest first.

    Args:
        strategies: {name: [numbers of workers]}; {label: [strategy objects]}; names alone, for powers of two up to the
            usable cores; None for threads.
        oversubscribe: more workers than usable cores are wanted.
    Raises:
        UnknownNameError: no such strategy. HyperparameterError: bad counts. ResourceError: more workers than cores.
        MissingExtraError, DeviceError: there is no MPI or GPU here.
    """
    if strategies is None:
        strategies = ["threads"]
    if isinstance(strategies, str):
        strategies = [strategies]
    if not isinstance(strategies, dict):
        try:
            strategies = dict.fromkeys(strategies)
        except TypeError:
            raise HyperparameterError(
                f"study: expected strategies as {{name: [numbers of workers]}}, received {strategies!r}"
            ) from None
    chosen = [Chosen(SERIAL, "Serial", 1)]
    for label, counts in strategies.items():
        for one in _counts(label, counts):
            found = _of_object(label, one) if isinstance(one, how.Strategy) else _of_count(label, one)
            check_room(found, oversubscribe)
            check_there(found)
            if found not in chosen:
                chosen.append(found)
    order = {label: place for place, label in enumerate(dict.fromkeys(c.label for c in chosen))}
    return sorted(chosen, key=lambda c: (order[c.label], c.workers))


def _counts(label: str, counts: Any) -> list:
    if counts is None:
        way = WAYS.get(label)
        return [1] if way is None or not (way.count or way.ranks) else powers_of_two(usable_cores())
    if isinstance(counts, how.Strategy) or is_whole(counts):
        return [counts]
    try:
        listed = list(counts)
    except TypeError:
        listed = []
    if not listed or isinstance(counts, str):
        raise HyperparameterError(
            f"study: strategies[{label!r}]: expected a list of numbers of workers, such as [1, 2, 4], received {counts!r}"
        )
    return listed


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, ... and the largest number itself."""
    return sorted({2**k for k in range(most.bit_length()) if 2**k <= most} | {most})


def _of_count(label: str, count: Any) -> Chosen:
    if label not in WAYS or not hasattr(how, WAYS[label].kind):
        raise unknown_name("study: strategy", label, available())
    way = WAYS[label]
    if not is_whole(count, 1):
        raise HyperparameterError(
            f"study: strategies[{label!r}]: expected numbers of {way.noun}s of 1 or more, received {count!r}"
        )
    if not way.count and not way.ranks and int(count) != 1:
        raise HyperparameterError(
            f"study: strategies[{label!r}]: expected [1], as it has one {way.noun}, received {count!r}"
        )
    return Chosen(label, way.kind, int(count), ((way.single, 1),) if way.single else ())


def _of_object(label: str, strategy: how.Strategy) -> Chosen:
    kind = type(strategy).__name__
    way = way_of(kind)
    if not hasattr(how, kind) or not is_dataclass(strategy):
        raise unknown_name(f"study: strategies[{label!r}]", kind, [WAYS[name].kind for name in available()])
    options = {name: value for name, value in asdict(strategy).items() if value is not None}
    workers = options.pop(way.count, None) if way.count else 1
    if workers is None:
        workers = usable_cores()
    default = asdict(type(strategy)(**({way.count: workers} if way.count else {})))
    different = {name: value for name, value in options.items() if default.get(name) != value}
    return Chosen(label, kind, int(workers), tuple(sorted(different.items())))


def check_there(chosen: Chosen) -> None:
    """Raise MissingExtraError or DeviceError where this machine has not what the strategy needs."""
    if chosen.kind == "CUDA":
        from ..cuda import runtime

        runtime.check_device(dict(chosen.options).get("device", 0))
    elif chosen.way.ranks:
        require_extra("mpi4py", "mpi", f"study: {chosen.label!r}")


def check_room(chosen: Chosen, oversubscribe: bool) -> None:
    """Raise ResourceError where the machine has not the cores and nobody asked for more than there are."""
    cores = usable_cores()
    if chosen.way.cores and chosen.workers > cores and not oversubscribe:
        raise ResourceError(
            f"study: expected at most {cores} {chosen.way.noun}s, the cores this process may use, received {chosen.workers} "
            f"for {chosen.label!r}; take fewer, or say oversubscribe=True (--oversubscribe) to see what sharing a core costs"
        )
