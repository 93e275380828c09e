"""The parameter server as a state machine: event in, list of replies out, to be carried out in their order. Stage: server.

    server = Server(SSP(staleness=2))
    for event in ...:
        for reply in server.handle(event): ...

A worker has at most one gradient that no update has used yet, for it is told to begin its next step only after the update:
one place for it is enough. A push that comes twice counts once, and is answered once more, so a worker that hears
nothing may push again. A lost worker's connection must be closed before its `Join`: nothing of its earlier life comes then.
Must not know: arrays, processes, transports, time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from ..errors import StateError
from .messages import Average, Begin, Drop, Event, Join, Leave, Push, Reply, Share, Update
from .rules import Rule


@dataclass
class Tally:
    """What the server counted, for the report of a run."""

    #: updates (or averages) made
    updates: int = 0
    #: gradients that were used
    used: int = 0
    #: gradients that came too late, by worker
    dropped: Counter[int] = field(default_factory=Counter)
    #: samples in them
    dropped_rows: int = 0
    #: staleness of a gradient -> how many had it
    staleness: Counter[int] = field(default_factory=Counter)
    #: steps ahead of the slowest worker at the beginning of a step -> how often
    lead: Counter[int] = field(default_factory=Counter)
    #: pushes that came twice
    repeated: int = 0
    #: messages of workers that are not there
    strays: int = 0
    #: samples that nobody computed, because their worker was late or lost
    missed_rows: int = 0

    def add(self, other: Tally) -> None:
        """Count what another server has counted too."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, one.name, mine + theirs)


class Server:
    """See the module's docstring.

    Args:
        rule: the mode.
    """

    def __init__(self, rule: Rule):
        self.rule = rule
        self.tally = Tally()
        #: of the parameters: updates made
        self.version = 0
        #: moments at which workers were sent on; in mode sync the step that all do
        self._rounds = 0
        #: workers that are there -> the step that they do, or wait for
        self._clocks: dict[int, int] = {}
        #: workers that were there once -> the step they were at when they left
        self._left: dict[int, int] = {}
        #: workers that are there -> version of the parameters they were sent last
        self._sent: dict[int, int] = {}
        #: workers that have pushed and wait
        self._waiting: set[int] = set()
        #: worker -> its push that no update has used yet, and the version that it was computed with
        self._pending: dict[int, tuple[Push, int]] = {}

    @property
    def workers(self) -> tuple[int, ...]:
        """Those that are there."""
        return tuple(sorted(self._clocks))

    def handle(self, event: Event) -> list[Reply]:
        """What follows from an event.

        Raises:
            StateError: a worker joins twice, or pushes a step that it was not told to begin.
        """
        if isinstance(event, Join):
            return self._join(event.worker)
        if event.worker not in self._clocks:
            self.tally.strays += 1
            return []
        return self._leave(event.worker) if isinstance(event, Leave) else self._push(event)

    def _join(self, worker: int) -> list[Reply]:
        if worker in self._clocks:
            raise StateError(f"server: worker {worker} joined twice; expected Leave({worker}) before it comes back")
        slowest = min(self._clocks.values(), default=0)
        if worker in self._pending:  # its push has been taken: it waits for what would have been the answer
            self._clocks[worker] = self._left.pop(worker)
            self._waiting.add(worker)
            return self._advance()
        self._clocks[worker] = max(self._left.pop(worker, 0), slowest, self._first_step_in_time())
        return [self._begin(worker)]

    def _leave(self, worker: int) -> list[Reply]:
        self._left[worker] = self._clocks.pop(worker)
        self._sent.pop(worker, None)
        self._waiting.discard(worker)
        if not self._clocks:
            return self._update()
        return self._advance()

    def _push(self, push: Push) -> list[Reply]:
        worker, clock = push.worker, self._clocks[push.worker]
        if push.step < clock:
            self.tally.repeated += 1
            return [] if worker in self._waiting else [Begin(worker, clock, self._sent[worker])]
        if push.step > clock or worker in self._waiting:
            raise StateError(f"server: worker {worker} pushed step {push.step}, expected step {clock} at most")
        if push.step < self._first_step_in_time():
            self.tally.dropped[worker] += 1
            self.tally.dropped_rows += push.rows
            self._clocks[worker] = self._first_step_in_time()
            return [Drop(worker, push.step, push.rows), self._begin(worker)]
        self._pending[worker] = (push, self._sent[worker])
        self._clocks[worker] += 1
        self._waiting.add(worker)
        return self._advance()

    def _first_step_in_time(self) -> int:
        """Pushes for steps before it are late."""
        return self._rounds if self.rule.drops_late else 0

    def _advance(self) -> list[Reply]:
        """Send on the workers that may go, after an update with all that has come in."""
        free = sorted(self.rule.free(self._clocks, self._waiting, self._pending.keys()))
        if not free:
            return []
        replies = self._update()
        self._rounds += 1
        self._waiting.difference_update(free)
        return replies + [self._begin(worker) for worker in free]

    def _update(self) -> list[Reply]:
        """The update with all that has come in; none where that is nothing, or nothing but empty shards."""
        pushes = [self._pending.pop(worker) for worker in sorted(self._pending)]
        rows = sum(push.rows for push, _ in pushes)
        if not rows:
            return []
        shares = tuple(Share(p.worker, p.step, p.rows, self.version - version) for p, version in pushes)
        self.version += 1
        self.tally.updates += 1
        self.tally.used += len(shares)
        self.tally.staleness.update(share.staleness for share in shares)
        if self.rule.averages:
            return [Average(self.version, shares, rows)]
        return [Update(self.version, shares, rows, self.rule.rate_factor(max(s.staleness for s in shares)))]

    def _begin(self, worker: int) -> Begin:
        step = self._clocks[worker]
        self.tally.lead[step - min(self._clocks.values())] += 1
        self._sent[worker] = self.version
        return Begin(worker, step, self.version)
