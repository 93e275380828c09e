"""Every optimizer through a model: Keras's formulas, clipping, penalties, schedules, in each way of training."""

import naive
import naive_optimizers as rules
import numpy as np
import pytest
from kernelbench import bits
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet import losses, optimizers, schedules
from parnet.errors import HyperparameterError, ParnetWarning, StateError, UnknownNameError
from parnet.regularizers import L1, L1L2, L2

ROWS, INPUTS, HIDDEN, OUTPUTS, STEPS = 8, 5, 7, 3, 6
LENGTH = STEPS * (ROWS + INPUTS + HIDDEN + OUTPUTS)

#: label -> (optimizer, the same by tests/naive_optimizers.py)
FORMS = {
    "sgd": (lambda **k: optimizers.SGD(0.1, **k), lambda: rules.SGD(lr=0.1)),
    "momentum": (lambda **k: optimizers.SGD(0.1, momentum=0.8, **k), lambda: rules.Momentum(lr=0.1, momentum=0.8)),
    "nesterov": (
        lambda **k: optimizers.SGD(0.1, momentum=0.8, nesterov=True, **k),
        lambda: rules.Nesterov(lr=0.1, momentum=0.8),
    ),
    "rmsprop": (
        lambda **k: optimizers.RMSprop(0.01, rho=0.8, epsilon=1e-3, **k),
        lambda: rules.RMSprop(lr=0.01, rho=0.8, epsilon=1e-3),
    ),
    "rmsprop-momentum": (
        lambda **k: optimizers.RMSprop(0.01, rho=0.8, momentum=0.5, epsilon=1e-3, **k),
        lambda: rules.RMSprop(lr=0.01, rho=0.8, momentum=0.5, epsilon=1e-3),
    ),
    "adam": (
        lambda **k: optimizers.Adam(0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3, **k),
        lambda: rules.Adam(lr=0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    ),
    "adamw": (
        lambda **k: optimizers.AdamW(0.05, weight_decay=0.1, epsilon=1e-3, **k),
        lambda: rules.Adam(lr=0.05, beta_1=0.9, beta_2=0.999, epsilon=1e-3, weight_decay=0.1),
    ),
    "adamw-amsgrad": (
        lambda **k: optimizers.AdamW(0.05, weight_decay=0.1, beta_2=0.9, epsilon=1e-3, amsgrad=True, **k),
        lambda: rules.AMSGrad(lr=0.05, beta_1=0.9, beta_2=0.9, epsilon=1e-3, weight_decay=0.1),
    ),
    "adamax": (
        lambda **k: optimizers.Adamax(0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3, **k),
        lambda: rules.Adamax(lr=0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    ),
    "nadam": (
        lambda **k: optimizers.Nadam(0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3, **k),
        lambda: rules.Nadam(lr=0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    ),
    "adadelta": (
        lambda **k: optimizers.Adadelta(1.0, rho=0.9, epsilon=1e-3, **k),
        lambda: rules.Adadelta(lr=1.0, rho=0.9, epsilon=1e-3),
    ),
    "lion-decay": (
        lambda **k: optimizers.Lion(0.02, weight_decay=0.3, **k),
        lambda: rules.Lion(lr=0.02, beta_1=0.9, beta_2=0.99, weight_decay=0.3),
    ),
    "sgd-decay": (
        lambda **k: optimizers.SGD(0.1, weight_decay=0.2, **k),
        lambda: rules.SGD(lr=0.1, weight_decay=0.2),
    ),
    "nesterov-decay": (
        lambda **k: optimizers.SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.2, **k),
        lambda: rules.Nesterov(lr=0.1, momentum=0.8, weight_decay=0.2),
    ),
    "adagrad": (
        lambda **k: optimizers.Adagrad(0.1, initial_accumulator_value=0.3, epsilon=1e-3, **k),
        lambda: rules.Adagrad(lr=0.1, start=0.3, epsilon=1e-3),
    ),
}
every_form = pytest.mark.parametrize("form", FORMS)
CLIPPING = {
    "none": ({}, lambda g: g),
    "clipnorm": ({"clipnorm": 0.05}, lambda g: rules.clip_norm(g, 0.05)),
    "global_clipnorm": ({"global_clipnorm": 0.1}, lambda g: rules.clip_global_norm(g, 0.1)),
    "clipvalue": ({"clipvalue": 0.01}, lambda g: rules.clip_value(g, 0.01)),
}


def model_of(dtype="float64", penalty=None, seed=3):
    layers = [
        L.Input((INPUTS,)),
        L.Dense(HIDDEN, "tanh", kernel_regularizer=penalty),
        L.Dense(OUTPUTS, bias_regularizer=penalty),
    ]
    return pn.Sequential(layers, dtype=dtype, seed=seed)


@pytest.fixture
def batches(rng):
    """STEPS batches; every second one twice as large as the others' targets, so that clipping is on and off."""
    x = rng.normal(size=(STEPS * ROWS, INPUTS))
    y = rng.normal(size=(STEPS * ROWS, OUTPUTS)) * np.repeat(np.resize([0.02, 2.0], STEPS), ROWS)[:, None]
    return x, y


def slopes(weights, x, y, penalty=None):
    """Mean squared error and its gradients by all weights, penalties included."""
    w1, b1, w2, b2 = weights
    z, h = naive.dense_forward(x, w1, b1, "tanh")
    _, p = naive.dense_forward(h, w2, b2)
    _, mean, dp = naive.loss("mean_squared", p, y)
    dh, dw2, db2 = naive.dense_backward(h, w2, p, dp)
    _, dw1, db1 = naive.dense_backward(x, w1, z, dh, "tanh")
    if penalty is not None:
        (one, slope1), (two, slope2) = (rules.penalty(w, penalty.l1, penalty.l2) for w in (w1, b2))
        mean, dw1, db2 = mean + one + two, dw1 + slope1, db2 + slope2
    return mean, [dw1, db1, dw2, db2]


def by_hand(form, weights, x, y, change=lambda g: g, penalty=None):
    """Weights after STEPS updates, and the losses on the way."""
    own, log = [FORMS[form][1]() for _ in weights], []
    for step in range(STEPS):
        rows = slice(step * ROWS, (step + 1) * ROWS)
        mean, gradients = slopes(weights, x[rows], y[rows], penalty)
        log.append(mean)
        weights = [rule.step(w, g) for rule, w, g in zip(own, weights, change(gradients), strict=True)]
    return weights, log


def fitted(form, x, y, penalty=None, dtype="float64", **options):
    model = model_of(dtype, penalty)
    start = model.get_weights()
    model.compile(FORMS[form][0](**options), "mse")
    history = model.fit(x.astype(dtype), y.astype(dtype), batch_size=ROWS, shuffle=False, verbose=0)
    assert model.optimizer.iterations == STEPS
    return model, start, history


#: change of a weight by a change of its gradient, at most: rate / epsilon where a rule divides by the gradient's size
STEEPEST = 0.05 / 1e-3


def compare(form, model, wanted, dtype="float64"):
    size = (1 + max(np.abs(w).max() for w in wanted)) * (1 if form in ("sgd", "momentum", "nesterov") else STEEPEST)
    for parameter, array in zip(model.weights, wanted, strict=True):
        close(parameter.numpy(), array, dtype, LENGTH, size, parameter.name)


def test_every_optimizer_is_in_the_forms_of_this_file():
    assert {type(make()) for make, _ in FORMS.values()} == set(optimizers.registry.classes.values())


@pytest.mark.parametrize("clipping", CLIPPING)
@every_form
def test_six_updates_follow_the_formulas(form, clipping, batches):
    options, change = CLIPPING[clipping]
    model, start, history = fitted(form, *batches, **options)
    wanted, log = by_hand(form, start, *batches, change)
    compare(form, model, wanted)
    close(history.history["loss"], [np.mean(log)], "float64", LENGTH, STEEPEST)
    if clipping != "none":
        free, _ = by_hand(form, start, *batches)
        assert not np.allclose(free[0], wanted[0])  # the limits of this test do bite


@pytest.mark.parametrize("penalty", [L1(0.02), L2(0.03), L1L2(0.02, 0.03)], ids=repr)
@every_form
def test_penalties_are_in_the_loss_and_in_the_gradients(form, penalty, batches):
    model, start, history = fitted(form, *batches, penalty)
    wanted, log = by_hand(form, start, *batches, penalty=penalty)
    compare(form, model, wanted)
    close(history.history["loss"], [np.mean(log)], "float64", LENGTH, STEEPEST)


@every_form
def test_float32_follows_the_formulas_as_far_as_it_can(form, batches):
    model, start, _ = fitted(form, *batches, dtype="float32")
    wanted, _ = by_hand(form, start, *(array.astype(np.float32) for array in batches))
    compare(form, model, wanted, "float32")


def manual(form, x, y, dtype="float32", **options):
    model = model_of(dtype)
    rule = FORMS[form][0](**options)
    rule = type(rule)(model.parameters(), **rule.get_config())
    loss = losses.get("mse")
    for step in range(STEPS):
        rows = slice(step * ROWS, (step + 1) * ROWS)
        rule.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        rule.step()
    return model


@pytest.mark.parametrize("clipping", CLIPPING)
@every_form
def test_fit_single_batches_and_the_manual_loop_give_the_same_bits(form, clipping, batches):
    x, y = (array.astype(np.float32) for array in batches)
    options = CLIPPING[clipping][0]
    one, *_ = fitted(form, x, y, dtype="float32", **options)
    two = model_of("float32")
    two.compile(FORMS[form][0](**options), "mse")
    for step in range(STEPS):
        two.train_on_batch(x[step * ROWS : (step + 1) * ROWS], y[step * ROWS : (step + 1) * ROWS])
    three = manual(form, x, y, **options)
    for a, b, c in zip(one.get_weights(), two.get_weights(), three.get_weights(), strict=True):
        assert np.array_equal(bits(a), bits(b)) and np.array_equal(bits(a), bits(c))


def test_gradients_of_several_backward_passes_add_up(batches):
    x, y = batches
    model, loss = model_of(), losses.get("mse")
    rule = optimizers.SGD(model.parameters(), lr=0.1)
    rule.zero_grad()
    total = [np.zeros(p.shape) for p in model.weights]
    for step in range(3):
        rows = slice(step * ROWS, (step + 1) * ROWS)
        loss(model(x[rows]), y[rows]).backward()
        total = [t + g for t, g in zip(total, slopes(model.get_weights(), x[rows], y[rows])[1], strict=True)]
    for parameter, gradient in zip(model.weights, total, strict=True):
        close(parameter.grad, gradient, "float64", LENGTH, 10.0, parameter.name)
    rule.zero_grad()
    assert not any(p.grad.any() for p in model.weights)
    loss(model(x[:ROWS]), y[:ROWS]).backward()
    for parameter, gradient in zip(model.weights, slopes(model.get_weights(), x[:ROWS], y[:ROWS])[1], strict=True):
        close(parameter.grad, gradient, "float64", LENGTH, 10.0, parameter.name)


@every_form
def test_a_schedule_gives_each_update_its_rate(form, batches):
    x, y = batches
    rates = [0.1, 0.02, 0.3, 0.0, 0.05, 0.2]
    schedule = schedules.PiecewiseConstantDecay(list(range(STEPS - 1)), rates)
    model = model_of()
    weights, own = model.get_weights(), [FORMS[form][1]() for _ in range(4)]
    rule = FORMS[form][0]()
    model.compile(type(rule)(**(rule.get_config() | {"learning_rate": schedule})), "mse")
    model.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    for step, rate in enumerate(schedule(np.arange(STEPS))):
        rows = slice(step * ROWS, (step + 1) * ROWS)
        for one in own:
            one.lr = rate
        gradients = slopes(weights, x[rows], y[rows])[1]
        weights = [one.step(w, g) for one, w, g in zip(own, weights, gradients, strict=True)]
    compare(form, model, weights)


@every_form
def test_a_rate_of_0_changes_no_weight(form, batches):
    model = model_of("float32")
    start = model.get_weights()
    rule = FORMS[form][0]()
    model.compile(type(rule)(**(rule.get_config() | {"learning_rate": 0.0})), "mse")
    model.fit(*batches, batch_size=ROWS, verbose=0)
    assert all(np.array_equal(bits(a), bits(b)) for a, b in zip(start, model.get_weights(), strict=True))


@every_form
def test_configuration_makes_the_same_optimizer(form, batches):
    rule = FORMS[form][0](clipnorm=0.5)
    again = optimizers.get(optimizers.registry.dump(rule))
    assert type(again) is type(rule) and again.get_config() == rule.get_config()


def test_a_new_optimizer_starts_with_fresh_slots(batches):
    x, y = batches
    model, other = model_of(), model_of()
    start = model.get_weights()
    model.compile("adam", "mse")
    model.fit(x, y, batch_size=ROWS, verbose=0)
    for form in ("adagrad", "rmsprop-momentum", "momentum"):
        for one in (model, other):
            one.set_weights(start)
            one.compile(FORMS[form][0](), "mse")
            one.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
        for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
            assert np.array_equal(bits(a), bits(b)), form


def test_a_weight_decay_assigned_later_takes_effect(batches):
    x, y = batches
    model, other = model_of("float32"), model_of("float32")
    model.compile(optimizers.SGD(0.1), "mse")
    other.compile(optimizers.SGD(0.1), "mse")
    for one in (model, other):
        one.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    model.optimizer.weight_decay = 0.5
    other.compile(optimizers.SGD(0.1, weight_decay=0.5), "mse")
    for one in (model, other):
        one.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    assert all(np.array_equal(bits(a), bits(b)) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("updates", [1, 5, 999, 1000, 1001, 20_000])
def test_the_momenta_of_nadam_multiply_up_at_any_age(updates):
    rule = optimizers.Nadam(beta_1=0.9999)
    wanted = np.prod([0.9999 * (1 - 0.5 * 0.96**t) for t in range(1, updates + 1)])
    np.testing.assert_allclose(rule._product(np.array([float(updates)])), wanted, rtol=1e-9)


def test_nadam_takes_no_weight_decay():
    with pytest.raises(HyperparameterError, match=r"Nadam\(weight_decay\): expected None, received 0.1; take AdamW"):
        optimizers.Nadam(weight_decay=0.1)


def test_iterations_go_on_from_fit_to_fit(batches):
    x, y = batches
    once, twice = model_of(), model_of()
    for model, epochs in ((once, [2]), (twice, [1, 2])):
        model.compile("adam", "mse")
        for k, last in enumerate(epochs):
            model.fit(x, y, batch_size=ROWS, epochs=last, initial_epoch=k, verbose=0)
        assert model.optimizer.iterations == 2 * STEPS
    assert all(np.array_equal(bits(a), bits(b)) for a, b in zip(once.get_weights(), twice.get_weights(), strict=True))


def test_a_step_without_gradients_is_refused_and_a_second_one_warned_about(batches):
    model = model_of()
    rule = optimizers.Adam(model.parameters())
    with pytest.raises(StateError, match="no gradients"):
        rule.step()
    losses.get("mse")(model(batches[0][:ROWS]), batches[1][:ROWS]).backward()
    rule.step()
    with pytest.warns(ParnetWarning, match="without zero_grad"):
        rule.step()


def test_a_gradient_below_its_limit_is_not_touched(batches):
    x, y = (array.astype(np.float32) for array in batches)
    free, *_ = fitted("adam", x, y, dtype="float32")
    loose, *_ = fitted("adam", x, y, dtype="float32", clipnorm=1e6, clipvalue=1e6)
    assert all(np.array_equal(bits(a), bits(b)) for a, b in zip(free.get_weights(), loose.get_weights(), strict=True))


def test_lr_reads_and_sets_the_learning_rate():
    rule = optimizers.SGD(0.1)
    rule.lr = 0.5
    assert rule.learning_rate == rule.lr == 0.5 and rule.rates(np.arange(2))[:, 0].tolist() == [0.5, 0.5]
    assert "lr" not in rule.get_config()


def test_attributes_that_mean_nothing_are_refused():
    rule = optimizers.SGD(0.1, momentum=0.9)
    with pytest.raises(UnknownNameError, match=r"SGD: attribute.*'momentun'. Did you mean 'momentum'\?"):
        rule.momentun = 0.5


@pytest.mark.parametrize("name, value", [("momentum", 0.5), ("nesterov", True), ("clipnorm", 0.01), ("learning_rate", 0.02)])
@pytest.mark.parametrize("compiled", [False, True])
def test_arguments_assigned_later_do_what_those_of_the_call_do(compiled, name, value, rng):
    x, y = rng.normal(size=(24, INPUTS)), rng.normal(size=(24, OUTPUTS))
    start = {"momentum": 0.9} if name in ("momentum", "nesterov") else {}
    rules = optimizers.SGD(0.1, **start), optimizers.SGD(**{"learning_rate": 0.1, **start, name: value})
    models = [model_of("float64", None) for _ in rules]
    if not compiled:
        setattr(rules[0], name, value)
    for model, rule in zip(models, rules, strict=True):
        model.compile(rule, "mse")
    if compiled:
        setattr(rules[0], name, value)
    for model in models:
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert rules[0].get_config() == rules[1].get_config()
    for one, two in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, two)


def test_momentum_can_be_turned_on_before_the_first_batch_and_changed_after_it(rng):
    x, y = rng.normal(size=(8, INPUTS)), rng.normal(size=(8, OUTPUTS))
    for cls in (optimizers.SGD, optimizers.RMSprop):
        rule, model = cls(0.1), model_of("float64", None)
        model.compile(rule, "mse")
        rule.momentum = 0.5
        assert rule.kernel == cls(momentum=0.5).kernel and rule.slots == cls(momentum=0.5).slots
        model.train_on_batch(x, y)
        rule.momentum = 0.25
        model.train_on_batch(x, y)
        with pytest.raises(
            StateError, match=rf"momentum cannot change from 0.25 to 0.0 after 2 batches.*new {cls.__name__}"
        ):
            rule.momentum = 0.0
        assert rule.momentum == 0.25


def test_arguments_assigned_later_are_checked_as_those_of_the_call():
    rule = optimizers.Adam(beta_1=0.8)
    for name, value in {
        "beta_1": 2,
        "epsilon": 0,
        "clipnorm": -1,
        "gradient_accumulation_steps": 1,
        "clipvalue": "x",
    }.items():
        with pytest.raises(HyperparameterError, match=rf"Adam\({name}\)"):
            setattr(rule, name, value)
    assert (rule.beta_1, rule.epsilon, rule.clipnorm) == (0.8, 1e-7, None)


def test_what_only_the_call_takes_is_refused_when_assigned():
    rule = optimizers.SGD(0.1)
    with pytest.raises(HyperparameterError, match=r"expected decay when the optimizer is made, .* assign a schedule"):
        rule.decay = 0.5
    assert "decay" not in rule.get_config()
    rule = optimizers.Adagrad(0.1, initial_accumulator_value=0.3)
    with pytest.raises(HyperparameterError, match=r"expected initial_accumulator_value when the optimizer is made"):
        rule.initial_accumulator_value = 0.5
    assert rule.initial_accumulator_value == 0.3


def test_arguments_are_assigned_beside_a_schedule_of_ones_own():
    class Mine(pn.schedules.Schedule):
        def __call__(self, step):
            return 0.1

    rule = optimizers.Adam(Mine())
    rule.clipnorm = 1.0
    assert rule.clipnorm == 1.0 and rule.learning_rate == 0.1


def test_corrections_of_the_wrong_shape_are_refused():
    class Own(optimizers.SGD):
        def correction(self, updates):
            return np.ones(len(updates))

    with pytest.raises(
        HyperparameterError, match=r"Own.correction: expected an array \(2, 2\), two factors for each update"
    ):
        Own(0.1).rates(np.arange(2))
