"""Recorded steps of worker processes: how long each worker computed, and what came behind. Prints JSON.

python bench/steps.py > tests/recorded_steps.json

The 784-100-10 network with Adam in two virtual shards, on one worker and on two, by the stamps of a trace. The tests hold
`pn.study.simulate` against it, see `tests/test_study_simulation.py`. Take it on a quiet machine.
"""

from __future__ import annotations

import json
import sys

import numpy as np

import parnet as pn
from parnet import layers as L
from parnet.executors.recording import Recorder
from parnet.executors.tapes import Tape
from parnet.study.machine import fingerprint

ROWS, EPOCHS, WARM = 20_480, 3, 1
BATCHES, WORKERS, TRIES = (256, 512, 1024), (1, 2), 4
#: steps that took so many times the median are left out: another program had a core
DISTURBED = 1.5


def recorded(workers: int, batch: int) -> dict:
    """Seconds of the steps of one configuration, after the first epoch."""
    rng = np.random.default_rng(0)
    x, y = rng.random((ROWS, 784), dtype=np.float32), rng.integers(0, 10, ROWS)
    layers = [L.Input((784,)), L.Dense(100, activation="sigmoid"), L.Dense(10, activation="softmax")]
    model = pn.Sequential(layers, seed=1)
    model.compile(pn.optimizers.Adam(), "sparse_categorical_crossentropy")
    with Recorder() as recorder:
        model.session.recorder = recorder
        server = pn.strategy.ParameterServer(workers, shards=2, threads_per_worker=1)
        model.fit(x, y, batch, EPOCHS, strategy=server, verbose=0)
        model.session.recorder = None
    parts = [_seconds(tape) for tape in recorder.tapes]
    compute, behind, step = (np.array([part[k] for part in parts]) for k in range(3))
    calm = step.max(axis=0) < DISTURBED * np.median(step)
    compute, behind, step = compute[:, calm], behind[:, calm], step[:, calm]
    steps = {"compute_s": np.round(compute, 9).tolist(), "behind_s": round(float(behind.mean()), 9)}
    return {"workers": workers, "batch": batch, "step_s": round(float(step.mean()), 9), **steps}


def _seconds(tape: Tape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(steps,) seconds of the gradients of a worker's shards, of its part of the sum and the update, and of the whole."""
    found = tape.part(0)
    meeting = next(k for k, line in enumerate(tape.lines) if line.name == "meet")
    kept = found.epoch >= WARM
    work = found.ended - found.starts()
    cycles = found.ended[:, meeting] - found.begun, work[:, meeting + 1 :].sum(axis=1), found.met[:, -1] - found.begun
    compute, behind, step = (c[kept] / tape.clock.hertz for c in cycles if tape.clock is not None)
    return compute, behind, step


if __name__ == "__main__":
    tries = {(batch, workers): [recorded(workers, batch) for _ in range(TRIES)] for batch in BATCHES for workers in WORKERS}
    runs = [min(some, key=lambda run: run["step_s"]) for some in tries.values()]  # other programs disturbed it least
    machine = fingerprint()
    json.dump({"machine": {name: machine.get(name) for name in ("cpu", "date", "parnet")}, "runs": runs}, sys.stdout)
