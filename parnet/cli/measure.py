"""What `parnet info` measures: products, barriers, copies; each for a moment, best of many. Stage: outermost.

The product and the barrier run as they do in training: a plan, an executor, the native loop.
Must not know: command lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..executors.base import Executor, Feed
from ..executors.link import Program
from ..executors.memory import Store
from ..layers import Dense
from ..plan.plan import Network, Request, make_plan
from ..strategy import Threads

#: a product whose operands stay in a core's L2 cache and whose sizes every tile divides
ROWS, DEPTH, COLUMNS_A_THREAD = 192, 192, 192
COPY_BYTES = 64 * 2**20
#: seconds of all runs of one measurement, and of one run at least
LIMIT_S, RUN_S = 0.2, 0.005


def product_gflops(threads: int) -> float:
    """Billions of float32 operations a second in X . W, on that many threads."""
    with Threads(threads).open(threads) as executor:
        program = _program(executor, threads)
        names = [step.kernel for step in program.plan.steps]
        place = names.index("product.forward")
        seconds = best(lambda runs: executor.run(program, 0, runs, (place, place + 1)))
        return 2e-9 * ROWS * DEPTH * COLUMNS_A_THREAD * threads / seconds


def barrier_us(threads: int) -> float:
    """Microseconds that threads take to meet, when all are running."""
    with Threads(threads).open(threads) as executor:
        program = _program(executor, threads)
        program.tables[:] = 0
        program.tables[:, :, 2] = 1  # steps of no part, each with a barrier after it
        return 1e6 * best(lambda runs: executor.run(program, 0, runs)) / len(program.plan.steps)


def copy_gb_per_s() -> float:
    """Billions of bytes a second that NumPy reads and writes when it copies a large array, on one thread."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)

    def copy(runs: int) -> None:
        for _ in range(runs):
            np.copyto(target, source)

    return 2e-9 * COPY_BYTES / best(copy)


def best(work: Callable[[int], object]) -> float:
    """Seconds of one unit of work, the best of several runs.

    Args:
        work: does so many units.
    """
    units, seconds, total = 1, 0.0, 0.0
    while (seconds := _time(work, units)) < RUN_S:
        units *= 2
        total += seconds
    found = seconds
    while total < LIMIT_S:
        seconds = _time(work, units)
        total += seconds
        found = min(found, seconds)
    return found / units


def _time(work: Callable[[int], object], units: int) -> float:
    begun = time.perf_counter()
    work(units)
    return time.perf_counter() - begun


def _program(executor: Executor, threads: int) -> Program:
    """One layer, ready to run on random numbers."""
    layer = Dense(COLUMNS_A_THREAD * threads, use_bias=False, name="product")
    network = Network.of([layer], (DEPTH,))
    plan = make_plan(network, Request("predict", ROWS, threads=threads))
    store = Store.of_sizes(network.sizes)
    program = executor.open(plan, store)
    rng = np.random.default_rng(0)
    for vector in (store.parameters, program.arena):
        vector[:] = rng.random(len(vector), np.float32)
    executor.start(program, Feed(np.zeros((1, DEPTH), np.float32), total=2**62))
    return program
