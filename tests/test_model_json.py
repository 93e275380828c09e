"""Models as JSON texts and as second models: the same layers, weights of their own, and errors for other texts."""

import json

import numpy as np
import pytest

import parnet as pn
from parnet import keras
from parnet import layers as L
from parnet.errors import FileFormatError, HyperparameterError, StateError, UnknownNameError
from parnet.layers.base import registry


def line():
    layers = [
        L.Input((6, 6, 2)),
        L.Conv2D(3, 3, activation="leaky_relu", kernel_regularizer="l2", name="eyes"),
        L.BatchNormalization(trainable=False),
        L.Flatten(),
        L.Dropout(0.25),
        L.Dense(4, activation="softmax", kernel_constraint=pn.constraints.MaxNorm(2.0)),
    ]
    return pn.Sequential(layers, name="line", dtype="float64", seed=5)


def graph():
    """Two inputs, two outputs, a layer that is called twice."""
    a, b, shared = pn.Input((4,), name="a"), pn.Input((4,), name="b"), L.Dense(4, activation="tanh", name="shared")
    both = L.Add()([shared(a), shared(b)])
    return pn.Model([a, b], [L.Dense(1, name="price")(both), L.Dense(3, "softmax", name="kind")(both)], seed=7)


class Own(pn.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = L.Dense(5, activation="relu"), L.Dense(2)

    def call(self, inputs):
        return self.last(self.first(inputs))


def own():
    model = Own()
    model.build((3,))
    return model


MODELS = pytest.mark.parametrize("make", [line, graph, own])


def outputs(model):
    """Of fixed numbers, as one list."""
    shapes = [tensor.shape for tensor in model.inputs]
    x = [np.random.default_rng(k).normal(size=(5, *shape)) for k, shape in enumerate(shapes)]
    found = model.predict(x if len(x) > 1 else x[0], verbose=0)
    return found if isinstance(found, list) else [found]


@MODELS
@pytest.mark.parametrize("indent", [None, 2])
def test_a_text_gives_the_same_layers_and_first_weights(make, indent):
    model = make()
    text = model.to_json(indent=indent)
    again = pn.model_from_json(text)
    assert ("\n" in text) == (indent is not None) and json.loads(text)["format"] == "parnet"
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    assert (again.name, again.dtype, again.optimizer) == (model.name, model.dtype, None)
    assert again.to_json(indent=indent) == text
    for mine, theirs in zip(outputs(again), outputs(model), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@MODELS
def test_a_clone_has_the_layers_but_weights_of_its_own(make):
    model = make()
    pn.set_seed(3)
    clone = pn.clone_model(model)
    assert [layer.get_config() for layer in clone.layers] == [layer.get_config() for layer in model.layers]
    assert all(p.shape == q.shape for p, q in zip(clone.weights, model.weights, strict=True))
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0]) and clone.optimizer is None
    before = model.get_weights()
    clone.set_weights([2 * w for w in before])
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)
    clone.set_weights(before)
    for mine, theirs in zip(outputs(clone), outputs(model), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_clones_begin_with_different_weights_that_the_seed_fixes():
    found = []
    for _ in range(2):
        pn.set_seed(3)
        found.append([pn.clone_model(line()).get_weights()[0] for _ in range(2)])
    assert not np.array_equal(found[0][0], found[0][1])
    np.testing.assert_array_equal(found[0], found[1])


def test_a_trained_and_compiled_model_gives_the_text_of_a_new_one(rng):
    model = line()
    text = model.to_json()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(rng.normal(size=(8, 6, 6, 2)), rng.integers(0, 4, 8), verbose=0)
    assert model.to_json() == text and pn.clone_model(model).input_range.seen is None


def test_every_layer_comes_back_from_a_text():
    for name, cls in sorted(registry.classes.items()):
        for layer, shape in cls.examples() if cls.__module__.startswith("parnet.") else ():
            if layer.is_input:
                continue
            inputs = [pn.Input(one) for one in (shape if layer.merges else [shape])]
            model = pn.Model(inputs, layer(inputs if layer.merges else inputs[0]))
            again = pn.model_from_json(model.to_json())
            assert [type(one).__name__ for one in again.layers] == [name], name
            assert again.layers[0].get_config() == layer.get_config(), name


def test_they_are_found_under_keras_paths():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert keras.models.model_from_json(model.to_json()).count_params() == 10
    assert keras.models.clone_model(model, input_tensors=None, recursive=False).count_params() == 10


KERAS = '{"module": "keras", "class_name": "Sequential", "config": {"name": "s"}, "registered_name": null}'
DAMAGED = {
    "of Keras": (KERAS, "format 'parnet', received another, as Keras writes it"),
    "cut off": ('{"format": "parnet"', "well-formed JSON"),
    "a number": ("3", "JSON of the format 'parnet'"),
    "of the future": ('{"format": "parnet", "version": 99, "parnet": "9.0", "model": {}}', "version 1, received 99.*update"),
    "without a model": ('{"format": "parnet", "version": 1, "parnet": "0.1"}', "the keys format, version, parnet, model"),
    "empty": ("", "well-formed JSON"),
}


@pytest.mark.parametrize("text, told", DAMAGED.values(), ids=DAMAGED)
def test_other_texts_are_refused(text, told):
    with pytest.raises(FileFormatError, match=told):
        pn.model_from_json(text)


def test_texts_that_are_changed_somewhere_are_refused_or_make_a_model(rng):
    text = line().to_json()
    for place in rng.integers(0, len(text), 150):
        for changed in (text[:place], text[:place] + text[place + 1 :], f"{text[:place]}9{text[place + 1 :]}"):
            try:
                assert isinstance(pn.model_from_json(changed), pn.Model)
            except (FileFormatError, UnknownNameError) as error:
                assert str(error).startswith("model_from_json")


WRONG = {
    "unknown shape": (lambda: pn.Sequential([L.Dense(3)]).to_json(), StateError, "input's shape is not known"),
    "clone of that": (lambda: pn.clone_model(pn.Sequential([L.Dense(3)])), StateError, "input's shape is not known"),
    "no model": (lambda: pn.clone_model(L.Dense(3)), HyperparameterError, "clone_model: model: expected a model"),
    "no text": (
        lambda: pn.model_from_json({"format": "parnet"}),
        HyperparameterError,
        "model_from_json: text: expected a te",
    ),
    "indent": (lambda: line().to_json(indent=-1), HyperparameterError, r"line\.to_json: indent: .*received -1"),
    "a function": (lambda: pn.clone_model(line(), clone_function=str), HyperparameterError, "clone_model: clone_function"),
    "recursive": (lambda: pn.clone_model(line(), recursive=True), HyperparameterError, "clone_model: recursive"),
    "mistyped": (lambda: pn.clone_model(line(), input_tensor=None), TypeError, "Did you mean 'input_tensors'"),
}


@pytest.mark.parametrize("call, error, told", WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused(call, error, told):
    with pytest.raises(error, match=told):
        call()
