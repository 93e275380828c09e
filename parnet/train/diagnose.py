"""Where a loss that is not finite came from. Stage: train. Must not know: callbacks, models."""

from __future__ import annotations

import numpy as np

from ..executors.link import Program
from ..plan.layout import lifetimes, stages


def first_non_finite(program: Program) -> str:
    """A clause that names the first layer whose weights or outputs in the arena are not finite."""
    plan = program.plan
    for key, vector, first, size in _weights(program):
        if not np.isfinite(vector[first : first + size]).all():
            return f"the weights {key} are not finite"
    tally = next((i for i, s in enumerate(plan.steps) if s.kernel == "loss.tally"), 0)
    stage = stages(plan.slots, plan.request.threads)
    alive = lifetimes(plan.steps, stage, frozenset())
    for step in plan.steps[:tally]:
        for access in step.accesses:
            name = access.buffer.name
            if not access.writes or not access.buffer.per_row or stage[tally] not in alive.get(name, ()):
                continue
            values = program.view(plan.buffers[name], 1)
            if not np.isfinite(values).all():
                return f"the first output that is not finite is that of {step.label}"
    return "all layers' outputs are finite, so the loss itself overflowed"


def _weights(program: Program):
    store, plan = program.store, program.plan
    for buffer in plan.buffers.values():
        if buffer.region in ("parameters", "state") and buffer.name in plan.places:
            yield buffer.name, store.region(buffer.region), plan.places[buffer.name], buffer.width
