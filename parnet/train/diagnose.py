"""Where a loss that is not finite came from. Stage: train. Must not know: callbacks, models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..executors.link import Program
from ..kernels import control
from ..kernels.step import Buffer
from ..plan.layout import size_of
from ..plan.schedule import MEET_AND_CHECK


def first_non_finite(program: Program) -> str:
    """A clause that names the first layer whose weights, or outputs as far as they are still there, are not finite.

    To be called when a run of the program has stopped at the loss.
    """
    for key, values in _weights(program):
        if not np.isfinite(values).all():
            return f"the weights {key} are not finite"
    layer = ""
    for label, values in _outputs(program):
        layer = label
        if not np.isfinite(values).all():
            return f"the first output that is not finite is that of {label}"
    return f"the outputs of {layer} are finite, but the loss of them overflowed" if layer else "the loss itself overflowed"


def _weights(program: Program) -> Iterator[tuple[str, np.ndarray]]:
    store, plan = program.store, program.plan
    for buffer in plan.buffers.values():
        if buffer.region in ("parameters", "state") and buffer.name in plan.places:
            first = plan.places[buffer.name]
            yield buffer.name, store.region(buffer.region)[first : first + buffer.width]


def _outputs(program: Program) -> Iterator[tuple[str, np.ndarray]]:
    """Label and rows of what each step on the way to the loss wrote, where no other buffer has been put there since."""
    plan, rows = program.plan, int(program.control[0, control.ROWS])
    check = next((i for i, slot in enumerate(plan.slots) if slot.barrier == MEET_AND_CHECK), len(plan.steps) - 1)
    ran = plan.steps[: check + 1]
    for index, step in enumerate(ran):
        for access in step.accesses if step.phase in ("input", "forward") and step.label != "output" else ():
            buffer = plan.buffers[access.buffer.name]
            if not (access.writes and buffer.per_row and buffer.region == "arena"):
                continue
            later = {a.buffer.name for s in ran[index + 1 :] for a in s.accesses if a.writes} - {buffer.name}
            if not any(_overlap(program, buffer, plan.buffers[name]) for name in later):
                yield step.label, program.view(buffer, rows)


def _overlap(program: Program, one: Buffer, other: Buffer) -> bool:
    """Whether two buffers share memory."""
    plan = program.plan
    if other.region != "arena":
        return False
    sizes = [size_of(b, plan.request.batch, plan.request.threads) for b in (one, other)]
    first, second = plan.offsets[one.name], plan.offsets[other.name]
    return first < second + sizes[1] and second < first + sizes[0]
