"""ParnetClassifier in MLPClassifier's place on MNIST: seconds of a fit, and test accuracy, with the same hyperparameters.

784-100(relu)-10, Adam 0.001, alpha 0.0001, batches of 200, a new order each epoch, 60,000 rows of float32 from 0 to 1; both
in this process, in turn, each on as many threads as it takes by itself.
"""

from __future__ import annotations

import numpy as np
import pytest

from parnet.sklearn import ParnetClassifier

from . import timing

EPOCHS, ROUNDS = 6, 2


def test_beside_mlp_classifier(benchmark, record, results, samples, repeats):
    """Two rounds of two fits each; the accuracies are those of the last."""
    neural = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    import sklearn

    x, y = samples.scaled(60_000).reshape(60_000, -1), samples.y_train
    x_test = samples.x_test.reshape(len(samples.x_test), -1).astype(np.float32) / 255
    epochs = repeats(EPOCHS)
    shared = {"hidden_layer_sizes": (100,), "alpha": 1e-4, "batch_size": 200, "random_state": 0, "n_iter_no_change": 1000}
    ours = ParnetClassifier(epochs=epochs, learning_rate=0.001, **shared)
    theirs = neural.MLPClassifier(max_iter=epochs, learning_rate_init=0.001, **shared)
    contenders = {name: timing.seconds(lambda e=e: e.fit(x, y)) for name, e in (("parnet", ours), ("sklearn", theirs))}
    times = timing.pedantic(benchmark, "parnet", contenders, repeats(ROUNDS), warmups=0)
    results.peer("scikit-learn MLPClassifier", f"scikit-learn {sklearn.__version__}")
    name, beside = f"{epochs} epochs of MNIST", timing.ratio(times["parnet"], times["sklearn"]).median
    record(f"MLPClassifier, {name}", timing.summarize(times["sklearn"]), "s")
    more = {"ratio": beside, "against": "parnet / MLPClassifier"}
    record(f"ParnetClassifier, {name}", timing.summarize(times["parnet"]), "s", "estimator / MLPClassifier", **more)
    if samples.kind == "mnist":
        reached, wanted = (float(e.score(x_test, samples.y_test)) for e in (ours, theirs))
        note = f"{reached:.4f}, MLPClassifier {wanted:.4f}"
        less = wanted - reached
        record(
            f"ParnetClassifier, {name}, accuracy below MLPClassifier's", less, "", "accuracy beside scikit-learn", note=note
        )
