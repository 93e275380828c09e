"""Two MPI ranks beside two shared-memory workers: N1 at batch 512, one thread each, in turn."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parnet.config import usable_cores

from . import timing

SCRIPT = Path(__file__).parent / "ranks.py"
ROUNDS, LIMIT_S = 4, 60
COMMANDS = {
    "ps": [sys.executable, str(SCRIPT), "ps"],
    "mpi": [sys.executable, "-m", "parnet", "launch", "-n", "2", "--threads", "1", str(SCRIPT), "mpi"],
}


def epochs(kind: str) -> list[float]:
    """Microseconds a sample, each epoch but the first."""
    environ = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(COMMANDS[kind], capture_output=True, text=True, timeout=LIMIT_S, env=environ)
    assert done.returncode == 0, done.stderr[-500:]
    return json.loads(done.stdout.split("epochs ")[1])


def test_two_ranks_beside_two_workers(record, repeats):
    if usable_cores() < 2 or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("needs two cores and mpi4py")
    times: dict[str, list[float]] = {kind: [] for kind in COMMANDS}
    for _ in range(repeats(ROUNDS)):
        for kind in COMMANDS:
            times[kind] += epochs(kind)
    record("N1, batch 512, two workers over shared memory", timing.summarize(times["ps"]), "us/sample")
    more = {"ratio": timing.ratio(times["mpi"], times["ps"]).median, "against": "two ranks / two workers"}
    ours = timing.summarize(times["mpi"])
    record("N1, batch 512, two MPI ranks", ours, "us/sample", "two ranks / two workers", **more)
