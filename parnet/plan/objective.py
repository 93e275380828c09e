"""The part of a plan that measures: loss, metrics, penalties, tally. Stage: plan. Must not know: executors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ShapeError
from ..kernels.step import FLAT, ONE, ROWS_SHARED, Buffer, Step, number, reads, reads_own, writes_own
from ..layers.base import Shape, count
from ..layers.dense import Dense
from ..losses import Loss
from ..metrics import Metric, Outcome
from .builder import Builder, Placed

if TYPE_CHECKING:
    from .plan import Network, Request

#: metrics a plan can hold: their operands must fit the step table
MOST_METRICS = 7


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


def metric_slots(metrics: tuple[Metric, ...], width: int, loss: Loss) -> tuple[tuple[tuple[int, int], ...], int]:
    """Where each metric's sums lie behind the loss's own: ((first, count), ...), and how many sums there are."""
    outcome, slots, total = Outcome(width, loss.labels), [], 1
    for metric in metrics:
        size = metric.size(outcome)
        slots.append((total, size))
        total += size
    return tuple(slots), total


def add_loss(
    build: Builder, network: Network, request: Request, output: Buffer, fused: bool, slots: tuple[tuple[int, int], ...]
) -> Targets:
    """Targets, metrics, loss and tally."""
    loss, width = request.loss, count(network.shapes[-1])
    if loss is None:
        raise ShapeError("add_loss: expected a loss, received none")
    if len(request.metrics) > MOST_METRICS:
        raise ShapeError(f"metrics: expected at most {MOST_METRICS}, received {len(request.metrics)}")
    build.phase = "loss"
    build.enter(len(network.layers), "loss")
    target_width = 1 if loss.labels else width
    target, row_loss = build.rows("target", (target_width,)), build.fixed("row_loss", build.batch)
    gradient = build.rows("gradient", network.shapes[-1])
    weight = build.fixed("weight", build.batch)
    if (loss.labels or "softmax" in loss.fused) and len(network.shapes[-1]) != 1:
        raise ShapeError(f"{type(loss).__name__}: expected an output (batch, classes), received {network.shapes[-1]}")
    _row_step(build, "gather.targets", (target, target_width), writes_own(target), 8.0 * target_width)
    if request.weighted:
        _row_step(build, "gather.weights", (weight,), writes_own(weight), 8.0)
    values: list[tuple[Buffer, int]] = []
    if not fused:
        values = _add_metrics(build, request, output, target, slots)
    wanted = request.purpose in ("train", "manual")
    if fused or loss.from_logits:
        # the kernel writes probabilities over its input: a backward pass may need that, or a loop may measure it twice
        plain = isinstance(network.layers[-1], Dense) and (fused or network.last_activation == "linear")
        if not plain or request.purpose == "manual":
            output = _copy(build, output)
    kernel = loss.kernel_for(network.last_activation)[0]
    operands: tuple = (output, target, row_loss, gradient if wanted else 0, width)
    operands += (weight if request.weighted else 0, int(request.weighted), int(wanted), number(loss.parameter), target_width)
    accesses = writes_own(output, row_loss) + reads_own(target)
    accesses += writes_own(gradient) if wanted else ()
    accesses += reads_own(weight) if request.weighted else ()
    _row_step(build, kernel, operands, accesses, 60.0 * width)
    if fused:
        values = _add_metrics(build, request, output, target, slots)
    _add_tally(build, row_loss, values)
    return Targets(loss.labels, target_width, width, (1,) if loss.labels else network.shapes[-1], gradient)


def _copy(build: Builder, x: Buffer) -> Buffer:
    """The output once more."""
    y = build.rows("logits", x.shape)
    operands = (x, y, x.width, number(1.0), number(0.0), ROWS_SHARED)
    _row_step(build, "elementwise.scale", operands, reads_own(x) + writes_own(y), 8.0 * x.width)
    return y


def _row_step(build: Builder, kernel: str, operands: tuple, accesses: tuple, cost: float) -> None:
    build.step(kernel, operands, accesses, ROWS_SHARED, (-1,), bytes=cost)


def _add_metrics(build: Builder, request: Request, output: Buffer, target: Buffer, slots) -> list[tuple[Buffer, int]]:
    """Steps of the metrics. Returns (values a row, slot) of those that the tally sums up."""
    loss = request.loss
    outcome, values = Outcome(output.width, loss.labels if loss else False), []
    for index, (metric, (slot, _)) in enumerate(zip(request.metrics, slots, strict=True)):
        kernel = metric.kernel(outcome)
        if metric.counts:
            operands: tuple = (output, target, output.width, target.width, slot, number(metric.parameter))
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
    operands = (row_loss, penalties if penalized else 0, len(penalized), len(values))
    for value, slot in values:
        operands += (value, slot)
    accesses = reads(row_loss, *(v for v, _ in values)) + (reads(penalties) if penalized else ())
    build.step("loss.tally", operands, accesses, ONE, (1,), bytes=10.0 * (1 + len(values)))


def add_penalties(build: Builder, placed: dict[str, Placed]) -> None:
    """The regularisers' share of the gradients, after all of them are made."""
    for p in placed.values():
        if p.weight.regularizer is None or not p.trainable:
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
