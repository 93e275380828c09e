"""Trainings whose results are compared between MPI ranks and one process. Run as a script it prints them, from rank 0."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings

import numpy as np

import parnet as pn
from parnet import layers as L


def data(rows, shape, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((rows, *shape), dtype=np.float32), rng.integers(0, classes, rows)


def dense(dtype="float32"):
    return pn.Sequential(
        [
            L.Input((20,)),
            L.Dense(37, activation="relu", kernel_regularizer="l2"),
            L.BatchNormalization(),
            L.Dropout(0.2),
            L.Dense(5, activation="softmax"),
        ],
        seed=1,
        dtype=dtype,
    )


def images():
    return pn.Sequential(
        [
            L.Input((9, 9, 2)),
            L.Conv2D(6, 3, activation="relu"),
            L.BatchNormalization(synchronized=False),
            L.Conv2D(4, 3),
            L.BatchNormalization(),
            L.Flatten(),
            L.Dense(5, activation="softmax"),
        ],
        seed=2,
    )


def separable():
    return pn.Sequential(
        [
            L.Input((7, 6, 2)),
            L.SeparableConv2D(5, 3, depth_multiplier=2, activation="mish"),
            L.GaussianNoise(0.1),
            L.Cropping2D(1),
            L.Permute((3, 1, 2)),
            L.Flatten(),
            L.Dense(5, activation="softmax"),
        ],
        seed=3,
    )


def frozen():
    model = dense()
    model.layers[0].trainable = False
    return model


#: name -> (model, optimizer, rows, batch size, shards, weighted)
CASES = {
    "adam, uneven batches": (dense, lambda: pn.optimizers.Adam(0.01), 97, 30, 4, False),
    "five shards, weights": (dense, lambda: pn.optimizers.SGD(0.1, momentum=0.9), 97, 32, 5, True),
    "empty shards": (dense, lambda: pn.optimizers.SGD(0.1), 65, 32, 16, False),
    "clipped norm": (dense, lambda: pn.optimizers.Adam(0.01, global_clipnorm=0.1), 40, 16, 7, False),
    "clipped values": (frozen, lambda: pn.optimizers.RMSprop(0.01, clipvalue=0.01), 40, 16, 4, False),
    "images": (images, lambda: pn.optimizers.SGD(0.1), 21, 8, 4, False),
    "three slots": (separable, lambda: pn.optimizers.AdamW(0.01, amsgrad=True), 21, 8, 4, False),
    "float64": (lambda: dense("float64"), lambda: pn.optimizers.Adam(0.01), 40, 16, 6, False),
}


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def results(strategy_of):
    """name -> digests and numbers of a training, an evaluation and a prediction. strategy_of: from a number of shards."""
    found = {}
    for name, (build, optimizer, rows, batch, shards, weighted) in CASES.items():
        strategy, model = strategy_of(shards), build()
        x, y = data(rows, model.input_shape)
        weight = np.linspace(0, 2, rows) if weighted else None
        model.compile(optimizer(), "sparse_categorical_crossentropy", ["accuracy"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*each shard of 2 rows")  # so it is meant
            history = model.fit(
                x, y, batch, 3, sample_weight=weight, strategy=strategy, validation_data=data(11, model.input_shape)
            )
        found[name] = {
            "weights": digest(*model.get_weights()),
            "history": history.history,
            "evaluate": model.evaluate(x, y, batch_size=batch + 1, strategy=strategy),
            "predict": digest(model.predict(x, batch_size=batch + 1, strategy=strategy)),
            "updates": model.optimizer.iterations,
        }
    return found


#: what the scripts of small tests begin with
SMALL = """
    import sys
    import numpy as np
    import parnet as pn
    from parnet import layers as L
    import rank_cases
    x, y = rank_cases.data(97, (20,))
    model = rank_cases.dense()
    model.compile(pn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    strategy = pn.strategy.MPI(shards=4)
    ranks = strategy.ranks
"""


def small(**fit):
    """What `SMALL` trains, in one process."""
    x, y = data(97, (20,))
    model = dense()
    model.compile(pn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(x, y, 32, **{"epochs": 4, "strategy": pn.strategy.Serial(shards=4), "verbose": 0} | fit)
    return model


def weights(path):
    return [w.tobytes() for w in pn.load_model(path).get_weights()]


if __name__ == "__main__":
    strategies = {}
    mine = results(lambda shards: pn.strategy.MPI(shards=shards))
    ranks = pn.strategy.MPI().ranks
    everybody = ranks.all_objects(mine)
    assert all(theirs == mine for theirs in everybody), "ranks differ"
    if ranks.leads:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump(mine, file)
