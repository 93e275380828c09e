"""What becomes of a finished weight gradient, as `parnet.kernels.product.gradient_mode` says. Stage: cuda."""

from __future__ import annotations

from functools import cache

from ..kernels.control import ACCUMULATE, RATES_PER_STEP, STEP
from ..kernels.step import ADDS, RIDES
from .runtime import cuda


@cache
def deliver(T):
    """(ctl, rates, mode, out, spot, value): stored, or added where the run says so; W += -rate * value; always added."""

    @cuda.jit(device=True)
    def run(ctl, rates, mode, out, spot, value):
        if mode == RIDES:
            out[spot] += T(-rates[ctl[STEP] * RATES_PER_STEP]) * value
        elif mode == ADDS or ctl[ACCUMULATE]:
            out[spot] += value
        else:
            out[spot] = value

    return run
