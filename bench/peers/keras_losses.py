"""Keras's own `fit` beside parnet's: N1 for one epoch from given weights on given samples in their order.

    python keras_losses.py FILE   (npz): x (rows, 784) float32, y, w0 ... w3 in Keras's layout, batch, rate

Prints {"loss": mean of the epoch, "library": ...}. The last, smaller batch is kept.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"


def main() -> None:
    """Train and print."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import keras
    from keras_peer import build

    with np.load(sys.argv[1]) as file:
        given = dict(file)
    model = build("N1")
    model.set_weights([given[f"w{i}"] for i in range(4)])
    model.compile(keras.optimizers.SGD(float(given["rate"])), "sparse_categorical_crossentropy")
    history = model.fit(given["x"], given["y"], batch_size=int(given["batch"]), epochs=1, shuffle=False, verbose=0)
    json.dump({"loss": history.history["loss"][0], "library": f"keras {keras.__version__}"}, channel)
    channel.write("\n")
    channel.close()


if __name__ == "__main__":
    main()
