"""The CUDA kernels and executor against the serial executor; on a GPU, or in Numba's simulator on tiny shapes.

`test_cuda.py` runs this file in the simulator. On a machine with a GPU: pytest tests/test_cuda_device.py
"""

import os

import numpy as np
import pytest
from nets import around, examples, sharing
from tolerance import close

import parnet as pn
from parnet import layers as L

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if SIMULATED:
    import cuda_simulator

    cuda_simulator.install()

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not (SIMULATED or pn.cuda.is_available()), reason="no GPU here; test_cuda.py runs these in the simulator"
    ),
]

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


every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@every_dtype
def test_a_network_trains_evaluates_and_predicts_as_on_the_cpu(dtype):
    x, y = data(dtype, "labels")
    how = dict(loss="sparse_categorical_crossentropy", metrics=["accuracy"], validation_data=(x + 1, y))
    ours, theirs = same(lambda: small(dtype, "sigmoid", "softmax"), x, y, dtype, **how)
    close(ours.predict(x, strategy="cuda", verbose=0), theirs.predict(x, verbose=0), dtype, LENGTH)
    close(ours.evaluate(x, y, strategy="cuda", verbose=0), theirs.evaluate(x, y, verbose=0), dtype, LENGTH)
    again, _ = trained("cuda", lambda: small(dtype, "sigmoid", "softmax"), x, y, **how)
    for one, two in zip(ours.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)  # the same bits from run to run


def test_uint8_data_are_scaled_on_the_device():
    x, y = np.random.default_rng(1).integers(0, 256, (ROWS, 4)).astype("uint8"), data("float64", "labels")[1]

    def make():
        layers = [L.Rescaling(1 / 255, -0.5, input_shape=(4,)), L.Dense(3, activation="softmax")]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, x, y, "float64", loss="sparse_categorical_crossentropy")


SHARED = ("relu", "gelu", "softplus")


@pytest.mark.parametrize("activation", sorted({a.name for a in pn.activations._BUILTIN}))
def test_activations(activation):
    dtype = "float32" if activation in SHARED else "float64"
    same(lambda: small(dtype, activation), *data(dtype, "numbers"), dtype)


RULES = {
    "sgd": pn.optimizers.SGD,
    "momentum": lambda: pn.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: pn.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": pn.optimizers.RMSprop,
    "rmsprop_momentum": lambda: pn.optimizers.RMSprop(momentum=0.9),
    "adam": pn.optimizers.Adam,
    "adamw": lambda: pn.optimizers.AdamW(weight_decay=0.1),
    "amsgrad": lambda: pn.optimizers.Adam(amsgrad=True),
    "adamax": pn.optimizers.Adamax,
    "nadam": pn.optimizers.Nadam,
    "adadelta": lambda: pn.optimizers.Adadelta(1.0),
    "lion": lambda: pn.optimizers.Lion(weight_decay=0.1),
    "sgd-decay": lambda: pn.optimizers.SGD(0.1, weight_decay=0.1),
    "adagrad": pn.optimizers.Adagrad,
    "clipvalue": lambda: pn.optimizers.SGD(0.1, clipvalue=0.01),
    "clipnorm": lambda: pn.optimizers.Adam(clipnorm=0.01),
    "global_clipnorm": lambda: pn.optimizers.SGD(0.1, momentum=0.5, global_clipnorm=0.01),
}


@pytest.mark.parametrize("rule", RULES)
def test_optimizers(rule):
    same(small, *data("float64", "numbers"), "float64", optimizer=RULES[rule])


LOSSES = {
    "sparse_categorical_crossentropy": ("labels", "softmax"),
    "categorical_crossentropy": ("classes", "softmax"),
    "binary_crossentropy": ("bits", "sigmoid"),
    "mae": ("numbers", None),
    "huber": ("numbers", None),
    "hinge": ("bits", None),
    "squared_hinge": ("bits", None),
    "log_cosh": ("numbers", None),
    "poisson": ("bits", "exponential"),
    "kl_divergence": ("classes", "softmax"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_with_weights(loss):
    targets, last = LOSSES[loss]
    x, y = data("float64", targets)
    same(lambda: small(last=last), x, y, "float64", loss=loss, sample_weight=np.arange(1.0, 1 + ROWS))


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"])
def test_losses_of_probabilities_that_somebody_else_reads(loss):
    """A layer between the activation and the loss keeps them apart."""
    targets, last = LOSSES[loss]

    def make():
        layers = [L.Dense(3, activation=last, input_shape=(4,)), L.Reshape((3,)), L.Activation("linear")]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, *data("float64", targets), "float64", loss=loss)


METRICS = {
    "labels": ["accuracy", pn.metrics.TopKAccuracy(2), pn.metrics.ConfusionMatrix(), pn.metrics.F1()],
    "classes": ["accuracy", "mse", "mae", pn.metrics.Precision(), "r2_score", "rmse"],
    "bits": [
        "binary_accuracy",
        "auc",
        pn.metrics.AUC(50, "PR", from_logits=True),
        pn.metrics.AUC(multi_label=True, name="each"),
    ],
}
CROSS_ENTROPY = {"labels": "sparse_categorical_crossentropy", "classes": "categorical_crossentropy"}


@pytest.mark.parametrize("targets", METRICS)
def test_metrics(targets):
    x, y = data("float64", targets)
    model = small(last="softmax" if targets in CROSS_ENTROPY else "sigmoid")
    model.compile("sgd", CROSS_ENTROPY.get(targets, "binary_crossentropy"), METRICS[targets])
    ours, theirs = (model.evaluate(x, y, batch_size=BATCH, strategy=s, verbose=0) for s in ("cuda", "serial"))
    for found, wanted in zip(ours, theirs, strict=True):
        close(found, wanted, "float64", LENGTH)


def test_penalties_and_frozen_layers():
    def make():
        penalty = pn.regularizers.L1L2(0.01, 0.02)
        frozen = L.Dense(5, activation="relu", trainable=False)
        layers = [L.Dense(6, kernel_regularizer=penalty, input_shape=(4,)), frozen, L.Dense(3, bias_regularizer="l2")]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, *data("float64", "numbers"), "float64", optimizer=pn.optimizers.Adam)


def test_constraints():
    c = pn.constraints

    def make():
        wide = L.Dense(52, kernel_constraint=c.MaxNorm(0.3), bias_constraint=c.UnitNorm(), input_shape=(4,))
        return pn.Sequential([wide, L.Dense(3, kernel_constraint="non_neg")], dtype="float64", seed=3)

    def images():
        own = {"kernel_constraint": c.MinMaxNorm(0.2, 0.3, 0.5, [0, 1]), "bias_constraint": c.MaxNorm(0.01)}
        layers = [L.Reshape((2, 2, 1), input_shape=(4,)), L.Conv2D(5, 2, **own), L.Flatten(), L.Dense(3)]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, *data("float64", "numbers"), "float64", optimizer=pn.optimizers.Adam)
    same(images, *data("float64", "numbers"), "float64", optimizer=pn.optimizers.Adam)


def test_accumulated_gradients():
    def rule():
        return pn.optimizers.Adam(clipnorm=0.1, gradient_accumulation_steps=2)

    same(small, *data("float64", "numbers"), "float64", optimizer=rule)


def test_shared_layers_and_frozen_normalisation():
    """Gradients of one tensor that several readers give are added up; moving averages of a frozen layer are used."""
    x, y = data("float64", "numbers", width=6)
    same(lambda: sharing(L.Dense(4), (4,), dtype="float64"), x, y, "float64")

    def make():
        layers = [L.Dense(4, input_shape=(6,)), L.BatchNormalization(trainable=False), L.Dense(3)]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, x, y, "float64")


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    x, y = data("float64", "numbers")
    x[4], y[4] = 1e200, 1e200  # the square is beyond float64
    for momentum in (0.0, 0.9):
        found = []
        for strategy in ("cuda", "serial"):
            model = small(activation="linear")
            model.compile(pn.optimizers.SGD(0.1, momentum=momentum), "mse")
            with pytest.raises(pn.ParnetError, match="step 2"):
                model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, strategy=strategy)
            found.append(model.get_weights())
        for one, two in zip(*found, strict=True):
            close(one, two, "float64", LENGTH)


def test_the_manual_loop_and_what_it_reads_between_its_verbs():
    x, y = data("float64", "numbers")
    found = []
    for strategy in (pn.strategy.CUDA(), pn.strategy.Serial()):
        net, loss_fn = small(), pn.losses.MeanSquaredError()
        net.session.strategy = strategy
        opt, seen = pn.optimizers.Adam(net.parameters(), lr=0.1), []
        for step in range(3):
            opt.zero_grad()
            for part in (slice(0, 4), slice(4, 7)):  # gradients add up
                loss = loss_fn(net(x[part]), y[part])
                loss.backward()
                seen.append(loss.item())
            opt.step()
            if step == 1:  # somebody reads, and writes, in between
                seen.append(next(iter(net.parameters())).grad)
                net.layers[0].bias.assign(np.full(5, 0.25))
        found.append([*seen, *net.get_weights(), np.asarray(net(x))])
    for one, two in zip(*found, strict=True):
        close(one, two, "float64", LENGTH, 1 + np.abs(two).max())


def test_devices_take_turns_with_the_cpu(tmp_path):
    """Weights, slots and moving averages are found where they were left, also by files and copies."""
    x, y = data("float64", "numbers")
    found = []
    for first, second in (("cuda", "serial"), ("serial", "cuda"), ("serial", "serial")):
        model = small()
        model.compile("adam", "mse")
        for strategy in (first, second, first):
            model.fit(x, y, batch_size=BATCH, verbose=0, strategy=strategy)
        model.save(tmp_path / "model.parnet")
        again = pn.load_model(tmp_path / "model.parnet")
        again.fit(x, y, batch_size=BATCH, verbose=0, strategy=second)
        found.append(again.get_weights())
    for one, two, three in zip(*found, strict=True):
        close(one, three, "float64", LENGTH, 1 + np.abs(three).max())
        close(two, three, "float64", LENGTH, 1 + np.abs(three).max())


def test_data_changed_between_two_calls_are_sent_again():
    x, y = data("float64", "numbers")
    model = small()
    model.compile("sgd", "mse")
    before = model.evaluate(x, y, strategy="cuda", verbose=0)
    x *= 2
    after = model.evaluate(x, y, strategy="cuda", verbose=0)
    assert before != after
    close(after, model.evaluate(x, y, strategy="serial", verbose=0), "float64", LENGTH)


def test_a_kernel_without_a_twin_is_refused_before_anything_runs(monkeypatch):
    from parnet.cuda import table

    monkeypatch.delitem(table.LAUNCHERS, "activation.tanh")
    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(pn.ParnetError, match=r"dense: its kernel activation.tanh has no twin on the GPU"):
        model.fit(x, y, verbose=0, strategy="cuda")
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_without_memory_the_error_says_what_was_wanted_and_the_model_stays_usable(monkeypatch):
    from parnet.cuda import runtime

    def full(*args, **more):
        raise MemoryError

    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    with monkeypatch.context() as patch:
        patch.setattr(runtime.cuda, "device_array", full)
        with pytest.raises(pn.ParnetError, match=r"activations: expected .* MiB of memory on the device, which has .* free"):
            model.fit(x, y, verbose=0, strategy="cuda")
    assert np.isfinite(model.fit(x, y, verbose=0, strategy="cuda").history["loss"]).all()


def test_a_kernel_that_fails_is_a_device_error_and_the_weights_are_those_read_last(monkeypatch):
    from parnet.cuda import gather
    from parnet.errors import DeviceError

    class Broken:
        def __getitem__(self, configuration):
            raise RuntimeError("unspecified launch failure")

    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0, strategy="cuda")
    before = model.get_weights()
    with monkeypatch.context() as patch:
        patch.setattr(gather, "advance", Broken())
        model.session._programs.clear()  # opened programs have their launches already
        with pytest.raises(DeviceError, match="unspecified launch failure"):
            model.evaluate(x, y, strategy="cuda", verbose=0)
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    model.evaluate(x, y, strategy="cuda", verbose=0)


def test_graphs_change_nothing():
    x, y = data("float64", "numbers")
    one, _ = trained("cuda", small, x, y)
    two, _ = trained(pn.strategy.CUDA(graph=True), small, x, y)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ctrl_c_within_a_batch_waits_for_its_end(monkeypatch):
    import signal

    from parnet.cuda.launch import Launch
    from parnet.executors import cuda

    class Press:
        """A kernel during which Ctrl-C is pressed."""

        def __getitem__(self, configuration):
            return lambda *args: signal.raise_signal(signal.SIGINT)

    ready = cuda._ready
    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "_ready", lambda *which: [Launch(Press(), (1,), (1,), ()), *ready(*which)])
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, strategy="cuda")
    assert model.optimizer.iterations == 1
    other = small()
    other.compile("sgd", "mse")
    other.fit(x, y, batch_size=BATCH, shuffle=False, steps_per_epoch=1, verbose=0, strategy="serial")
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        close(one, two, "float64", LENGTH)


def test_a_device_that_is_not_there_is_named():
    from parnet.errors import DeviceError

    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    with pytest.raises(DeviceError, match=r"CUDA\(device=99\): expected one of the devices 0"):
        model.fit(x, y, verbose=0, strategy=pn.strategy.CUDA(device=99))


#: layers that between them have most kernels, in float32 too; test_cuda_ptx.py compiles all kernels for both types
FLOAT32 = ("BatchNormalization", "Conv2D", "Dropout", "LayerNormalization", "MaxPooling2D", "Maximum", "RandomErasing")
EXAMPLES = [(*e, "float64") for e in examples()]
EXAMPLES += [(*e, "float32") for e in examples() if e[0].removesuffix("-0") in FLOAT32]


@pytest.mark.parametrize("layer, shape, dtype", [e[1:] for e in EXAMPLES], ids=[f"{e[0]}-{e[3]}" for e in EXAMPLES])
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
