"""Small models and data for the tests of the GPU's kernels and executor, in Numba's simulator or on a GPU.

Importing it makes the simulator fast, where that is what runs.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from tolerance import close

import parnet as pn
from parnet import layers as L

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if SIMULATED:
    import cuda_simulator

    cuda_simulator.install()

#: for `pytestmark`
needs_device = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not (SIMULATED or pn.cuda.is_available()), reason="no GPU here; test_cuda.py runs these in the simulator"
    ),
]
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

ROWS, BATCH = 7, 3
#: terms of all sums that three updates are made of, one after another
LENGTH = 400


def data(dtype, targets, width=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, width)).astype(dtype)
    if targets == "labels":
        return x, rng.integers(0, 3, ROWS)
    if targets == "classes":
        return x, np.eye(3, dtype=dtype)[rng.integers(0, 3, ROWS)]
    if targets == "bits":
        return x, rng.integers(0, 2, (ROWS, 3)).astype(dtype)
    return x, rng.normal(size=(ROWS, 3)).astype(dtype)


def small(dtype="float64", activation="tanh", last=None, seed=3):
    layers = [L.Dense(5, activation=activation, input_shape=(4,)), L.Dense(3, activation=last)]
    return pn.Sequential(layers, dtype=dtype, seed=seed)


def trained(strategy, make, x, y, loss="mse", optimizer="sgd", metrics=(), **more):
    """A model after one epoch of three batches, the last of them smaller, and what the epoch said."""
    model = make()
    model.compile(optimizer() if callable(optimizer) else optimizer, loss, list(metrics))
    history = model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0, strategy=strategy, **more)
    return model, history.history


def same(make, x, y, dtype, **how):
    """Training on the device and on the CPU ends in the same weights, logs and predictions."""
    (ours, our_logs), (theirs, their_logs) = (trained(strategy, make, x, y, **how) for strategy in ("cuda", "serial"))
    for name, values in their_logs.items():
        close(our_logs[name], values, dtype, LENGTH, what=name)
    for parameter, found, wanted in zip(theirs.weights, ours.get_weights(), theirs.get_weights(), strict=True):
        close(found, wanted, dtype, LENGTH, 1 + np.abs(wanted).max(), what=parameter.name)
    return ours, theirs
