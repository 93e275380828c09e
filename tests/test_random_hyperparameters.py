"""Any hyperparameters within their ranges: training goes through, with finite numbers and the shapes that were stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import parnet as pn
from parnet import layers as L

RANDOM = settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
RATE, SHARE, SIZE = st.floats(1e-6, 0.05), st.floats(0, 0.99), st.integers(1, 4)
LIMIT = st.none() | st.floats(1e-3, 10)

#: name -> its arguments
SCHEDULES = {
    "StepDecay": {"initial_learning_rate": RATE, "every_steps": SIZE, "drop": st.floats(0.1, 0.9)},
    "ExponentialDecay": {"initial_learning_rate": RATE, "decay_steps": SIZE, "decay_rate": SHARE.filter(bool)},
    "InverseTimeDecay": {"initial_learning_rate": RATE, "decay_steps": SIZE, "decay_rate": st.floats(0, 9)},
    "CosineDecay": {"initial_learning_rate": RATE, "decay_steps": SIZE, "alpha": st.floats(0, 1)},
    "WarmUp": {"after": RATE, "warmup_steps": SIZE},
}
OPTIMIZERS = {
    "SGD": {"momentum": SHARE, "nesterov": st.booleans()},
    "RMSprop": {"rho": SHARE, "momentum": SHARE, "epsilon": st.floats(1e-8, 1e-2)},
    "Adam": {"beta_1": SHARE, "beta_2": SHARE, "epsilon": st.floats(1e-8, 1e-2)},
    "AdamW": {"beta_1": SHARE, "beta_2": SHARE, "weight_decay": st.floats(0, 0.1)},
    "Adagrad": {"initial_accumulator_value": st.floats(0.01, 1)},
}
LOSSES = {
    "mse": None, "mae": None, "huber": None, "hinge": None, "binary_crossentropy": "sigmoid",
    "categorical_crossentropy": "softmax", "sparse_categorical_crossentropy": "softmax",
}  # fmt: skip
ACTIVATIONS = st.sampled_from(
    "linear sigmoid tanh relu relu6 leaky_relu elu selu gelu silu softplus mish softsign hard_sigmoid".split()
)
PADDING = st.sampled_from(["same", "valid"])
WEIGHTS = st.sampled_from(["glorot_uniform", "he_normal", "lecun_normal", "zeros", "ones"])
#: layers on images (7, 6, 2) -> their arguments
IMAGES = {
    "Conv2D": {"filters": SIZE, "kernel_size": SIZE, "strides": SIZE, "padding": PADDING, "activation": ACTIVATIONS},
    "DepthwiseConv2D": {"kernel_size": SIZE, "depth_multiplier": SIZE, "padding": PADDING, "use_bias": st.booleans()},
    "MaxPooling2D": {"pool_size": SIZE, "strides": st.none() | SIZE, "padding": PADDING},
    "AveragePooling2D": {"pool_size": st.tuples(SIZE, SIZE), "strides": st.none() | SIZE, "padding": PADDING},
    "ZeroPadding2D": {"padding": st.tuples(st.tuples(SIZE, SIZE), st.tuples(SIZE, SIZE))},
    "UpSampling2D": {"size": st.tuples(SIZE, SIZE), "interpolation": st.sampled_from(["nearest", "bilinear"])},
    "BatchNormalization": {"momentum": st.floats(0, 1), "epsilon": st.floats(1e-4, 1), "synchronized": st.booleans()},
    "LayerNormalization": {"epsilon": st.floats(1e-4, 1), "center": st.booleans(), "scale": st.booleans()},
    "Dropout": {"rate": SHARE},
    "Rescaling": {"scale": st.floats(-2, 2), "offset": st.floats(-2, 2)},
    "RandomCrop": {"height": SIZE, "width": SIZE},
    "RandomTranslation": {"height_factor": st.floats(0, 1), "width_factor": st.floats(0, 1)},
    "RandomRotation": {"factor": st.floats(0, 1)},
    "Dense": {"units": SIZE, "activation": ACTIVATIONS, "kernel_initializer": WEIGHTS, "use_bias": st.booleans()},
}


def chosen(data, table):
    """One of a table, with arguments."""
    name = data.draw(st.sampled_from(sorted(table)))
    return name, {key: data.draw(values, label=key) for key, values in table[name].items()}


@RANDOM
@given(data=st.data())
def test_any_optimizer_schedule_and_loss_train_with_finite_numbers(data):
    name, arguments = chosen(data, OPTIMIZERS)
    schedule, own = chosen(data, SCHEDULES)
    rate = data.draw(st.sampled_from([0.01, getattr(pn.schedules, schedule)(**own)]))
    limits = {limit: data.draw(LIMIT) for limit in ("clipnorm", "global_clipnorm", "clipvalue")}
    rule = getattr(pn.optimizers, name)(learning_rate=rate, **arguments, **limits)
    loss = data.draw(st.sampled_from(sorted(LOSSES)))
    model = pn.Sequential([L.Dense(5, "tanh", input_shape=(4,)), L.Dense(3, LOSSES[loss])], seed=2)
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    y = labels if loss.startswith("sparse") else np.eye(3)[labels]
    model.compile(rule, loss)
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, strategy="serial")
    assert np.isfinite(history.history["loss"]).all() and rule.iterations == 6
    assert all(np.isfinite(array).all() for array in model.get_weights())


@RANDOM
@given(data=st.data())
def test_any_layer_gives_finite_outputs_of_the_stated_shape_and_is_configured_alike(data):
    name, arguments = chosen(data, IMAGES)
    layer = getattr(L, name)(**arguments)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    model = pn.Sequential([L.Input((7, 6, 2)), layer, L.Flatten(), L.Dense(2)], seed=2)
    x = np.random.default_rng(3).normal(size=(9, 7, 6, 2)).astype("f4")
    model.compile(pn.optimizers.SGD(1e-3), "mse")
    model.fit(x, np.zeros((9, 2)), batch_size=4, epochs=1, verbose=0, strategy="serial")
    inner = pn.Model(model.input, layer.output)
    outputs, lines = inner.predict(x), []
    inner.summary(lines.append)
    assert np.isfinite(outputs).all() and outputs.shape == (9, *layer.output.shape)
    assert f"(None, {', '.join(map(str, layer.output.shape))})" in lines[0]


@pytest.mark.parametrize(
    ("layers", "count"),
    [
        ([L.Dense(256, input_shape=(500,))], 128_256),
        ([L.Flatten(input_shape=[28, 28]), L.Dense(100, "sigmoid"), L.Dense(10, "softmax")], 79_510),
        (
            [L.Flatten(input_shape=[28, 28]), L.BatchNormalization(), L.Dense(200, "selu"), L.BatchNormalization(),
             L.Dense(100, "selu"), L.BatchNormalization(), L.Dense(10, "softmax")],
            182_446,
        ),
        (
            [L.Conv2D(64, 3, activation="relu", input_shape=(28, 28, 1)), L.MaxPooling2D(), L.Flatten(),
             L.BatchNormalization(), L.Dense(200), L.BatchNormalization(), L.Dense(100), L.BatchNormalization(),
             L.Dense(10)],
            2_229_614,
        ),
    ],
)  # fmt: skip
def test_the_tutorials_networks_have_the_tutorials_parameters(layers, count):
    assert pn.Sequential(layers).count_params() == count
