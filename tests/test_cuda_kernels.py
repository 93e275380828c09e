"""All activations, losses, optimizers, metrics, constraints and layers that the CPU has, on the device and on the CPU.

They are found in parnet's registries: what is added there is tested here, or missed. `test_cuda.py` runs this file in
Numba's simulator. On a machine with a GPU: pytest tests/test_cuda_kernels.py
"""

import numpy as np
import pytest
from cuda_nets import BATCH, LENGTH, SIMULATED, data, every_dtype, needs_device, same, small
from nets import around, examples
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet.kernels import control

pytestmark = needs_device


def built_in(registry):
    """Names of the classes of parnet in a registry."""
    return sorted(name for name, cls in registry.classes.items() if cls.__module__.startswith("parnet."))


def test_every_kernel_of_the_cpu_has_a_twin():
    """But those that only processes, shards and transforms have, which this strategy refuses or leaves out."""
    import importlib
    import pkgutil

    from parnet import kernels
    from parnet.cuda import table
    from parnet.kernels.declare import Kernel

    found = set()
    for file in pkgutil.iter_modules(kernels.__path__):
        for value in vars(importlib.import_module(f"{kernels.__name__}.{file.name}")).values():
            several = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
            found |= {one.name for one in several if isinstance(one, Kernel)}
    families = {name.partition(".")[0] for name in found - set(table.LAUNCHERS)}
    assert families == {"input_norm", "loop", "peak", "shards", "shard_norm", "winograd"}
    assert len(found & set(table.LAUNCHERS)) > 100 and not set(table.LAUNCHERS) - found


@every_dtype
@pytest.mark.parametrize("activation", sorted({a.name for a in pn.activations._BUILTIN}))
def test_activations(activation, dtype):
    same(lambda: small(dtype, activation), *data(dtype, "numbers"), dtype)


RULES = {
    "SGD": pn.optimizers.SGD,
    "SGD, momentum": lambda: pn.optimizers.SGD(0.1, momentum=0.9),
    "SGD, nesterov": lambda: pn.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSprop": pn.optimizers.RMSprop,
    "RMSprop, momentum": lambda: pn.optimizers.RMSprop(momentum=0.9),
    "Adam": pn.optimizers.Adam,
    "AdamW": lambda: pn.optimizers.AdamW(weight_decay=0.1),
    "Adagrad": pn.optimizers.Adagrad,
    "Adam, amsgrad": lambda: pn.optimizers.Adam(amsgrad=True),
    "Adadelta": lambda: pn.optimizers.Adadelta(1.0),
    "Lion": lambda: pn.optimizers.Lion(weight_decay=0.1),
    "SGD, weight_decay": lambda: pn.optimizers.SGD(0.1, weight_decay=0.1),
    "SGD, clipvalue": lambda: pn.optimizers.SGD(0.1, clipvalue=0.01),
    "Adam, clipnorm": lambda: pn.optimizers.Adam(clipnorm=0.01),
    "SGD, global_clipnorm": lambda: pn.optimizers.SGD(0.1, momentum=0.5, global_clipnorm=0.01),
    "Adam, accumulated": lambda: pn.optimizers.Adam(clipnorm=0.1, gradient_accumulation_steps=2),
}


@every_dtype
@pytest.mark.parametrize("rule", sorted({*built_in(pn.optimizers.registry), *RULES}))
def test_optimizers(rule, dtype):
    same(lambda: small(dtype), *data(dtype, "numbers"), dtype, optimizer=RULES.get(rule) or getattr(pn.optimizers, rule))


#: loss -> its targets, and an activation before it; the others take numbers and none
AIMS = {
    "SparseCategoricalCrossentropy": ("labels", "softmax"),
    "CategoricalCrossentropy": ("classes", "softmax"),
    "BinaryCrossentropy": ("bits", "sigmoid"),
    "Hinge": ("bits", None),
    "SquaredHinge": ("bits", None),
    "Poisson": ("bits", "exponential"),
    "KLDivergence": ("classes", "softmax"),
}


def smooth(loss, **how):
    """The loss with smoothed targets, where it can do so."""
    cls = getattr(pn.losses, loss)
    return cls(**how, **({"label_smoothing": 0.2} if hasattr(cls(), "label_smoothing") else {}))


@every_dtype
@pytest.mark.parametrize("loss", built_in(pn.losses.registry))
def test_losses_with_weights(loss, dtype):
    targets, last = AIMS.get(loss, ("numbers", None))
    x, y = data(dtype, targets)
    same(lambda: small(dtype, last=last), x, y, dtype, loss=smooth(loss), sample_weight=np.arange(1.0, 1 + len(x)))


@every_dtype
@pytest.mark.parametrize("loss", [name for name in AIMS if name.endswith("Crossentropy")])
def test_losses_of_sums_and_of_probabilities_that_somebody_else_reads(loss, dtype):
    """A layer between the activation and the loss keeps them apart."""
    targets, last = AIMS[loss]

    def make():
        layers = [L.Dense(3, activation=last, input_shape=(4,)), L.Reshape((3,)), L.Activation("linear")]
        return pn.Sequential(layers, dtype=dtype, seed=3)

    same(make, *data(dtype, targets), dtype, loss=smooth(loss))
    same(lambda: small(dtype), *data(dtype, targets), dtype, loss=smooth(loss, from_logits=True))


M = pn.metrics
METRICS = {
    "labels": ["Accuracy", "SparseCategoricalAccuracy", M.TopKAccuracy(2), "ConfusionMatrix", "F1", "Precision", "Recall"],
    "classes": ["Accuracy", "CategoricalAccuracy", "MeanSquaredError", "MeanAbsoluteError", "Precision", M.Recall(0.3)],
    "numbers": ["RootMeanSquaredError", "R2Score"],
    "bits": [
        "BinaryAccuracy",
        "AUC",
        M.AUC(50, "PR", from_logits=True),
        M.AUC(multi_label=True, num_labels=3, name="each"),
        M.AUC(20, "PR", multi_label=True, label_weights=[1, 0, 3], name="some"),
        M.AUC(9, label_weights=[2, 1, 0.5], name="weighted"),
    ],
    "answers": ["Precision", M.Recall(0.3, average="macro"), M.F1(average=None), "ConfusionMatrix"],
    "bit": ["Accuracy", M.ConfusionMatrix(0.4), "F1", "AUC"],
}


def test_every_metric_is_among_these():
    found = [type(M.get(one)).__name__ for chosen in METRICS.values() for one in chosen]
    assert sorted(set(found)) == built_in(M.registry)


def metrics_model(targets, dtype):
    """A model with that kind of output, and its loss."""
    last = "softmax" if targets in ("labels", "classes") else "sigmoid"
    layers = [L.Dense(5, activation="tanh", input_shape=(4,)), L.Dense(1 if targets == "bit" else 3, activation=last)]
    loss = {"labels": "sparse_categorical_crossentropy", "classes": "categorical_crossentropy"}
    return pn.Sequential(layers, dtype=dtype, seed=3), loss.get(
        targets, "mse" if targets == "numbers" else "binary_crossentropy"
    )


@every_dtype
@pytest.mark.parametrize("targets", METRICS)
def test_metrics(targets, dtype):
    x, y = data(dtype, "bits" if targets in ("bit", "answers") else targets)
    model, loss = metrics_model(targets, dtype)
    model.compile("sgd", loss, METRICS[targets])
    y = y[:, :1] if targets == "bit" else y
    ours, theirs = (model.evaluate(x, y, batch_size=BATCH, strategy=s, verbose=0) for s in ("cuda", "serial"))
    for found, wanted in zip(ours, theirs, strict=True):
        close(found, wanted, dtype, LENGTH)


class Read(list):
    """Numbers that know how often they were read."""

    reads = 0

    def __getitem__(self, place):
        self.reads += 1
        return super().__getitem__(place)


@pytest.mark.skipif(not SIMULATED, reason="only the simulator takes what is no array")
def test_an_output_is_counted_once_for_each_range_of_its_own_label():
    """Not of all labels: the work grew with their square."""
    from parnet.cuda.metric import count_cells

    labels, apart, rows = 6, 5, 4
    cells = Read((np.arange(rows * labels) * 7 % apart).astype(float))
    words, sums = np.where(np.arange(control.WIDTH) == control.ROWS, rows, 0), np.zeros(1 + labels * apart)
    count_cells(np.float32)[2, 4](words, (1, labels, apart, labels), (0.0,), cells, sums)
    wanted = [np.bincount(np.array(cells, int)[label::labels], minlength=apart) for label in range(labels)]
    np.testing.assert_array_equal(sums, [0, *np.concatenate(wanted)])
    assert cells.reads == rows * labels * apart


@every_dtype
def test_constraints(dtype):
    c = pn.constraints

    def make():
        wide = L.Dense(52, kernel_constraint=c.MaxNorm(0.3), bias_constraint=c.UnitNorm(), input_shape=(4,))
        return pn.Sequential([wide, L.Dense(3, kernel_constraint="non_neg")], dtype=dtype, seed=3)

    def images():
        own = {"kernel_constraint": c.MinMaxNorm(0.2, 0.3, 0.5, [0, 1]), "bias_constraint": c.MaxNorm(0.01)}
        layers = [L.Reshape((2, 2, 1), input_shape=(4,)), L.Conv2D(5, 2, **own), L.Flatten(), L.Dense(3)]
        return pn.Sequential(layers, dtype=dtype, seed=3)

    same(make, *data(dtype, "numbers"), dtype, optimizer=pn.optimizers.Adam)
    same(images, *data(dtype, "numbers"), dtype, optimizer=pn.optimizers.Adam)


@every_dtype
@pytest.mark.parametrize("layer, shape", [e[1:] for e in examples()], ids=[e[0] for e in examples()])
def test_every_layer_trains_as_on_the_cpu(layer, shape, dtype):
    """One update of a network around the layer: forward, both gradients, moving averages; then inference."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(3, 6)).astype(dtype), rng.normal(size=(3, 3)).astype(dtype)
    found = []
    for strategy in ("cuda", "serial"):
        model = around(layer, shape, dtype=dtype)
        model.compile(pn.optimizers.SGD(0.5), "mse")
        history = model.fit(x, y, batch_size=3, epochs=1, verbose=0, strategy=strategy).history
        found.append((*history["loss"], *model.get_weights(), model.predict(x, strategy=strategy, verbose=0)))
    for one, two in zip(*found, strict=True):
        close(one, two, dtype, 40 * LENGTH, 1 + np.abs(two).max())
