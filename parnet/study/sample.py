"""One run: a fresh model trained by one strategy, with the times of each epoch. Stage: study, within the run's own process.

The clock is `fit`'s own: an epoch's seconds go from its first batch to its last, without validation, and the times of the
warm-up epochs are kept apart. Must not know: other runs, files.
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import seeding
from .. import strategy as how
from ..config import usable_cores
from ..errors import NonFiniteLossError
from ..executors.base import Feed
from ..plan.plan import Plan, make_plan
from ..train.callbacks import Callback
from ..train.defaults import usual_loss, usual_metrics
from ..train.evaluate import measure
from ..train.fit import Job, run_fit
from ..train.prepare import FitArguments, prepare_fit
from ..train.sources import check_rows
from ..train.stream import Whole
from .design import Point
from .peaks import Peak, shortest

#: seconds that the update is timed alone, and the peak
UPDATE_S, PEAK_S = 0.05, 0.1


#: what is read of a job at the end of an epoch
PARTS = ("run_s", "wait_s", "comm_s", "update_s", "comm_bytes")


class Clock(Callback):
    """Reads `fit`'s sums at the ends of epochs, and measures accuracy outside of them."""

    def __init__(self) -> None:
        self.job: Any = None
        self.marks: list[tuple[float, ...]] = [(0.0,) * len(PARTS)]
        self.curve: list[tuple[float, float]] = []
        self.check: Callable[[], float] | None = None
        self.begun_s = time.perf_counter()
        self.first_s: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.first_s is None:
            self.first_s = time.perf_counter() - self.begun_s

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        spent = self.job.spent()
        self.marks.append(tuple(getattr(spent, name) for name in PARTS))
        if self.check is not None:
            self.curve.append((sum(self.job.epochs_s), self.check()))

    def parts(self, warmup: int) -> dict[str, list[float]]:
        """Seconds of running, waiting and communication, epoch by epoch, after the warm-up; the rest for one epoch."""
        rows = np.diff(np.array(self.marks), axis=0)[warmup:]
        found: dict[str, Any] = {name: [float(v) for v in rows[:, k]] for k, name in enumerate(PARTS)}
        return found | {name: float(np.mean(found[name])) for name in PARTS[3:]}


def ready_model(build: Callable[[], Any], compiled: dict, x: Any, y: Any) -> Any:
    """A fresh compiled model of the builder's.

    Args:
        compiled: optimizer, loss and metrics; None for the builder's own, then the usual ones.
    """
    model = build()
    if getattr(model, "input_shape", ()) is None:
        model.build(np.shape(x)[1:])
    given = {name: value for name, value in compiled.items() if value is not None}
    if model.optimizer is None or model.loss is None or given:
        rule = given.get("optimizer") or model.optimizer or "sgd"
        loss = given.get("loss") or model.loss or usual_loss(model, np.asarray(y))
        metrics = given.get("metrics") or model.metrics or usual_metrics(loss)
        model.compile(rule, loss, metrics)
    return model


def take(build: Callable[[], Any], compiled: dict, point: Point, data: dict, settings: dict) -> dict:
    """Run a point once.

    Args:
        build, compiled: see `ready_model`.
        data: x, y and perhaps x_test, y_test.
        settings: warmup, epochs, seed, oversubscribe, and whether the peak and the accuracy are wanted.
    Returns:
        what was measured, ready for JSON; times in seconds.
    """
    seeding.set_seed(settings["seed"])
    x, y = first_rows(data["x"], point.rows), first_rows(data["y"], point.rows)
    model = ready_model(build, compiled, x, y)
    strategy = point.chosen.make(settings["oversubscribe"])
    clock = Clock()
    epochs = settings["warmup"] + settings["epochs"]
    given = FitArguments(point.batch, epochs, 0, [clock], 0.0, None, True, None, None, 0, None, strategy)
    job, display, hooks, history = prepare_fit(model, x, y, given)
    clock.job = job
    if settings["accuracy"]:
        clock.check = accuracy_of(model, data, point.batch)
    model.stop_training, model.history = False, history
    run_fit(model, job, hooks, history, display)
    if not np.isfinite(history.history["loss"]).all():
        raise NonFiniteLossError(f"study: {point.name}: the loss is not finite; lower the learning rate")
    weights, steps = digest(model), -(-point.rows // point.batch)
    plan = make_plan(model.session.network, replace(job.request, threads=1))
    return {
        "epochs_s": job.epochs_s[settings["warmup"] :],
        "warmup_s": job.epochs_s[: settings["warmup"]],
        **clock.parts(settings["warmup"]),
        **({"update_s": update_seconds(model, job, strategy) * steps} if strategy.shards == 1 else {}),
        "compile_s": history.timing.compile_s,
        "setup_s": clock.first_s,
        **costs(plan, point),
        "memory_mib": peak_memory_mib(point),
        "loss": history.history["loss"][-1],
        "weights": weights,
        "curve": clock.curve,
        **({"peak_gflops": peak_gflops(point)} if settings["peak"] else {}),
    }


def first_rows(arrays: Any, rows: int) -> Any:
    """The first rows of an array, a list or a dict of arrays."""
    if isinstance(arrays, dict):
        return {name: first_rows(one, rows) for name, one in arrays.items()}
    if isinstance(arrays, list | tuple):
        return [first_rows(one, rows) for one in arrays]
    return arrays[:rows]


def accuracy_of(model: Any, data: dict, batch: int) -> Callable[[], float]:
    """A function that measures the first metric on the test samples."""
    rows = Whole(check_rows(model, data["x_test"], data["y_test"], None, None, "study"), batch)

    def check() -> float:
        found = measure(model, rows, how.Serial()).results()
        return float(next(value for name, value in found.items() if not name.endswith("loss")))

    return check


def costs(plan: Plan, point: Point) -> dict[str, float]:
    """Operations and bytes of memory of an epoch, by the count that stands in the plan of one thread."""
    batches = -(-point.rows // point.batch)
    times = [(step, point.rows if step.per_row else batches) for step in plan.steps]
    return {name: float(sum(getattr(step, name) * n for step, n in times)) for name in ("flops", "bytes")}


def update_seconds(model: Any, job: Job, strategy: how.Strategy) -> float:
    """Seconds of the optimizer's update of one step, run by itself; 0 where it rides on the gradient's step.

    Of plans without shards, whose update is one step among others; one worker runs the same plan as this process. Changes
    the weights.
    """
    session, piece = model.session, job.training.peek(0)
    strategy = how.Serial() if strategy.apart else strategy
    if piece is None or isinstance(strategy, how.CUDA):
        return 0.0
    program = session.fitted(job.request, strategy)
    if program.plan.span("update") == (0, 0):
        return 0.0
    steps = piece.batches
    session.start(program, Feed(piece.rows.x, piece.total, rates=model.optimizer.rates(np.arange(steps))))
    count, spent = 0, 0.0
    while spent < UPDATE_S:
        begun = time.perf_counter()
        session.run(program, 0, steps, "update")
        spent, count = spent + time.perf_counter() - begun, count + steps
    session.close()
    return spent / count


def peak_gflops(point: Point) -> float:
    """The register tile's speed on as many cores as the point has workers, in this very process."""
    peak = Peak(min(point.workers, usable_cores()))
    return 1e-9 * peak.flops / shortest(peak.seconds, PEAK_S)


def peak_memory_mib(point: Point) -> float:
    """The largest memory that this process has held, and that its largest child has held for each worker; MiB.

    Pages that several processes share are counted in each of them.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        own = int(found[1]) if found else 0
    except OSError:
        own = 0
    try:
        import resource
    except ImportError:  # Windows
        return own / 1024
    unit = 1024 if sys.platform == "darwin" else 1
    own = own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit if point.kind == "ParameterServer" else 0
    return (own + point.workers * child) / 1024


def digest(model: Any) -> str:
    """The first digits of the weights' SHA-256: equal digits, equal bits."""
    whole = hashlib.sha256()
    for array in model.get_weights():
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()[:16]
