"""Random small graphs: layers from a list, branches and merges. All executors give the same bits, and right gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import Parts, Split, digest
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet.strategy import Serial

ROWS, BATCH, CLASSES = 19, 8, 3  # the last batch has 3 rows
SMOOTH = ("linear", "sigmoid", "tanh", "softplus", "silu", "gelu", "mish", "softsign")
KINKED = ("relu", "relu6", "leaky_relu", "elu", "selu")
RANDOM = settings(max_examples=30, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))

#: a graph as numbers: its input, then for each layer which, of what, and two numbers for its arguments
NUMBER = st.integers(0, 11)
RECIPES = st.tuples(st.booleans(), st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=2, max_size=7))


def flat_layers(smooth, a, b):
    """What may follow a vector."""
    names = SMOOTH if smooth else SMOOTH + KINKED
    found = [
        lambda: L.Dense(1 + a, activation=names[b % len(names)], use_bias=a % 3 > 0),
        lambda: L.Dense(17, activation=names[a % len(names)], kernel_regularizer=pn.regularizers.L2(0.01)),
        lambda: L.Activation(names[a % len(names)]),
        lambda: L.BatchNormalization(momentum=0.5 + a / 30),
        lambda: L.LayerNormalization(),
        lambda: L.Rescaling(0.5 + a / 10, b / 10),
        lambda: L.Dropout(a / 24),
    ]
    return found


def image_layers(smooth, a, b):
    """What may follow an image."""
    names = SMOOTH if smooth else SMOOTH + KINKED
    name, side = names[b % len(names)], 1 + a % 3
    found = [
        lambda: L.Conv2D(1 + a, side, padding="same", activation=name),
        lambda: L.Conv2D(1 + b, side, strides=1 + b % 2, padding="same", use_bias=a % 2 > 0),
        lambda: L.DepthwiseConv2D(side, padding="same", depth_multiplier=1 + b % 2, activation=name),
        lambda: L.AveragePooling2D(1 + a % 2, padding="same"),
        lambda: L.BatchNormalization(),
        lambda: L.Activation(name),
        lambda: L.ZeroPadding2D(a % 2),
        lambda: L.UpSampling2D(1 + a % 2),
    ]
    return found if smooth else [*found, lambda: L.MaxPooling2D(1 + a % 2, padding="same")]


def merged(tensors, kind, smooth):
    """Two tensors of one shape brought together."""
    kinds = [L.Add, L.Subtract, L.Average, L.Multiply, L.Concatenate]
    kinds = kinds if smooth else [*kinds, L.Maximum]
    return kinds[kind % len(kinds)]()(tensors)


def graph(recipe, dtype="float32", smooth=False, seed=3):
    """The model of a recipe: each layer follows one of the tensors there are, or merges two of one shape."""
    pictures, numbers = recipe
    x = pn.Input((6, 5, 2) if pictures else (7,))
    tensors = [x]
    for which, of, a, b in numbers:
        tensor = tensors[of % len(tensors)]
        alike = [other for other in tensors if other.shape == tensor.shape and other is not tensor]
        if which > 7 and alike and tensor.shape[-1] < 40:
            tensors.append(merged([tensor, alike[a % len(alike)]], b, smooth))
            continue
        choice = (image_layers if len(tensor.shape) == 3 else flat_layers)(smooth, a, b)
        tensors.append(choice[which % len(choice)]()(tensor))
    ends = [L.GlobalAveragePooling2D()(t) if len(t.shape) == 3 else t for t in tensors[-2:]]
    joined = L.Concatenate()(ends) if len(ends) > 1 else ends[0]
    return pn.Model(x, L.Dense(CLASSES, activation="softmax")(joined), dtype=dtype, seed=seed)


def data(model, dtype="float32"):
    rng = np.random.default_rng(7)
    return rng.normal(size=(ROWS, *model.input_shape)).astype(dtype), rng.integers(0, CLASSES, ROWS)


def trained(recipe, strategy):
    """The digest of all weights after two epochs, the logs, and what it predicts."""
    model = graph(recipe)
    x, y = data(model)
    model.compile(pn.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    history = model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0, strategy=strategy)
    assert model.optimizer.iterations == 6
    return digest(model), history.history, model.predict(x, batch_size=5, strategy=strategy).tobytes()


@pytest.fixture(scope="module", autouse=True)
def cut_small_steps():
    """The cost model gives small steps to one part; here every step is cut as far as it can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parnet.plan.schedule.GRAIN_US", 1e-9)
        yield


@RANDOM
@given(recipe=RECIPES)
def test_executors_give_a_random_graph_the_same_bits(recipe):
    assert trained(recipe, Serial()) == trained(recipe, Parts(2))
    assert trained(recipe, Serial(shards=2)) == trained(recipe, Split(2, 2))


@RANDOM
@given(recipe=RECIPES)
def test_summary_states_the_shapes_that_a_random_graph_gives(recipe):
    model = graph(recipe)
    x, _ = data(model)
    lines = []
    model.summary(lines.append)
    for layer in model.layers[-3:]:
        shape = pn.Model(model.input, layer.output).predict(x[:3]).shape
        assert shape == (3, *layer.output.shape)
        assert f"(None, {', '.join(map(str, shape[1:]))})" in lines[0]
    assert model.count_params() == sum(array.size for array in model.get_weights())


@RANDOM
@given(recipe=RECIPES)
def test_gradients_of_a_random_graph_are_those_of_float64_and_of_differences(recipe):
    single, double = graph(recipe, "float32", smooth=True), graph(recipe, "float64", smooth=True)
    double.set_weights([array.astype("float64") for array in single.get_weights()])
    loss_fn, (x, y) = pn.losses.SparseCategoricalCrossentropy(), data(single)
    pn.check_gradients(double, loss_fn, x[:BATCH], y[:BATCH], entries=4)
    gradients = {}
    for model in (single, double):
        loss_fn(model(x[:BATCH]), y[:BATCH]).backward()
        gradients[model.dtype] = {p.name: p.grad for p in model.weights if p.trainable}
    scale = max(float(np.abs(g).max()) for g in gradients["float64"].values())
    for name, exact in gradients["float64"].items():
        close(gradients["float32"][name], exact, "float32", 2000, scale, name)
