"""Activations callable alone, by name, with another alpha, and of one's own."""

import json

import naive
import numpy as np
import pytest
from kernelbench import DTYPES
from tolerance import close

import parnet as pn
from parnet import activations
from parnet import layers as L
from parnet.errors import HyperparameterError, UnknownNameError
from parnet.executors import single

NAMES = [*sorted(naive.ACTIVATIONS), *naive.BY_ROWS]
SHAPES = [(), (1,), (5,), (3, 1), (7, 3), (4, 17), (2, 3, 5), (33, 16), (0, 4)]
GUARD = 4096


class Guarded:
    """NumPy whose `zeros` lie between guard zones."""

    def __init__(self):
        self.made = []

    def __getattr__(self, name):
        return getattr(np, name)

    def zeros(self, size, dtype=np.float64):
        whole = np.full(int(np.prod(size)) + 2 * GUARD, 77, dtype)
        self.made.append(whole)
        own = whole[GUARD:-GUARD]
        own[:] = 0
        return own.reshape(size)

    def intact(self):
        return all((whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all() for whole in self.made)


@pytest.fixture(autouse=True)
def no_write_outside(monkeypatch):
    """Arrays of `parnet.executors.single` are guarded: a kernel that writes past them fails its test and harms nobody."""
    guarded = Guarded()
    monkeypatch.setattr(single, "np", guarded)
    yield
    assert guarded.intact(), "an activation wrote outside its memory"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activations_of_arrays_match_their_formulas(name, dtype, rng):
    for shape in SHAPES if name not in naive.BY_ROWS else SHAPES[1:]:
        x = np.asarray(3 * rng.normal(size=shape), dtype)
        one = activations.get(name)
        y = one(x)
        assert y.shape == shape and y.dtype == dtype
        if x.size:
            wanted = naive.activate(name, x, float(np.dtype(dtype).type(one.alpha)))
            size = np.abs(wanted) if name == "exponential" else np.abs(x).max()
            close(y, wanted, dtype, max((1, *shape)), 1 + size, name)


@pytest.mark.parametrize("given", [[1, 2, 3], np.arange(3), np.array([1, 2, 3], np.uint8), np.float16([1, 2, 3])])
def test_whatever_is_not_float64_becomes_float32(given):
    assert activations.relu(given).dtype == np.float32
    assert activations.relu(np.asarray(given, np.float64)).dtype == np.float64


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0, 2.5])
@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_another_alpha_changes_value_and_gradient_alike(name, alpha, rng):
    chosen = activations.get(name).with_alpha(alpha)
    x, y = rng.normal(size=(6, 5)), rng.normal(size=(6, 4))
    model = pn.Sequential([L.Input((5,)), L.Dense(4, chosen)], dtype="float64", seed=2)
    pn.check_gradients(model, "mse", x, y)
    close(chosen(x), naive.activate(name, x, alpha), "float64", 1, 3 * np.abs(x).max())


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_a_negative_alpha_is_refused_or_has_the_right_gradient(name, rng):
    try:
        chosen = activations.get(name).with_alpha(-0.5)
    except HyperparameterError:
        return
    model = pn.Sequential([L.Input((5,)), L.Dense(4, chosen)], dtype="float64", seed=2)
    pn.check_gradients(model, "mse", rng.normal(size=(6, 5)), rng.normal(size=(6, 4)))


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_found_by_name_and_by_what_json_keeps_of_them(name):
    one = activations.get(name)
    assert activations.get(json.loads(json.dumps(one.plain()))) == one
    assert activations.get(name.upper()) is one and activations.get(one) is one


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'sigmoid'"):
        activations.get("sigmoyd")


def test_an_activation_of_ones_own_trains_and_has_checked_gradients(rng):
    cube = activations.define(
        "cube_for_tests", lambda x, alpha: alpha * x * x * x, lambda x, y, alpha: alpha * 3 * x * x, 0.5
    )
    x = rng.normal(size=(6, 5))
    close(cube(x), 0.5 * x**3, "float64", 1, np.abs(x).max() ** 3)
    model = pn.Sequential([L.Input((5,)), L.Dense(4, "cube_for_tests"), L.Dense(2)], dtype="float64", seed=2)
    pn.check_gradients(model, "mse", x, rng.normal(size=(6, 2)))


def test_a_wrong_derivative_is_caught(rng):
    wrong = activations.define("wrong_for_tests", lambda x, alpha: x * x, lambda x, y, alpha: x)
    model = pn.Sequential([L.Input((5,)), L.Dense(4, wrong)], dtype="float64", seed=2)
    with pytest.raises(AssertionError, match="dense/"):
        pn.check_gradients(model, "mse", rng.normal(size=(6, 5)), rng.normal(size=(6, 4)))


@pytest.mark.parametrize("name", ["relu", "two words", "1st", ""])
def test_names_that_are_taken_or_no_identifiers_are_refused(name):
    with pytest.raises(HyperparameterError, match="identifier"):
        activations.define(name, lambda x, alpha: x, lambda x, y, alpha: x)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5)])
def test_softmax_works_along_the_last_axis_in_layers_too(shape, rng):
    x = rng.normal(size=(6, *shape)).astype(np.float32)
    model = pn.Sequential([L.Input(shape), L.Activation("softmax")], seed=1)
    close(model.predict(x, verbose=0), naive.softmax(x), "float32", shape[-1], 1.0)
    close(np.array(model(x)), naive.softmax(x), "float32", shape[-1], 1.0)


def test_an_own_activation_is_found_under_its_own_spelling():
    made = activations.define("TestCapital", lambda x, alpha: 2.0 * x, lambda x, y, alpha: 2.0)
    assert activations.get("TestCapital") is made and L.Dense(3, activation="TestCapital").activation is made
    with pytest.raises(HyperparameterError, match="free identifier, received 'ReLU'"):
        activations.define("ReLU", lambda x, alpha: x, lambda x, y, alpha: 1.0)


def test_an_activation_defined_again_takes_effect_in_a_used_model():
    activations.define("again", lambda x, alpha: 2.0 * x, lambda x, y, alpha: 2.0)
    model = pn.Sequential([L.Activation("again", input_shape=(3,))])
    assert model.predict(np.ones((1, 3)))[0].tolist() == [2.0] * 3
    activations.define("again", lambda x, alpha: 5.0 * x, lambda x, y, alpha: 5.0)
    assert model.predict(np.ones((1, 3)))[0].tolist() == [5.0] * 3
