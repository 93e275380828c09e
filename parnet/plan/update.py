"""The part of a plan that changes weights: clipping and the optimizer. Stage: plan. Must not know: executors."""

from __future__ import annotations

from ..constraints import Constraint, NormConstraint
from ..errors import HyperparameterError
from ..kernels.step import (
    COLUMNS,
    FLAT,
    ONE,
    PANELS,
    ROWS_SHARED,
    Buffer,
    number,
    reads,
    reads_own,
    window_panel,
    writes_own,
)
from ..layers.base import count
from ..optimizers import Optimizer
from .builder import Builder, Placed, align

#: numbers summed in one piece when a norm is taken (`parnet.kernels.reduce.BLOCK`)
BLOCK = 4096


def slot_size(parameters: int, optimizer: Optimizer) -> int:
    """Elements of all slots: one vector as long as the parameters for each, that of accumulated gradients last."""
    return parameters * optimizer.vectors


def runs(placed: dict[str, Placed], skip: frozenset[str] = frozenset()) -> list[tuple[int, int]]:
    """Trainable weights as few long runs (first, length): neighbours and the padding between them are one."""
    result: list[tuple[int, int]] = []
    for p in sorted(placed.values(), key=lambda p: p.offset):
        if p.region != "parameters" or not p.trainable or p.key in skip:
            continue
        first, size = p.offset, align(p.size)
        if result and sum(result[-1]) == first:
            result[-1] = (result[-1][0], result[-1][1] + size)
        else:
            result.append((first, size))
    return result


def add_updates(
    build: Builder, placed: dict[str, Placed], total: int, optimizer: Optimizer, without: frozenset[str] = frozenset()
) -> None:
    """Accumulate and clip gradients, update every run of weights whose update does not ride elsewhere, apply constraints.

    Args:
        total: length of the region "parameters".
        without: keys of weights that have no gradient.
    """
    build.phase = "update"
    build.enter(0, "update")
    weights = build._add(Buffer("parameters", "parameters", total))
    gradients = build._add(Buffer("gradients", "gradients", total))
    slots = build._add(Buffer("slots", "slots", slot_size(total, optimizer)))
    todo = runs(placed, build.riding | without)
    if optimizer.gradient_accumulation_steps is not None:
        _add_accumulation(build, placed, total, optimizer, gradients, slots, todo)
    _add_clipping(build, {k: p for k, p in placed.items() if k not in without}, optimizer, gradients, todo)
    a, b, c = (number(v) for v in optimizer.numbers())
    for first, size in todo:
        places = [(slots, first + total * k) if k < optimizer.slots else 0 for k in range(2)]
        operands = ((weights, first), (gradients, first), *places, size, a, b, c)
        accesses = reads(gradients) + writes_own(weights, slots) + _shadow(build, placed, first, size)
        cost = (12.0 + 8.0 * optimizer.slots) * size
        build.step(optimizer.kernel, operands, accesses, FLAT, (size,), bytes=cost, per_row=False)
    for p in placed.values():
        if p.weight.constraint is not None and p.trainable and p.key not in without:
            _add_constraint(build, p, p.weight.constraint)


def _add_constraint(build: Builder, placed: Placed, constraint: Constraint) -> None:
    """Bring a weight back to where its constraint allows it to be."""
    w = build._add(Buffer(placed.key, placed.region, placed.size, shape=placed.weight.shape))
    if not isinstance(constraint, NormConstraint):
        operands: tuple = (w, align(placed.size))
        build.step(constraint.kernel, operands, writes_own(w), FLAT, operands[1:], bytes=8.0 * w.width, per_row=False)
        return
    shape, panel = placed.weight.shape, placed.weight.panel
    *rows, width = (*shape, 1) if len(shape) == 1 else shape
    panel = -1 if len(shape) == 1 else panel
    share = COLUMNS if panel == 0 else PANELS if panel == window_panel(width) else ONE
    along = [*constraint.along(shape), False, False][: len(rows)]
    sizes = [*[1] * (3 - len(rows)), *rows]
    axes = sum(int(one) << k for k, one in enumerate([*[False] * (3 - len(rows)), *along]))
    numbers = (number(v) for v in (constraint.low, constraint.high, constraint.rate))
    operands = (w, *sizes, axes, width, panel, *numbers, share)
    cut = (1,) if share == ONE else (count(tuple(rows)), width)
    build.step(constraint.kernel, operands, writes_own(w), share, cut, bytes=8.0 * w.width, per_row=False)


def add_fold(build: Builder, placed: dict[str, Placed], total: int, delivered: set[str]) -> None:
    """Add up the shards' gradients of the weights that have one, each vector `total` elements long."""
    build.phase = "backward"
    build.enter(0, "shards")
    made = build._add(Buffer("shards", "shards", total * build.shards))
    gradients = build._add(Buffer("gradients", "gradients", total))
    for first, size in runs({k: p for k, p in placed.items() if k in delivered}):
        operands = ((made, first), total, (gradients, first), size)
        inside = [p for p in placed.values() if p.region == "parameters" and first <= p.offset < first + size]
        shadow = writes_own(*(Buffer(f"d {p.key}", "gradients", p.size) for p in inside))
        accesses = reads_own(made) + writes_own(gradients) + shadow
        build.step("shards.fold", operands, accesses, FLAT, (size,), bytes=4.0 * (build.shards + 1) * size, per_row=False)


def _shadow(build: Builder, placed: dict[str, Placed], first: int, size: int):
    """Accesses to the single weights and gradients that a run covers: the rest of the plan knows them by those names."""
    inside = [p for p in placed.values() if p.region == "parameters" and first <= p.offset < first + size]
    weights = tuple(Buffer(p.key, p.region, p.size) for p in inside)
    gradients = tuple(Buffer(f"d {p.key}", "gradients", p.size) for p in inside)
    return reads(*gradients) + writes_own(*weights)


def _add_accumulation(build, placed, total, optimizer, gradients, slots, todo) -> None:
    """Gather the gradients of several batches; what follows sees their mean, or does nothing.

    Raises:
        HyperparameterError: the optimizer's kernel is the user's own, which would not wait.
    """
    if not optimizer.kernel.startswith("update."):
        raise HyperparameterError(
            f"{type(optimizer).__name__}: expected one of parnet's own optimizers with gradient_accumulation_steps, "
            f"received one whose kernel is {optimizer.kernel}; in a manual loop call backward() "
            "several times before each step()"
        )
    for first, size in todo:
        place = (slots, first + total * optimizer.slots)
        operands = ((gradients, first), place, size, optimizer.gradient_accumulation_steps)
        accesses = writes_own(gradients, slots) + _shadow(build, placed, first, size)
        build.step("update.accumulate", operands, accesses, FLAT, (size,), bytes=12.0 * size, per_row=False)


def _add_clipping(build, placed, optimizer, gradients, todo) -> None:
    if optimizer.clipvalue is not None:
        for first, size in todo:
            operands = ((gradients, first), size, number(optimizer.clipvalue))
            accesses = writes_own(gradients) + _shadow(build, placed, first, size)
            build.step("reduce.clip", operands, accesses, FLAT, (size,), bytes=8.0 * size, per_row=False)
    if optimizer.clipnorm is not None:
        for p in placed.values():
            if p.region == "parameters" and p.trainable:
                _clip_norm(build, placed, gradients, [(p.offset, align(p.size))], optimizer.clipnorm, p.key)
    if optimizer.global_clipnorm is not None and todo:
        _clip_norm(build, placed, gradients, todo, optimizer.global_clipnorm, "all")


def _clip_norm(build, placed, gradients, todo, limit, name) -> None:
    """Scale runs of the gradient down together so that their norm is at most `limit`."""
    counts = [-(-size // BLOCK) for _, size in todo]
    sums, factor = build.fixed(f"{name}/squares", sum(counts)), build.fixed(f"{name}/factor", 1)
    done = 0
    for (first, size), blocks in zip(todo, counts, strict=True):
        operands: tuple = ((gradients, first), (sums, done), size)
        accesses = reads(gradients) + _shadow(build, placed, first, size) + writes_own(sums)
        build.step("reduce.block_squares", operands, accesses, ROWS_SHARED, (blocks,), bytes=4.0 * size, per_row=False)
        done += blocks
    operands = (sums, factor, done, number(limit))
    build.step("reduce.norm_factor", operands, reads(sums) + writes_own(factor), ONE, (1,), bytes=8.0, per_row=False)
    for first, size in todo:
        operands = ((gradients, first), factor, size)
        accesses = reads(factor) + writes_own(gradients) + _shadow(build, placed, first, size)
        build.step("reduce.multiply", operands, accesses, FLAT, (size,), bytes=8.0 * size, per_row=False)
