"""What a trace costs: the same epochs with and without one, in turn; writing the file, after training, apart."""

from __future__ import annotations

import time

import pytest

from parnet import strategy
from parnet.config import usable_cores
from parnet.executors.recording import Recorder
from parnet.io.trace_file import write_trace

from . import timing
from .models import compiled
from .peers.serve import NETS

ROUNDS = 30


@pytest.mark.parametrize("threads", [1, 2])
def test_overhead(threads, benchmark, record, repeats, samples, tmp_path):
    """N1, an epoch at batch 32: 16 steps of 100 us in all, so that stamps weigh as much as they ever do."""
    if threads > usable_cores():
        pytest.skip("this process may use one core")
    spec, path = NETS["N1"], tmp_path / "trace.json"
    x, y = samples.scaled(spec.rows), samples.y_train[: spec.rows]
    model = compiled("N1", spec.rate, 0, metrics=["accuracy"])
    chosen = strategy.Serial() if threads == 1 else strategy.Threads(threads)
    written = []

    def epoch(traced: bool) -> float:
        recorder = model.session.recorder = Recorder() if traced else None
        history = model.fit(x, y, batch_size=spec.batch, epochs=1, verbose=0, strategy=chosen)
        if recorder is not None:
            recorder.close()
            begun = time.perf_counter()
            write_trace(path, recorder)
            written.append(time.perf_counter() - begun)
        return history.timing.compute_s

    contenders = {"with": lambda: epoch(True), "without": lambda: epoch(False)}
    times = timing.pedantic(benchmark, "with", contenders, repeats(ROUNDS), warmups=2)
    model.session.recorder = None
    name = "one thread" if threads == 1 else "two threads"
    beside = timing.ratio(times["with"], times["without"]).median
    record(f"N1 traced, {name}", timing.summarize(times["with"]), "s", "trace", ratio=beside, against="untraced")
    record(f"writing the trace, {name}", timing.summarize(written), "s")
