"""Schedules give the rates of their formulas, for one step or an array of them."""

import json
import math

import numpy as np
import pytest

from parnet import schedules
from parnet.errors import HyperparameterError, UnknownNameError
from parnet.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
    StepDecay,
    WarmUp,
    scale_lr,
)

#: schedule -> step: learning rate, by hand
BY_HAND = {
    "step": (StepDecay(0.8, 0.5, every_steps=10), {0: 0.8, 9: 0.8, 10: 0.4, 19: 0.4, 20: 0.2, 35: 0.1}),
    "exponential": (
        ExponentialDecay(0.1, 100, 0.25),
        {0: 0.1, 50: 0.05, 100: 0.025, 200: 0.00625},
    ),
    "staircase": (
        ExponentialDecay(0.1, 100, 0.25, staircase=True),
        {0: 0.1, 99: 0.1, 100: 0.025, 250: 0.00625},
    ),
    "inverse time": (InverseTimeDecay(0.6, 10, 0.5), {0: 0.6, 10: 0.4, 20: 0.3, 40: 0.2}),
    "inverse time in steps": (InverseTimeDecay(0.6, 10, 0.5, staircase=True), {0: 0.6, 9: 0.6, 19: 0.4, 20: 0.3}),
    "cosine": (
        CosineDecay(0.4, 90),
        {0: 0.4, 30: 0.3, 45: 0.2, 60: 0.1, 90: 0.0, 1000: 0.0},
    ),
    "cosine with floor": (CosineDecay(0.4, 90, alpha=0.5), {0: 0.4, 45: 0.3, 90: 0.2, 1000: 0.2}),
    "cosine after a warm-up": (
        CosineDecay(0.1, 90, warmup_target=0.4, warmup_steps=10),
        {0: 0.1, 5: 0.25, 10: 0.4, 40: 0.3, 55: 0.2, 100: 0.0, 1000: 0.0},
    ),
    "restarts": (
        CosineDecayRestarts(0.4, 30, m_mul=0.5, alpha=0.1),
        {0: 0.4, 10: 0.31, 15: 0.22, 20: 0.13, 30: 0.22, 60: 0.13, 90: 0.13, 150: 0.085, 210: 0.085},
    ),
    "restarts at equal distances": (
        CosineDecayRestarts(0.4, 30, t_mul=1),
        {0: 0.4, 10: 0.3, 20: 0.1, 30: 0.4, 40: 0.3, 300: 0.4, 315: 0.2},
    ),
    "line": (PolynomialDecay(0.5, 10, 0.1), {0: 0.5, 5: 0.3, 10: 0.1, 99: 0.1}),
    "square": (PolynomialDecay(0.5, 10, 0.1, power=2), {0: 0.5, 5: 0.2, 10: 0.1, 99: 0.1}),
    "piecewise": (
        PiecewiseConstantDecay([100, 200], [1.0, 0.5, 0.1]),
        {0: 1.0, 100: 1.0, 101: 0.5, 200: 0.5, 201: 0.1, 9999: 0.1},
    ),
    "warm-up to a number": (WarmUp(0.4, 4), {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 100: 0.4}),
    "warm-up from a start": (WarmUp(0.5, 4, start=0.1), {0: 0.1, 2: 0.3, 4: 0.5}),
    "warm-up to a schedule": (
        WarmUp(CosineDecay(0.4, 90), 10),
        {0: 0.0, 5: 0.2, 10: 0.4, 40: 0.3, 55: 0.2, 100: 0.0},
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_rates_are_those_computed_by_hand(name):
    schedule, rates = BY_HAND[name]
    for step, rate in rates.items():
        assert type(schedule(step)) is float
        assert math.isclose(schedule(step), rate, rel_tol=1e-12, abs_tol=1e-15)


@pytest.mark.parametrize("name", BY_HAND)
def test_an_array_of_steps_gives_each_step_its_rate(name):
    schedule, rates = BY_HAND[name]
    steps = np.array(list(rates), dtype=np.int64)
    many = schedule(steps)
    assert many.shape == steps.shape and many.dtype == np.float64
    np.testing.assert_array_equal(many, [schedule(int(step)) for step in steps])
    assert schedule(steps.reshape(1, -1)).shape == (1, steps.size)


@pytest.mark.parametrize("name", BY_HAND)
def test_configuration_survives_json_nested_schedules_too(name):
    schedule, rates = BY_HAND[name]
    again = schedules.get(json.loads(json.dumps(schedules.registry.dump(schedule))))
    assert type(again) is type(schedule) and again.get_config() == schedule.get_config()
    np.testing.assert_array_equal(again(np.array(list(rates))), schedule(np.array(list(rates))))


@pytest.mark.parametrize("t_mul", [1.0, 1.1, 1.5, 2.0, 3.0])
def test_every_run_of_restarting_cosines_begins_at_the_top(t_mul):
    """Steps just before and at the beginnings of the runs, added up one by one; a logarithm says where they are."""
    schedule, begin = CosineDecayRestarts(1.0, 1000, t_mul), 0.0
    for run in range(12):
        length = 1000 * t_mul**run
        steps = np.array([begin + 1e-6 * length, begin + 0.5 * length, begin + (1 - 1e-6) * length])
        np.testing.assert_allclose(schedule(steps), [1, 0.5, 0], atol=1e-9)
        if t_mul in (1.0, 2.0, 3.0):
            assert schedule(begin) == 1.0
        begin += length


def test_a_rate_grows_with_the_batch_along_a_line_from_the_rate_itself():
    grown = scale_lr(0.1, 512, reference=64, warmup_steps=7)
    assert [round(grown(step), 12) for step in (0, 1, 6, 7, 100)] == [0.1, 0.2, 0.7, 0.8, 0.8]
    assert scale_lr(0.1, 512, reference=64) == 0.8 and scale_lr(0.1, 64, reference=64, warmup_steps=7) == 0.1
    assert scale_lr(0.1, 32, reference=64, warmup_steps=7) == 0.05  # a smaller rate needs no warm-up


def test_every_schedule_is_tested_by_hand():
    assert {type(schedule) for schedule, _ in BY_HAND.values()} == set(schedules.registry.classes.values())


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: StepDecay(-0.1, every_steps=3), ["StepDecay(initial_learning_rate)", "above 0", "-0.1"]),
        (lambda: StepDecay(0.1, drop=2, every_steps=3), ["StepDecay(drop)", "at most 1", "2"]),
        (lambda: ExponentialDecay(0.1, 0, 0.5), ["ExponentialDecay(decay_steps)", "above 0", "received 0"]),
        (lambda: CosineDecay(0.1, 10, alpha=1.5), ["CosineDecay(alpha)", "at most 1", "1.5"]),
        (lambda: CosineDecay(math.inf, 10), ["CosineDecay(initial_learning_rate)", "finite", "inf"]),
        (lambda: CosineDecay("0.1", 10), ["CosineDecay(initial_learning_rate)", "'0.1'"]),
        (lambda: CosineDecayRestarts(0.1, 10, t_mul=0.5), ["CosineDecayRestarts(t_mul)", "at least 1", "0.5"]),
        (lambda: PiecewiseConstantDecay([1, 2], [1, 2]), ["one value more", "2 values", "2 boundaries"]),
        (lambda: PiecewiseConstantDecay([2, 1], [1, 2, 3]), ["rising", "[2, 1]", "sort"]),
        (lambda: WarmUp(0.1, 0), ["WarmUp(warmup_steps)", "above 0"]),
        (lambda: WarmUp(0.1, 5, start=-1), ["WarmUp(start)", "at least 0", "-1"]),
        (lambda: scale_lr(0.1, 0, reference=32), ["scale_lr(batch_size)", "1 or more", "received 0"]),
        (lambda: scale_lr(0.0, 64, reference=32), ["scale_lr(learning_rate)", "above 0"]),
        (lambda: schedules.get("cosine_decay"), ["'cosine_decay'", "needs arguments", "CosineDecay(0.1"]),
        (lambda: schedules.get(CosineDecay), ["CosineDecay", "needs arguments"]),
    ],
)
def test_bad_hyperparameters_say_where_expected_received_and_what_to_do(make, words):
    with pytest.raises(HyperparameterError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'cosine_decay'"):
        schedules.get("cosine_decy")
