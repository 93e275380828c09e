"""scikit-learn's MLPClassifier, N1 alone: an epoch is a `fit` of one iteration that goes on from the last."""

from __future__ import annotations

import warnings

from serve import serve, start


def main() -> None:
    """Serve epochs."""
    task = start()
    import sklearn
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    if task.net != "N1":
        raise SystemExit("MLPClassifier has no batch normalisation: N1 only")
    warnings.filterwarnings("ignore")  # that one iteration is too few to converge
    threadpool_limits(task.threads)
    network = {"hidden_layer_sizes": (100,), "activation": "logistic", "alpha": 0.0, "batch_size": task.batch}
    rule = {
        "solver": "sgd",
        "momentum": 0.0,
        "nesterovs_momentum": False,
        "learning_rate_init": task.spec.rate,
    }
    model = MLPClassifier(**network, **rule, max_iter=1, warm_start=True, random_state=0)

    def epoch(_):
        model.fit(task.x, task.y)

    serve(f"scikit-learn {sklearn.__version__}", epoch, len(task.x))


if __name__ == "__main__":
    main()
