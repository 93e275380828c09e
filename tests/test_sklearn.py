"""The scikit-learn estimators: scikit-learn's own checks, its tools around them, and that they train what parnet trains."""

from __future__ import annotations

import pickle
import sys
from functools import partial

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.errors import DataError, DTypeError, HyperparameterError, MissingExtraError, ShapeError, StateError

pytestmark = pytest.mark.sklearn
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from parnet.sklearn import ParnetClassifier, ParnetRegressor  # noqa: E402
from parnet.sklearn.network import Plateau  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    """600 digits: x (600, 64) float64 from 0 to 1, y (600,)."""
    x, y = load_digits(return_X_y=True)
    return x[:600] / 16, y[:600]


def network(units=16, last="softmax", outputs=10):
    """A builder's network for 8 x 8 images."""
    return pn.Sequential([L.Flatten(input_shape=(8, 8)), L.Dense(units, "relu"), L.Dense(outputs, last)])


@pytest.mark.parametrize("kind", [ParnetClassifier, ParnetRegressor])
def test_every_check_of_scikit_learn_passes(kind):
    """On one thread, which gives the same bits, and faster where the machine is busy."""
    results = check_estimator(kind(strategy="serial"), on_skip=None)
    assert len(results) > 50
    assert {result["status"] for result in results} <= {"passed", "skipped"}  # skipped: what needs pandas


# -- scikit-learn's tools -----------------------------------------------------------------------


def test_pipeline_and_cross_validation_learn(digits):
    pipeline = make_pipeline(StandardScaler(), ParnetClassifier(epochs=30, batch_size=32, random_state=0))
    scores = cross_val_score(pipeline, *digits, cv=3)
    assert scores.shape == (3,) and scores.min() > 0.8


def test_grid_search_finds_the_better_network(digits):
    grid = {"hidden_layer_sizes": [(), (1,), (32,)]}
    search = GridSearchCV(ParnetClassifier(epochs=15, batch_size=32, random_state=0), grid, cv=2).fit(*digits)
    assert search.best_params_["hidden_layer_sizes"] != (1,)
    assert search.best_estimator_.score(*digits) > 0.9
    assert [len(layer.weights(shape)) for layer, shape in ((search.best_estimator_.model_.layers[-1], (3,)),)] == [2]


def test_grid_search_over_builders(digits):
    grid = {"model": [partial(network, 1), partial(network, 24)]}
    search = GridSearchCV(ParnetClassifier(epochs=15, batch_size=32, random_state=0), grid, cv=2).fit(*digits)
    assert search.best_params_["model"].args == (24,)


def test_clones_share_nothing(digits):
    x, y = digits
    rule = pn.optimizers.SGD(lr=0.1, momentum=0.9)
    first = ParnetClassifier(network, optimizer=rule, epochs=2, tol=None, random_state=0).fit(x, y)
    second = clone(first)
    assert not hasattr(second, "model_") and second.optimizer is not rule
    second.fit(x, y)
    assert rule.iterations == 0 and second.model_ is not first.model_
    np.testing.assert_array_equal(first.predict_proba(x), second.predict_proba(x))


def test_a_pickled_estimator_goes_on_as_the_first(digits):
    x, y = digits
    first = ParnetClassifier(epochs=3, random_state=0).fit(x, y)
    second = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(first.predict_proba(x), second.predict_proba(x))
    for estimator in (first, second):
        estimator.partial_fit(x, y)
    np.testing.assert_array_equal(first.predict_proba(x), second.predict_proba(x))


def test_labels_may_be_texts(digits):
    x, y = digits
    names = np.array(["zero", "one", "two"])[np.minimum(y, 2)]
    clf = ParnetClassifier(epochs=20, batch_size=32, random_state=0).fit(x, names)
    assert list(clf.classes_) == ["one", "two", "zero"]
    assert clf.score(x, names) > 0.95 and set(clf.predict(x)) <= set(clf.classes_)


# -- what is trained ----------------------------------------------------------------------------


def test_fit_trains_what_parnet_trains(digits):
    """The same bits as the same model by hand, on any number of threads."""
    x, y = digits
    clf = ParnetClassifier(network, epochs=3, batch_size=50, tol=None, random_state=7)
    clf.fit(x.reshape(-1, 8, 8), y)
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy", seed=int(np.random.RandomState(7).randint(2**31 - 1)))
    history = model.fit(x.reshape(-1, 8, 8), y, batch_size=50, epochs=3, verbose=0, strategy="serial")
    images = x.reshape(-1, 8, 8)
    np.testing.assert_array_equal(clf.predict_proba(images), model.predict(images))
    assert clf.loss_curve_ == history.history["loss"] and clf.n_iter_ == 3


def test_rows_are_brought_into_the_networks_shape(digits):
    x, y = digits
    flat = ParnetClassifier(network, epochs=2, random_state=0).fit(x, y)
    images = ParnetClassifier(network, epochs=2, random_state=0).fit(x.reshape(-1, 8, 8), y)
    np.testing.assert_array_equal(flat.predict_proba(x), images.predict_proba(x.reshape(-1, 8, 8)))


def test_the_penalty_is_that_of_mlp_classifier(digits):
    """One step of plain SGD over all rows takes lr alpha w / n more off each kernel, and nothing more off a bias."""
    x, y = digits

    def weights(alpha, model=None):
        rule = pn.optimizers.SGD(lr=0.5)
        clf = ParnetClassifier(model, alpha=alpha, optimizer=rule, batch_size=len(x), epochs=1, random_state=3)
        return clf.fit(x, y).model_.get_weights()

    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    start = pn.Sequential([L.Dense(100, input_shape=(64,)), L.Dense(10)], dtype="float64", seed=seed).get_weights()
    for before, plain, less in zip(start, weights(0.0), weights(30.0), strict=True):
        expected = 0.5 * 30.0 * before / len(x) if before.ndim == 2 else np.zeros_like(before)
        np.testing.assert_allclose(plain - less, expected, atol=1e-12)


def test_partial_fit_is_fit_epoch_by_epoch(digits):
    x, y = digits
    whole = ParnetClassifier(epochs=4, tol=None, random_state=0).fit(x, y)
    parts = ParnetClassifier(random_state=0)
    for _ in range(4):
        parts.partial_fit(x, y, classes=np.arange(10))
    np.testing.assert_array_equal(whole.predict_proba(x), parts.predict_proba(x))
    assert parts.loss_curve_ == whole.loss_curve_ and parts.n_iter_ == 4


def test_warm_start_goes_on(digits):
    x, y = digits
    whole = ParnetClassifier(epochs=4, tol=None, random_state=0).fit(x, y)
    parts = ParnetClassifier(epochs=2, tol=None, warm_start=True, random_state=0).fit(x, y).fit(x, y)
    np.testing.assert_array_equal(whole.predict_proba(x), parts.predict_proba(x))
    with pytest.raises(DataError, match="expected the classes of the first fit"):
        parts.fit(x[y < 5], y[y < 5])


def test_arithmetic_follows_the_data(digits):
    x, y = digits
    kinds = {"float64": "float64", "float32": "float32", "uint8": "float32"}
    for given, used in kinds.items():
        assert ParnetClassifier(epochs=1).fit((16 * x).astype(given), y).model_.dtype == used


@pytest.mark.parametrize("last", ["sigmoid", "linear"])
def test_one_output_tells_two_classes_apart(digits, last):
    x, y = digits
    clf = ParnetClassifier(partial(network, 16, last, 1), epochs=30, batch_size=32, random_state=0).fit(x, y > 4)
    probable = clf.predict_proba(x)
    np.testing.assert_allclose(probable.sum(axis=1), 1, atol=1e-6)
    assert probable.min() >= 0 and clf.score(x, y > 4) > 0.9


def test_a_last_layer_without_softmax_gives_probabilities(digits):
    x, y = digits
    clf = ParnetClassifier(partial(network, 16, "linear"), epochs=20, batch_size=32, random_state=0).fit(x, y)
    twin = ParnetClassifier(network, epochs=20, batch_size=32, random_state=0).fit(x, y)
    np.testing.assert_allclose(clf.predict_proba(x).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(clf.predict_proba(x), twin.predict_proba(x), atol=1e-3)


def test_a_compiled_network_keeps_its_optimizer_and_loss(digits):
    def compiled():
        model = network()
        model.compile(pn.optimizers.RMSprop(lr=0.01), "categorical_crossentropy", ["top_k_accuracy"])
        return model

    x, y = digits
    clf = ParnetClassifier(compiled, epochs=15, batch_size=32, random_state=0).fit(x, y)
    assert isinstance(clf.model_.optimizer, pn.optimizers.RMSprop) and clf.score(x, y) > 0.9
    assert set(clf.history_) == {"loss", "top_k_accuracy", "accuracy"}


def test_weights_count_by_their_proportions(digits):
    x, y = digits
    weight = np.where(y < 5, 3.0, 1.0)
    plain = ParnetClassifier(alpha=0, epochs=3, random_state=0)
    first, second = clone(plain).fit(x, y, weight).predict_proba(x), clone(plain).fit(x, y, 100 * weight).predict_proba(x)
    np.testing.assert_allclose(first, second, atol=1e-12)
    by_class = clone(plain).set_params(class_weight=dict.fromkeys(range(5), 3)).fit(x, y).predict_proba(x)
    np.testing.assert_array_equal(first, by_class)
    assert abs(first - clone(plain).fit(x, y).predict_proba(x)).max() > 1e-3
    unseen = clone(plain).set_params(epochs=30).fit(x, y, sample_weight=y != 3)
    assert 3 not in unseen.predict(x)


def test_regressor_learns_several_targets(rng):
    x = rng.normal(size=(300, 4))
    y = np.stack([x @ [1, -2, 0, 1] + 1, np.abs(x[:, 0])], axis=1)
    reg = ParnetRegressor(epochs=200, batch_size=16, random_state=0).fit(x, y)
    assert reg.predict(x).shape == (300, 2) and reg.score(x, y) > 0.95
    one = ParnetRegressor(epochs=100, batch_size=16, random_state=0).fit(x, y[:, 0])
    assert one.predict(x).shape == (300,) and one.score(x, y[:, 0]) > 0.95


# -- when it ends -------------------------------------------------------------------------------


class Stub:
    """A model as far as callbacks need one."""

    def __init__(self):
        self.stop_training, self.current = False, 0

    def get_weights(self):
        return [self.current]

    def set_weights(self, arrays):
        (self.current,) = arrays


def mlp_rule(values, tol, patience):
    """Epochs that MLPClassifier runs on these scores (Pedregosa et al., `_update_no_improvement_count`), and the best."""
    best, count = -np.inf, 0
    for epoch, value in enumerate(values):
        count = count + 1 if value < best + tol else 0
        best = max(best, value)
        if count > patience:
            return epoch + 1, best
    return len(values), best


@pytest.mark.parametrize("sign", [1, -1])
def test_plateau_stops_where_mlp_classifier_does_and_keeps_the_best(rng, sign):
    for _ in range(50):
        values = np.round(rng.normal(size=30).cumsum() * 0.01, 3)
        stop, model = Plateau("score", sign, 0.01, 4, keep_best=True), Stub()
        stop.set_model(model)
        for epoch, value in enumerate(values):
            model.current = epoch
            stop.on_epoch_end(epoch, {"score": sign * value})
            if model.stop_training:
                break
        stop.on_train_end()
        ended, best = mlp_rule(values, 0.01, 4)
        assert (epoch + 1, stop.best) == (ended, sign * best)
        assert model.current == int(np.argmax(values[:ended]))


@pytest.mark.parametrize("kind", [ParnetClassifier, ParnetRegressor])
def test_early_stopping_ends_with_the_best_weights(digits, kind):
    x, y = digits
    given = {"early_stopping": True, "n_iter_no_change": 3, "validation_fraction": 0.3, "batch_size": 16, "random_state": 0}
    estimator = kind(**given).fit(x, y)
    watched = estimator.history_["val_accuracy" if kind is ParnetClassifier else "val_loss"]
    assert len(watched) == estimator.n_iter_ < 200
    assert estimator.best_validation_score_ == (max(watched) if kind is ParnetClassifier else min(watched))
    best = clone(estimator).set_params(epochs=watched.index(estimator.best_validation_score_) + 1, tol=0.0).fit(x, y)
    np.testing.assert_array_equal(estimator.predict(x), best.predict(x))


def test_without_tol_every_epoch_is_run(digits):
    x, y = digits
    assert ParnetClassifier(epochs=20, learning_rate=0.0, tol=None).fit(x, y).n_iter_ == 20
    assert ParnetClassifier(epochs=20, learning_rate=0.0, n_iter_no_change=2).fit(x, y).n_iter_ == 4


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"model": network()}, DTypeError, "a function that returns a new model"),
        ({"model": "mlp"}, DTypeError, "a function that returns a new model"),
        ({"model": lambda: "mlp"}, DTypeError, "one that returns 'mlp'"),
        ({"model": partial(network, outputs=9)}, ShapeError, "give its last layer 10 units"),
        ({"model": lambda: pn.Sequential([L.Dense(10, input_shape=(63,))])}, ShapeError, "input of 64 numbers"),
        ({"hidden_layer_sizes": (10, 0)}, HyperparameterError, "hidden_layer_sizes"),
        ({"alpha": -1}, HyperparameterError, "alpha"),
        ({"batch_size": "all"}, HyperparameterError, "batch_size"),
        ({"batch_size": 0}, HyperparameterError, "batch_size"),
        ({"epochs": 0}, HyperparameterError, "epochs"),
        ({"tol": -1}, HyperparameterError, "tol"),
        ({"optimizer": "adm"}, ValueError, "Did you mean 'adam'"),
        ({"activation": "rely"}, ValueError, "Did you mean 'relu'"),
        ({"early_stopping": True, "validation_fraction": 1.0}, HyperparameterError, "validation_fraction"),
        ({"strategy": "many"}, ValueError, "strategy"),
    ],
)
def test_bad_arguments_are_refused_by_fit_not_before(digits, given, error, says):
    clf = ParnetClassifier(**given)
    with pytest.raises(error, match=says):
        clf.fit(*digits)


def test_a_builder_that_returns_a_used_model_is_refused(digits):
    model = network()
    model.get_weights()
    with pytest.raises(StateError, match="a new model each time"):
        ParnetClassifier(lambda: model).fit(*digits)


def test_bad_data_are_refused(digits):
    x, y = digits
    clf = ParnetClassifier(epochs=1)
    with pytest.raises(NotFittedError):
        clf.predict(x)
    for weight, says in ((np.ones(3), r"expected \(600,\)"), (-np.ones(600), "0 or more"), (np.zeros(600), "non-zero")):
        with pytest.raises(DataError, match=says):
            clf.fit(x, y, weight)
    with pytest.raises(DataError, match="classes must be passed"):
        clf.partial_fit(x, y)
    clf.partial_fit(x, y, classes=range(10))
    with pytest.raises(DataError, match="classes of the first call"):
        clf.partial_fit(x, y, classes=range(9))
    with pytest.raises(DataError, match=r"expected labels among .* received \[10\]"):
        clf.partial_fit(x, np.where(y == 9, 10, y))
    with pytest.raises(ValueError, match="64 features"):
        clf.predict(x[:, :60])
    with pytest.raises(DataError, match="1 class"):
        clf.fit(x, np.ones(len(x)))


def test_without_scikit_learn_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.delitem(vars(pn.sklearn), "ParnetClassifier", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'parnet\[sklearn\]'"):
        _ = pn.sklearn.ParnetClassifier
    with pytest.raises(AttributeError, match="ParnetRegressor"):
        _ = pn.sklearn.ParnetRegresor
