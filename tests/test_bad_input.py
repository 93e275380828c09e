"""What a model refuses, with a typed error that says why, before any work starts."""

import warnings

import numpy as np
import pytest

import parnet as pn
from parnet import callbacks, optimizers
from parnet import layers as L
from parnet.errors import DataError, DTypeError, HyperparameterError, ParnetError, ParnetWarning, ResourceError, ShapeError

X = np.linspace(-1, 1, 24).reshape(8, 3)


def model(units=2, activation=None, loss="mse", metrics=()):
    made = pn.Sequential([L.Dense(units, activation=activation, input_shape=(3,))], seed=1)
    made.compile("sgd", loss, metrics)
    return made


@pytest.mark.parametrize(
    ("loss", "activation", "units", "y", "words"),
    [
        ("binary_crossentropy", "sigmoid", 1, np.full(8, 5), "from 0 to 1, received 5 at (0, 0)"),
        ("categorical_crossentropy", "softmax", 2, np.tile([-2, 5], (8, 1)), "from 0 to 1, received -2 at (0, 0)"),
        ("hinge", "tanh", 1, np.full(8, 3), "expected targets of -1 and 1 or of 0 and 1"),
    ],
)
def test_targets_out_of_the_range_of_the_loss_are_refused(loss, activation, units, y, words):
    made = model(units, activation, loss)
    with pytest.raises(DataError) as caught:
        made.fit(X, y, verbose=0)
    assert words in str(caught.value)
    assert not made.session.has_weights


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: L.Rescaling("a"), "Rescaling(scale): expected a finite number, received 'a'"),
        (lambda: callbacks.EarlyStopping(min_delta="a"), "EarlyStopping(min_delta)"),
        (lambda: callbacks.EarlyStopping(baseline="a"), "EarlyStopping(baseline)"),
        (lambda: callbacks.ReduceLROnPlateau(factor="a"), "ReduceLROnPlateau(factor)"),
        (lambda: callbacks.ReduceLROnPlateau(min_lr=-1), "of at least 0, received -1"),
        (lambda: callbacks.LearningRateScheduler(lambda: 0.1), "a function (epoch, learning_rate)"),
        (lambda: optimizers.Adam(epsilon=None), "Adam(epsilon)"),
        (lambda: pn.strategy.Serial(shards=0), "from 1 to 64"),
        (lambda: pn.strategy.Threads(1, 65), "from 1 to 64"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_with_their_name(build, words):
    with pytest.raises(HyperparameterError) as caught:
        build()
    assert words in str(caught.value)


def test_one_shard_is_the_default_of_every_strategy():
    assert pn.strategy.Serial(1) == pn.strategy.Serial() and pn.strategy.Threads(1, 1) == pn.strategy.Threads(1)


@pytest.mark.parametrize(
    ("weights", "loss", "activation", "units", "y", "kind", "words"),
    [
        ({0: "a"}, "sparse_categorical_crossentropy", "softmax", 2, np.zeros(8), HyperparameterError, "class_weight[0]"),
        ({0: 2.0}, "mse", None, 1, np.full(8, 7.5), DataError, "expected targets that are classes"),
        ({0: 2.0}, "mse", None, 1, np.full(8, -7.0), DataError, "expected targets that are classes"),
    ],
)
def test_class_weights_that_mean_nothing_are_refused(weights, loss, activation, units, y, kind, words):
    with pytest.raises(kind) as caught:
        model(units, activation, loss).fit(X, y, class_weight=weights, verbose=0)
    assert words in str(caught.value)


def test_class_weights_of_a_hinge_take_its_negative_label_as_class_0():
    y = np.array([-1, 1] * 4)
    logs = [model(1, None, "hinge").train_on_batch(X, (y + k) / (1 + k), class_weight={0: 3.0, 1: 0.5}) for k in (0, 1)]
    weighted = model(1, None, "hinge").train_on_batch(X, y, sample_weight=np.where(y < 0, 3.0, 0.5))
    assert logs == [weighted, weighted]


@pytest.mark.parametrize("place", ["x", "y", "sample_weight"])
def test_lists_of_unequal_lengths_are_refused(place):
    good = {"x": X, "y": np.zeros((8, 2)), "sample_weight": np.ones(8)}
    with pytest.raises(ShapeError, match=f"fit: {place}: expected an array of numbers, received lists of unequal"):
        model().fit(**good | {place: [[1.0], [1.0, 2.0]]}, verbose=0)
    with pytest.raises(DTypeError):
        model().fit(**good | {place: np.array(["a"] * 8)}, verbose=0)


def test_numbers_too_large_for_the_model_are_named_as_they_were_given():
    x = X.copy()
    x[2, 1] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"received 1e\+300 at \(2, 1\).*too large for float32.*dtype='float64'"):
            model().predict(x)


def test_a_checkpoint_whose_fields_nothing_fills_is_refused_before_the_first_epoch(tmp_path):
    for path in ("{accuracy}.parnet", "{val_loss}.parnet", "{}.parnet", "{epoch"):
        made = model()
        with pytest.raises(HyperparameterError, match=r"ModelCheckpoint\(filepath\): expected fields among epoch, loss"):
            made.fit(X, X[:, :2], callbacks=[callbacks.ModelCheckpoint(tmp_path / path)], verbose=0)
        assert made.optimizer.iterations == 0


def test_a_checkpoint_knows_what_other_callbacks_add_to_the_logs(tmp_path):
    hooks = [
        callbacks.LearningRateScheduler(lambda epoch: 0.25),
        callbacks.ModelCheckpoint(tmp_path / "{learning_rate:.2f}"),
    ]
    made = model()
    made.fit(X, X[:, :2], callbacks=hooks, verbose=0)
    assert made.optimizer.learning_rate == 0.25 and [p.name for p in tmp_path.iterdir()] == ["0.25"]


@pytest.mark.parametrize(("module", "name", "near"), [(pn, "Sequental", "Sequential"), (L, "Dence", "Dense")])
def test_a_name_that_a_module_lacks_gets_the_nearest_one(module, name, near):
    with pytest.raises(AttributeError, match=f"{module.__name__!r} has no attribute.* Did you mean '{near}'?"):
        getattr(module, name)


def test_warnings_point_at_the_line_of_the_user():
    made = model()
    with pytest.warns(ParnetWarning) as caught:
        made.fit(X, X[:, :2], validation_data=(X, X[:, :2]), verbose=0, callbacks=[callbacks.EarlyStopping("nothing")])
        made.predict(X * 1000)
        made.evaluate(X, X[:, :2])
    assert len(caught) == 3 and {w.filename for w in caught} == {__file__}


def test_every_refusal_is_a_parnet_error():
    with pytest.raises(ParnetError):
        model().fit(X, verbose=0)


def test_weights_that_no_machine_holds_are_refused_as_a_resource():
    made = pn.Sequential([L.Dense(64, input_shape=(2**45,))], seed=0)
    with pytest.raises(ResourceError, match="MiB of memory, which the machine has not; make the model smaller"):
        made.get_weights()
