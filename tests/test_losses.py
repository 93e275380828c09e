"""Every loss through a model: values, gradients, fused and unfused, from logits, weighted, at the extremes."""

import naive
import numpy as np
import pytest
from subprocesses import run_python
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet import losses
from parnet.errors import HyperparameterError, NonFiniteLossError, ParnetError, ParnetWarning, ShapeError

ROWS, INPUTS, HIDDEN, CLASSES = 9, 5, 4, 3
DTYPES = ("float32", "float64")

#: label -> (loss, last activation, layers after it, formula of tests/naive.py, kind of targets)
FORMS = {
    "sparse-fused": (losses.SparseCategoricalCrossentropy(), "softmax", [], "softmax", "labels"),
    "sparse-unfused": (losses.SparseCategoricalCrossentropy(), "softmax", [L.Flatten], "categorical", "labels"),
    "sparse-logits": (losses.SparseCategoricalCrossentropy(from_logits=True), None, [], "softmax", "labels"),
    "dense-fused": (losses.CategoricalCrossentropy(), "softmax", [], "softmax", "probabilities"),
    "dense-unfused": (losses.CategoricalCrossentropy(), "softmax", [L.Flatten], "categorical", "probabilities"),
    "dense-logits": (losses.CategoricalCrossentropy(from_logits=True), None, [], "softmax", "probabilities"),
    "binary-fused": (losses.BinaryCrossentropy(), "sigmoid", [], "sigmoid", "shares"),
    "binary-unfused": (losses.BinaryCrossentropy(), "sigmoid", [L.Flatten], "binary", "shares"),
    "binary-logits": (losses.BinaryCrossentropy(from_logits=True), None, [], "sigmoid", "shares"),
    "dense-fused-smooth": (losses.CategoricalCrossentropy(label_smoothing=0.2), "softmax", [], "softmax", "one-hot"),
    "dense-smooth": (losses.CategoricalCrossentropy(False, 0.3), "softmax", [L.Flatten], "categorical", "one-hot"),
    "dense-logits-smooth": (losses.CategoricalCrossentropy(True, 0.1), None, [], "softmax", "probabilities"),
    "binary-fused-smooth": (losses.BinaryCrossentropy(label_smoothing=0.2), "sigmoid", [], "sigmoid", "shares"),
    "binary-smooth": (losses.BinaryCrossentropy(label_smoothing=1), "sigmoid", [L.Flatten], "binary", "shares"),
    "binary-logits-smooth": (losses.BinaryCrossentropy(True, 0.3), None, [], "sigmoid", "shares"),
    "mse": (losses.MeanSquaredError(), "tanh", [], "mean_squared", "numbers"),
    "mse-softmax": (losses.MeanSquaredError(), "softmax", [], "mean_squared", "probabilities"),
    "mae": (losses.MeanAbsoluteError(), "gelu", [], "mean_absolute", "numbers"),
    "huber": (losses.Huber(0.5), None, [], "huber", "numbers"),
    "hinge": (losses.Hinge(), None, [], "hinge", "signs"),
    "squared-hinge": (losses.SquaredHinge(), None, [], "squared_hinge", "signs"),
    "log-cosh": (losses.LogCosh(), None, [], "log_cosh", "numbers"),
    "poisson": (losses.Poisson(), "exponential", [], "poisson", "counts"),
    "divergence": (losses.KLDivergence(), "softmax", [], "divergence", "probabilities"),
}
every_form = pytest.mark.parametrize("form", FORMS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def targets(kind, rng, rows=ROWS):
    return {
        "labels": lambda: rng.integers(0, CLASSES, rows),
        "probabilities": lambda: rng.dirichlet(np.ones(CLASSES), rows),
        "one-hot": lambda: naive.one_hot(rng.integers(0, CLASSES, rows), CLASSES),
        "shares": lambda: rng.uniform(0, 1, (rows, CLASSES)),
        "numbers": lambda: rng.normal(size=(rows, CLASSES)),
        "counts": lambda: rng.integers(0, 5, (rows, CLASSES)).astype(float),
        "signs": lambda: rng.choice([-1.0, 1.0], (rows, CLASSES)),
    }[kind]()


def model_of(form, dtype, seed=2):
    loss, activation, after, *_ = FORMS[form]
    layers = [L.Input((INPUTS,)), L.Dense(HIDDEN, "tanh"), L.Dense(CLASSES, activation), *(kind() for kind in after)]
    model = pn.Sequential(layers, dtype=dtype, seed=seed)
    model.compile("sgd", loss)
    return model


def smoothed(loss, y):
    """Targets as a loss smooths them."""
    share = getattr(loss, "label_smoothing", 0.0)
    return (1 - share) * y + share / (2 if "Binary" in type(loss).__name__ else CLASSES)


def expected(form, model, x, y, weight=None):
    """Mean loss and the gradients of the two layers' weights, by tests/naive.py."""
    loss, activation, _, formula, kind = FORMS[form]
    w1, b1, w2, b2 = model.get_weights()
    z1, h = naive.dense_forward(x, w1, b1, "tanh")
    z2, p = naive.dense_forward(h, w2, b2, activation or "linear")
    fused = formula in ("softmax", "sigmoid")
    given = smoothed(loss, naive.one_hot(y, CLASSES) if kind == "labels" else y)
    _, mean, slope = naive.loss(formula, z2 if fused else p, given, weight, loss.parameter)
    outer = "linear" if fused else activation or "linear"
    dh, dw2, db2 = naive.dense_backward(h, w2, z2, slope, outer)
    _, dw1, db1 = naive.dense_backward(x, w1, z1, dh, "tanh")
    return mean, [dw1, db1, dw2, db2]


def data(form, rng, dtype, rows=ROWS):
    x, y = rng.normal(size=(rows, INPUTS)).astype(dtype), targets(FORMS[form][4], rng, rows)
    return x, y if y.dtype.kind == "i" else y.astype(dtype)


LENGTH = INPUTS + HIDDEN + CLASSES + ROWS


def test_every_loss_is_in_the_forms_of_this_file():
    assert {type(form[0]) for form in FORMS.values()} == set(losses.registry.classes.values())


@every_dtype
@every_form
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradients_match_the_formula(form, weighted, dtype, rng):
    model, (x, y) = model_of(form, dtype), data(form, rng, dtype)
    weight = rng.uniform(0, 2, ROWS).astype(dtype) if weighted else None
    mean, slopes = expected(form, model, x, y, weight)
    value = FORMS[form][0](model(x), y, weight)
    close(value.item(), mean, dtype, LENGTH, 1 + abs(mean), form)
    value.backward()
    for parameter, slope in zip(model.weights, slopes, strict=True):
        close(parameter.grad, slope, dtype, LENGTH, 1.0, f"{form} {parameter.name}")


@every_dtype
@every_form
def test_evaluate_and_train_on_batch_report_the_same_value(form, dtype, rng):
    model, (x, y) = model_of(form, dtype), data(form, rng, dtype)
    mean, slopes = expected(form, model, x, y)
    before = [w.astype(float) for w in model.get_weights()]
    close(model.evaluate(x, y, batch_size=4), mean, dtype, LENGTH, 1 + abs(mean), form)
    close(model.train_on_batch(x, y), mean, dtype, LENGTH, 1 + abs(mean), form)
    for now, old, slope in zip(model.get_weights(), before, slopes, strict=True):
        close(now, old - 0.01 * slope, dtype, LENGTH, 1.0, form)


@every_form
def test_gradients_match_finite_differences(form, rng):
    model, (x, y) = model_of(form, "float64"), data(form, rng, "float64")
    pn.check_gradients(model, FORMS[form][0], x, y)


@every_form
def test_losses_of_plain_arrays_are_those_of_a_models_output(form, rng):
    loss = FORMS[form][0]
    model, (x, y) = model_of(form, "float64"), data(form, rng, "float64")
    p = np.array(model.predict(x))
    close(loss(p, y).item(), expected(form, model, x, y)[0], "float64", LENGTH, 4.0, form)


def test_class_weights_are_sample_weights_by_class(rng):
    one, two = model_of("sparse-fused", "float64"), model_of("sparse-fused", "float64")
    x, y = data("sparse-fused", rng, "float64")
    table = {0: 0.5, 2: 3.0}
    weight = np.array([table.get(int(label), 1.0) for label in y])
    first, second = one.train_on_batch(x, y, class_weight=table), two.train_on_batch(x, y, sample_weight=weight)
    assert first == second
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), two.get_weights(), strict=True))


def test_a_row_of_weight_0_has_no_influence_and_weights_count_linearly(rng):
    x, y = data("sparse-fused", rng, "float64")
    weight = np.ones(ROWS)
    weight[3] = 0
    other = x.copy()
    other[3] += 100
    values = [
        losses.get("sparse_crossentropy")(model_of("sparse-fused", "float64")(a), y, weight).item() for a in (x, other)
    ]
    assert values[0] == values[1]
    doubled = losses.get("sparse_crossentropy")(model_of("sparse-fused", "float64")(x), y, 2 * weight).item()
    assert doubled == 2 * values[0]


@every_dtype
@pytest.mark.parametrize("form", [f for f in FORMS if FORMS[f][3] in ("softmax", "sigmoid")])
@pytest.mark.parametrize("far", [1e4, -1e4])
def test_fused_losses_and_logits_are_stable_far_out(form, far, dtype, rng):
    loss, activation, _, formula, kind = FORMS[form]
    model = pn.Sequential([L.Input((CLASSES,)), L.Dense(CLASSES, activation, use_bias=False)], dtype=dtype)
    model.set_weights([np.eye(CLASSES)])
    x = np.array([[far, 0, 0], [0, far, 0], [far, far, -far]], dtype)
    y = np.array([0, 0, 1]) if kind == "labels" else naive.one_hot([0, 0, 1], CLASSES).astype(dtype)
    _, mean, slope = naive.loss(formula, x, smoothed(loss, naive.one_hot([0, 0, 1], CLASSES)))
    value = loss(model(x), y)
    close(value.item(), mean, dtype, CLASSES, abs(far), form)
    value.backward()
    gradient = model.weights[0].grad
    close(gradient, naive.multiply(x.T, slope), dtype, CLASSES, abs(far), form)


@every_dtype
@pytest.mark.parametrize("form", ["sparse-unfused", "dense-unfused", "binary-unfused"])
def test_unfused_probabilities_of_0_and_1_give_a_finite_loss(form, dtype, rng):
    loss, activation, after, _, kind = FORMS[form]
    layers = [L.Input((CLASSES,)), L.Dense(CLASSES, activation, use_bias=False), *(layer() for layer in after)]
    model = pn.Sequential(layers, dtype=dtype)
    model.set_weights([np.eye(CLASSES)])
    x = np.array([[1e4, 0, -1e4], [-1e4, -1e4, 1e4]], dtype)
    y = np.array([2, 0]) if kind == "labels" else naive.one_hot([2, 0], CLASSES).astype(dtype)
    value = loss(model(x), y)
    value.backward()
    assert 1 < value.item() < 2 * -np.log(naive.EPSILON) and np.isfinite(model.weights[0].grad).all()


@pytest.mark.parametrize("size", [1e-30, 1e-15, 1e15])
def test_small_and_large_numbers_keep_their_relative_accuracy(size, rng):
    model = pn.Sequential([L.Input((2,)), L.Dense(2, use_bias=False)], dtype="float64", seed=1)
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)) * size
    w = model.get_weights()[0] * size
    model.set_weights([w])
    for name, formula in (("mse", "mean_squared"), ("mae", "mean_absolute")):
        p = naive.multiply(x, w)
        mean = naive.loss(formula, p, y)[1]
        power = 2 if name == "mse" else 1
        close(losses.get(name)(model(x), y).item(), mean, "float64", 6, (np.abs(p).max() + np.abs(y).max()) ** power)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "gelu", "softmax"])
@pytest.mark.parametrize("loss", [losses.SparseCategoricalCrossentropy, losses.BinaryCrossentropy])
def test_from_logits_takes_any_last_activation_for_logits(loss, activation, rng):
    layers = [L.Input((INPUTS,)), L.Dense(HIDDEN, "tanh"), L.Dense(CLASSES, activation)]
    model = pn.Sequential(layers, dtype="float64", seed=5)
    y = rng.integers(0, 2, ROWS) if loss is losses.SparseCategoricalCrossentropy else rng.uniform(size=(ROWS, CLASSES))
    pn.check_gradients(model, loss(from_logits=True), rng.normal(size=(ROWS, INPUTS)), y)


@pytest.mark.parametrize("as_layer", [False, True])
@pytest.mark.parametrize("loss, last", [("SparseCategoricalCrossentropy", "softmax"), ("BinaryCrossentropy", "sigmoid")])
def test_fit_warns_of_probabilities_taken_for_logits(loss, last, as_layer, rng):
    end = [L.Dense(2), L.Activation(last)] if as_layer else [L.Dense(2, last)]
    model = pn.Sequential([L.Input((INPUTS,)), *end], seed=1)
    x, y = rng.normal(size=(8, INPUTS)), rng.integers(0, 2, 8)
    y = naive.one_hot(y, 2) if last == "sigmoid" else y
    model.compile("sgd", getattr(losses, loss)(from_logits=True))
    with pytest.warns(
        ParnetWarning, match=rf"ends with {last}, and {loss}\(from_logits=True\).*leave from_logits out"
    ) as told:
        model.fit(x, y, epochs=3, verbose=0)
    assert len(told) == 1
    model.compile("sgd", getattr(losses, loss)())
    model.fit(x, y, verbose=0)  # warnings are errors


@pytest.mark.parametrize("hidden", [None, "tanh", "sigmoid", "elu", "gelu"])
def test_an_activation_layer_at_the_end_is_fused_like_an_activation_of_dense(hidden, rng):
    x, y = rng.normal(size=(ROWS, INPUTS)), rng.integers(0, CLASSES, ROWS)
    model = pn.Sequential([L.Input((INPUTS,)), L.Dense(CLASSES, hidden), L.Activation("softmax")], dtype="float64", seed=5)
    pn.check_gradients(model, "sparse_categorical_crossentropy", x, y)
    shares = rng.uniform(size=(ROWS, CLASSES))
    model = pn.Sequential([L.Input((INPUTS,)), L.Dense(CLASSES, hidden), L.Activation("sigmoid")], dtype="float64", seed=5)
    pn.check_gradients(model, "binary_crossentropy", x, shares)


@every_form
def test_the_same_loss_of_one_output_twice_is_the_same_number(form, rng):
    model, (x, y) = model_of(form, "float64"), data(form, rng, "float64")
    loss, output = FORMS[form][0], model(x)
    first = loss(output, y)
    second = loss(output, y)
    assert second.item() == first.item()
    second.backward()
    for parameter, slope in zip(model.weights, expected(form, model, x, y)[1], strict=True):
        close(parameter.grad, slope, "float64", LENGTH, 1.0, f"{form} {parameter.name}")


@every_form
def test_a_second_backward_of_one_loss_adds_the_same_gradient_or_is_refused(form, rng):
    model, (x, y) = model_of(form, "float64"), data(form, rng, "float64")
    value = FORMS[form][0](model(x), y)
    value.backward()
    once = [p.grad for p in model.weights]
    try:
        value.backward()
    except ParnetError:
        return
    for parameter, gradient in zip(model.weights, once, strict=True):
        close(parameter.grad, 2 * gradient, "float64", LENGTH, 1.0, f"{form} {parameter.name}")


def test_another_loss_of_the_same_output_starts_from_the_same_output(rng):
    model, (x, y) = model_of("mse", "float64"), data("mse", rng, "float64")
    output = model(x)
    values = [losses.get(name)(output, y).item() for name in ("mse", "mae", "mse", "huber", "mae")]
    assert values[0] == values[2] and values[1] == values[4] and len(set(values)) == 3


@pytest.mark.parametrize("form", ["hinge", "squared-hinge"])
def test_hinge_takes_0_and_1_for_minus_1_and_1(form, rng):
    model, (x, y), loss = model_of(form, "float64"), data(form, rng, "float64"), FORMS[form][0]
    assert loss(model(x), (y + 1) / 2).item() == loss(model(x), y).item()
    with pytest.raises(ParnetError, match=rf"{type(loss).__name__} expected targets of -1 and 1"):
        loss(model(x), y * 2)


@pytest.mark.parametrize("loss", [losses.CategoricalCrossentropy, losses.BinaryCrossentropy])
def test_label_smoothing_is_a_share_and_is_saved(loss):
    assert losses.get(losses.registry.dump(loss(label_smoothing=0.25))).label_smoothing == 0.25
    for wrong in (-0.1, 1.5, "0.1", None, np.nan):
        with pytest.raises(HyperparameterError, match=rf"{loss.__name__}\(label_smoothing\): expected a finite number"):
            loss(label_smoothing=wrong)


def test_metrics_see_the_targets_as_they_are_given(rng):
    """Smoothing by more than a half would otherwise turn a yes into a no."""
    x, y = data("binary-fused", rng, "float64")
    logs = []
    for share in (0.0, 0.9):
        model = model_of("binary-fused", "float64")
        model.compile("sgd", losses.BinaryCrossentropy(label_smoothing=share), ["binary_accuracy", "mse", "recall"])
        logs.append(model.evaluate(x, y.round()))
    assert logs[0][1:] == logs[1][1:] and logs[0][0] != logs[1][0]


def test_counts_below_0_and_probabilities_above_1_are_refused(rng):
    for form, wrong in (("poisson", -1.0), ("divergence", 1.5)):
        model, (x, y) = model_of(form, "float64"), data(form, rng, "float64")
        y[2, 1] = wrong
        with pytest.raises(ParnetError, match=f"expected targets from 0 to .*received {wrong:g}"):
            model.evaluate(x, y)


def test_log_cosh_and_divergence_are_finite_where_their_formulas_overflow():
    assert losses.LogCosh()(np.array([[1e4, -1e4]]), np.zeros((1, 2))).item() == pytest.approx(1e4 - np.log(2))
    far = losses.KLDivergence()(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])).item()
    assert far == pytest.approx(np.log(1e7), rel=1e-5)


@pytest.mark.parametrize("form", ["mse", "mae", "huber", "binary-fused", "dense-fused"])
def test_targets_are_never_broadcast(form, rng):
    model, (x, _) = model_of(form, "float64"), data(form, rng, "float64")
    for wrong in (np.ones(ROWS), np.ones((ROWS, 1)), np.ones((1, CLASSES)), np.ones((ROWS, CLASSES + 1))):
        with pytest.raises(ParnetError):
            model.evaluate(x, wrong)
    with pytest.raises(ShapeError):
        model.evaluate(x, np.ones((ROWS, 1)))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "hinge"])
def test_a_loss_that_overflows_stops_training_and_leaves_weights_and_moving_averages_alone(loss, rng):
    layers = [L.Input((2,)), L.Dense(3), L.BatchNormalization(), L.Dense(1)]
    model = pn.Sequential(layers, seed=1)
    model.compile("adam", loss)
    x, y = rng.normal(size=(8, 2)).astype(np.float32), rng.choice([-1.0, 1.0], (8, 1))
    weights = model.get_weights()
    weights[-1][:] = np.float32(3e38)
    weights[-2][:] = np.float32(3e38)
    model.set_weights(weights)
    with pytest.raises(NonFiniteLossError, match="loss became"):
        model.fit(x, y, batch_size=8, verbose=0)
    assert model.optimizer.iterations == 0
    names = [p.name for p in model.weights]
    for name, old, new in zip(names, weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new, err_msg=name)


DIVERGES = """
import numpy as np, parnet as pn
from nets import Parts
from parnet import layers as L
from parnet.errors import NonFiniteLossError
model = pn.Sequential([L.Input((4,)), L.Dense(1)], seed=1)
model.compile("sgd", "mse")
x, ended = np.ones((40, 4), np.float32), 0
for trial in range(600):
    y = np.ones((40, 1), np.float32)
    y[2 * (trial % 19 + 1)] = 3e38
    try:
        model.fit(x, y, batch_size=2, shuffle=False, verbose=0, strategy=Parts(2 + trial % 3))
    except NonFiniteLossError:
        ended += 1
    model.set_weights([np.zeros((4, 1)), np.zeros(1)])
print("ended", ended)
"""


def test_a_diverging_run_of_a_tiny_model_ends_on_any_number_of_threads():
    """Its batches have a single barrier, the one at which the loss is looked at."""
    assert run_python(DIVERGES) == ["ended", "600"]
