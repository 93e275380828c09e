"""Epochs of a network whose data come from a file in the page cache, beside the same data in memory.

N1's layers on 96 x 1024 rows of float32, batch 32, on all cores. `memory map`: the file is read in place, in the order
that arrays have. `windows`: `DataLoader` maps ten windows one after the other, shuffled each. The first epoch of each
contender, which looks for NaN, is not counted.
"""

from __future__ import annotations

import numpy as np

import parnet as pn
from parnet import layers as L

from . import timing

ROWS, WIDTH, WINDOW, ROUNDS = 96 * 1024, 784, 10 * 1024, 8


def fits(*data):
    """A function that trains one more epoch and returns its microseconds a sample."""
    model = pn.Sequential(
        [L.Dense(100, activation="sigmoid", input_shape=(WIDTH,)), L.Dense(10, activation="softmax")], seed=1
    )
    model.compile(pn.optimizers.SGD(0.1), "sparse_categorical_crossentropy")

    def epoch() -> float:
        return 1e6 * model.fit(*data, epochs=2, verbose=0, strategy="threads").timing.epochs_s[-1] / ROWS

    return epoch


def test_files_beside_memory(benchmark, record, repeats, tmp_path):
    """Rates as shares of the rate of arrays."""
    rng = np.random.default_rng(0)
    x, y = rng.random((ROWS, WIDTH), np.float32), rng.integers(0, 10, ROWS)
    path = tmp_path / "x.npy"
    np.save(path, x)
    contenders = {
        "arrays": fits(x, y),
        "memory map": fits(np.load(path, mmap_mode="r"), y),
        "windows": fits(pn.DataLoader(path, y, shuffle=True, window=WINDOW)),
    }
    times = timing.pedantic(benchmark, "windows", contenders, repeats(ROUNDS))
    record("N1, arrays in memory", timing.summarize(times["arrays"]), "us/sample")
    for name in ("memory map", "windows"):
        rate = timing.ratio(times["arrays"], times[name]).median
        more = {"ratio": rate, "against": "rate / that of arrays"}
        record(f"N1, {name} of a cached file", timing.summarize(times[name]), "us/sample", "file / memory", **more)
