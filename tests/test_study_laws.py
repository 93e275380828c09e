"""Laws of scaling: known parameters are found again, published fits are met, and too few points are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parnet.errors import DataError, HyperparameterError, MissingExtraError, UnknownNameError
from parnet.study import laws

pytest.importorskip("scipy")

pytestmark = pytest.mark.study

COUNTS = [1, 2, 4, 8, 16, 32]
#: N. J. Gunther's SPEC SDM91 measurements, as the R package usl (specsdm91) has them: users and throughput
USERS = [1, 18, 36, 72, 108, 144, 216]
THROUGHPUT = [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2]


@pytest.mark.parametrize("name, true", [("amdahl", (0.07,)), ("gustafson", (0.21,)), ("usl", (0.04, 0.0007, 130.0))])
def test_exact_curves_give_their_parameters_back_with_no_residual(name, true):
    made = laws.fit(name, COUNTS, laws.LAWS[name].formula(COUNTS, *true))
    assert made.values == pytest.approx(true, rel=1e-6)
    assert np.abs(made.residuals).max() < 1e-6 * max(made.measured) and made.r2 == pytest.approx(1)


@pytest.mark.parametrize("name, true", [("amdahl", (0.07,)), ("gustafson", (0.21,)), ("usl", (0.04, 0.0007, 130.0))])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(name, true):
    rng, exact = np.random.default_rng(0), laws.LAWS[name].formula(COUNTS, *true)
    held = 0
    for _ in range(40):
        made = laws.fit(name, COUNTS, exact + rng.normal(0, 0.01 * exact.mean(), len(COUNTS)))
        held += made.low[0] <= true[0] <= made.high[0]
    assert 34 <= held <= 40


def test_published_data_give_the_published_fit():
    made = laws.fit("usl", USERS, THROUGHPUT)
    contention, coherency, one = made.values
    assert contention == pytest.approx(0.0277, abs=5e-5)
    assert coherency == pytest.approx(0.000104, abs=5e-7)
    assert one == pytest.approx(89.995, abs=0.01)
    assert made.peak == pytest.approx(96.5, abs=0.1)
    assert made.limit == pytest.approx(float(made.at(96.5)), rel=1e-6)
    assert made.low[0] < contention < made.high[0] and "0.0277" in made.text()


def test_the_unit_of_throughput_changes_nothing_but_one_worker():
    one, thousand = laws.fit("usl", USERS, THROUGHPUT), laws.fit("usl", USERS, 1000 * np.array(THROUGHPUT))
    assert thousand.values[:2] == pytest.approx(one.values[:2], rel=1e-4)
    assert thousand.values[2] == pytest.approx(1000 * one.values[2], rel=1e-4)


def test_limits_follow_from_the_parameters():
    made = laws.fit("amdahl", COUNTS, laws.amdahl(COUNTS, 0.05))
    assert made.limit == pytest.approx(20) and math.isinf(made.peak)
    flat = laws.fit("usl", COUNTS, laws.usl(COUNTS, 0.1, 0.0, 10.0))
    assert flat.limit == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("name, enough", [("amdahl", 3), ("gustafson", 3), ("usl", 4)])
def test_too_few_different_counts_are_refused_with_the_reason(name, enough):
    few = COUNTS[: enough - 1]
    with pytest.raises(
        DataError, match=rf"expected {enough} or more different numbers of workers.*received {len(few)} \(1, 2"
    ):
        laws.fit(name, few * 5, [1.0] * len(few) * 5)
    laws.fit(name, COUNTS[:enough] * 5, laws.LAWS[name].formula(COUNTS[:enough] * 5, *laws.LAWS[name].start))


def test_what_is_no_measurement_is_refused():
    with pytest.raises(UnknownNameError, match="amdahl, gustafson, usl"):
        laws.fit("moore", COUNTS, COUNTS)
    for workers, values in (
        ([1, 2, 3], [1, 2]),
        ([0, 2, 3], [1, 2, 3]),
        ([1, 2, 3], [1, np.nan, 3]),
        ([1, 2, 3], [1, -2, 3]),
    ):
        with pytest.raises(HyperparameterError, match="Amdahl: expected"):
            laws.fit("amdahl", workers, values)


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r"parnet\[study\]"):
        laws.fit("amdahl", COUNTS, COUNTS)
