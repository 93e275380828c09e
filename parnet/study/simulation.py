"""`pn.study.simulate`: how training would scale on more workers than there are, event by event. Stage: study.

Workers, the links of servers and failures are processes and resources of simpy, a discrete-event simulator. A message of n
bytes costs alpha + n beta (R. W. Hockney, Parallel Computing 20 (1994), 389). A sum over all workers:

    ring      2 (p - 1) messages of n / p one after the other (P. Patarasu, X. Yuan, JPDC 69 (2009), 117)
    tree      ceil(log2 p) messages of n towards the root, as many back
    server    one server, whose link carries p gradients in and p times the weights out, one after the other
    sharded   several servers, each with a part of the weights and a link of its own

Rules of when a worker goes on: "sync", all gradients of a step; "backup", all but the b last (J. Chen et al., 2016, arXiv
1604.00981); "ssp", no more than s steps ahead of the slowest (Q. Ho et al., NIPS 2013); "async", at once.
Must not know: studies' files, pictures.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_argument, check_count, check_number
from ..errors import HyperparameterError, require_extra, unknown_name

if TYPE_CHECKING:
    from .result import Study

MODES = ("sync", "backup", "ssp", "async")
TOPOLOGIES = ("ring", "tree", "server", "sharded")
#: events of one run at most; a larger cluster is run for fewer steps
MOST_EVENTS = 2_000_000


@dataclass(frozen=True)
class Link:
    """What a message costs.

    Args:
        alpha_s: seconds of a message of no bytes. beta_s: seconds of each byte; 1 / beta_s is the bandwidth.
    """

    alpha_s: float = 0.0
    beta_s: float = 0.0

    def __post_init__(self) -> None:
        check_number(self.alpha_s, "Link(alpha_s)", 0)
        check_number(self.beta_s, "Link(beta_s)", 0)

    def seconds(self, size: float) -> float:
        """Of a message of so many bytes."""
        return self.alpha_s + size * self.beta_s


@dataclass(frozen=True)
class Cluster:
    """What is simulated; see `simulate` for the arguments."""

    compute_s: Any
    bytes: float = 0.0
    link: Link = field(default_factory=Link)
    mode: str = "sync"
    topology: str = "ring"
    kind: str = "strong"
    serial_s: float = 0.0
    update_s: float = 0.0
    servers: int = 1
    backup: int = 0
    staleness: int = 0
    spread: float = 0.0
    jitter: float = 0.0
    failures_per_s: float = 0.0
    restart_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value, valid in (("mode", self.mode, MODES), ("topology", self.topology, TOPOLOGIES)):
            if value not in valid:
                raise unknown_name(f"simulate: {name}", value, valid)
        if self.kind not in ("strong", "weak"):
            raise unknown_name("simulate: kind", self.kind, ("strong", "weak"))
        if self.mode != "sync" and self.topology in ("ring", "tree"):
            raise HyperparameterError(
                f"simulate: expected a server for mode {self.mode!r}, received topology {self.topology!r}, whose sums "
                "need every "
                "worker; use topology='server' or 'sharded'"
            )
        for name in ("bytes", "serial_s", "update_s", "spread", "jitter", "failures_per_s", "restart_s"):
            check_number(getattr(self, name), f"simulate: {name}", 0)
        for name, low in (("servers", 1), ("backup", 0), ("staleness", 0)):
            check_count(getattr(self, name), f"simulate: {name}", low)
        if not callable(self.compute_s):
            times = np.asarray(self.compute_s, float)
            good = times.size > 0 and bool(np.isfinite(times).all()) and bool((times > 0).all())
            check_argument(
                good, "simulate: compute_s", "seconds above 0", self.compute_s, "give one time, several, or a function"
            )


@dataclass(frozen=True)
class Outcome:
    """What one number of workers came to.

    Attributes:
        workers, steps: how many; steps are updates of the weights of one batch of all workers.
        step_s: seconds of a step, the mean.
        speedup: over one worker without messages, scaled by the workers in a weak simulation.
        efficiency: speedup / workers.
        compute, communication, wait: shares of the workers' time.
        dropped: gradients that came too late, a step. staleness: updates that a gradient missed, the mean, and the largest.
        failures: that happened.
    """

    workers: int
    steps: int
    step_s: float
    speedup: float
    efficiency: float
    compute: float
    communication: float
    wait: float
    dropped: float
    staleness: float
    most_stale: int
    failures: int


@dataclass(frozen=True)
class Prediction:
    """The outcomes of several numbers of workers.

    Attributes:
        cluster: what was simulated. outcomes: by number of workers. one_s: seconds of a step on one worker without messages.
    """

    cluster: Cluster
    outcomes: tuple[Outcome, ...]
    one_s: float

    @property
    def workers(self) -> list[int]:
        """The numbers of workers."""
        return [outcome.workers for outcome in self.outcomes]

    @property
    def best(self) -> Outcome:
        """The outcome with the largest speedup."""
        return max(self.outcomes, key=lambda outcome: outcome.speedup)

    def plot(self, path: Any = None, study: Study | None = None, **chosen: Any) -> Any:
        """Draw it, with the measured points of a study where one is given; see `prediction_plot.plot_predictions`."""
        from .prediction_plot import plot_predictions

        return plot_predictions({f"{self.cluster.mode}, {self.cluster.topology}": self}, path, study, **chosen)

    def table(self) -> str:
        """One row a number of workers."""
        from .markup import number, percent, seconds, text_table

        head = [
            "workers",
            "step",
            "speedup",
            "efficiency",
            "compute",
            "communication",
            "wait",
            "dropped a step",
            "staleness",
        ]
        rows = [
            [
                str(o.workers),
                seconds(o.step_s),
                number(o.speedup),
                *(percent(v) for v in (o.efficiency, o.compute, o.communication, o.wait)),
                number(o.dropped),
                number(o.staleness),
            ]
            for o in self.outcomes
        ]
        return text_table(head, rows, left=0)


def simulate(
    compute_s: Any,
    workers: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    *,
    steps: int = 50,
    seed: int = 0,
    **cluster: Any,
) -> Prediction:
    """Predict how training scales.

    Args:
        compute_s: seconds that one worker takes for the gradient of a whole batch: one number; several, measured, of which
            each step draws one; or a function of (share of the batch, generator) that returns seconds.
        workers: how many, each simulated by itself.
        steps: updates that are simulated. seed: of all draws.
        bytes: of the gradients, and of the weights. link: a `Link`.
        mode: "sync", "backup", "ssp" or "async". topology: "ring", "tree", "server" or "sharded".
        kind: "strong", workers share one batch; "weak", each has a batch of that size.
        serial_s: seconds of a step that no worker can share. update_s: seconds of the update on a server.
        servers: of "sharded". backup: gradients not waited for. staleness: steps that "ssp" lets a worker run ahead.
        spread: of the workers' speeds, the standard deviation of their logarithm; jitter: the same from step to step.
        failures_per_s: of one worker; restart_s: what a failure costs it, its step is done again.
    Returns:
        the Prediction.
    Raises:
        HyperparameterError, UnknownNameError: arguments that make no sense. MissingExtraError: simpy is not installed.
    """
    unknown = set(cluster) - set(Cluster.__dataclass_fields__) - {"compute_s"}
    if unknown:
        raise unknown_name(
            "simulate: argument", sorted(unknown)[0], [*Cluster.__dataclass_fields__, "workers", "steps", "seed"]
        )
    made = Cluster(compute_s, **cluster)
    counts = sorted({check_count(p, "simulate: workers") for p in workers})
    check_count(steps, "simulate: steps")
    if made.mode == "backup" and made.backup >= counts[0] and made.backup:
        raise HyperparameterError(f"simulate: backup: expected fewer than {counts[0]} workers, received {made.backup}")
    require_extra("simpy", "study", "pn.study.simulate")
    one_s = _one_worker(made, seed)
    return Prediction(made, tuple(_Run(made, p, steps, seed).outcome(one_s) for p in counts), one_s)


def _one_worker(cluster: Cluster, seed: int) -> float:
    """Seconds of a step on one worker of mean speed, without messages."""
    rng = np.random.default_rng([seed, 0])
    draws = 1 if not callable(cluster.compute_s) and np.ndim(cluster.compute_s) == 0 else 2000
    return float(np.mean([_draw(cluster, 1.0, rng) for _ in range(draws)])) + cluster.serial_s + cluster.update_s


def _draw(cluster: Cluster, share: float, rng: np.random.Generator) -> float:
    """Seconds of compute for a share of the batch."""
    if callable(cluster.compute_s):
        return float(cluster.compute_s(share, rng))
    times = np.asarray(cluster.compute_s, float)
    base = float(times) if times.ndim == 0 else float(rng.choice(times))
    return share * base


class _Run:
    """One cluster of p workers, from its first update to its last."""

    def __init__(self, cluster: Cluster, workers: int, steps: int, seed: int):
        import simpy

        self.cluster, self.p = cluster, workers
        self.rng = np.random.default_rng([seed, workers])
        self.steps = max(5, min(steps, MOST_EVENTS // (self._events() * workers)))
        self.env = simpy.Environment()
        count = cluster.servers if cluster.topology == "sharded" else 1
        self.links = [simpy.Resource(self.env, 1) for _ in range(count)]
        # the mean speed is 1, so that a spread makes some slow and some fast
        logs = self.rng.normal(0, cluster.spread, workers) if cluster.spread else np.zeros(workers)
        self.pace = np.exp(logs) / np.exp(cluster.spread**2 / 2)
        self.compute, self.sent, self.dropped, self.failures = 0.0, 0.0, 0, 0
        self.stale: list[int] = []
        #: when the weights changed
        self.updates: list[float] = []
        #: sync and backup: gradients of the step that are there, and the event of its end
        self.arrived, self.gate = 0, self.env.event()
        #: ssp: steps that each worker has done, how many workers have done so many, the fewest, and who waits for more
        self.clock, self.crowd, self.floor = [0] * workers, {0: workers}, 0
        self.waiting: dict[int, Any] = {}
        self.finished = self.env.event()

    def _events(self) -> int:
        """About how many events a worker's step has."""
        return 6 + 4 * (self.cluster.servers if self.cluster.topology == "sharded" else 1)

    @property
    def _each(self) -> bool:
        """Whether every gradient is an update of its own."""
        return self.cluster.mode in ("async", "ssp")

    def outcome(self, one_s: float) -> Outcome:
        """Run it."""
        cluster, p = self.cluster, self.p
        if cluster.topology in ("ring", "tree"):
            self.env.process(self._all_together())
        else:
            for rank in range(p):
                self.env.process(self._worker(rank))
        self.env.run(until=self.finished)
        # the first step has no weights to wait for, so the count begins at its end; of async a whole number of steps later
        first = p * (self.steps // 5) - 1 if self._each else 0
        spent = self.updates[-1] - self.updates[first]
        step_s = spent / (len(self.updates) - 1 - first) * (p if self._each else 1)
        speedup = (p if cluster.kind == "weak" else 1) * one_s / step_s
        total = p * self.env.now
        shares = min(1.0, self.compute / total), min(1.0, self.sent / total)
        stale = self.stale or [0]
        return Outcome(
            *(p, self.steps, step_s, speedup, speedup / p, *shares, max(0.0, 1 - sum(shares))),
            *(self.dropped / self.steps, float(np.mean(stale)), max(stale), self.failures),
        )

    def _update(self) -> None:
        """The weights have changed."""
        self.updates.append(self.env.now)
        if len(self.updates) == self.steps * (self.p if self._each else 1):
            self.finished.succeed()

    # -- sums of all workers --------------------------------------------------------------------

    def _all_together(self) -> Generator[Any, Any, None]:
        """Steps of a ring or a tree. Its messages go in lockstep, so their end follows from when the workers are ready."""
        link, size, p = self.cluster.link, self.cluster.bytes, self.p
        if self.cluster.topology == "ring":
            spent = 2 * (p - 1) * link.seconds(size / p)
        else:
            spent = 2 * math.ceil(math.log2(p)) * link.seconds(size)
        for _ in range(self.steps):
            ready = max(self._seconds(rank) for rank in range(p))
            self.sent += p * spent
            yield self.env.timeout(ready + spent + self.cluster.update_s)
            self._update()

    # -- one worker -----------------------------------------------------------------------------

    def _seconds(self, rank: int) -> float:
        """Of one gradient: the draw, the worker's pace, jitter, and failures with what they cost."""
        cluster = self.cluster
        work = _draw(cluster, 1.0 if cluster.kind == "weak" else 1 / self.p, self.rng) * float(self.pace[rank])
        if cluster.jitter:
            work *= float(np.exp(self.rng.normal(-(cluster.jitter**2) / 2, cluster.jitter)))
        self.compute += work
        lost = 0.0
        if cluster.failures_per_s:
            while (fails := self.rng.exponential(1 / cluster.failures_per_s)) < work:
                self.failures += 1
                lost += fails + cluster.restart_s
        return cluster.serial_s + work + lost

    def _worker(self, rank: int) -> Generator[Any, Any, None]:
        """Compute, push, wait as the rule says, pull; again and again."""
        while True:
            if self.cluster.mode == "ssp" and self.clock[rank] - self.floor > self.cluster.staleness:
                yield self.waiting.setdefault(self.clock[rank] - self.cluster.staleness, self.env.event())
            seen, gate = len(self.updates), self.gate
            yield self.env.timeout(self._seconds(rank))
            yield from self._message()
            yield from (self._own_update(rank, seen) if self._each else self._joint_update(gate))
            yield from self._message()

    def _message(self) -> Generator[Any, Any, None]:
        """One message to or from every server; the links of different servers carry at the same time."""
        cost = self.cluster.link.seconds(self.cluster.bytes / len(self.links))
        if self.p == 1 or not cost:
            return
        self.sent += cost
        if len(self.links) == 1:
            yield from self._carry(0, cost)
        else:
            yield self.env.all_of([self.env.process(self._carry(server, cost)) for server in range(len(self.links))])

    def _carry(self, server: int, cost: float) -> Generator[Any, Any, None]:
        with self.links[server].request() as turn:
            yield turn
            yield self.env.timeout(cost)

    def _own_update(self, rank: int, seen: int) -> Generator[Any, Any, None]:
        """async and ssp: the gradient is an update at once."""
        if self.cluster.update_s:
            yield self.env.timeout(self.cluster.update_s)
        self.stale.append(len(self.updates) - seen)
        self._update()
        before = self.clock[rank]
        self.clock[rank] += 1
        self.crowd[before] -= 1
        self.crowd[before + 1] = self.crowd.get(before + 1, 0) + 1
        while not self.crowd.get(self.floor):
            self.floor += 1
            if self.floor in self.waiting:
                self.waiting.pop(self.floor).succeed()

    def _joint_update(self, gate: Any) -> Generator[Any, Any, None]:
        """sync and backup: the last gradient that the step waits for makes the update; later ones are dropped."""
        if gate is not self.gate:
            self.dropped += 1
            return
        self.arrived += 1
        if self.arrived < self.p - (self.cluster.backup if self.cluster.mode == "backup" else 0):
            yield gate
            return
        self.arrived, self.gate = 0, self.env.event()
        if self.cluster.update_s:
            yield self.env.timeout(self.cluster.update_s)
        self._update()
        gate.succeed()
