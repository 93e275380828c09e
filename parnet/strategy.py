"""How a model runs, as one argument of `fit`, `evaluate` and `predict`. Stage: between train and executors.

    strategy="serial"                one thread
    strategy="threads"               all usable cores; pn.strategy.Threads(n) for n of them
    strategy="auto"                  threads where the cost model says they pay, else serial (the default)

All give the same bits. Must not know: models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .checks import check_argument
from .config import usable_cores
from .errors import DataError, UnknownNameError, unknown_name
from .executors.base import Executor
from .executors.serial import SerialExecutor
from .executors.threads import ThreadsExecutor, check_threads

#: below this much work a batch, microseconds on one thread, `auto` stays serial
WORTH_SHARING_US = 15.0


class Strategy:
    """Base of all strategies.

    Attributes:
        streams: whether it takes data piece by piece, as `DataLoader` brings those that are larger than memory.
    """

    streams: ClassVar[bool] = False

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
    """Raise HyperparameterError unless the number of virtual shards is 1."""
    check_argument(
        isinstance(shards, int) and shards == 1,
        f"{where}(shards)",
        "1",
        shards,
        "leave it out; virtual shards come with the parameter server",
    )


@dataclass(frozen=True)
class Serial(Strategy):
    """Everything on the calling thread.

    Args:
        shards: 1; virtual shards come with the parameter server.
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
        shards: 1; virtual shards come with the parameter server.
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


NAMES = {"serial": Serial, "threads": Threads, "auto": Auto}


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
