"""parnet under Keras's module paths: tutorials run after one line is changed, and what is missing says so."""

from __future__ import annotations

import importlib
import re
import sys

import numpy as np
import pytest

import parnet as pn
from parnet import keras
from parnet import layers as L
from parnet.errors import DataError, DTypeError, HyperparameterError, ShapeError


@pytest.fixture(autouse=True)
def a_small_mnist(monkeypatch, rng):
    """`mnist.load_data` as tutorials call it, with few pictures whose class can be seen."""
    y = np.arange(400) % 10
    x = rng.integers(0, 30, (400, 28, 28))
    x[np.arange(400), 2 * y + 4, :] += 200
    x, y = x.astype(np.uint8), y.astype(np.uint8)
    monkeypatch.setattr(pn.datasets.mnist, "load_data", lambda *a, **k: ((x[:300], y[:300]), (x[300:], y[300:])))


def run(text: str, capsys) -> str:
    """What a tutorial prints after `import keras` and `from keras` in it are changed."""
    text = re.sub(r"^import keras$", "from parnet import keras", text, flags=re.M)
    text = re.sub(r"^from (tensorflow\.)?keras\b", "from parnet.keras", text, flags=re.M)
    text = re.sub(r"^from tensorflow import keras$", "from parnet import keras", text, flags=re.M)
    exec(compile(text, "tutorial", "exec"), {"__name__": "tutorial"})
    return capsys.readouterr().out


KERAS_2 = """
import keras
from keras import backend as K
from keras.datasets import mnist
from keras.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from keras.models import Sequential
from keras.utils import np_utils

(x_train, y_train), (x_test, y_test) = mnist.load_data()
assert K.image_data_format() == "channels_last"
x_train = x_train.reshape(x_train.shape[0], 28, 28, 1).astype("float32") / 255
x_test = x_test.reshape(x_test.shape[0], 28, 28, 1).astype("float32") / 255
y_train = np_utils.to_categorical(y_train, 10)
y_test = keras.utils.to_categorical(y_test, 10)
model = Sequential()
model.add(Conv2D(4, kernel_size=(3, 3), activation="relu", input_shape=(28, 28, 1)))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(32))
model.add(Activation("relu"))
model.add(Dense(10, activation="softmax"))
model.compile(loss=keras.losses.categorical_crossentropy,
              optimizer=keras.optimizers.SGD(lr=0.1, decay=1e-6, momentum=0.9, nesterov=True), metrics=["accuracy"])
history = model.fit(x_train, y_train, batch_size=32, epochs=4, verbose=1, validation_data=(x_test, y_test))
score = model.evaluate(x_test, y_test, verbose=0)
print("Test accuracy:", score[1] > 0.9, sorted(history.history))
"""

KERAS_3 = """
from tensorflow import keras
from tensorflow.keras import layers

keras.utils.set_random_seed(1)
keras.backend.clear_session()
(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
inputs = keras.Input(shape=(28, 28), name="digits")
x = layers.Flatten()(inputs)
x = layers.Rescaling(1 / 255)(x)
a = layers.Dense(16, kernel_initializer=keras.initializers.he_normal)(x)
a = layers.LeakyReLU(negative_slope=0.1)(a)
b = layers.Dense(16, activation=keras.activations.tanh, kernel_regularizer=keras.regularizers.l2(1e-4))(x)
x = layers.concatenate([a, b])
outputs = layers.Dense(10, activation="softmax", name="predictions")(x)
model = keras.Model(inputs=inputs, outputs=outputs)
schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=100, decay_rate=0.9)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=schedule), loss=keras.losses.SparseCategoricalCrossentropy(),
              metrics=[keras.metrics.SparseCategoricalAccuracy()])
stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True)
model.fit(x_train, y_train, batch_size=32, epochs=8, callbacks=[stop], validation_split=0.1, verbose=0)
print("accuracy", model.evaluate(x_test, y_test, verbose=0, return_dict=True)["sparse_categorical_accuracy"] > 0.9)
"""


def test_a_keras_2_tutorial_runs(capsys):
    out = run(KERAS_2, capsys)
    assert out.endswith("Test accuracy: True ['accuracy', 'loss', 'val_accuracy', 'val_loss']\n")


def test_a_keras_3_tutorial_runs(capsys):
    assert run(KERAS_3, capsys) == "accuracy True\n"


def test_names_are_parnets_own():
    assert set(keras.__all__) == keras._top.names()
    assert (
        keras.layers.Dense is pn.layers.Dense and keras.Input is pn.Input and keras.Model is keras.models.Model is pn.Model
    )
    assert keras.optimizers.schedules.CosineDecay is pn.schedules.CosineDecay
    assert keras.applications.resnet50.ResNet50 is keras.applications.ResNet50 is pn.applications.ResNet50
    assert keras.losses.mean_squared_error is keras.losses.MeanSquaredError is pn.losses.MeanSquaredError
    assert keras.__version__ == pn.__version__


@pytest.mark.parametrize("module", [name for name in sys.modules if name.startswith("parnet.keras.")])
def test_every_name_of_the_table_exists(module):
    found = importlib.import_module(module)
    names = [name for name in dir(found) if not name.startswith("_")]
    assert names and names == sorted(names)
    for name in names:
        assert getattr(found, name) is not None


def test_a_missing_name_is_an_import_error_in_an_import_and_an_attribute_error_elsewhere():
    with pytest.raises(ImportError, match=r"parnet\.keras\.layers' has no attribute 'LSTM'.*has a part of Keras's names"):
        from parnet.keras.layers import LSTM  # noqa: F401
    with pytest.raises(ImportError, match=r"'parnet\.keras' has no attribute 'mixed_precision'"):
        from parnet.keras import mixed_precision  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("parnet.keras.wrappers")
    with pytest.raises(AttributeError, match=r"Did you mean 'Conv2D'"):
        _ = keras.layers.Conv2d
    assert not hasattr(keras.layers, "LSTM") and not hasattr(keras.datasets, "cifar10") and not hasattr(keras, "ops")


def test_one_hot_rows():
    one_hot = keras.utils.to_categorical
    np.testing.assert_array_equal(one_hot([1, 0, 3]), np.eye(4, dtype="f4")[[1, 0, 3]])
    assert one_hot([[1], [0]], 5).shape == (2, 5) and one_hot([[1, 0]], 5, dtype="uint8").shape == (1, 2, 5)
    for wrong in ([0.5], ["a"]):
        with pytest.raises(DTypeError):
            one_hot(wrong)
    for wrong in ([-1], [4]):
        with pytest.raises(DataError, match="from 0 to 3"):
            one_hot(wrong, 4)


@pytest.mark.pillow
def test_pictures_come_as_in_keras(tmp_path, rng):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "p.png")
    from parnet.keras.preprocessing import image as images

    array = images.img_to_array(images.load_img(tmp_path / "p.png"))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, pixels)
    assert images.img_to_array(images.load_img(tmp_path / "p.png", target_size=(12, 8))).shape == (12, 8, 3)
    np.testing.assert_array_equal(np.asarray(images.array_to_img(pixels, scale=False)), pixels)
    assert np.asarray(images.array_to_img(np.arange(6.0).reshape(2, 3, 1))).max() == 255
    for wrong in (np.zeros(3), np.zeros((2, 2, 2))):
        with pytest.raises(ShapeError):
            images.array_to_img(wrong)
    with pytest.raises(ShapeError):
        images.img_to_array(np.zeros(3))


def keras_name(kind: str) -> str:
    """What Keras calls a layer of a class."""
    return {"ReLU": "re_lu", "LeakyReLU": "leaky_re_lu", "ELU": "elu", "Softmax": "softmax"}[kind]


@pytest.mark.parametrize(
    ("short", "layer", "formula"),
    [
        ("ReLU", {}, lambda x: np.maximum(x, 0)),
        ("ReLU", {"max_value": 6}, lambda x: np.clip(x, 0, 6)),
        ("ReLU", {"negative_slope": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x)),
        ("LeakyReLU", {}, lambda x: np.where(x > 0, x, 0.3 * x)),
        ("LeakyReLU", {"alpha": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x)),
        ("ELU", {"alpha": 2.0}, lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
        ("Softmax", {}, lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    ],
)
def test_activations_as_layers(short, layer, formula, rng):
    x = 5 * rng.normal(size=(5, 7)).astype(np.float32)
    model = keras.Sequential([keras.Input((7,)), getattr(keras.layers, short)(**layer)])
    assert isinstance(model.layers[0], getattr(keras.layers, short)) and model.layers[0].name == keras_name(short)
    np.testing.assert_allclose(model.predict(x), formula(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Add", "Average", "Maximum", "Multiply", "Subtract", "Concatenate"])
def test_merging_by_function(name, rng):
    a, b = pn.Input((4,), name="a"), pn.Input((4,), name="b")
    x = [rng.normal(size=(3, 4)).astype(np.float32) for _ in range(2)]
    short = keras.Model([a, b], getattr(keras.layers, name.lower())([a, b])).predict(x)
    np.testing.assert_array_equal(short, pn.Model([a, b], getattr(L, name)()([a, b])).predict(x))


def test_metrics_by_keras_names_have_keras_keys(rng):
    top = keras.metrics.SparseTopKCategoricalAccuracy(k=2), keras.metrics.TopKCategoricalAccuracy(k=3, name="top")
    assert [(m.k, m.name) for m in top] == [(2, "sparse_top_k_categorical_accuracy"), (3, "top")]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["acc", *top])
    history = model.fit(rng.normal(size=(8, 4)), rng.integers(0, 3, 8), verbose=0).history
    assert list(history) == ["loss", "acc", "sparse_top_k_categorical_accuracy", "top"] and history["top"] == [1.0]


def test_metrics_and_optimizers_as_keras_spells_them(rng):
    x, y = rng.normal(size=(30, 4)), rng.integers(0, 2, 30)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    chosen = [keras.metrics.Precision(thresholds=0.4), keras.metrics.F1Score(average="macro", threshold=0.5)]
    model.compile(keras.optimizers.Adam(amsgrad=True, weight_decay=1e-4), "squared_hinge", metrics=chosen)
    assert {"precision", "f1_score"} <= set(model.fit(x, y, verbose=0).history)
    classes = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    classes.compile("nadam", "kl_divergence", metrics=[keras.metrics.F1Score()])
    assert classes.evaluate(x, np.eye(3)[y], verbose=0)[1].shape == (3,)


def test_the_input_of_the_layers_stands_for_its_tensor_in_graphs(rng):
    """As in Keras, where layers.Input and Input are one."""
    x = rng.normal(size=(3, 4)).astype(np.float32)
    a, b = L.Input((4,), name="a"), L.Input((4,), name="b")
    model = pn.Model([a, b], L.Dense(2)(L.Concatenate()([a, b])), seed=1)
    c, d = pn.Input((4,), name="a"), pn.Input((4,), name="b")
    same = pn.Model([c, d], L.Dense(2)(L.Concatenate()([c, d])), seed=1)
    np.testing.assert_array_equal(model.predict([x, x]), same.predict([x, x]))
    one = L.Input((4,))
    assert pn.Model(inputs=one, outputs=L.Dense(2)(one)).count_params() == 10


@pytest.mark.plot
def test_a_model_is_drawn_as_keras_calls_it(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    keras.utils.plot_model(model, to_file=tmp_path / "m.png", show_shapes=True, show_layer_names=True, dpi=96)
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG") and model.layers[0].count_params() == 15
    with pytest.raises(TypeError, match=r"plot_model: no argument 'show_shape'.*Did you mean 'show_shapes'"):
        keras.utils.plot_model(model, show_shape=True)


def test_keras_2_spellings():
    model = keras.Sequential([keras.layers.Dense(3, input_dim=5), keras.layers.Dense(1)])
    assert model.input_shape == (5,) and "input_dim" not in model.layers[0].get_config()
    with pytest.raises(HyperparameterError, match="one argument"):
        keras.layers.Dense(3, input_dim=5, input_shape=(5,))
    rule = keras.optimizers.SGD(lr=0.5, decay=0.25)
    np.testing.assert_allclose(rule.rates(np.arange(4))[:, 0], [0.5, 0.4, 0.5 / 1.5, 0.5 / 1.75])
    again = pn.optimizers.get(pn.optimizers.registry.dump(rule))
    np.testing.assert_array_equal(again.rates(np.arange(4)), rule.rates(np.arange(4)))
    assert keras.optimizers.Adam(decay=0.0).learning_rate == 0.001


def test_names_that_have_been_used_lie_in_the_module_where_documentation_generators_look():
    from parnet import keras

    for name in keras.__all__:
        assert getattr(keras, name) is vars(keras)[name]
