"""The part of a plan that measures: loss, metrics, penalties, tally. Stage: plan. Must not know: executors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ..errors import ShapeError
from ..kernels.step import FLAT, ONE, ROWS_SHARED, Buffer, Step, number, reads, reads_own, writes_own
from ..layers.base import Shape, count
from ..layers.dense import Dense
from ..losses import Loss
from ..metrics import Metric, Outcome
from .builder import Builder, Placed

if TYPE_CHECKING:
    from .network import Network
    from .plan import Request

#: metrics of one output, and values that one tally can add up: their operands must fit the step table
MOST_METRICS = 7
#: where the sums of a metric begin, and their shape
MetricSlot = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Aim:
    """What is measured of one output.

    Attributes:
        loss: None for an output that is not trained.
        metrics: of it.
        weight: of the loss in the sum over the outputs.
    """

    loss: Loss | None
    metrics: tuple[Metric, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class Made:
    """What the forward pass leaves.

    Attributes:
        outputs: of the model.
        shown: copies of them, in a manual plan.
        fused: for each whether its loss takes the sums before the last activation.
    """

    outputs: tuple[Buffer, ...]
    shown: tuple[Buffer, ...]
    fused: tuple[bool, ...]


@dataclass(frozen=True)
class Targets:
    """What the targets of a plan look like.

    Attributes:
        labels: class numbers, one a row; else arrays of the output's shape.
        width: numbers a row.
        classes: how many classes a label may name.
        shape: of one target.
        gradient: buffer of the loss's gradient by the output, the start of the backward pass.
    """

    labels: bool
    width: int
    classes: int
    shape: Shape
    gradient: Buffer


def metric_slots(aims: tuple[Aim, ...], widths: tuple[int, ...]) -> tuple[tuple[MetricSlot, ...], int]:
    """Where each metric's sums lie, output by output, and how many sums there are.

    Before them lie the loss's own sum and, where there are several outputs, one for the loss of each.
    """
    slots, total = [], 1 if len(aims) == 1 else 1 + len(aims)
    for aim, width in zip(aims, widths, strict=True):
        outcome = _outcome(aim, width)
        for metric in aim.metrics:
            shape = metric.shape(outcome)
            slots.append((total, shape))
            total += prod(shape)
    return tuple(slots), total


def _outcome(aim: Aim, width: int) -> Outcome:
    loss = aim.loss
    return Outcome(width, loss is not None and loss.labels, width == 1 or (loss is not None and loss.yes_no))


def add_losses(
    build: Builder, network: Network, request: Request, made: Made, slots: tuple[MetricSlot, ...]
) -> tuple[Targets | None, ...]:
    """Targets, metrics and loss of each output, then the tally."""
    build.phase = "loss"
    aims, several = request.goals, len(request.goals) > 1
    weight, rest = None, iter(slots)
    if request.weighted:
        build.enter(len(network.nodes), "loss")
        weight = build.fixed("weight", build.batch)
        _row_step(build, "gather.weights", (weight,), writes_own(weight), 8.0)
    targets: list[Targets | None] = []
    losses: list[tuple[Buffer, float]] = []
    values: list[tuple[Buffer, int]] = []
    for place, aim in enumerate(aims):
        if aim.loss is None:
            targets.append(None)
            continue
        if len(aim.metrics) > MOST_METRICS:
            raise ShapeError(f"metrics: expected at most {MOST_METRICS}, received {len(aim.metrics)}")
        build.enter(len(network.nodes), "loss", prefix=f"loss#{place + 1}" if place else "loss")
        own = tuple(next(rest) for _ in aim.metrics)
        target, row_loss, measured = _add_loss(build, network, request, made, place, aim, weight, own)
        targets.append(target)
        losses.append((row_loss, aim.weight))
        values += [*([(row_loss, 1 + place)] if several else ()), *measured]
    build.enter(len(network.nodes), "loss")
    row_loss = _weighted_sum(build, losses) if several else losses[0][0]
    _add_tally(build, row_loss, values)
    return tuple(targets)


def _weighted_sum(build: Builder, losses: list[tuple[Buffer, float]]) -> Buffer:
    """The row losses of all outputs, each times its weight, from left to right."""
    total = build.fixed("all_losses", build.batch)
    for place, (row_loss, weight) in enumerate(losses):
        operands = (row_loss, total, number(weight), int(place > 0))
        accesses = reads_own(row_loss) + writes_own(total)
        _row_step(build, "loss.weigh", operands, accesses, 8.0)
    return total


def _add_loss(
    build: Builder,
    network: Network,
    request: Request,
    made: Made,
    place: int,
    aim: Aim,
    weight: Buffer | None,
    slots: tuple[MetricSlot, ...],
) -> tuple[Targets, Buffer, list[tuple[Buffer, int]]]:
    """One output: its targets, row losses, and the values of its metrics."""
    loss, output, fused, producer = aim.loss, made.outputs[place], made.fused[place], network.outputs[place]
    if loss is None:
        raise ShapeError("add_loss: expected a loss, received none")
    shape, activation = output.shape, network.activation(place)
    width = count(shape)
    target_width = 1 if loss.labels else width
    target, row_loss = build.rows("target", (target_width,)), build.fixed("row_loss", build.batch)
    gradient = build.rows("gradient", shape)
    if (loss.labels or "softmax" in loss.fused) and len(shape) != 1:
        raise ShapeError(f"{type(loss).__name__}: expected an output (batch, classes), received {shape}")
    _row_step(build, "gather.targets", (target, target_width, place), writes_own(target), 8.0 * target_width)
    values: list[tuple[Buffer, int]] = []
    if not fused:
        values = _add_metrics(build, aim, output, target, slots)
    wanted, written = request.purpose in ("train", "manual"), fused or loss.from_logits
    if written:
        # the kernel writes probabilities over its input: a backward pass may need that, or a loop may measure it twice
        dense = producer >= 0 and isinstance(network.nodes[producer].layer, Dense)
        plain = dense and (fused or activation == "linear") and build.readers[output.name] == 1
        if not plain or request.purpose == "manual":
            output = _copy(build, output)
    kernel, weighted = loss.kernel_for(activation)[0] if fused else loss.kernel, int(weight is not None)
    operands: tuple = (output, target, row_loss, gradient if wanted else 0, width)
    operands += (weight if weight is not None else 0, weighted, int(wanted), number(loss.parameter), target_width)
    accesses = (writes_own(output) if written else reads_own(output)) + writes_own(row_loss) + reads_own(target)
    accesses += writes_own(gradient) if wanted else ()
    accesses += reads_own(weight) if weight is not None else ()
    _row_step(build, kernel, operands, accesses, 60.0 * width)
    if wanted and aim.weight != 1.0:
        operands = (gradient, width, ROWS_SHARED, number(aim.weight))
        _row_step(build, "merge.scale", operands, writes_own(gradient), 8.0 * width)
    if fused:
        values = _add_metrics(build, aim, output, target, slots)
    return Targets(loss.labels, target_width, width, (1,) if loss.labels else shape, gradient), row_loss, values


def _copy(build: Builder, x: Buffer) -> Buffer:
    """The output once more."""
    y = build.rows("logits", x.shape)
    operands = (x, y, x.width, number(1.0), number(0.0), ROWS_SHARED)
    _row_step(build, "elementwise.scale", operands, reads_own(x) + writes_own(y), 8.0 * x.width)
    return y


def _row_step(build: Builder, kernel: str, operands: tuple, accesses: tuple, cost: float) -> None:
    build.step(kernel, operands, accesses, ROWS_SHARED, (-1,), bytes=cost)


def _add_metrics(build: Builder, aim: Aim, output: Buffer, target: Buffer, slots) -> list[tuple[Buffer, int]]:
    """Steps of the metrics. Returns (values a row, slot) of those that the tally sums up."""
    outcome, values = _outcome(aim, output.width), []
    for index, (metric, (slot, _)) in enumerate(zip(aim.metrics, slots, strict=True)):
        kernel = metric.kernel(outcome)
        if metric.counts:
            operands: tuple = (output, target, output.width, target.width, slot, number(metric.parameter), *metric.options)
            accesses = reads(output, target)
            build.step(kernel, operands, accesses, ONE, (1,), bytes=8.0 * output.width)
            continue
        value = build.fixed(f"metric_{index}", build.batch)
        operands = (output, target, value, output.width, target.width, number(metric.parameter))
        _row_step(build, kernel, operands, reads_own(output, target) + writes_own(value), 8.0 * output.width)
        values.append((value, slot))
    return values


def _add_tally(build: Builder, row_loss: Buffer, values: list[tuple[Buffer, int]]) -> None:
    penalized = [p for p in build.placed.values() if p.weight.regularizer is not None]
    penalties = build.fixed("penalties", max(1, len(penalized)))
    for index, placed in enumerate(penalized):
        regularizer = placed.weight.regularizer
        if regularizer is None:
            continue
        w = Buffer(placed.key, placed.region, placed.size)
        operands: tuple = (w, (penalties, index), placed.size, number(regularizer.l1), number(regularizer.l2))
        build.step("reduce.penalty", operands, reads(w) + writes_own(penalties), ONE, (1,), 0.0, 6.0 * w.width, False)
    for first in range(MOST_METRICS, len(values), MOST_METRICS):
        more = values[first : first + MOST_METRICS]
        operands = (len(more), *(item for pair in more for item in pair))
        build.step("loss.add_up", operands, reads(*(v for v, _ in more)), ONE, (1,), bytes=10.0 * len(more))
    values = values[:MOST_METRICS]
    operands = (row_loss, penalties if penalized else 0, len(penalized), len(values))
    for value, slot in values:
        operands += (value, slot)
    accesses = reads(row_loss, *(v for v, _ in values)) + (reads(penalties) if penalized else ())
    build.step("loss.tally", operands, accesses, ONE, (1,), bytes=10.0 * (1 + len(values)))


def add_penalties(build: Builder, placed: dict[str, Placed], delivered: set[str]) -> None:
    """The regularisers' share of the gradients, after all of them are made."""
    for p in placed.values():
        if p.weight.regularizer is None or not p.trainable or p.key not in delivered:
            continue
        build.label, name = p.key.rsplit("/", 1)
        w, dw, regularizer = build.weight(name), build.gradient(name), p.weight.regularizer
        operands = (w, dw, p.size, number(regularizer.l1), number(regularizer.l2))
        build.steps.append(
            Step(
                "reduce.penalty_gradient",
                operands,
                reads_own(w) + writes_own(dw),
                FLAT,
                (p.size,),
                0.0,
                12.0 * p.size,
                False,
                build.label,
                build.phase,
            )
        )
