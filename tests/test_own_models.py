"""Models of one's own class: `call` is followed once, and what it makes is a graph model like any other."""

import numpy as np
import pytest
from nets import digest

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, ParnetError, ShapeError, StateError
from parnet.kernels.step import ROWS_SHARED, number, writes_own

ROWS = 24


class Own(pn.Model):
    """As tutorials write it."""

    def __init__(self, units=8, **base):
        super().__init__(**base)
        self.first, self.drop, self.last = L.Dense(units, "relu"), L.Dropout(0.3), L.Dense(2)

    def call(self, inputs, training=False):
        x = self.first(inputs)
        if training:
            x = self.drop(x, training=training)
        return self.last(x)


def graph(seed):
    x = pn.Input((6,))
    return pn.Model(x, L.Dense(2)(L.Dropout(0.3)(L.Dense(8, "relu")(x))), seed=seed)


@pytest.fixture
def data(rng):
    return rng.normal(size=(ROWS, 6)).astype(np.float32), rng.normal(size=(ROWS, 2)).astype(np.float32)


def test_a_class_of_ones_own_trains_as_the_graph_that_it_draws(data):
    own, drawn = Own(seed=3), graph(3)
    for model in (own, drawn):
        model.compile("adam", "mse")
        model.fit(*data, batch_size=8, epochs=3, verbose=0)
    assert digest(own) == digest(drawn) and own.name == "own" and own.count_params() == 74
    assert own.first.kernel.shape == (6, 8) and [layer.name for layer in own.layers] == ["dense", "dropout", "dense_1"]


def test_it_is_saved_as_that_graph(data, tmp_path):
    own = Own(seed=3)
    own.compile("sgd", "mse")
    own.fit(*data, verbose=0)
    own.save(tmp_path / "own.parnet")
    again = pn.load_model(tmp_path / "own.parnet")
    np.testing.assert_array_equal(again.predict(data[0]), own.predict(data[0]))
    again.fit(*data, verbose=0)


@pytest.mark.parametrize("make", [lambda: Own(seed=1), lambda: pn.Sequential([L.Dense(3, "relu"), L.Dense(2)], seed=1)])
@pytest.mark.parametrize("verb", ["fit", "evaluate", "predict", "call", "train_on_batch", "predict_on_batch"])
def test_the_first_data_state_the_shape_of_the_input(verb, make, data):
    one, two = make(), make()
    two.build((None, 6))
    for model in (one, two):
        model.compile("sgd", "mse")
    x, y = data
    calls = {
        "fit": lambda m: m.fit(x, y, verbose=0).history["loss"],
        "evaluate": lambda m: m.evaluate(x, y, verbose=0),
        "predict": lambda m: m.predict(x, verbose=0),
        "call": lambda m: np.array(m(x, training=False)),
        "train_on_batch": lambda m: m.train_on_batch(x, y),
        "predict_on_batch": lambda m: m.predict_on_batch(x),
    }
    np.testing.assert_array_equal(calls[verb](one), calls[verb](two))
    assert digest(one) == digest(two) and one.input_shape == (6,)


@pytest.mark.parametrize(
    "sample, told",
    [
        (np.ones((4, 6)), r"expected one tensor, received a list of 24.* \(x is a list of 24 arrays.*np\.stack\(x\)"),
        (np.ones(6), r"own: expected arrays \(rows, \.\.\.\), received one of shape \(6,\); .*np\.stack\(x\)"),
    ],
)
def test_a_list_of_samples_is_not_taken_for_inputs_without_a_word(sample, told, data):
    own = Own(seed=1)
    own.compile("sgd", "mse")
    with pytest.raises(ShapeError, match=told):
        own.fit([sample] * ROWS, data[1], verbose=0)
    own.fit(np.stack([sample.ravel()[:6]] * ROWS), data[1], verbose=0)  # it can still be built


class Pair(pn.Model):
    def __init__(self):
        super().__init__(seed=2)
        self.join, self.one, self.two = L.Add(), L.Dense(3, name="one"), L.Dense(1, name="two")

    def call(self, inputs):
        total = self.join(inputs)
        return [self.one(total), self.two(total)]


def test_several_inputs_and_outputs_are_built_before_they_are_compiled(rng):
    x = [rng.normal(size=(ROWS, 4)) for _ in range(2)]
    pair = Pair()
    pair.build([(4,), (4,)])
    pair.compile("sgd", {"one": "mse", "two": "mae"})
    assert {"one_loss", "two_loss"} <= set(pair.fit(x, [np.ones((ROWS, 3)), np.ones((ROWS, 1))], verbose=0).history)
    late = Pair()
    late.compile("sgd", "mse")
    with pytest.raises(StateError, match=r"pair: expected build\(shape\) before compile, as there are 2 outputs"):
        late.fit(x, [np.ones((ROWS, 3)), np.ones((ROWS, 1))])


class Wrong(Own):
    def call(self, inputs):
        return self.first(inputs) + 1


def test_what_cannot_be_followed_is_refused(data):
    with pytest.raises(StateError, match=r"wrong\.call: expected layers called on tensors.*L\.Add"):
        Wrong().predict(data[0])
    with pytest.raises(ParnetError, match=r"expected inputs and outputs, received \(None, None\).*method call"):
        pn.Model()
    with pytest.raises(StateError, match="the input's shape is not known"):
        Own().summary()
    built = Own()
    built.build((6,))
    with pytest.raises(StateError, match="known already"):
        built.build((5,))
    with pytest.raises(HyperparameterError, match="expected training None or True, received False"):
        L.Dropout(0.5)(pn.Input((4,)), training=False)


def test_a_call_that_is_refused_does_not_settle_the_shape():
    model = pn.Sequential([L.Dense(2)])
    with pytest.raises(StateError, match="compile"):
        model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    model.compile("sgd", "mse")
    model.fit(np.zeros((4, 5)), np.zeros((4, 2)), verbose=0)
    assert model.input_shape == (5,)


def test_a_list_of_samples_is_not_taken_for_several_inputs():
    model = pn.Sequential([L.Flatten(), L.Dense(2)])
    with pytest.raises(ParnetError, match="input's shape is not known"):
        model.predict([np.zeros((4, 4))] * 20)


class Fives(L.Conv2D):
    """A convolution whose outputs are all 5, for a test of subclasses."""

    def forward(self, build, x, training):
        y = super().forward(build, x, training)
        operands = (y, y, y.width, number(0.0), number(5.0), ROWS_SHARED)
        build.step("elementwise.scale", operands, writes_own(y), ROWS_SHARED, (-1,))
        return y

    @staticmethod
    def examples():
        return []


class Same(L.ReLU):
    """A ReLU that does nothing, for a test of subclasses."""

    def forward(self, build, x, training):
        return x

    @staticmethod
    def examples():
        return []


def test_inference_runs_what_a_subclass_has_changed():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    assert (pn.Sequential([L.Input((4, 4, 3)), Fives(2, 3), L.ReLU()]).predict(x) == 5).all()
    assert (pn.Sequential([L.Input((4, 4, 3)), L.Conv2D(8, 3), Same()]).predict(x) < 0).any()
