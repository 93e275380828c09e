"""The modes of the parameter server: when a worker that has pushed may begin its next step. Stage: server, pure.

    Sync(backup=b)      all begin together, once all but b have pushed (bulk-synchronous; Chen et al. 2016, arXiv 1604.00981)
    SSP(staleness=s)    a worker may be at most s steps ahead of the slowest (Ho et al. 2013, "stale synchronous parallel")
    Async()             at once (Dean et al. 2012)
    Local(every=k)      as Sync, but a push comes after k steps of the worker's own and brings parameters (Stich 2019)

Whatever the mode, the gradients that have come in since the last update make one update, at the moment when some worker is
about to begin a step: that worker sees them. So SSP(0) does what Sync does, and SSP without a bound what Async does.
`rule_of` finds the rule of a mode that a user has named; mode hogwild runs as Async, its workers need no server.
Must not know: arrays, processes, transports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass

from ..checks import check_argument, check_count, check_flag
from ..errors import unknown_name


@dataclass(frozen=True)
class Rule:
    """Base of all modes."""

    #: whether pushes bring parameters in place of gradients
    averages = False
    #: whether a push for a step whose update has been made is dropped
    drops_late = False

    def free(self, clocks: Mapping[int, int], waiting: Set[int], pending: Set[int]) -> Set[int]:
        """The waiting workers that may begin their next step now.

        Args:
            clocks: pushes of each worker that is there; the step that it does or waits for.
            waiting: workers that have pushed and do nothing.
            pending: workers whose push is in no update yet.
        """
        raise NotImplementedError

    def rate_factor(self, staleness: int) -> float:
        """What the learning rate of an update is multiplied by; staleness: the largest of its gradients."""
        return 1.0


@dataclass(frozen=True)
class Sync(Rule):
    """Steps in common.

    Args:
        backup: how many of the slowest workers each step does without; their gradients are dropped when they come.
    """

    backup: int = 0
    drops_late = True

    def __post_init__(self) -> None:
        check_count(self.backup, "Sync(backup)", low=0)

    def free(self, clocks: Mapping[int, int], waiting: Set[int], pending: Set[int]) -> Set[int]:
        arrived = len(pending & clocks.keys())
        return waiting if arrived >= max(1, len(clocks) - self.backup) else frozenset()


@dataclass(frozen=True)
class SSP(Rule):
    """Bounded lead.

    Args:
        staleness: steps that a worker may be ahead of the slowest; `math.inf` for no bound.
    """

    staleness: float = 0

    def __post_init__(self) -> None:
        whole = self.staleness == math.inf or (isinstance(self.staleness, int) and self.staleness >= 0)
        check_argument(
            whole and not isinstance(self.staleness, bool),
            "SSP(staleness)",
            "a whole number of at least 0",
            self.staleness,
            "give how many steps a worker may be ahead of the slowest",
        )

    def free(self, clocks: Mapping[int, int], waiting: Set[int], pending: Set[int]) -> Set[int]:
        slowest = min(clocks.values(), default=0)
        return {worker for worker in waiting if clocks[worker] - slowest <= self.staleness}


@dataclass(frozen=True)
class Async(Rule):
    """No waiting.

    Args:
        damped: multiply the learning rate by 1 / (1 + staleness) (Zhang et al. 2016, arXiv 1511.05950).
    """

    damped: bool = False

    def free(self, clocks: Mapping[int, int], waiting: Set[int], pending: Set[int]) -> Set[int]:
        return waiting

    def rate_factor(self, staleness: int) -> float:
        return 1.0 / (1 + staleness) if self.damped else 1.0


@dataclass(frozen=True)
class Local(Sync):
    """Averages of parameters.

    Args:
        every: steps that a worker makes by itself between two averages; counted by the worker.
    """

    every: int = 1
    averages = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.every, "Local(every)")


#: mode -> the one parameter that belongs to it
MODES = {"sync": "backup", "ssp": "staleness", "async": "", "local": "every", "hogwild": ""}
#: what the parameters are where they mean nothing
NEUTRAL = {"backup": 0, "staleness": 0, "every": 1}


def rule_of(mode: str, workers: int, where: str, damped: bool = False, **given: int) -> Rule:
    """The rule of a mode.

    Args:
        workers: that there are.
        where: for messages.
        damped: of mode async.
        given: backup, staleness and every, as the user gave them.
    Raises:
        UnknownNameError: no such mode. HyperparameterError: a parameter out of range, or of another mode.
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise unknown_name(f"{where}(mode)", mode, MODES)
    for name, neutral in NEUTRAL.items():
        value = check_count(given[name], f"{where}({name})", low=neutral)
        owner = next(m for m, own in MODES.items() if own == name)
        advice = f"leave it out, or take mode={owner!r}, which it belongs to"
        check_argument(
            name == MODES[mode] or value == neutral, f"{where}({name})", f"{neutral} with mode={mode!r}", value, advice
        )
    advice = "leave it out, or take mode='async', which it belongs to"
    check_argument(
        not check_flag(damped, f"{where}(damped)") or mode == "async", f"{where}(damped)", "False", damped, advice
    )
    if mode == "sync":
        good = given["backup"] < workers
        check_argument(good, f"{where}(backup)", f"fewer than the {workers} workers", given["backup"], "give fewer")
        return Sync(int(given["backup"]))
    if mode == "ssp":
        return SSP(int(given["staleness"]))
    return Local(every=int(given["every"])) if mode == "local" else Async(damped)
