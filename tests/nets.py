"""Small models and data that several test files share, and a strategy of any number of threads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import parnet as pn
from parnet import layers as L
from parnet.layers.base import count, registry
from parnet.strategy import Strategy


@dataclass(frozen=True)
class Parts(Strategy):
    """So many threads whatever the machine has: more threads than cores must work."""

    n: int
    streams = True

    def threads_for(self, estimate_us: float) -> int:
        return self.n


@dataclass(frozen=True)
class Split(Strategy):
    """Threads that share the virtual shards, more than the machine may have."""

    threads: int
    shards: int

    def threads_for(self, estimate_us: float) -> int:
        return self.threads


def fresh(layer):
    """A copy of a layer that is in no model yet."""
    return registry.load(registry.dump(layer))


def examples():
    """(label, layer, input shape) of every layer of parnet, found in the registry."""
    found = []
    for name, cls in sorted(registry.classes.items()):
        if cls.__module__.startswith("parnet."):
            found += [(f"{name}-{k}", layer, shape) for k, (layer, shape) in enumerate(cls.examples())]
    return found


def shapes_of(layer, shape):
    """The shapes of a layer's inputs, one or several."""
    return shape if layer.merges else (shape,)


def apply(layer, tensors):
    """The layer on all of its inputs. An Input starts graphs and is no step within one."""
    if layer.is_input:
        return tensors[0]
    return layer(tensors if layer.merges else tensors[0])


def batch(rng, layer, shape, rows, dtype="float32"):
    """Inputs of the layer alone: an array, or a list of them."""
    arrays = [rng.normal(size=(rows, *one)).astype(dtype) for one in shapes_of(layer, shape)]
    return arrays if layer.merges else arrays[0]


def alone(layer, shape, dtype="float32", seed=3):
    """A model of the layer on its inputs."""
    if not layer.merges:
        return pn.Sequential([L.Input(shape), L.Reshape(shape), fresh(layer)], dtype=dtype, seed=seed)
    inputs = [pn.Input(one) for one in shape]
    return pn.Model(inputs, fresh(layer)([L.Reshape(x.shape)(x) for x in inputs]), dtype=dtype, seed=seed)


def fed(layer, shape, x):
    """Inputs for the layer, each out of a Dense of its own on x."""
    return [L.Reshape(one)(L.Dense(count(one), activation="tanh")(x)) for one in shapes_of(layer, shape)]


def ending(layer, shape, *, dtype="float32", seed=4):
    """A model of Dense layers before the layer, and none after it."""
    x, own = pn.Input((6,)), fresh(layer)
    return pn.Model(x, apply(own, fed(own, shape, x)), dtype=dtype, seed=seed)


def sharing(layer, shape, *, dtype="float32", seed=5, outputs=3):
    """The layer called three times, twice on the same tensors; what it makes is added up."""
    x, own = pn.Input((6,)), fresh(layer)
    one, two = fed(own, shape, x), fed(own, shape, x)
    total = L.Add()([apply(own, one), apply(own, two), apply(own, one)])
    return pn.Model(x, L.Dense(outputs)(L.Flatten()(total)), dtype=dtype, seed=seed)


def around(layer, shape, *, dtype="float32", seed=3, outputs=3):
    """A model with weights before and after the layer: Dense, the layer, Dense."""
    if layer.merges:
        x, own = pn.Input((6,)), fresh(layer)
        made = L.Flatten()(apply(own, fed(own, shape, x)))
        return pn.Model(x, L.Dense(outputs, name="after")(made), dtype=dtype, seed=seed)
    return pn.Sequential(
        [
            L.Input((6,)),
            L.Dense(count(shape), activation="tanh", name="before"),
            L.Reshape(shape, name="shaped"),
            fresh(layer),
            L.Flatten(name="flat"),
            L.Dense(outputs, name="after"),
        ],
        dtype=dtype,
        seed=seed,
    )


def n1(dtype="float32", seed=1, hidden="sigmoid"):
    """784-100-10."""
    layers = [L.Input((784,)), L.Dense(100, activation=hidden), L.Dense(10, activation="softmax")]
    return pn.Sequential(layers, dtype=dtype, seed=seed)


def n2(dtype="float32", seed=1):
    """Two blocks with batch normalisation and dropout, ten classes."""
    return pn.Sequential(
        [
            L.Input((28, 28)),
            L.Flatten(),
            L.Rescaling(1 / 255),
            L.Dense(128, activation="selu", kernel_initializer="lecun_normal"),
            L.BatchNormalization(),
            L.Dropout(0.3),
            L.Dense(64, activation="gelu"),
            L.BatchNormalization(momentum=0.9),
            L.Activation("relu"),
            L.Dense(10, activation="softmax"),
        ],
        dtype=dtype,
        seed=seed,
    )


def n3(dtype="float32", seed=1):
    """64 filters of 3x3 and pooling, then two blocks with batch normalisation."""
    return pn.Sequential(
        [
            L.Input((28, 28, 1)),
            L.Conv2D(64, 3, activation="relu"),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.BatchNormalization(),
            L.Dense(200, activation="selu", kernel_initializer="lecun_normal"),
            L.BatchNormalization(),
            L.Dense(100, activation="selu", kernel_initializer="lecun_normal"),
            L.BatchNormalization(),
            L.Dense(10, activation="softmax"),
        ],
        dtype=dtype,
        seed=seed,
    )


def odd(dtype="float32", seed=1):
    """Sizes that fit no vector, penalties, and an output of one number."""
    return pn.Sequential(
        [
            L.Input((13,)),
            L.Dense(37, activation="elu", kernel_regularizer=pn.regularizers.L1L2(0.001, 0.01)),
            L.Dropout(0.5),
            L.Dense(151, activation="softplus", use_bias=False),
            L.Dense(51, activation="leaky_relu"),
            L.Dense(1, activation="sigmoid", bias_regularizer="l2"),
        ],
        dtype=dtype,
        seed=seed,
    )


def even(dtype="float32", seed=1):
    """Layers of one width after another: what is cut by columns in one layer is cut alike in the next."""
    return pn.Sequential(
        [
            L.Input((96,)),
            L.Dense(96, activation="tanh"),
            L.Dense(96, activation="silu"),
            L.BatchNormalization(),
            L.Dense(96),
            L.Activation("sigmoid"),
            L.Dropout(0.2),
            L.Dense(96, activation="relu"),
            L.Rescaling(0.5, 0.1),
            L.Dense(96, activation="softmax"),
        ],
        dtype=dtype,
        seed=seed,
    )


def images(rng, rows, kind="uint8"):
    """Inputs and labels of a task like MNIST."""
    return rng.integers(0, 256, (rows, 28, 28)).astype(kind), rng.integers(0, 10, rows)


def digest(model):
    """SHA-256 of all weights and moving averages."""
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
