"""What each layer costs: time, operations and bytes of every step of the plan, forward, backward and update. Stage: study.

    profile(model)                     prints a table; returns a Profile
    profile(model).rows[0].gflops

The steps are timed as they run in training, by the stamps of `parnet.executors.recording`. Must not know: pictures.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import strategy as how
from ..checks import check_argument, check_count
from ..errors import HyperparameterError, StateError
from ..executors.recording import Clock, Recorder
from ..executors.tapes import Tape
from ..kernels.step import Step
from ..model import Model
from ..plan.plan import Plan
from .madeup import sample_inputs, sample_targets
from .peaks import Peaks, measure_device, measure_peaks

PURPOSES = ("train", "evaluate", "predict")
#: seconds of runs, after those that warm up; batches of a run at least
LIMIT_S, LEAST_BATCHES = 0.5, 8
#: numbers of inputs that are made up for a run at most
MOST_NUMBERS = 1 << 24
BAR = 12


@dataclass(frozen=True)
class Cost:
    """What some steps of a plan cost a batch.

    Attributes:
        layer: its name; "input", "loss" or "optimizer" for the steps that belong to none.
        phase: "input", "forward", "loss", "backward" or "update".
        kernels: names, in their order.
        seconds: the mean over the threads of the time they spent in these steps, waits behind them included, so that the
            rows add up to the batch.
        wait: how much of it was waiting.
        flops: by the plan's count: those of products and convolutions.
        bytes: of all operands, each once, whichever cache they come from.
    """

    layer: str
    phase: str
    kernels: tuple[str, ...]
    seconds: float
    wait: float
    flops: float
    bytes: float

    @property
    def gflops(self) -> float:
        """Billions of operations a second."""
        return 1e-9 * self.flops / self.seconds if self.seconds else 0.0

    @property
    def gb_per_s(self) -> float:
        """Billions of bytes a second."""
        return 1e-9 * self.bytes / self.seconds if self.seconds else 0.0

    @property
    def intensity(self) -> float:
        """Operations a byte; 0 where nothing is moved."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Profile:
    """See `profile`.

    Attributes:
        name: of the model. purpose: "train", "evaluate" or "predict".
        batch_size, threads: as they were run. batches: that the times are means of.
        steps: a Cost for each step of the plan, in its order.
        rows: a Cost for each layer and phase, in the plan's order.
        total: of them all.
        peaks: what the machine can do at most, measured in the same process.
    """

    name: str
    purpose: str
    batch_size: int
    threads: int
    batches: int
    steps: tuple[Cost, ...]
    rows: tuple[Cost, ...]
    total: Cost
    peaks: Peaks

    def share(self, cost: Cost) -> float:
        """Of the batch's time."""
        return cost.seconds / self.total.seconds if self.total.seconds else 0.0

    def table(self) -> str:
        """The rows as text."""
        waits = self.threads > 1
        head = (
            "layer",
            "phase",
            "µs",
            "share",
            "",
            *(("wait µs",) if waits else ()),
            "kFLOP",
            "KiB",
            "GFLOP/s",
            "GB/s",
            "of peak",
        )
        lines = [head] + [self._cells(cost, waits) for cost in (*self.rows, self.total)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        left = {0, 1, 4}
        text = [
            "  ".join(
                c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "  ".join("-" * width for width in widths)
        where = self.peaks.where
        title = f"{self.name}: {self.purpose}, batch {self.batch_size}, {self.peaks.dtype}, {where}; "
        title += f"mean of {self.batches} batches, the faster half"
        peak = f"Peak on {where}: {self.peaks.gflops:.0f} GFLOP/s in registers, "
        peak += f"{self.peaks.bandwidths['memory']:.1f} GB/s from memory. KiB: each operand once."
        return "\n".join([title, text[0], rule, *text[1:-1], rule, text[-1], peak])

    def _cells(self, cost: Cost, waits: bool) -> tuple[str, ...]:
        share = self.share(cost)
        largest = max(map(self.share, self.rows))
        bar = "" if cost is self.total else "█" * round(BAR * share / largest if largest else 0) or "▏"
        cells = [cost.layer, cost.phase, f"{1e6 * cost.seconds:,.1f}", f"{100 * share:.1f} %", bar]
        cells += [f"{1e6 * cost.wait:,.1f}"] if waits else []
        cells += [f"{cost.flops / 1e3:,.0f}", f"{cost.bytes / 1024:,.0f}", f"{cost.gflops:.1f}", f"{cost.gb_per_s:.1f}"]
        return (*cells, f"{100 * cost.gflops / self.peaks.gflops:.1f} %")

    def __str__(self) -> str:
        return self.table()


def profile(
    model: Model,
    x: Any = None,
    y: Any = None,
    *,
    batch_size: int = 32,
    strategy: Any = "serial",
    purpose: str | None = None,
    limit_s: float | None = None,
    print_fn: Callable[[str], Any] | None = print,
) -> Profile:
    """Time, operations and bytes of each layer, forward, backward and update, beside what the machine can do at most.

    A copy of the model is run, so that its weights stay as they are.

    Args:
        model: of known input shape; compiled, unless purpose is "predict".
        x, y: samples as `fit` takes them; made up when left out.
        batch_size: rows a batch.
        strategy: "serial", "threads", "auto", "cuda" or an object of `parnet.strategy`.
        purpose: "train", "evaluate" or "predict"; by default "train" for a compiled model, else "predict".
        limit_s: seconds of runs that are timed; by default half a second.
        print_fn: what the table is given to; None for nothing.
    Raises:
        StateError: the model is not compiled, or its input's shape is not known.
        HyperparameterError: another purpose, or batch_size is no number above 0. ParnetError: what `fit` raises.
        ResourceError: the processor lets no program read its cycle counter.
    """
    size, chosen = check_count(batch_size, "profile: batch_size"), how.get(strategy)
    compiled = model.optimizer is not None and model.loss is not None
    purpose = purpose or ("train" if compiled else "predict")
    check_argument(purpose in PURPOSES, "profile(purpose)", f"one of {', '.join(PURPOSES)}", purpose, "choose one of them")
    if chosen.shards > 1 or chosen.apart:
        raise HyperparameterError(
            f"profile: expected a strategy of one process without virtual shards, received {chosen!r}; take 'serial' or "
            "'threads', or fit(..., trace=path) to see what the shards or workers do"
        )
    if purpose != "predict" and not compiled:
        raise StateError(
            "profile: the model is not compiled; call compile(optimizer, loss) first, or ask for purpose='predict'"
        )
    twin = copy.deepcopy(model)
    run = _runner(twin, x, y, size, chosen, purpose)
    tape, clock, plan = _record(twin, run, purpose, LIMIT_S if limit_s is None else limit_s)
    if isinstance(chosen, how.CUDA):
        peaks = measure_device(chosen.device, model.dtype)
    else:
        peaks = measure_peaks(tape.parts, model.dtype)
    result = summed(model.name, tape, clock, plan, peaks)
    if print_fn is not None:
        print_fn(result.table())
    return result


def _runner(twin: Model, x: Any, y: Any, size: int, chosen: how.Strategy, purpose: str) -> Callable[[], Any]:
    """A function that runs some batches."""
    if x is None:
        network = twin.session.network
        numbers = sum(int(np.prod(shape)) for shape in network.input_shapes)
        rows = size * int(np.clip(MOST_NUMBERS // max(1, numbers * size), 2, LEAST_BATCHES))
        x = sample_inputs(network.input_shapes, rows, twin.dtype)
        if purpose != "predict":
            y = sample_targets(twin, rows)
    if purpose == "predict":
        return lambda: twin.predict(x, batch_size=size, strategy=chosen)
    if purpose == "evaluate":
        return lambda: twin.evaluate(x, y, batch_size=size, strategy=chosen)
    return lambda: twin.fit(x, y, batch_size=size, verbose=0, strategy=chosen)


def _record(twin: Model, run: Callable[[], Any], purpose: str, limit_s: float) -> tuple[Tape, Clock, Plan]:
    """Run once to compile and warm up, then until the time is up."""
    run()
    session, total = twin.session, 0.0
    with Recorder() as recorder:
        session.recorder = recorder
        while total < limit_s:
            begun = time.perf_counter()
            run()
            total += time.perf_counter() - begun
        plan = next(p.plan for p in recorder.programs if p.plan.request.purpose == purpose)
    session.recorder = None
    tape = next(tape for tape in recorder.tapes if tape.purpose == purpose)
    if tape.clock is None:
        raise StateError("profile: the recording was not closed")
    return tape, tape.clock, plan


def summed(name: str, tape: Tape, clock: Clock, plan: Plan, peaks: Peaks) -> Profile:
    """A tape as costs: means over the faster half of the batches, which other work on the machine has slowed least."""
    parts = [tape.part(part) for part in range(tape.parts)]
    took = np.max([part.met[:, -1] - part.begun for part in parts], axis=0)
    chosen = np.argsort(took, kind="stable")[: max(1, len(took) // 2)]
    busy = np.mean([(part.met - part.starts())[chosen].mean(axis=0) for part in parts], axis=0) / clock.hertz
    wait = np.mean([(part.met - part.ended)[chosen].mean(axis=0) for part in parts], axis=0) / clock.hertz
    batch, steps = plan.request.batch, []
    for step, seconds, waited in zip(plan.steps, busy.tolist(), wait.tolist(), strict=True):
        flops = step.flops * (batch if step.per_row else 1)
        moved = moved_bytes(step, batch, plan.request.dtype)
        place = step.label or "-", step.phase or plan.request.purpose
        steps.append(Cost(*place, (step.kernel,), seconds, waited, flops, moved))
    rows: dict[tuple[str, str], list[Cost]] = {}
    for cost in steps:
        rows.setdefault((cost.layer, cost.phase), []).append(cost)
    together = tuple(_sum(*key, costs) for key, costs in rows.items())
    total = _sum("total", "", steps)
    return Profile(name, plan.request.purpose, batch, tape.parts, len(chosen), tuple(steps), together, total, peaks)


def moved_bytes(step: Step, batch: int, dtype: str) -> float:
    """Bytes of everything a step reads and writes, each array once."""
    sizes = [access.buffer.width * (batch if access.buffer.per_row else 1) for access in step.accesses]
    counted = float(sum(sizes) * np.dtype(dtype).itemsize)
    if step.kernel.startswith("gather."):  # the data set is no buffer of the plan
        return max(counted, step.bytes * (batch if step.per_row else 1))
    return counted


def _sum(layer: str, phase: str, costs: list[Cost]) -> Cost:
    kernels = tuple(kernel for cost in costs for kernel in cost.kernels)
    sums = (sum(getattr(cost, field) for cost in costs) for field in ("seconds", "wait", "flops", "bytes"))
    return Cost(layer, phase, kernels, *sums)
