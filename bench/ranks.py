"""N1 at batch 512 on two processes, one thread each: the script of `test_ranks`. Prints its epochs' us/sample as JSON.

python bench/ranks.py ps                                     two workers over shared memory
parnet launch -n 2 --threads 1 bench/ranks.py mpi            two ranks
"""

from __future__ import annotations

import json
import sys

import numpy as np

import parnet as pn
from parnet import layers as L

ROWS, BATCH, EPOCHS = 20480, 512, 6


def main() -> None:
    """Train, and print from the process that leads."""
    strategy = pn.strategy.MPI(threads=1) if sys.argv[1] == "mpi" else pn.strategy.ParameterServer(2, threads_per_worker=1)
    rng = np.random.default_rng(0)
    x, y = rng.random((ROWS, 784), dtype=np.float32), rng.integers(0, 10, ROWS)
    layers = [L.Input((784,)), L.Dense(100, activation="sigmoid"), L.Dense(10, activation="softmax")]
    model = pn.Sequential(layers, seed=1)
    model.compile(pn.optimizers.SGD(0.1), "sparse_categorical_crossentropy", ["accuracy"])
    history = model.fit(x, y, BATCH, EPOCHS, strategy=strategy, verbose=0)
    if strategy.leads:
        print("epochs", json.dumps([1e6 * seconds / ROWS for seconds in history.timing.epochs_s[1:]]))


if __name__ == "__main__":
    main()
