"""The networks of the measurements, in parnet. Their peers' twins are in bench/peers."""

from __future__ import annotations

import parnet as pn
from parnet import layers as L

#: test samples are never seen in training; learning rates are those of `bench.peers.serve.NETS`


def build(net: str, seed: int | None = None, from_bytes: bool = False) -> pn.Sequential:
    """N1 = 784-100(sigmoid)-10, N2 = BN-200(selu)-BN-100(selu)-BN-10; softmax at the end.

    N3 = 64 filters 3x3 (relu), MaxPooling, then as N2; its images are (28, 28, 1).

    Args:
        from_bytes: the inputs are uint8; a Rescaling brings them to 0..1.
    """
    head = [L.Input(image_shape(net)), *([L.Rescaling(1 / 255)] if from_bytes else [])]
    filters = [L.Conv2D(64, 3, activation="relu"), L.MaxPooling2D(2)] if net == "N3" else []
    return pn.Sequential([*head, *filters, L.Flatten(), *{"N1": _n1, "N2": _n2, "N3": _n2}[net]()], seed=seed)


def image_shape(net: str) -> tuple[int, ...]:
    """Of an input: convolutions want a channel."""
    return (28, 28, 1) if net == "N3" else (28, 28)


def _n1() -> list:
    return [L.Dense(100, activation="sigmoid"), L.Dense(10, activation="softmax")]


def _n2() -> list:
    hidden = [L.Dense(n, activation="selu", kernel_initializer="lecun_normal") for n in (200, 100)]
    norms = [L.BatchNormalization() for _ in range(3)]
    last = L.Dense(10, activation="softmax")
    return [norms[0], hidden[0], norms[1], hidden[1], norms[2], last]


def compiled(net: str, rate: float, seed: int | None = None, from_bytes: bool = False, metrics=()) -> pn.Sequential:
    """The network with plain SGD and the crossentropy of class numbers."""
    model = build(net, seed, from_bytes)
    model.compile(pn.optimizers.SGD(lr=rate), "sparse_categorical_crossentropy", metrics)
    return model
