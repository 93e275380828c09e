"""Every metric through a model: against its definition and scikit-learn, over unequal batches, fused and unfused."""

import math

import naive
import numpy as np
import pytest
from nets import Parts
from subprocesses import run_python
from tolerance import close

import parnet as pn
from parnet import keras, metrics
from parnet import layers as L
from parnet.errors import HyperparameterError, ParnetError, ShapeError

ROWS, INPUTS, CLASSES, BATCH = 101, 6, 4, 16
SPARSE, DENSE = "sparse_categorical_crossentropy", "categorical_crossentropy"


def model_of(units, activation, loss, chosen, fused=True):
    layers = [L.Input((INPUTS,)), L.Dense(units, activation), *([] if fused else [L.Flatten()])]
    model = pn.Sequential(layers, dtype="float64", seed=4)
    model.compile("sgd", loss, metrics=chosen)
    return model


@pytest.fixture
def x(rng):
    return rng.normal(size=(ROWS, INPUTS))


def measured(model, x, y, **how):
    """What evaluate says, by name; the loss left out."""
    logs = model.evaluate(x, y, batch_size=BATCH, return_dict=True, **how)
    logs.pop("loss")
    return logs


def test_every_metric_is_measured_in_this_file():
    names = {type(m) for make in (several, yes_or_no, numbers) for m in make()}
    assert names == set(metrics.registry.classes.values())


def several():
    """Of several classes, with class numbers and with one-hot rows."""
    counting = [metrics.Precision(), metrics.Recall(), metrics.F1(), metrics.ConfusionMatrix()]
    return [
        metrics.Accuracy(),
        metrics.SparseCategoricalAccuracy(),
        metrics.CategoricalAccuracy(),
        metrics.TopKAccuracy(k=2),
        *counting,
    ]


def yes_or_no():
    counting = [metrics.Precision(0.4), metrics.Recall(0.4), metrics.F1(0.4), metrics.ConfusionMatrix(0.4)]
    return [metrics.Accuracy(), metrics.BinaryAccuracy(0.4), *counting, metrics.AUC()]


def numbers():
    return [metrics.MeanSquaredError(), metrics.MeanAbsoluteError(), metrics.RootMeanSquaredError(), metrics.R2Score()]


def split(chosen):
    """A model takes seven metrics at most."""
    return [chosen[:4], chosen[4:]]


def of_several(p, y):
    counts = naive.confusion(y, [naive.first_largest(row) for row in p.tolist()], CLASSES)
    precision, recall, f1 = naive.precision_recall_f1(counts)
    accuracy = naive.accuracy(p, y)
    return {
        "accuracy": accuracy,
        "sparse_categorical_accuracy": accuracy,
        "categorical_accuracy": accuracy,
        "top_2_accuracy": naive.top_k(p, y, 2),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "confusion_matrix": counts,
    }


def agree(found, wanted):
    assert found
    for name, value in found.items():
        close(value, wanted[name], "float64", ROWS, what=name)


@pytest.mark.parametrize("strategy", ["serial", Parts(3)], ids=["serial", "three threads"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("labels", [True, False])
def test_metrics_of_several_classes_match_their_definitions(labels, fused, strategy, x, rng):
    y = rng.integers(0, CLASSES, ROWS)
    wrong = metrics.CategoricalAccuracy if labels else metrics.SparseCategoricalAccuracy
    for chosen in split([m for m in several() if type(m) is not wrong]):
        model = model_of(CLASSES, "softmax", SPARSE if labels else DENSE, chosen, fused)
        given = y if labels else naive.one_hot(y, CLASSES)
        agree(measured(model, x, given, strategy=strategy), of_several(model.predict(x), y))


@pytest.mark.parametrize("fused", [True, False])
def test_metrics_of_a_yes_or_no_match_their_definitions(fused, x, rng):
    y = rng.integers(0, 2, ROWS)
    for chosen in split(yes_or_no()):
        model = model_of(1, "sigmoid", "binary_crossentropy", chosen, fused)
        p = model.predict(x)
        counts = naive.confusion(y, (p[:, 0] > 0.4).astype(int), 2)
        precision, recall, f1 = naive.precision_recall_f1(counts)
        wanted = {"accuracy": naive.binary_accuracy(p, y), "binary_accuracy": naive.binary_accuracy(p, y, 0.4)}
        wanted |= {"precision": precision, "recall": recall, "f1": f1, "confusion_matrix": counts}
        wanted |= {"auc": naive.auc(p, y, 200)}
        agree(measured(model, x, y.astype(float)), wanted)


def test_metrics_of_several_yes_or_no_outputs_count_each_output(x, rng):
    y = rng.integers(0, 2, (ROWS, 3)).astype(float)
    model = model_of(3, "sigmoid", "binary_crossentropy", [metrics.BinaryAccuracy(0.3)])
    agree(measured(model, x, y), {"binary_accuracy": naive.binary_accuracy(model.predict(x), y, 0.3)})


CURVES = [metrics.AUC(), metrics.AUC(curve="PR")]


@pytest.mark.parametrize("strategy", ["serial", Parts(3), pn.strategy.Serial(shards=3)], ids=["serial", "threads", "shards"])
@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("thresholds", [2, 3, 200])
def test_areas_under_curves_match_their_definitions(thresholds, units, strategy, x, rng):
    y = rng.integers(0, 2, (ROWS, units)).astype(float)
    chosen = [metrics.AUC(thresholds), metrics.AUC(thresholds, curve="PR")]
    model = model_of(units, "sigmoid", "binary_crossentropy", chosen)
    p = model.predict(x)
    found = measured(model, x, y, strategy=strategy)
    assert found["auc"] == pytest.approx(naive.auc(p, y, thresholds), rel=1e-12)
    assert found["auc_pr"] == pytest.approx(naive.auc(p, y, thresholds, "PR"), rel=1e-5)


def test_the_area_of_logits_is_that_of_their_probabilities(x, rng):
    y = rng.integers(0, 2, ROWS).astype(float)
    one, two = model_of(1, "sigmoid", "bce", CURVES), model_of(1, None, pn.losses.BinaryCrossentropy(from_logits=True), [])
    two.compile("sgd", two.loss, [metrics.AUC(from_logits=True), metrics.AUC(curve="PR", from_logits=True)])
    assert measured(one, x, y) == measured(two, x, y)
    two.compile("sgd", two.loss, ["auc"])
    with pytest.raises(
        HyperparameterError, match=r"auc: expected outputs from 0 to 1, received \d+ outside .*from_logits=True"
    ):
        two.evaluate(x, y)


@pytest.mark.parametrize("y, roc, precision", [(0.0, 0.0, 0.0), (1.0, 0.0, 1.0)])
def test_areas_of_a_single_class_are_defined(y, roc, precision, x):
    model = model_of(1, "sigmoid", "bce", CURVES)
    assert measured(model, x, np.full(ROWS, y)) == {"auc": roc, "auc_pr": precision}


def test_areas_of_equal_and_of_perfect_outputs(x):
    model = model_of(1, "sigmoid", "bce", CURVES)
    model.set_weights([np.zeros((INPUTS, 1)), np.zeros(1)])
    y = (np.arange(ROWS) % 4 == 0).astype(float)
    assert measured(model, x, y) == pytest.approx({"auc": 0.5, "auc_pr": y.mean()})
    model.set_weights([np.eye(INPUTS)[:, :1] * 50, np.zeros(1)])
    assert measured(model, x, (x[:, 0] > 0).astype(float)) == pytest.approx({"auc": 1.0, "auc_pr": 1.0}, abs=2e-3)


def test_areas_refuse_what_has_no_meaning(x):
    with pytest.raises(ShapeError, match="auc: expected one yes/no output, the model has 4"):
        model_of(CLASSES, "softmax", SPARSE, ["auc"]).evaluate(x, np.zeros(ROWS, int))
    for wrong in ({"num_thresholds": 1}, {"num_thresholds": 2.5}, {"curve": "roc curve"}, {"from_logits": "yes"}):
        with pytest.raises(ParnetError, match=f"AUC.*{next(iter(wrong))}"):
            metrics.AUC(**wrong)


def test_metrics_of_numbers_match_their_definitions(x, rng):
    y = rng.normal(size=(ROWS, 3))
    model = model_of(3, "tanh", "huber", numbers())
    p = model.predict(x)
    wanted = {"mse": naive.loss("mean_squared", p, y)[1], "mae": naive.loss("mean_absolute", p, y)[1]}
    score = np.mean([1 - sum((a - b) ** 2) / sum((b - b.mean()) ** 2) for a, b in zip(p.T, y.T, strict=True)])
    wanted |= {"root_mean_squared_error": wanted["mse"] ** 0.5, "r2_score": score}
    agree(measured(model, x, y), wanted)


def test_metrics_of_logits_are_those_of_the_logits(x, rng):
    y = rng.integers(0, CLASSES, ROWS)
    loss = pn.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = model_of(CLASSES, None, loss, [metrics.Accuracy(), metrics.TopKAccuracy(2)])
    agree(measured(model, x, y), of_several(model.predict(x), y))


def test_training_reports_metrics_of_the_outputs_before_each_update(x, rng):
    y = rng.integers(0, CLASSES, ROWS)
    model = model_of(CLASSES, "softmax", SPARSE, ["accuracy"])
    hits = 0.0
    for first in range(0, ROWS, BATCH):
        rows, labels = x[first : first + BATCH], y[first : first + BATCH]
        hits += len(rows) * naive.accuracy(model.predict(rows), labels)
        logs = model.train_on_batch(rows, labels, return_dict=True)
        assert 0 <= logs["accuracy"] <= 1
    other = model_of(CLASSES, "softmax", SPARSE, ["accuracy"])
    history = other.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    close(history.history["accuracy"], [hits / ROWS], "float64", ROWS)


def test_sample_weights_do_not_change_metrics(x, rng):
    y = rng.integers(0, CLASSES, ROWS)
    model = model_of(CLASSES, "softmax", SPARSE, ["accuracy", "f1"])
    assert measured(model, x, y, sample_weight=rng.uniform(size=ROWS)) == measured(model, x, y)


def test_equal_outputs_count_for_the_first_class(rng):
    model = model_of(CLASSES, "softmax", SPARSE, [metrics.Accuracy(), metrics.TopKAccuracy(3)])
    model.set_weights([np.zeros((INPUTS, CLASSES)), np.zeros(CLASSES)])
    y = np.arange(CLASSES)
    assert measured(model, np.ones((CLASSES, INPUTS)), y) == {"accuracy": 1 / 4, "top_3_accuracy": 3 / 4}


def test_precision_recall_and_f1_of_a_class_that_never_occurs_are_0(x):
    model = model_of(1, "sigmoid", "bce", [metrics.Precision(), metrics.Recall(), metrics.F1()])
    model.set_weights([np.zeros((INPUTS, 1)), np.array([-5.0])])
    assert measured(model, x, np.zeros(ROWS)) == {"precision": 0, "recall": 0, "f1": 0}


@pytest.mark.parametrize("name", [n for n in metrics.registry.classes if n not in ("CategoricalAccuracy",)])
def test_metrics_are_found_by_their_class_and_snake_case_names(name):
    cls = metrics.registry.classes[name]
    assert type(metrics.get(name)) is cls
    assert metrics.get(metrics.registry.dump(cls())).get_config() == cls().get_config()


def test_metrics_refuse_outputs_that_they_have_no_meaning_for(x):
    with pytest.raises(ShapeError, match="one-hot"):
        model_of(CLASSES, "softmax", SPARSE, ["categorical_accuracy"]).evaluate(x, np.zeros(ROWS, int))
    with pytest.raises(ShapeError, match="class numbers"):
        model_of(CLASSES, "softmax", DENSE, ["sparse_categorical_accuracy"]).evaluate(x, np.ones((ROWS, CLASSES)))
    with pytest.raises(ShapeError, match="shaped like the output"):
        model_of(CLASSES, "softmax", SPARSE, ["mse"]).evaluate(x, np.zeros(ROWS, int))


# -- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", metrics.registry.classes.values(), ids=lambda cls: cls.__name__)
def test_every_metric_takes_a_name_and_keeps_it_in_files(cls):
    assert cls(name="mine").name == "mine" and cls().name not in ("", "mine")
    assert metrics.get(metrics.registry.dump(cls(name="mine"))).name == "mine"
    for wrong in ("", " ", 3, "loss", "val_mine"):
        with pytest.raises(HyperparameterError, match=rf"{cls.__name__}\(name\): expected a text"):
            cls(name=wrong)


def test_names_are_the_keys_of_logs_and_a_string_is_its_own_key(x, rng, tmp_path):
    y = rng.integers(0, 2, ROWS).astype(float)
    chosen = [
        metrics.AUC(),
        metrics.AUC(curve="PR", name="area"),
        "acc",
        "mean_absolute_error",
        metrics.Precision(0.1, name="p"),
    ]
    model = model_of(1, "sigmoid", "bce", chosen)
    names = ["auc", "area", "acc", "mean_absolute_error", "p"]
    assert list(measured(model, x, y)) == names
    history = model.fit(x, y, validation_split=0.2, verbose=0).history
    assert list(history) == ["loss", *names, "val_loss", *(f"val_{name}" for name in names)]
    model.save(tmp_path / "m.parnet")
    assert list(measured(pn.load_model(tmp_path / "m.parnet"), x, y)) == names


def test_equal_names_are_refused_also_those_that_outputs_make():
    with pytest.raises(
        HyperparameterError, match=r"different names.*accuracy, accuracy; give one .* as AUC\(name='other'\)"
    ):
        model_of(CLASSES, "softmax", SPARSE, ["accuracy", "accuracy"])
    given = pn.Input((INPUTS,))
    model = pn.Model(given, [L.Dense(2, name="a")(given), L.Dense(2, name="a_b")(given)])
    with pytest.raises(HyperparameterError, match=r"different names.*called a_b_c another"):
        model.compile("sgd", "mse", [[metrics.MeanSquaredError(name="b_c")], [metrics.MeanSquaredError(name="c")]])
    with pytest.raises(HyperparameterError, match=r"different names.*called a_b_loss another"):
        model.compile("sgd", "mse", [[metrics.MeanSquaredError(name="b_loss")], []])


def test_callbacks_ask_the_metric_whether_more_is_better_not_its_name(x, rng):
    """A constant model: the first epoch is the best one of both directions, and a fit says which way it looks."""
    y = rng.integers(0, 2, ROWS).astype(float)
    chosen = [metrics.AUC(name="area"), metrics.MeanSquaredError(name="score"), "MSE", "ACC"]
    for name, more in {"area": True, "val_area": True, "score": False, "MSE": False, "ACC": True, "loss": False}.items():
        model = model_of(1, "sigmoid", "bce", chosen)
        stop = pn.callbacks.EarlyStopping(monitor=name)
        slow = pn.callbacks.ReduceLROnPlateau(monitor=name)
        keep = pn.callbacks.ModelCheckpoint(
            "unused.weights.h5", name, save_weights_only=True, save_best_only=True, save_freq=10**6
        )
        model.fit(x, y, validation_split=0.2, verbose=0, callbacks=[stop, slow, keep])
        assert [c._watch.worst for c in (stop, slow, keep)] == [-np.inf if more else np.inf] * 3
        keep.set_model(model_of(1, "sigmoid", "bce", []))
        assert keep._watch.worst == (-np.inf if name in ("ACC", "score") else np.inf)  # only words are left


def test_early_stopping_keeps_the_best_epoch_of_a_metric_by_any_name(x, rng):
    y = rng.integers(0, 2, ROWS).astype(float)
    model = model_of(1, "sigmoid", "bce", [metrics.AUC(name="area")])
    stop = pn.callbacks.EarlyStopping(monitor="area", patience=100)
    history = model.fit(x, y, epochs=6, verbose=0, callbacks=[stop]).history
    assert stop.best_epoch == int(np.argmax(history["area"])) and stop.best == max(history["area"])


# -- of several labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["serial", Parts(3), pn.strategy.Serial(shards=3)], ids=["serial", "threads", "shards"])
@pytest.mark.parametrize("curve", ["ROC", "PR"])
def test_the_area_of_several_labels_is_the_mean_of_their_own(curve, strategy, x, rng):
    y = rng.integers(0, 2, (ROWS, 3)).astype(float)
    y[:, 2] = 0  # a label that never occurs has no area
    weights = [1, 0.5, 2]
    chosen = [
        metrics.AUC(50, curve, multi_label=True, name="mean"),
        metrics.AUC(50, curve, multi_label=True, num_labels=3, label_weights=weights, name="weighted"),
        metrics.AUC(50, curve, name="together"),
        metrics.AUC(50, curve, label_weights=[2, 1, 0], name="counts"),
    ]
    model = model_of(3, "sigmoid", "bce", chosen)
    p = model.predict(x)
    own = [naive.auc(p[:, k], y[:, k], 50, curve) for k in range(3)]
    twice = np.r_[p[:, 0], p[:, 0], p[:, 1]], np.r_[y[:, 0], y[:, 0], y[:, 1]]
    wanted = {
        "mean": sum(own) / 3,
        "weighted": np.dot(own, weights) / sum(weights),
        "together": naive.auc(p, y, 50, curve),
        "counts": naive.auc(*twice, 50, curve),
    }
    assert measured(model, x, y, strategy=strategy) == pytest.approx(wanted, rel=1e-5)


def test_labels_are_checked_against_the_outputs(x):
    y = np.zeros((ROWS, 3))
    for given, what in (
        ({"multi_label": True, "num_labels": 2}, "num_labels"),
        ({"label_weights": [1, 2]}, "label_weights"),
    ):
        with pytest.raises(ShapeError, match=rf"auc: expected as many outputs as {what} says, 2, the model has 3"):
            model_of(3, "sigmoid", "bce", [metrics.AUC(**given)]).evaluate(x, y)
    for wrong in ({"num_labels": 3}, {"multi_label": "yes"}, {"label_weights": 3}, {"label_weights": [0, 0]}):
        with pytest.raises(HyperparameterError, match=rf"AUC\({next(iter(wrong))}\)"):
            metrics.AUC(**wrong)
    for wrong in ([1, -1], [1, np.nan], ["a"]):
        with pytest.raises(HyperparameterError, match=r"AUC\(label_weights\)"):
            metrics.AUC(label_weights=wrong)


OUTSIDE = """
import numpy as np, parnet as pn
from parnet import layers as L
from parnet.errors import ParnetError
model = pn.Sequential([L.Input((2,)), L.Dense(1)], seed=1)
model.compile("sgd", LOSS, metrics=["confusion_matrix"])
x = np.random.default_rng(0).normal(size=(64, 2))
y = TARGETS
try:
    counts = model.evaluate(x, y, return_dict=True)["confusion_matrix"]
    wanted = np.bincount((y > 0).astype(int), minlength=2)
    print("counted", (counts.sum(1) == wanted).all())
except ParnetError as error:
    print("refused")
"""


@pytest.mark.parametrize(
    "loss, targets",
    [("mse", "np.linspace(-3, 300, 64)"), ("mse", "np.full(64, 1e6)"), ("hinge", "np.resize([-1.0, 1.0], 64)")],
)
def test_counting_metrics_refuse_targets_that_are_no_classes_or_take_them_for_yes_and_no(loss, targets):
    """In a process of its own: a class of 300 would be counted far outside the table."""
    code = OUTSIDE.replace("LOSS", repr(loss)).replace("TARGETS", targets)
    assert run_python(code) in (["refused"], ["counted", "True"])


# -- scikit-learn ----------------------------------------------------------------------------------------


@pytest.mark.sklearn
@pytest.mark.parametrize("units, labels", [(CLASSES, True), (CLASSES, False), (1, False)])
def test_precision_recall_f1_and_confusion_are_scikit_learns(units, labels, x, rng):
    sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    y = rng.integers(0, max(2, units), ROWS)
    loss, given = ("bce", y.astype(float)) if units == 1 else (SPARSE, y) if labels else (DENSE, naive.one_hot(y, units))
    chosen = [metrics.Precision(), metrics.Recall(), metrics.F1(), metrics.ConfusionMatrix(), metrics.Accuracy()]
    model = model_of(units, "sigmoid" if units == 1 else "softmax", loss, chosen)
    p = model.predict(x)
    called = (p[:, 0] > 0.5).astype(int) if units == 1 else p.argmax(axis=1)
    average = {"average": "binary" if units == 1 else "macro", "zero_division": 0}
    wanted = {
        "precision": sklearn_metrics.precision_score(y, called, **average),
        "recall": sklearn_metrics.recall_score(y, called, **average),
        "f1": sklearn_metrics.f1_score(y, called, **average),
        "confusion_matrix": sklearn_metrics.confusion_matrix(y, called, labels=range(max(2, units))),
        "accuracy": sklearn_metrics.accuracy_score(y, called),
    }
    agree(measured(model, x, given), wanted)


@pytest.mark.sklearn
def test_the_area_under_the_roc_is_scikit_learns_within_its_thresholds(x, rng):
    """Exactly that of the outputs' ranges; so it differs from that of the outputs by pairs within one range alone."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    for thresholds in (5, 20, 200):
        model = model_of(1, "sigmoid", "bce", [metrics.AUC(thresholds)])
        p = model.predict(x)[:, 0]
        y = (p + rng.normal(size=ROWS) > 0.5).astype(int)
        ranges = np.ceil(p * (thresholds - 1))
        found = measured(model, x, y.astype(float))["auc"]
        assert found == pytest.approx(sklearn_metrics.roc_auc_score(y, ranges), rel=1e-12)
        ties = sum(sum(ranges[y == 1] == r) * sum(ranges[y == 0] == r) for r in set(ranges))
        assert abs(found - sklearn_metrics.roc_auc_score(y, p)) <= 0.5 * ties / (y.sum() * (1 - y).sum()) + 1e-12


@pytest.mark.sklearn
def test_crossentropy_is_scikit_learns_log_loss(x, rng):
    sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    y = rng.integers(0, CLASSES, ROWS)
    model = model_of(CLASSES, "softmax", SPARSE, [])
    wanted = sklearn_metrics.log_loss(y, model.predict(x), labels=range(CLASSES))
    close(model.evaluate(x, y), wanted, "float64", ROWS + CLASSES)


def truth(rng, model, labels=False):
    """Data, targets, and what the model says of them."""
    x = rng.normal(size=(23, *model.input_shape))
    width = model.output_shape[0]
    y = rng.integers(0, width, 23) if labels else 2 * rng.normal(size=(23, width)) + 5
    return x, y, model.predict(x, verbose=0)


def test_the_root_of_the_mean_square_and_r2_are_those_of_the_whole_data_however_it_is_cut(rng):
    model = model_of(3, None, "mse", ["rmse", "r2_score", metrics.RootMeanSquaredError(name="root")])
    x, y, p = truth(rng, model)
    root = np.sqrt(((p - y) ** 2).mean())
    score = np.mean(1 - ((p - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0))
    for batch in (1, 5, 32):
        _, *found = model.evaluate(x, y, batch_size=batch, verbose=0)
        np.testing.assert_allclose(found, [root, score, root], rtol=1e-9)
    history = model.fit(x, y, validation_split=0.3, verbose=0, batch_size=7).history
    assert {"rmse", "r2_score", "root", "val_r2_score"} <= set(history)


def test_r2_of_targets_that_are_all_alike_is_1_where_they_are_met_and_0_elsewhere():
    score = metrics.R2Score()
    assert score.result(np.array([[12.0, 48.0, 0.0]]), 3) == 1.0 and score.result(np.array([[12.0, 48.0, 2.0]]), 3) == 0.0
    assert score.result(np.array([[12.0, 48.0, 0.0], [6.0, 14.0, 2.0]]), 3) == pytest.approx((1 + 0) / 2)
    assert not metrics.RootMeanSquaredError().rising and score.rising


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_averages_over_the_classes(average, rng):
    made = [kind(average=average) for kind in (metrics.Precision, metrics.Recall, metrics.F1)]
    model = model_of(3, "softmax", "sparse_categorical_crossentropy", made)
    x, y, p = truth(rng, model, labels=True)
    counts = naive.confusion(y, p.argmax(1), 3)
    right, true, called = np.diag(counts), counts.sum(1), counts.sum(0)
    each = np.array([right / np.maximum(called, 1), right / true, 2 * right / (called + true)])
    wanted = {
        "macro": each.mean(1), "weighted": (each * true).sum(1) / true.sum(), "micro": [right.sum() / 23] * 3, None: each,
    }[average]  # fmt: skip
    for found, value in zip(model.evaluate(x, y, verbose=0)[1:], wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-9)


def test_thresholds_is_another_name_of_threshold():
    assert metrics.Precision(thresholds=0.3).threshold == metrics.Precision(0.3).threshold == 0.3
    for wrong in ({"threshold": 0.3, "thresholds": 0.4}, {"thresholds": [0.3, 0.4]}, {"average": "samples"}):
        with pytest.raises(ParnetError):
            metrics.Recall(**wrong)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r2_of_targets_far_from_zero_and_of_many_that_are_alike(dtype, rng):
    model = pn.Sequential([L.Reshape((1,), input_shape=(1,))], dtype=dtype)
    model.compile("sgd", "mse", ["r2_score"])
    y = (1000 + 0.1 * rng.normal(size=(5000, 1))).astype(dtype)
    p = (y + 0.05 * rng.normal(size=y.shape)).astype(dtype)
    exact = 1 - ((p.astype(float) - y) ** 2).sum() / ((y - y.astype(float).mean()) ** 2).sum()
    assert model.evaluate(p, y)[1] == pytest.approx(exact, rel=1e-6)
    for alike in (0.1, 7.7):
        y = np.full((10_000, 1), alike, dtype)
        assert model.evaluate(y + np.ones(1, dtype), y)[1] == 0 and model.evaluate(y, y)[1] == 1


def test_r2_does_not_hide_a_nan():
    assert math.isnan(metrics.R2Score().result(np.array([[3.0, 3.0, np.nan]]), 3))


def yes_no_counts(y, called):
    """Counts of each output, of those that are a yes and those that were called one: (right, there, called)."""
    pairs = [list(zip(y[:, j] > 0.5, called[:, j], strict=True)) for j in range(y.shape[1])]
    return np.array([[sum(a and b for a, b in one), sum(a for a, _ in one), sum(b for _, b in one)] for one in pairs], float)


@pytest.mark.parametrize("strategy", ["serial", Parts(3), pn.strategy.Serial(shards=3)], ids=["serial", "threads", "shards"])
@pytest.mark.parametrize("loss", ["bce", "hinge"])
@pytest.mark.parametrize("average", ["auto", "macro", "micro", "weighted", None])
def test_precision_recall_and_f1_of_several_yes_or_no_outputs(average, loss, strategy, x, rng):
    """Four outputs, as many as a confusion matrix of two classes has cells; the last one is never a yes."""
    made = [kind(average=average) for kind in (metrics.Precision, metrics.Recall, metrics.F1)]
    model = model_of(4, "sigmoid", loss, [*made, metrics.ConfusionMatrix()])
    y = (rng.uniform(size=(ROWS, 4)) < [0.2, 0.5, 0.7, 0.0]).astype(float)
    called = model.predict(x) > 0.5
    counts = yes_no_counts(y, called)
    used = counts.sum(0, keepdims=True) if average in ("auto", "micro") else counts
    right, there, yeses = used.T
    each = np.array([right / np.maximum(yeses, 1), right / np.maximum(there, 1), 2 * right / np.maximum(yeses + there, 1)])
    weights = there if average == "weighted" else None
    wanted = each if average is None else np.average(each, axis=1, weights=weights)
    *found, matrix = measured(model, x, y, strategy=strategy).values()
    for value, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_array_equal(matrix, [naive.confusion(y[:, j], called[:, j], 2) for j in range(4)])


def test_a_threshold_makes_a_yes_or_no_of_each_output_where_targets_are_one_hot(x, rng):
    """As Keras's Precision(thresholds=...) does it; without it the largest output is the class."""
    y = naive.one_hot(rng.integers(0, 3, ROWS), 3)
    model = model_of(3, "softmax", DENSE, [metrics.Precision(thresholds=0.4), metrics.Recall(name="by_class")])
    p = model.predict(x)
    right, _, called = yes_no_counts(y, p > 0.4).sum(0)
    recall = naive.precision_recall_f1(naive.confusion(y.argmax(1), p.argmax(1), 3))[1]
    agree(measured(model, x, y), {"precision": right / called, "by_class": recall})


def test_a_threshold_of_several_classes_wants_one_hot_targets_and_is_one_number(x):
    model = model_of(3, "softmax", SPARSE, [metrics.F1(0.5)])
    told = r"metric f1: expected targets shaped like the 3 outputs for threshold=0\.5, received class numbers.*one-hot"
    with pytest.raises(ShapeError, match=told):
        model.evaluate(x, np.zeros(ROWS))
    several = r"Precision\(threshold\): expected one number, received \[0\.3, 0\.5\]; make one metric for each"
    with pytest.raises(HyperparameterError, match=several):
        metrics.Precision(thresholds=[0.3, 0.5])
    with pytest.raises(ParnetError, match=r"F1\(average\)"):
        keras.metrics.F1Score("nonsense", 0.5)
    assert keras.metrics.F1Score(threshold=0.3).get_config() == metrics.F1(0.3, average=None, name="f1_score").get_config()
