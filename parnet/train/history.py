"""What a training leaves behind: the metrics of each epoch and where the time went.

Stage: filled by `fit`, read by users. Must not know: how a model trains, or what draws the curves.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from typing import Any

import numpy as np

from ..server.machine import Tally
from .callbacks import Callback
from .progress import metric_text
from .worker_times import WorkerTime, limit_of


@dataclass(frozen=True, repr=False)
class Timing:
    """Where the time of a training went: seconds of wall clock over all epochs.

    `compile_s` (making kernels) lies outside the epochs, so the first epoch compares with the others.
    """

    #: each epoch, validation included
    epochs_s: tuple[float, ...] = ()
    #: forward, backward and update, without the waits in between
    compute_s: float = 0.0
    #: waiting for other workers
    wait_s: float = 0.0
    #: moving gradients and parameters
    comm_s: float = 0.0
    #: making kernels, before the first epoch
    compile_s: float = 0.0
    #: training samples in one epoch
    samples: int = 0
    #: of a parameter server, where each worker's time went
    workers: tuple[WorkerTime, ...] = ()
    #: waiting for data from files or an iterable; 0 for arrays
    data_s: float = 0.0
    #: of a parameter server whose workers go at their own pace: updates, stale and dropped gradients, samples left out
    server: Tally | None = None
    #: of `compute_s`, updating the weights, where that comes once a batch: with virtual shards, workers or ranks
    update_s: float = 0.0
    #: of gradients, statistics and losses that workers read and wrote, or ranks sent, all together
    comm_bytes: int = 0

    @property
    def limit(self) -> str:
        """What limited the run of a parameter server, in a sentence; "" without one."""
        return limit_of(self.workers, self.server)

    @property
    def epoch_s(self) -> float:
        """Mean seconds of an epoch; 0 where there was none."""
        return sum(self.epochs_s) / len(self.epochs_s) if self.epochs_s else 0.0

    @property
    def us_per_sample(self) -> float:
        """Mean microseconds of an epoch for each training sample; 0 where there was none."""
        return 1e6 * self.epoch_s / self.samples if self.samples else 0.0

    def __repr__(self) -> str:
        names = ("epoch_s", "compute_s", "wait_s", "comm_s", "compile_s")
        seconds = ", ".join(f"{name}={getattr(self, name):.3f}" for name in names)
        cost = f"us_per_sample={self.us_per_sample:.1f}, samples={self.samples}"
        return f"Timing(epochs={len(self.epochs_s)}, {seconds}, {cost})"


class History(Callback):
    """The record of one `fit`; last in the list of callbacks, so that it sees what others add to the logs."""

    def __init__(self) -> None:
        #: name of the metric -> its value in each epoch, unrounded, an array for a confusion matrix; written by on_epoch_end
        self.history: dict[str, list[float]] = {}
        #: the epochs, from 0; written by on_epoch_end
        self.epoch: list[int] = []
        #: what `fit` was called with; written by set_params
        self.params: dict[str, Any] = {}
        #: where the time went; written by `fit` at its end
        self.timing = Timing()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Forget an earlier training."""
        self.history, self.epoch, self.timing = {}, [], Timing()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch and its metrics."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value if isinstance(value, np.ndarray) else float(value))

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={metric_text(values[-1], '.4g')}" for name, values in self.history.items())
        return f"History(epochs={len(self.epoch)}, last: {last or 'nothing'}, {self.timing!r})"

    def _repr_html_(self) -> str:
        """The table that notebooks show: one row an epoch, one column a metric."""
        head = "".join(f"<th>{escape(name)}</th>" for name in ("epoch", *self.history))
        rows = "".join(
            f"<tr><td>{epoch + 1}</td>{''.join(map(_cell, values))}</tr>"
            for epoch, *values in zip_longest(self.epoch, *self.history.values())
        )
        return (
            f"<table><caption>{escape(repr(self.timing))}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _cell(value: Any) -> str:
    return "<td></td>" if value is None else f"<td>{metric_text(value, '.4g')}</td>"
