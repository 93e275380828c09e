"""The server's side of one program: what each worker has before it, and what becomes of what they bring. Stage: executors.

The parameters themselves are the shared copies of the model's vectors; this process alone writes them, so that they are
always whole, but in mode hogwild. Each worker has parameters of its own, of one version, written before it is told to begin.
Must not know: when a worker may begin; how messages travel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..plan.plan import Plan
from ..server.messages import Share
from ..server.work import Task
from .base import Feed
from .memory import Store
from .serial import SerialExecutor
from .shared import Shared
from .solo import UpdateProgram
from .worker import Ref, SoloSetup

#: what workers bring: gradients, parameters that they have trained by themselves, or nothing, for they update in place
GRADIENTS, PARAMETERS, NOTHING = "gradients", "parameters", "nothing"
#: vectors that a worker has of its own
OWN = {GRADIENTS: ("parameters",), PARAMETERS: ("parameters", "state", "slots"), NOTHING: ()}


class Desk:
    """See the module's docstring.

    Args:
        plan: of the training.
        vectors: the model's, shared, by name.
        bring: GRADIENTS, PARAMETERS or NOTHING.

    Attributes:
        fresh: workers whose parameters are to be those of the server when they begin.
        rows: of each worker, samples since the last average.
    """

    def __init__(self, plan: Plan, vectors: dict[str, Ref], shared: Shared, workers: int, bring: str):
        self.plan, self.bring, self.workers = plan, bring, workers
        self.refs, what, dtype = vectors, "parameter server: gradients", plan.request.dtype
        self.master = Store(dtype, **{name: shared.view(ref) for name, ref in vectors.items()})
        total = len(self.master.parameters)
        own = {name: vectors[name].shape for name in OWN[bring]}
        self._own = [
            {name: shared.array(own[name], dtype, "parameter server: weights") for name in own} for _ in range(workers)
        ]
        self._gradients = [shared.array((1, total), dtype, what) for _ in range(workers)]
        self._exchanges = [shared.array((plan.exchange,), dtype, what) for _ in range(workers)]
        self.own = [{name: shared.view(ref) for name, ref in refs.items()} for refs in self._own]
        self.gradients = [shared.view(ref)[0] for ref in self._gradients]
        self.exchanges = [shared.view(ref) for ref in self._exchanges]
        self.updater = UpdateProgram(plan, self.master) if bring == GRADIENTS else None
        self._executor = SerialExecutor()
        self._given = self._rates = np.zeros((0, 4))
        self._first = self._before = 0
        self._updates = -1
        self.fresh, self.rows = set(range(workers)), [0] * workers

    def setup(self, key: int, worker: int, plan: Plan, words: Ref) -> SoloSetup:
        """What a worker is told of the program."""
        vectors = {name: self.refs[name] for name in ("parameters", "state", "slots")} | self._own[worker]
        return SoloSetup(key, plan, vectors, self._gradients[worker], self._exchanges[worker], words, self.updater is None)

    def connect(self, feed: Feed) -> None:
        """The next updates belong to the batches of this feed, and are made at its rates."""
        rule, rates = self.plan.request.optimizer, feed.rates
        if self.updater is None or rule is None or rates is None:
            return
        self._given, self._rates, self._first, self._before = rates, rates.copy(), feed.first_batch, rule.iterations
        self._updates = self._before if self._updates < 0 else self._updates
        self.updater.connect(replace(feed, rates=self._rates))

    def renew(self) -> None:
        """Somebody else has changed the weights: all workers start from them."""
        self.fresh, self.rows = set(range(self.workers)), [0] * self.workers

    def begin(self, worker: int) -> None:
        """A worker begins: its parameters are those of the server, unless it is in the middle of a cycle."""
        if self.bring == GRADIENTS or worker in self.fresh:
            for name, vector in self.own[worker].items():
                vector[...] = getattr(self.master, name)
        self.fresh.discard(worker)

    def renew_worker(self, worker: int) -> None:
        """A worker was lost in the middle of its task: what it has half written goes, in padding too."""
        self.gradients[worker][:] = self.exchanges[worker][:] = 0
        if self.bring == PARAMETERS:  # what it has trained since the last average is lost
            self.fresh.add(worker)
            self.rows[worker] = 0
            self.begin(worker)

    # -- what workers bring ---------------------------------------------------------------------

    def update(
        self, shares: tuple[Share, ...], tasks: dict[int, Task], batch_rows: dict[int, int], rate_factor: float = 1.0
    ) -> None:
        """One update by some gradients.

        Args:
            tasks: what each worker has done. batch_rows: rows of the batches of these tasks.
            rate_factor: what the rate is multiplied by.
        """
        if self.updater is None:
            return
        jobs = [(share, tasks[share.worker]) for share in shares]
        newest, shards = max(task.first for _, task in jobs), self.plan.request.shards
        whole = sorted(task.shard for _, task in jobs) == list(range(shards)) and len({task.first for _, task in jobs}) == 1
        if whole:  # as in mode sync, empty shards included: the same bits
            jobs.sort(key=lambda job: job[1].shard)
        else:
            jobs = [(share, task) for share, task in jobs if share.rows]
        rows = sum(share.rows for share, _ in jobs)
        for place, (share, task) in enumerate(jobs):
            self._take(place, share.worker, task, batch_rows[task.first], share.rows, rows)
        self._set_rate(newest, rate_factor)
        self.updater.update(self._executor, newest, len(jobs), rows)

    def _set_rate(self, batch: int, factor: float) -> None:
        """The rate is that of a batch, so that a schedule says what it says in mode sync; but where an optimizer corrects it
        for averages that are young yet, their age is the number of updates, of which a batch may have several."""
        row, rule = batch - self._first, self.plan.request.optimizer
        self._rates[row] = self._given[row] * factor
        now, meant = rule.correction(np.array([self._updates, self._before + row]))  # type: ignore[union-attr]
        self._rates[row, :2] *= now / meant  # exactly 1 where each batch is one update
        self._updates += 1

    def _take(self, place: int, worker: int, task: Task, batch_rows: int, own: int, rows: int) -> None:
        """A worker's gradient, and the statistics of its shard, as number `place` of the shards of an update of `rows`."""
        into, alone = self.updater.common, bool(self.plan.meetings)  # type: ignore[union-attr]
        over = own if alone else batch_rows  # samples that the gradient is a mean over
        if over == rows:
            into.gradients[place] = self.gradients[worker]
        else:
            np.multiply(self.gradients[worker], self.gradients[worker].dtype.type(over / rows), out=into.gradients[place])
        row = 0 if alone else task.shard
        for name, first in self.plan.places.items():
            buffer = self.plan.buffers.get(name)
            if buffer is not None and buffer.region == "exchange":
                width = buffer.shape[1]
                theirs = self.exchanges[worker][first + row * width : first + (row + 1) * width]
                into.exchange[first + place * width : first + (place + 1) * width] = theirs

    def average(self, shares: tuple[Share, ...], rows: int) -> None:
        """The parameters become the mean of the workers' own, weighted by their rows."""
        own = [(self.own[share.worker], share.rows) for share in shares if share.rows]
        for name in OWN[self.bring]:
            vector = getattr(self.master, name)
            for k, (theirs, count) in enumerate(own):
                if k == 0:
                    np.multiply(theirs[name], vector.dtype.type(count / rows), out=vector)
                else:
                    vector += theirs[name] * vector.dtype.type(count / rows)
        self.renew()
