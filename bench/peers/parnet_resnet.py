"""parnet's ResNet-50. Lines are those of `resnet`, with the strategy before them: serial-predict-8, threads-train-8."""

from __future__ import annotations

from parnet_peer import one_core
from resnet import RATE, images, labels, serve_batches
from serve import arguments

import parnet as pn
from parnet.applications import ResNet50


def main() -> None:
    """Serve batches; each is one call, as a user makes it."""
    given = arguments()
    model = ResNet50(weights=None, seed=0)
    model.compile(pn.optimizers.SGD(lr=RATE), "sparse_categorical_crossentropy")
    strategies = {"serial": pn.strategy.Serial(), "threads": pn.strategy.Threads(given.threads)}

    def make(task: str, batch: int):
        strategy, task = task.split("-")
        x, y = images(batch), labels(batch)

        def call() -> None:
            model.session.strategy = strategies[strategy]
            with one_core(strategy == "serial"):
                if task == "train":
                    model.train_on_batch(x, y)
                else:
                    model.predict_on_batch(x)

        return call

    serve_batches(f"parnet {pn.__version__}", make)


if __name__ == "__main__":
    main()
