"""`fit` on several MPI ranks: rank 0 leads. Stage: train.

All ranks run the same loop. Rank 0 calls the user's callbacks; after each hook it tells the others what they need to know:
what is in the logs, the learning rate, whether to stop, weights that a callback has set, or that a callback failed.
Must not know: files, executors, how numbers travel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..comm.mpi import Apart, Ranks
from ..errors import DataError, NonFiniteLossError, RankError, said
from .callbacks import CallbackList, Logs
from .stream import Rows, Whole

if TYPE_CHECKING:
    from .fit import Job

#: errors that all ranks raise at the same place
TOGETHER = (KeyboardInterrupt, NonFiniteLossError, RankError)


def led(callbacks: CallbackList, model: Any, job: Job) -> Any:
    """The callbacks of a `fit` as its ranks call them; as they are where there is one process.

    On several ranks also makes seeds, weights and the optimizer's state those of rank 0.

    Raises:
        RankError: the ranks were given different data or arguments.
    """
    ranks = job.strategy.ranks
    if ranks is None or ranks.size == 1:
        return callbacks
    training = job.training
    if not isinstance(training, Whole):
        raise DataError("fit: expected arrays with MPI, received data that come piece by piece")
    _check(ranks, model, job, training.rows)
    _adopt(ranks, model)
    training.seed = ranks.from_lead(training.seed)
    ranks.reset_clocks()
    return LedCallbacks(callbacks, model, ranks)


def _check(ranks: Ranks, model: Any, job: Job, rows: Rows) -> None:
    """All ranks must be about to do the same."""
    placed = model.session.network.placed.values()
    ranks.check_alike(
        {
            "model": [(p.key, p.weight.shape, p.trainable) for p in placed],
            "optimizer": type(model.optimizer).__name__,
            "number of rows": len(rows),
            "kind of data": [(x.dtype.str, x.shape[1:]) for x in rows.x],
            "number of validation rows": 0 if job.validation is None else job.validation.samples,
            "batch size": job.training.batch,
            "epochs": (job.initial_epoch, job.epochs, job.training.steps),
            "number of shards": job.strategy.shards,
        },
        "fit",
    )


def _adopt(ranks: Ranks, model: Any) -> None:
    """Seeds, weights and the optimizer's state of rank 0, on every rank."""
    session, rule = model.session, model.optimizer
    session.adopt(rule)
    store = session.store
    mine = session.seed, len(store.slots), rule.batches, rule._rate
    model.seed, count, rule.batches, rule._rate = ranks.from_lead(mine)
    session.new_seed(model.seed)
    if len(store.slots) != count:
        store.need_slots(count)
    for vector in (store.parameters, store.state, store.slots):
        ranks.broadcast(vector)


class LedCallbacks:
    """The hooks of a `CallbackList`, called on all ranks at the same places.

    Args:
        callbacks: on rank 0 all of them, on the others those of `fit` itself.
    """

    def __init__(self, callbacks: CallbackList, model: Any, ranks: Ranks):
        self._own, self._model, self._ranks = callbacks, model, ranks
        self.callbacks = callbacks.callbacks
        self._raised: BaseException | None = None
        self._failed = False  # a hook has: the ranks go their own ways
        handles = any(getattr(c, "handles_non_finite_loss", False) for c in callbacks.callbacks)
        self.wants_batches, self.handles_non_finite_loss = ranks.from_lead((callbacks.wants_batches, handles))
        if self.handles_non_finite_loss:
            self.callbacks = [*self.callbacks, self]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback. From here on Ctrl-C stops all ranks after the same step."""
        self._raised = sys.exc_info()[1]
        self._ranks.listen()
        self._call(self._own.on_train_begin, logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """See Callback. Where this rank fails alone, or ranks are apart, nobody is waited for: the error ends all."""
        error = sys.exc_info()[1]
        together = isinstance(error, TOGETHER) and not isinstance(error, Apart)
        alone = error is not None and error is not self._raised and not together
        try:
            if alone or self._failed:
                self._own.on_train_end(logs)
            else:
                self._call(self._own.on_train_end, logs)
        finally:
            self._ranks.stop_listening(isinstance(error, KeyboardInterrupt))

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call(self._own.on_epoch_begin, logs, epoch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call(self._own.on_epoch_end, logs, epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call(self._own.on_train_batch_begin, logs, batch)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._call(self._own.on_train_batch_end, logs, batch)

    def _call(self, hook: Callable[..., None], logs: Logs | None, *position: int) -> None:
        """The hook on rank 0, then what it did on the others."""
        logs = {} if logs is None else logs
        if self._ranks.leads:
            self._lead(hook, logs, *position)
            return
        failure, outcome, theirs, moved = self._ranks.from_lead()
        self._failed = failure is not None
        self._ranks.raise_from_lead(failure)
        self._model.stop_training, self._model.optimizer._rate = outcome
        logs.clear()
        logs.update(theirs)
        if moved:
            self._share_weights()
        hook(*position, logs)

    def _lead(self, hook: Callable[..., None], logs: Logs, *position: int) -> None:
        store, rule = self._model.session.store, self._model.optimizer
        before = store.parameters.copy(), store.state.copy()
        try:
            self._alone(hook, *position, logs)
        except BaseException as error:
            self._failed = True
            self._ranks.from_lead((said(error), None, None, False))
            raise
        moved = any(not np.array_equal(a, b) for a, b in zip(before, (store.parameters, store.state), strict=True))
        self._ranks.from_lead((None, (self._model.stop_training, rule._rate), dict(logs), moved))
        if moved:
            self._share_weights()

    def _alone(self, hook: Callable[..., None], *arguments: Any) -> None:
        self._ranks.alone = self._ranks.size > 1
        try:
            hook(*arguments)
        finally:
            self._ranks.alone = False

    def _share_weights(self) -> None:
        store = self._model.session.store
        for vector in (store.parameters, store.state):
            self._ranks.broadcast(vector)
