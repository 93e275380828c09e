"""What is paid around the arithmetic: imports, the first fit, memory, Python's share, the manual loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from parnet import strategy
from parnet.executors.null import NullExecutor

from . import timing
from .models import compiled
from .peers.serve import NETS
from .workers import ROOT, Worker, running

IMPORTS, EMPTY, FULL, LIMIT_S = 9, 2, 5, 120


def child(task: str, cache: Path | None = None) -> dict:
    """A task of `bench.child` in a new process; "start" is when it was started."""
    more = {"PARNET_CACHE": str(cache)} if cache else {}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | more
    start = time.monotonic()
    command = [sys.executable, "-m", "bench.child", task]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"start": start}


def test_import(record, repeats):
    """The import statement in new processes, in turn: numba alone, parnet alone, parnet after numba."""
    contenders = {what: (lambda what=what: child(what)["seconds"]) for what in ("numba", "parnet", "both")}
    times = timing.in_turn(contenders, repeats(IMPORTS))
    record("import numba", timing.summarize(times["numba"]), "s")
    record("import parnet", timing.summarize(times["parnet"]), "s")
    over = [parnet - numba for parnet, numba in zip(times["parnet"], times["numba"], strict=True)]
    record("import parnet, less import numba", timing.summarize(over), "s", "import over numba")
    record("import parnet after numba", timing.summarize(times["both"]), "s", "import over numba")


def test_first_fit(record, repeats, tmp_path):
    """From the start of the process to the end of the first step of N1: no kernel compiled yet, then all."""

    def run(cache: Path) -> float:
        answer = child("first-fit", cache)
        return answer["end"] - answer["start"]

    empty = [run(tmp_path / f"cache{i}") for i in range(repeats(EMPTY))]
    full = [run(tmp_path / "cache0") for _ in range(repeats(FULL))]
    record("first fit, empty kernel cache", timing.summarize(empty), "s", "first fit, empty cache")
    record("first fit, full kernel cache", timing.summarize(full), "s", "first fit, full cache")


def test_memory(record, tmp_path):
    """The most memory a process held that trained N1 on MNIST as uint8: kernels cached, and compiled."""
    compiling = child("memory", tmp_path / "cache")
    cached = child("memory", tmp_path / "cache")
    note = "" if cached["data"] == "mnist" else "random numbers in place of MNIST"
    record("peak memory, N1 on MNIST uint8", cached["mib"], "MiB", "peak memory", note=note)
    record("peak memory, the same, compiling its kernels", compiling["mib"], "MiB", "peak memory", note=note)


@dataclass(frozen=True)
class Null(strategy.Strategy):
    """Runs nothing: what is left is Python."""

    def open(self, threads: int):
        return NullExecutor(threads)


def test_python_share(record, repeats, samples):
    """Python's time a training step of N1: epochs less the native loop; and epochs that run nothing."""
    spec, epochs = NETS["N1"], 5
    x, y = samples.scaled(spec.rows), samples.y_train[: spec.rows]
    steps = epochs * -(-spec.rows // spec.batch)
    real, null = compiled("N1", spec.rate, 0), compiled("N1", spec.rate, 0)
    null.session.strategy = Null()

    def fitted(model, how) -> tuple[float, float]:
        """Microseconds a step: of the epochs, less what the executor took; and of the whole call."""
        begun = time.perf_counter()
        spent = model.fit(x, y, batch_size=spec.batch, epochs=epochs, verbose=0, strategy=how).timing
        whole = time.perf_counter() - begun
        return 1e6 * (sum(spent.epochs_s) - spent.compute_s) / steps, 1e6 * (whole - spent.compute_s) / steps

    pairs = [(fitted(real, strategy.Serial()), fitted(null, Null())) for _ in range(1 + repeats(5))][1:]
    summary = timing.summarize([r[0] for r, _ in pairs])
    record("Python a step of N1, by History.timing", summary, "us", "Python a step")
    summary = timing.summarize([n[0] for _, n in pairs])
    record("Python a step of N1, nothing run", summary, "us", "Python a step")
    note = f"checks of arguments and data too, once a fit of {epochs} epochs"
    record("Python a step of N1, the whole fit", timing.summarize([r[1] for r, _ in pairs]), "us", note=note)


@pytest.mark.parametrize("batch", [32, 64])
def test_manual_loop(batch, record, repeats, results, sample_file):
    """A step of N1 beside PyTorch's: zero_grad, forward, loss, backward, step, item."""
    parnet = Worker("parnet", "", strategy.check_threads(None), "N1", sample_file)
    peers = [Worker("torch", "loop", n, "N1", sample_file, batch) for n in range(1, 1 + min(2, parnet.threads))]
    with running([parnet, *peers]) as ready:
        assert parnet in ready, f"parnet's own worker failed: {parnet.failure}"
        contenders = {w.name: w.asking(f"loop-{batch}" if w is parnet else "") for w in ready}
        times = timing.in_turn(contenders, repeats(9))
    assert not parnet.failure, parnet.failure
    for worker in peers:
        results.peer(worker.name, worker.version if not worker.failure else worker.failure)
    kept = [w for w in peers if not w.failure]
    beside = {w.name: timing.ratio(times[parnet.name], times[w.name]).median for w in kept}
    best = max(beside, key=beside.get, default="")
    more = {"ratio": beside.get(best), "against": best}
    record(f"manual loop, N1, batch {batch}", timing.summarize(times[parnet.name]), "us/step", **more)
    for worker in kept:
        record(f"manual loop, N1, batch {batch}, {worker.name}", timing.summarize(times[worker.name]), "us/step")
