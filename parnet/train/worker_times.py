"""Where the time of a parameter server's workers went, and what that says. Stage: train.

Must not know: how a model trains.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..executors.link import Program
from ..kernels import control
from ..server.machine import Tally

#: shares of a run beyond which waiting, or moving gradients, is what limits it
WAITS, MOVES = 0.15, 0.3


@dataclass(frozen=True)
class WorkerTime:
    """Where the time of one worker went, the mean over its threads.

    Attributes:
        compute_s: gradients of its shards.
        wait_s: waiting for the others.
        comm_s: adding up all shards' gradients of its range of the weights.
        comm_bytes: of gradients read and written for that.
        update_s: updating that range.
    """

    compute_s: float
    wait_s: float
    comm_s: float
    comm_bytes: int
    update_s: float = 0.0


@dataclass(frozen=True)
class Spent:
    """What running batches took so far, and on what.

    Attributes:
        run_s: seconds in all; wait_s, comm_s, update_s: of them.
        comm_bytes: exchanged between all workers or ranks.
    """

    run_s: float
    wait_s: float
    comm_s: float
    update_s: float
    comm_bytes: float


@dataclass
class WorkerTimes:
    """Sums over the epochs of a run."""

    seconds: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    bytes: float = 0.0
    tally: Tally | None = None

    def add(self, program: Program, run_s: float) -> None:
        """An epoch that took so many seconds has been run."""
        self.tally = program.tally
        words = program.control.astype(float)
        shares = words[:, [control.WAITED, control.APPLIED, control.UPDATED]] / np.maximum(words[:, [control.CYCLES]], 1.0)
        parts = len(words) // program.plan.request.workers
        shares = shares.reshape(-1, parts, 3).mean(axis=1) if parts else shares
        if len(self.seconds) != len(shares):
            self.seconds = np.zeros((len(shares), 4))
        self.seconds += run_s * np.column_stack([1 - shares.sum(axis=1), shares])
        after = program.plan.after
        folds = () if after is None else (step for step in after.steps if step.kernel == "shards.fold")
        self.bytes += program.batches_done() * sum(step.bytes for step in folds) / max(1, len(shares))

    def result(self) -> tuple[WorkerTime, ...]:
        """One for each worker."""
        size = int(self.bytes)
        return tuple(WorkerTime(compute, wait, comm, size, update) for compute, wait, comm, update in self.seconds.tolist())


def updated_share(program: Program) -> float:
    """The share of native code that parts spent updating weights once a batch; 0 where that is not measured."""
    words = program.control.astype(float)
    return float(np.mean(words[:, control.UPDATED] / np.maximum(words[:, control.CYCLES], 1.0)))


def limit_of(workers: tuple[WorkerTime, ...], tally: Tally | None = None) -> str:
    """What limited a run, in a sentence, and what its workers' own pace cost, in another."""
    return f"{_slowest_part(workers)} {_own_pace(tally)}".strip() if workers else ""


def _own_pace(tally: Tally | None) -> str:
    """Gradients that were old or not used at all; "" where all were new."""
    if tally is None:
        return ""
    old = sum(count for staleness, count in tally.staleness.items() if staleness)
    said = []
    if old:
        mean = sum(staleness * count for staleness, count in tally.staleness.items()) / max(1, tally.used)
        said.append(f"{old} of {tally.used} gradients were of older weights, {mean:.1f} updates old in the mean")
    if tally.dropped:
        worst = max(tally.dropped, key=lambda worker: tally.dropped[worker])
        said.append(
            f"{sum(tally.dropped.values())} gradients of {tally.dropped_rows} samples came too late and were dropped, most "
            f"of worker {worst}"
        )
    if tally.missed_rows:
        said.append(f"{tally.missed_rows} samples were left out")
    return f"{'; '.join(said)}." if said else ""


def _slowest_part(workers: tuple[WorkerTime, ...]) -> str:
    total = sum(w.compute_s + w.wait_s + w.comm_s + w.update_s for w in workers) or 1.0
    waits, moves = (sum(n) / total for n in ([w.wait_s for w in workers], [w.comm_s + w.update_s for w in workers]))
    slowest = max(range(len(workers)), key=lambda k: workers[k].compute_s)
    if waits > WAITS:
        return (
            f"Workers waited for each other {waits:.0%} of the time, most for worker {slowest}, which computed longest: the "
            "batch may be small for so many workers, or other programs keep the cores busy."
        )
    if moves > MOVES:
        return (
            f"Adding up gradients and updating weights took {moves:.0%} of the time: memory limits it; larger batches make "
            "it rarer."
        )
    return f"Arithmetic took {1 - waits - moves:.0%} of the time: more cores would help."
