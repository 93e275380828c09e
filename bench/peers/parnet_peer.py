"""parnet, as the peers' scripts are. The line that asks for an epoch names what runs:

    serial-float32-32   strategy, dtype of the data, batch; "threads" is two; uint8 has a Rescaling(1/255)
    loop-32             500 steps of the manual loop at that batch, in order, the loss read after each

The time of an epoch is that of `History.timing`: shuffling, all steps and what Python does between them;
checking the arrays, done once a `fit`, is not in it, as the peers' data is converted before their epochs.
Serial epochs are held on one core, as the peers' one-thread epochs are.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from serve import Task, serve, start

import parnet as pn
from bench.models import build, compiled, image_shape

LOOP_STEPS = 500


@contextmanager
def one_core(wanted: bool):
    """The calling thread on one core; threads that parnet makes elsewhere are not touched."""
    if not (wanted and hasattr(os, "sched_setaffinity")):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    """Serve epochs of any variant; each is built when it is first asked for."""
    task = start()
    images = {"float32": task.x, "uint8": np.rint(task.x * 255).astype(np.uint8)}
    images = {kind: x.reshape(-1, *image_shape(task.net)) for kind, x in images.items()}
    model = lru_cache(None)(lambda variant: compiled(task.net, task.spec.rate, 0, "uint8" in variant))

    def epoch(variant: str):
        if variant.startswith("loop-"):
            return manual(task, images["float32"], int(variant.removeprefix("loop-")))
        strategy, kind, batch = (variant or "serial-float32-32").split("-")
        how = pn.strategy.Serial() if strategy == "serial" else pn.strategy.Threads(2)
        with one_core(strategy == "serial"):
            history = model(variant).fit(images[kind], task.y, batch_size=int(batch), epochs=1, verbose=0, strategy=how)
        return history.timing.epochs_s[0], len(task.x)

    serve(f"parnet {pn.__version__}", epoch, len(task.x))


def manual(task: Task, images: np.ndarray, batch: int) -> tuple[float, int]:
    """Seconds and number of steps, the way `optimizer.step` is taught."""
    model = build(task.net, 0)
    measure = pn.losses.SparseCategoricalCrossentropy()
    rule = pn.optimizers.SGD(model.parameters(), lr=task.spec.rate)

    def step(number: int) -> None:
        rows = slice(number * batch, (number + 1) * batch)
        rule.zero_grad()
        loss = measure(model(images[rows]), task.y[rows])
        loss.backward()
        rule.step()
        loss.item()

    step(0)  # makes the plans
    begun = time.perf_counter()
    for number in range(LOOP_STEPS):
        step(number)
    return time.perf_counter() - begun, LOOP_STEPS


if __name__ == "__main__":
    main()
