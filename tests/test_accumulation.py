"""`gradient_accumulation_steps`: the gradients of k batches make one update, in every way of training."""

import numpy as np
import pytest
from kernelbench import bits
from nets import Parts
from test_optimizers import CLIPPING, FORMS, INPUTS, LENGTH, OUTPUTS, STEEPEST, model_of, slopes
from tolerance import close

import parnet as pn
from parnet import losses, optimizers, schedules
from parnet.errors import HyperparameterError, ParnetWarning, StateError

ROWS, SMALL, GROUP = 48, 4, 4
LARGE = GROUP * SMALL
every_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def data(rng):
    return rng.normal(size=(ROWS, INPUTS)), rng.normal(size=(ROWS, OUTPUTS))


def compiled(form, group=GROUP, dtype="float64", penalty=None, **options):
    model = model_of(dtype, penalty)
    model.compile(FORMS[form][0](gradient_accumulation_steps=group, **options), "mse")
    return model


def trained(form, data, batch, group=GROUP, dtype="float64", epochs=2, strategy="serial", penalty=None, **options):
    model = compiled(form, group, dtype, penalty, **options)
    x, y = (array.astype(dtype) for array in data)
    model.fit(x, y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0, strategy=strategy)
    return model


def compare(model, wanted):
    for parameter, array in zip(model.weights, wanted, strict=True):
        close(parameter.numpy(), array, "float64", LENGTH, STEEPEST, parameter.name)


def same_bits(one, two):
    return all(np.array_equal(bits(a), bits(b)) for a, b in zip(one.get_weights(), two.get_weights(), strict=True))


@pytest.mark.parametrize("clipping", CLIPPING)
@every_form
def test_several_small_batches_are_one_large_one(form, clipping, data):
    more = {"penalty": pn.regularizers.L1L2(0.02, 0.03), **CLIPPING[clipping][0]}
    small, large = trained(form, data, SMALL, **more), trained(form, data, LARGE, group=None, **more)
    assert small.optimizer.iterations == large.optimizer.iterations == 2 * ROWS // LARGE
    assert small.optimizer.batches == GROUP * large.optimizer.batches
    compare(small, large.get_weights())


@every_form
def test_a_group_that_an_epoch_leaves_unfinished_goes_on_in_the_next(form, data):
    """Five batches an epoch, the last one smaller, three an update: one update takes batches of two epochs."""
    x, y = data
    model = compiled(form, 3)
    weights, own = model.get_weights(), [FORMS[form][1]() for _ in range(4)]
    model.fit(x, y, batch_size=10, epochs=3, shuffle=False, verbose=0)
    order = [slice(10 * k, 10 * k + 10) for k in range(5)] * 3
    for first in range(0, 15, 3):
        gradients = [slopes(weights, x[rows], y[rows])[1] for rows in order[first : first + 3]]
        means = [np.mean(several, axis=0) for several in zip(*gradients, strict=True)]
        weights = [rule.step(w, g) for rule, w, g in zip(own, weights, means, strict=True)]
    assert model.optimizer.iterations == 5
    compare(model, weights)


@pytest.mark.parametrize("strategy", [Parts(2), Parts(3)], ids=["two threads", "three threads"])
@every_form
def test_bits_do_not_depend_on_the_threads(form, strategy, data):
    alone = trained(form, data, 5, group=3, dtype="float32", clipnorm=0.05)
    assert same_bits(alone, trained(form, data, 5, group=3, dtype="float32", clipnorm=0.05, strategy=strategy))


def test_workers_have_the_bits_of_one_process(data):
    alone = trained("adam", data, 8, dtype="float32", strategy=pn.strategy.Serial(shards=2))
    server = pn.strategy.ParameterServer(2, shards=2, threads_per_worker=1)
    assert same_bits(alone, trained("adam", data, 8, dtype="float32", strategy=server))
    assert not same_bits(alone, compiled("adam", dtype="float32"))


def test_weights_stand_still_between_two_updates(data):
    model, changed = compiled("momentum"), []
    for first in range(0, ROWS, SMALL):
        before = model.get_weights()
        model.train_on_batch(*(array[first : first + SMALL] for array in data))
        changed.append(any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)))
    assert changed == [False, False, False, True] * (ROWS // LARGE)


@every_form
def test_fit_single_batches_and_the_manual_loop_give_the_same_bits(form, data):
    x, y = (array.astype("float32") for array in data)
    one, two, three = (
        trained(form, data, SMALL, dtype="float32", epochs=1),
        compiled(form, dtype="float32"),
        model_of("float32"),
    )
    rule, loss = FORMS[form][0](gradient_accumulation_steps=GROUP), losses.get("mse")
    rule = type(rule)(three.parameters(), **rule.get_config())
    for first in range(0, ROWS, SMALL):
        rows = slice(first, first + SMALL)
        two.train_on_batch(x[rows], y[rows])
        rule.zero_grad()
        loss(three(x[rows]), y[rows]).backward()
        rule.step()
    assert same_bits(one, two) and same_bits(one, three) and rule.iterations == ROWS // LARGE


def test_a_saved_model_goes_on_in_the_middle_of_a_group(data, tmp_path):
    whole, half = trained("adagrad", data, 8, epochs=2), trained("adagrad", data, 8, epochs=1)
    assert half.optimizer.batches % GROUP == 2
    half.save(tmp_path / "half.parnet")
    again = pn.load_model(tmp_path / "half.parnet")
    assert again.optimizer.gradient_accumulation_steps == GROUP and again.optimizer.batches == half.optimizer.batches
    for model in (half, again):
        model.fit(*data, batch_size=8, epochs=2, initial_epoch=1, shuffle=False, verbose=0)
        assert same_bits(whole, model)


def test_schedules_count_batches_and_adam_counts_updates():
    rule = optimizers.Adam(schedules.PiecewiseConstantDecay([2, 5], [0.4, 0.2, 0.1]), gradient_accumulation_steps=3)
    rates, plain = rule.rates(np.arange(6)), optimizers.Adam(1.0).rates(np.arange(2))[:, 0]
    np.testing.assert_allclose(rates[:, 0], np.repeat(plain, 3) * [0.4, 0.4, 0.4, 0.2, 0.2, 0.2], rtol=1e-14)
    assert rates[:, 2].tolist() == [1, 1, 0, 1, 1, 0] and rates[:, 3].tolist() == [1, 0, 0, 1, 0, 0]
    rule.batches = 5
    assert rule.learning_rate == 0.2 and rule.iterations == 1


def test_a_sum_of_gradients_starts_from_nothing_whatever_the_rule_keeps_starts_from(data):
    """Of a group of two, only the second batch is seen: the update takes half of its gradient."""
    x, y = data
    model, other = compiled("adagrad", 2), model_of("float64", None)
    model.optimizer.batches = 1
    other.compile(FORMS["adagrad"][0](), "mse", loss_weights=0.5)
    for one in (model, other):
        one.train_on_batch(x, y)
    compare(model, other.get_weights())


@every_form
def test_groups_cannot_change_once_there_are_batches(form, data):
    model = compiled(form, None)
    model.optimizer.gradient_accumulation_steps = 2
    model.fit(*data, batch_size=8, shuffle=False, verbose=0)
    assert same_bits(model, trained(form, data, 8, group=2, epochs=1))
    for steps in (3, None):
        with pytest.raises(
            StateError, match=rf"steps cannot change from 2 to {steps} after 6 batches.*compile the model with"
        ):
            model.optimizer.gradient_accumulation_steps = steps
    model.optimizer.gradient_accumulation_steps = 2
    before = model.optimizer.batches
    model.fit(*data, batch_size=8, verbose=0)
    assert model.optimizer.batches == before + 6


@pytest.mark.parametrize("steps", [0, 1, -3, 2.5, "four", True])
def test_groups_of_less_than_two_batches_are_refused(steps):
    with pytest.raises(
        HyperparameterError, match=r"Adam\(gradient_accumulation_steps\): expected a whole number of 2 or more"
    ):
        optimizers.Adam(gradient_accumulation_steps=steps)


@pytest.mark.parametrize("mode", [{"mode": "async"}, {"mode": "ssp"}, {"mode": "local", "every": 2}, {"backup": 1}], ids=str)
def test_workers_at_their_own_pace_refuse_it_before_they_start(mode, data):
    model = compiled("sgd", dtype="float32")
    before = model.get_weights()
    with pytest.raises(HyperparameterError, match="without gradient_accumulation_steps"):
        model.fit(*data, batch_size=8, verbose=0, strategy=pn.strategy.ParameterServer(2, threads_per_worker=1, **mode))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_fit_without_any_update_says_so(data):
    model = compiled("sgd", group=100)
    with pytest.warns(ParnetWarning, match="no weight will change: gradient_accumulation_steps=100 makes an update of 100"):
        model.fit(*data, batch_size=8, epochs=2, verbose=0)
