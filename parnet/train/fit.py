"""`fit`: epochs of batches, run by the session in stretches of about a tenth of a second. Stage: train.

Between two stretches Python shows progress, calls callbacks and hears Ctrl-C; within one it is never entered.
Must not know: files, layers' insides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import seeding
from ..errors import NonFiniteLossError, WorkerLostError, warn
from ..executors.base import Feed, waited_share
from ..executors.link import Program
from ..kernels import library
from ..optimizers import Optimizer
from ..plan.plan import Request
from ..strategy import Strategy
from .callbacks import CallbackList
from .diagnose import first_non_finite
from .evaluate import Measurement, measure, prepare_measure
from .history import History, Timing
from .progress import Display
from .session import Session
from .worker_times import WorkerTimes

#: seconds of one stretch of batches
STRETCH_S = 0.1


@dataclass
class Rows:
    """A checked set of samples: inputs, targets (rows, width) of T (None for an output without a loss), sample weights."""

    x: tuple[np.ndarray, ...]
    y: tuple[np.ndarray | None, ...]
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x[0])

    def part(self, first: int, last: int) -> Rows:
        """Rows first..last, as views."""
        x = tuple(one[first:last] for one in self.x)
        y = tuple(None if one is None else one[first:last] for one in self.y)
        return Rows(x, y, None if self.weight is None else self.weight[first:last])


@dataclass
class Job:
    """Everything `fit` was asked to do, checked.

    Attributes:
        request: of the training plan.
        strategy: how it runs.
        training, validation: the samples.
        epochs, initial_epoch, steps: as given; steps are batches of an epoch.
        shuffle: a new order in each epoch.
    """

    request: Request
    strategy: Strategy
    training: Rows
    validation: Rows | None
    epochs: int
    initial_epoch: int
    steps: int
    shuffle: bool
    compute_s: float = 0.0
    wait_s: float = 0.0
    epochs_s: list[float] = field(default_factory=list)
    workers: WorkerTimes = field(default_factory=WorkerTimes)


def run_fit(model: Any, job: Job, callbacks: CallbackList, history: History, display: Display) -> None:
    """Train; see `Model.fit`. Leaves the history's timing filled in, also when interrupted."""
    session: Session = model.session
    compiled = library.compile_seconds
    program = session.fitted(job.request, job.strategy)
    if job.validation is not None:
        prepare_measure(model, job.validation.x, job.validation.weight, job.request.batch, job.strategy)
    compile_s = library.compile_seconds - compiled
    epoch, done = job.initial_epoch, _Progress()
    try:
        with display:
            callbacks.on_train_begin()
            display.begin()
            for epoch in range(job.initial_epoch, job.epochs):
                done = _Progress()
                _run_epoch(model, job, program, callbacks, display, epoch, done)
                if model.stop_training:
                    break
    except KeyboardInterrupt:
        display.interrupted(epoch, done.rows)
        raise
    finally:
        wait_s, comm_s = job.strategy.seconds()
        workers = job.workers.result()
        comm_s += sum(worker.comm_s for worker in workers) / max(1, len(workers))
        compute_s, wait_s = job.compute_s - wait_s - comm_s, job.wait_s + wait_s
        samples = min(len(job.training), done.total)
        history.timing = Timing(tuple(job.epochs_s), compute_s, wait_s, comm_s, compile_s, samples, workers)
        session.close()
        callbacks.on_train_end()


@dataclass
class _Progress:
    """How far an epoch has got."""

    batches: int = 0
    rows: int = 0
    total: int = 0

    def advance(self, batches: int, batch: int, rule: Optimizer) -> None:
        """So many batches of the epoch are done, each with its update."""
        rule.iterations += batches - self.batches
        self.batches, self.rows = batches, min(self.total, batches * batch)


def _run_epoch(model, job: Job, program: Program, callbacks, display, epoch: int, done: _Progress) -> None:
    begun = time.perf_counter()
    callbacks.on_epoch_begin(epoch)
    display.epoch_begin(epoch)
    feed = _feed(model, job, program, epoch)
    done.total = feed.total
    session: Session = model.session
    session.start(program, feed)
    before_s = job.compute_s
    logs = _run_batches(model, job, program, feed, callbacks, display, done)
    job.wait_s += waited_share(program) * (job.compute_s - before_s)
    if job.strategy.apart:
        job.workers.add(program, job.compute_s - before_s)
    if program.stopped():
        _report_non_finite(model, program, feed, callbacks, epoch, done)
        logs["loss"] = float("nan")
    elif job.validation is not None:
        measured = time.perf_counter()
        logs |= {f"val_{k}": v for k, v in validate(model, job).items()}
        _mark(session, "validation", measured)
    _mark(session, f"epoch {epoch + 1}", begun)
    job.epochs_s.append(time.perf_counter() - begun)
    callbacks.on_epoch_end(epoch, logs)
    display.epoch_end(epoch, job.epochs_s[-1], logs)


def _mark(session: Session, name: str, begun: float) -> None:
    """Put a stretch of time that ends now into the trace, if there is one."""
    if session.recorder is not None:
        session.recorder.marks.append((name, begun, time.perf_counter() - begun))


def _feed(model, job: Job, program: Program, epoch: int) -> Feed:
    """The arrays of one epoch."""
    rows, batch, rule = len(job.training), job.request.batch, model.optimizer
    order = seeding.shuffled(model.session.seed, epoch, rows) if job.shuffle else None
    return Feed(
        job.training.x,
        min(rows, job.steps * batch),
        y=job.training.y,
        weight=job.training.weight,
        order=order,
        rates=rule.rates(np.arange(rule.iterations, rule.iterations + job.steps)),
        sums=np.zeros(program.plan.sums),
        losses=np.zeros(job.steps),
        epoch=epoch,
        seed=model.session.seed,
        unchanged=job,
    )


def _run_batches(model, job: Job, program: Program, feed: Feed, callbacks, display, done: _Progress) -> dict:
    """All batches of an epoch, stretch by stretch. Returns the logs."""
    stretch, batch = (1 if callbacks.wants_batches else 4), job.request.batch
    rates, rule = feed.rates, model.optimizer
    while done.batches < job.steps and not (callbacks.wants_batches and model.stop_training):
        last = min(job.steps, done.batches + stretch)
        if callbacks.wants_batches:
            callbacks.on_train_batch_begin(done.batches)
            if rates is not None:  # a callback may have set the rate
                rates[done.batches : last] = rule.rates(np.array([rule.iterations]))
        begun = time.perf_counter()
        try:
            model.session.run(program, done.batches, last)
        except KeyboardInterrupt:  # heard when the native loop had returned: these batches were done
            done.advance(max(done.batches, program.batches_done()), batch, rule)
            rule.iterations -= program.undone
            raise
        except WorkerLostError:
            rule.iterations -= program.undone
            raise
        seconds = time.perf_counter() - begun
        job.compute_s += seconds
        if program.stopped():
            break
        first = done.batches
        done.advance(last, batch, rule)
        if callbacks.wants_batches:
            callbacks.on_train_batch_end(first, _logs(model, program, feed, done.rows))
        else:
            stretch = max(1, min(4 * stretch, int(stretch * STRETCH_S / max(seconds, 1e-6))))
        display.update(done.rows, _logs(model, program, feed, done.rows))
    if program.stopped():
        step = _failed_step(feed, done)
        done.advance(step, batch, rule)
        return _logs(model, program, feed, min(feed.total, (step + 1) * batch))  # metrics count the failed step too
    return _logs(model, program, feed, max(1, done.rows))


def _failed_step(feed: Feed, done: _Progress) -> int:
    """The step whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(feed.losses[done.batches :]))
    return done.batches + (int(bad[0]) if bad.size else 0)


def _logs(model, program: Program, feed: Feed, rows: int) -> dict:
    """Loss and metrics of the epoch so far."""
    return Measurement.of(model, feed.sums, rows, program).results()


def validate(model, job: Job) -> dict:
    """Loss and metrics of the validation data."""
    rows = job.validation
    if rows is None:
        return {}
    return measure(model, rows.x, rows.y, rows.weight, job.request.batch, job.strategy, unchanged=job).results()


def _report_non_finite(model, program: Program, feed: Feed, callbacks, epoch: int, done: _Progress) -> None:
    """The loss is not finite: say where, and stop. The weights are those from before that step."""
    step = done.batches
    message = (
        f"fit: the loss became {feed.losses[step]} in epoch {epoch + 1}, step {step + 1} "
        f"(update {model.optimizer.iterations + 1}); {first_non_finite(program)}. The weights are those before that step. "
        f"Lower the learning rate (now {model.optimizer.learning_rate:g}), clip gradients (clipnorm=1.0), or check the data"
    )
    if any(getattr(c, "handles_non_finite_loss", False) for c in callbacks.callbacks):
        warn(message)
        model.stop_training = True
        return
    raise NonFiniteLossError(message)
