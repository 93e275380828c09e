"""Studies made by hand, for tests of what is worked out from raw times; and builders that fresh processes import."""

from __future__ import annotations

import numpy as np

import parnet as pn
from parnet import layers as L
from parnet.study.design import Design, points_of
from parnet.study.records import Records
from parnet.study.result import Study
from parnet.study.ways import Chosen

MACHINE = {
    "cpu": "Imaginary CPU @ 1.00GHz",
    "cores_physical": 16,
    "cores_logical": 16,
    "cores_usable": 16,
    "affinity": list(range(16)),
    "quota": None,
    "caches": {"L1 Data": "32K"},
    "governor": "performance",
    "boost": False,
    "memory_mib": 65536,
    "os": "Linux 6.1 x86_64",
    "python": "CPython 3.11.0",
    "numpy": "2.0",
    "numba": "0.61",
    "llvmlite": "0.44",
    "parnet": "0.1.0",
    "simd": "avx2",
    "threading": "own",
    "load": [0.0, 0.0, 0.0],
    "date": "2026-01-02T03:04:05+00:00",
}
SERIAL = Chosen("serial", "Serial", 1)


def small():
    """A network that trains in a moment."""
    return pn.Sequential([L.Dense(16, activation="relu", input_shape=(6,)), L.Dense(3, activation="softmax")])


def other():
    return pn.Sequential([L.Dense(8, activation="tanh", input_shape=(6,)), L.Dense(3, activation="softmax")])


def failing():
    raise RuntimeError("no network today")


def blobs(rows=256, seed=0):
    """Three classes that a line can tell apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    return rng.normal(0, 0.3, (rows, 6)).astype("float32") + np.eye(6, dtype="float32")[y], y


def threads(*counts):
    return [Chosen("threads", "Threads", count) for count in counts]


def design(chosen, kind="strong", repeats=5, batches=(256,), networks=("mlp",), rows=20_000, **more):
    known = {
        name: {"parameters": 79_510, "layers": "x", "compiled": "SGD at 0.01", "summary": "a table"} for name in networks
    }
    points = points_of(kind, list(networks), [SERIAL, *chosen], list(batches), rows)
    return Design(kind, known, points, repeats, 1, 1, 0, {"arrays": {"x": ["[20000, 784] uint8"]}}, {}, **more)


def run(point, number, seconds, **more):
    """A run as the worker reports it."""
    found = {
        "point": point.config(),
        "round": number,
        "epochs_s": [seconds],
        "warmup_s": [seconds],
        "run_s": [0.95 * seconds],
        "wait_s": [0.1 * seconds * (point.workers > 1)],
        "comm_s": [0.0],
        "update_s": 0.05 * seconds,
        "compile_s": 0.5,
        "setup_s": 0.6,
        "flops": 6.4e9,
        "bytes": 1e9,
        "comm_bytes": 0.0,
        "memory_mib": 200.0,
        "loss": 0.5,
        "weights": "00ff00ff00ff00ff",
        "curve": [],
        "peak_gflops": 100.0 * point.workers,
        "other_cores": 0.01,
    }
    return found | more


def study(time_of, chosen, noise=0.01, **more):
    """A study whose runs took `time_of(point)` seconds, give or take `noise`."""
    rng = np.random.default_rng(1)
    plan = design(chosen, **more)
    records = Records(plan, MACHINE)
    for number, point in plan.rounds():
        records.add(run(point, number, float(time_of(point) * (1 + noise * rng.normal()))))
    return Study(records)
