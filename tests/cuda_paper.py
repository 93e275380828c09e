"""A plan's launches on paper: vectors of the host stand for those of a device, which is not needed to compile a kernel."""

from __future__ import annotations

import numpy as np

from parnet.cuda import gather, table
from parnet.cuda.launch import Context, Launch

#: dtypes of what feeds bring, where it is not that of the plan
FED = {"order": np.int64, "rates": np.float64, "sums": np.float64, "losses": np.float64}


def launches(plan):
    """(step, launch) of all steps of a plan, arguments of the right types."""
    T = np.dtype(plan.request.dtype).type
    data = plan.request.data if isinstance(plan.request.data, str) else plan.request.data[0]

    def fed(spot):
        return np.zeros(1, data if spot.name == "x" else FED.get(spot.name, T))

    words, vector = np.zeros(1, np.int64), np.zeros(1, T)
    context = Context(plan.request.dtype, plan.request.batch, words, lambda operand: vector, lambda size: vector)
    yield None, Launch(gather.advance, (1,), (1,), (words,))
    for step in plan.steps:
        for launch in table.find(step.kernel)(context, step.operands):
            yield step, launch.ready(fed)
