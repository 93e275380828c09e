"""`fit`: epochs of batches, run by the session in stretches, of a tenth of a second with most strategies. Stage: train.

Between two stretches Python shows progress, calls callbacks and hears Ctrl-C; within one it is never entered.
Must not know: files, layers' insides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import DataError, NonFiniteLossError, WorkerLostError, warn
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
from .stream import Piece, Source, ran_out
from .worker_times import Spent, WorkerTimes, updated_share


@dataclass
class Job:
    """Everything `fit` was asked to do, checked.

    Attributes:
        request: of the training plan; batch and data are those of the first piece.
        strategy: how it runs.
        training, validation: the samples.
        epochs, initial_epoch: as given.
    """

    request: Request
    strategy: Strategy
    training: Source
    validation: Source | None
    epochs: int
    initial_epoch: int
    compute_s: float = 0.0
    wait_s: float = 0.0
    samples: int = 0
    epochs_s: list[float] = field(default_factory=list)
    workers: WorkerTimes = field(default_factory=WorkerTimes)
    update_s: float = 0.0

    def spent(self) -> Spent:
        """What all batches so far took; means over the workers."""
        wait_s, comm_s = self.strategy.seconds()
        workers = self.workers.result()
        count, size = max(1, len(workers)), sum(worker.comm_bytes for worker in workers)
        comm_s += sum(worker.comm_s for worker in workers) / count
        update_s = self.update_s + sum(worker.update_s for worker in workers) / count
        return Spent(self.compute_s, self.wait_s + wait_s, comm_s, update_s, size + self.strategy.exchanged_bytes())


def run_fit(model: Any, job: Job, callbacks: CallbackList, history: History, display: Display) -> None:
    """Train; see `Model.fit`. Leaves the history's timing filled in, also when interrupted."""
    session: Session = model.session
    epoch, done, compile_s, begun = job.initial_epoch, _Progress(), 0.0, False
    try:
        compile_s = _compile(model, job)
        with display:
            begun = True
            callbacks.on_train_begin()
            display.begin()
            for epoch in range(job.initial_epoch, job.epochs):
                if job.training.peek(epoch) is None:
                    ran_out("fit", epoch, 0, None)
                    break
                done = _Progress()
                _run_epoch(model, job, callbacks, display, epoch, done)
                if model.stop_training:
                    break
    except KeyboardInterrupt:
        display.interrupted(epoch, done.rows)
        raise
    finally:
        try:
            job.training.close()
            if job.validation is not None:
                job.validation.close()
            history.timing = _timing(job, compile_s)
        finally:
            session.close()
        if begun:
            callbacks.on_train_end()


def _timing(job: Job, compile_s: float) -> Timing:
    spent, workers = job.spent(), job.workers.result()
    compute_s = max(0.0, spent.run_s - spent.wait_s - spent.comm_s)
    times = compute_s, spent.wait_s, spent.comm_s, compile_s, job.samples, workers, job.training.waited_s
    return Timing(
        tuple(job.epochs_s),
        *times,
        server=job.workers.tally,
        update_s=spent.update_s,
        comm_bytes=int(spent.comm_bytes),
    )


def _compile(model: Any, job: Job) -> float:
    """Bring the first rows, and make what runs them. Returns the seconds that kernels took to compile."""
    compiled = library.compile_seconds
    first = job.training.peek(job.initial_epoch)
    if first is None:
        raise DataError("fit: expected at least one batch, received an iterable that gives none")
    for seen, x in zip(model.input_ranges, first.rows.x, strict=True):
        seen.learn(x)
    _program(model, job, first)
    if job.validation is not None and (first := job.validation.peek(0)) is not None:
        prepare_measure(model, first, job.strategy)
    return library.compile_seconds - compiled


def _program(model: Any, job: Job, piece: Piece) -> Program:
    """What runs a piece; batches of an iterable may grow."""
    data, weighted = piece.kind
    request = job.request
    if piece.batch > request.batch or (data, weighted) != (request.data, request.weighted):
        job.request = replace(request, batch=max(piece.batch, request.batch), data=data, weighted=weighted)
    return model.session.fitted(job.request, job.strategy)


@dataclass
class _Progress:
    """How far an epoch has got, and the sums of losses and metrics so far."""

    batches: int = 0
    rows: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def advance(self, batches: int, rows: int, rule: Optimizer) -> None:
        """So many batches of the epoch, so many rows, are done, each batch with its gradients."""
        rule.batches += batches - self.batches
        self.batches, self.rows = batches, rows


def _run_epoch(model, job: Job, callbacks, display, epoch: int, done: _Progress) -> None:
    begun = time.perf_counter()
    callbacks.on_epoch_begin(epoch)
    display.epoch_begin(epoch)
    logs, stopped = _run_pieces(model, job, callbacks, display, epoch, done)
    if stopped:
        logs["loss"] = float("nan")
    elif job.validation is not None:
        measured = time.perf_counter()
        logs |= {f"val_{k}": v for k, v in measure(model, job.validation, job.strategy).results().items()}
        _mark(model.session, "validation", measured)
    _mark(model.session, f"epoch {epoch + 1}", begun)
    job.epochs_s.append(time.perf_counter() - begun)
    job.samples = max(job.samples, done.rows)
    if job.training.samples is None:
        display.learn_samples(done.rows)
    callbacks.on_epoch_end(epoch, logs)
    display.epoch_end(epoch, job.epochs_s[-1], logs)


def _mark(session: Session, name: str, begun: float) -> None:
    """Put a stretch of time that ends now into the trace, if there is one."""
    if session.recorder is not None:
        session.recorder.marks.append((name, begun, time.perf_counter() - begun))


def _run_pieces(model, job: Job, callbacks, display, epoch: int, done: _Progress) -> tuple[dict, bool]:
    """All batches of an epoch. Returns the logs, and whether the loss was not finite."""
    logs: dict = {}
    for piece in job.training.pieces(epoch):
        program = _program(model, job, piece)
        feed = _feed(model, program, piece, epoch, done)
        model.session.start(program, feed)
        before_s, elsewhere_s = job.compute_s, sum(job.strategy.seconds())
        logs = _run_batches(model, job, program, feed, callbacks, display, _Part(done, piece, done.rows))
        spent_s = job.compute_s - before_s
        native_s = spent_s - (sum(job.strategy.seconds()) - elsewhere_s)
        job.wait_s += waited_share(program) * native_s
        if job.strategy.apart:
            job.workers.add(program, spent_s)
        elif job.strategy.shards > 1:
            job.update_s += updated_share(program) * native_s
        if program.stopped():
            _report_non_finite(model, program, feed, callbacks, epoch, done)
            return logs, True
        if callbacks.wants_batches and model.stop_training:
            return logs, False
    if job.training.steps is not None and done.batches < job.training.steps:
        ran_out("fit", epoch, done.batches, job.training.steps)
        model.stop_training = True
    return logs, False


def _feed(model, program: Program, piece: Piece, epoch: int, done: _Progress) -> Feed:
    """The arrays of one piece of an epoch."""
    rule, batches = model.optimizer, piece.batches
    if len(done.sums) != program.plan.sums:
        done.sums = np.zeros(program.plan.sums)
    return Feed(
        **piece.words(program.plan.request.batch),
        rates=rule.rates(np.arange(rule.batches, rule.batches + batches)),
        sums=done.sums,
        losses=np.zeros(batches),
        epoch=epoch,
        seed=model.session.seed,
    )


@dataclass
class _Part:
    """How far an epoch has got within one piece.

    Attributes:
        done: of the epoch; before: rows of the epoch before the piece.
    """

    done: _Progress
    piece: Piece
    before: int

    @property
    def last(self) -> int:
        """The batch behind the piece's last."""
        return self.piece.first_batch + self.piece.batches

    def rows_at(self, batches: int) -> int:
        """Rows of the epoch that so many of its batches are."""
        return self.before + min(self.piece.total, (batches - self.piece.first_batch) * self.piece.batch)

    def advance(self, batches: int, rule: Optimizer) -> None:
        """So many batches of the epoch are done."""
        self.done.advance(batches, self.rows_at(batches), rule)


def _run_batches(model, job: Job, program: Program, feed: Feed, callbacks, display, part: _Part) -> dict:
    """All batches of a piece, stretch by stretch. Returns the logs."""
    stretch, done, first_batch = (1 if callbacks.wants_batches else 4), part.done, part.piece.first_batch
    rates, rule = feed.rates, model.optimizer
    while done.batches < part.last and not (callbacks.wants_batches and model.stop_training):
        last = min(part.last, done.batches + stretch)
        if callbacks.wants_batches:
            callbacks.on_train_batch_begin(done.batches)
            if rates is not None:  # a callback may have set the rate
                rates[done.batches - first_batch : last - first_batch] = rule.rates(np.array([rule.batches]))
        begun = time.perf_counter()
        try:
            model.session.run(program, done.batches, last)
        except (KeyboardInterrupt, WorkerLostError):  # heard when the native loop had returned: these batches were done
            part.advance(max(done.batches, program.batches_done()), rule)
            rule.batches -= program.undone
            raise
        seconds = time.perf_counter() - begun
        job.compute_s += seconds
        if program.stopped():
            break
        first = done.batches
        part.advance(last, rule)
        if callbacks.wants_batches:
            callbacks.on_train_batch_end(first, _logs(model, program, feed, done.rows))
        else:
            stretch = max(1, min(4 * stretch, int(stretch * job.strategy.stretch_s / max(seconds, 1e-6))))
        display.update(done.rows, _logs(model, program, feed, done.rows))
    if program.stopped():
        step = _failed_step(feed, done)
        part.advance(step, rule)
        return _logs(model, program, feed, part.rows_at(step + 1))  # metrics count the failed step too
    return _logs(model, program, feed, max(1, done.rows))


def _failed_step(feed: Feed, done: _Progress) -> int:
    """The step whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(feed.losses[done.batches - feed.first_batch :]))
    return done.batches + (int(bad[0]) if bad.size else 0)


def _logs(model, program: Program, feed: Feed, rows: int) -> dict:
    """Loss and metrics of the epoch so far."""
    return Measurement.of(model, feed.sums, max(1, rows - program.missed), program).results()


def _report_non_finite(model, program: Program, feed: Feed, callbacks, epoch: int, done: _Progress) -> None:
    """The loss is not finite: say where, and stop. The weights are those from before that step."""
    step = done.batches
    message = (
        f"fit: the loss became {feed.losses[step - feed.first_batch]} in epoch {epoch + 1}, step {step + 1} "
        f"(update {model.optimizer.iterations + 1}); {first_non_finite(program)}. The weights are those before that step. "
        f"Lower the learning rate (now {model.optimizer.learning_rate:g}), clip gradients (clipnorm=1.0), or check the data"
    )
    if any(getattr(c, "handles_non_finite_loss", False) for c in callbacks.callbacks):
        warn(message)
        model.stop_training = True
        return
    raise NonFiniteLossError(message)
