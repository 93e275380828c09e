"""What a trace costs: the same epochs with and without one, in turn; writing the file, after training, apart."""

from __future__ import annotations

import time

import pytest

from parnet import strategy
from parnet.config import usable_cores
from parnet.executors.recording import Recorder
from parnet.io.trace_writer import write_trace

from . import timing
from .models import compiled
from .peers.serve import NETS

ROUNDS = 30


#: name -> (cores, strategy, batch)
CASES = {
    "one thread": (1, lambda: strategy.Serial(), 32),
    "two threads": (2, lambda: strategy.Threads(2), 32),
    "four shards": (1, lambda: strategy.Serial(shards=4), 32),
    "two workers": (2, lambda: strategy.ParameterServer(2, threads_per_worker=1), 256),
}


@pytest.mark.parametrize("name", CASES)
def test_overhead(name, benchmark, record, repeats, samples, tmp_path):
    """N1, an epoch at batch 32: 16 steps of 100 us in all, so that stamps weigh as much as they ever do.

    Workers at batch 256, which they are for.
    """
    cores, make, batch = CASES[name]
    if cores > usable_cores():
        pytest.skip("this process may use one core")
    spec, path, chosen = NETS["N1"], tmp_path / "trace.json", make()
    x, y = samples.scaled(spec.rows), samples.y_train[: spec.rows]
    model = compiled("N1", spec.rate, 0, metrics=["accuracy"])
    written = []

    def epoch(traced: bool) -> float:
        recorder = model.session.recorder = Recorder() if traced else None
        history = model.fit(x, y, batch_size=batch, epochs=1, verbose=0, strategy=chosen)
        if recorder is not None:
            recorder.close()
            begun = time.perf_counter()
            write_trace(path, recorder)
            written.append(time.perf_counter() - begun)
        return history.timing.compute_s + history.timing.wait_s + history.timing.comm_s

    contenders = {"with": lambda: epoch(True), "without": lambda: epoch(False)}
    times = timing.pedantic(benchmark, "with", contenders, repeats(ROUNDS), warmups=2)
    model.session.recorder = None
    beside = timing.ratio(times["with"], times["without"]).median
    record(f"N1 traced, {name}", timing.summarize(times["with"]), "s", "trace", ratio=beside, against="untraced")
    record(f"writing the trace, {name}", timing.summarize(written), "s")
