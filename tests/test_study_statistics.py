"""From raw times to tables: every number against a plainer way to get it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from studies import design, run, study, threads

from parnet.errors import DataError, HyperparameterError, UnknownNameError
from parnet.study import markup, statistics
from parnet.study.laws import Fit, amdahl
from parnet.study.records import Records
from parnet.study.result import Study


def perfect(point):
    return 1 / point.workers


def test_the_bootstrap_interval_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).normal(10, 1, 1001)
    mine = statistics.median(values)
    theirs = stats.bootstrap((values,), np.median, method="percentile", n_resamples=9999).confidence_interval
    assert mine.value == np.median(values)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_the_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        found = statistics.ratio(rng.normal(2, 0.1, 15), rng.normal(1, 0.05, 15))
        held += found.low <= 2 <= found.high
    assert held >= 52


def test_one_run_has_no_interval():
    found = statistics.median([2.0])
    assert found.value == 2 and not found.known and math.isnan(found.width)


@pytest.mark.parametrize("serial", [0.0, 0.03, 0.5])
@pytest.mark.parametrize("workers", [2, 8])
def test_karp_flatt_gives_amdahls_serial_part_back(serial, workers):
    assert statistics.karp_flatt(float(amdahl(workers, serial)), workers) == pytest.approx(serial, abs=1e-12)
    assert math.isnan(statistics.karp_flatt(1.0, 1))


def test_speedup_is_over_the_best_serial_run_and_not_over_one_worker():
    times = {("serial", 1): 1.0, ("threads", 1): 1.25, ("threads", 2): 0.625}
    made = study(lambda p: times[p.strategy, p.workers], threads(1, 2), noise=0.0)
    serial, one, two = made.results
    assert (serial.speedup.value, one.speedup.value, two.speedup.value) == pytest.approx((1, 0.8, 1.6))
    assert two.relative.value == pytest.approx(2) and two.efficiency.value == pytest.approx(0.8)
    assert two.karp_flatt.value == pytest.approx((1 / 1.6 - 0.5) / 0.5)
    assert two.rate.value == pytest.approx(20_000 / 0.625)
    assert two.gflops == pytest.approx(6.4 / 0.625) and two.peak == pytest.approx(6.4 / 0.625 / 200)


def test_weak_speedup_is_scaled_by_the_workers():
    made = study(lambda p: 1.0 + 0.1 * (p.workers - 1), threads(1, 2, 4), kind="weak", noise=0.0)
    four = made.results[-1]
    assert (four.point.rows, four.point.batch) == (20_000, 1024)
    assert four.speedup.value == pytest.approx(4 / 1.3) and four.efficiency.value == pytest.approx(1 / 1.3)


def test_shares_add_up_to_the_epoch():
    made = study(perfect, threads(2))
    for r in made.results:
        assert r.compute + r.wait + r.comm + r.update + r.other == pytest.approx(1)
    assert made.results[1].wait == pytest.approx(0.1) and made.results[1].update == pytest.approx(0.05)


def test_time_to_accuracy_counts_only_what_every_run_reached():
    plan = design(threads(2), target=0.9)
    records = Records(plan, {})
    for number, point in plan.rounds():
        curve = [(1.0, 0.5), (2.0 + number, 0.95)] if point.workers == 2 else [(1.0, 0.5), (2.0, 0.89 + 0.02 * (number > 0))]
        records.add(run(point, number, 1.0, curve=curve))
    serial, two = Study(records).results
    assert two.target.value == 4.0 and math.isnan(serial.target.value)


def test_failed_runs_count_for_nothing_but_are_told():
    plan = design(threads(2), repeats=3)
    records = Records(plan, {})
    for number, point in plan.rounds():
        good = run(point, number, 1.0)
        records.add({"point": point.config(), "round": number, "failure": "ended by signal 9"} if number == 1 else good)
    made = Study(records)
    assert [r.runs for r in made.results] == [2, 2] and made.results[0].failures == ("ended by signal 9",)
    assert any("1 run failed; the last: ended by signal 9" in line for line in made.warnings())


def test_a_point_without_a_run_makes_dashes_and_no_trouble():
    plan = design(threads(2))
    made = Study(Records(plan, {}))
    assert markup.NOTHING in made.table() and made.findings() == [] and made.fits("mlp", 256) == {}


def test_all_tables_hold_the_same_numbers():
    made = study(lambda p: 1 / p.workers**0.9, threads(1, 2, 4))
    text, markdown, latex = (made.table(form) for form in ("text", "markdown", "latex"))
    cell = markup.interval(made.results[-1].speedup)
    assert all(cell in table for table in (text, markdown, latex))
    assert markdown.count("\n|") == 6 and latex.count(r"\\") == 5 and r"95 \% interval" in latex
    assert len({line.count("&") for line in latex.splitlines() if line.endswith(r"\\")}) == 1
    with pytest.raises(UnknownNameError, match="latex, markdown, text"):
        made.table("word")


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0012345, "0.00123"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (999.6, "1,000"),
        (0, "0"),
        (math.nan, "–"),
        (1e-9, "1.00e-09"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert markup.number(value) == text


@pytest.mark.study
def test_a_law_is_fitted_to_the_raw_times():
    pytest.importorskip("scipy")
    made = study(lambda p: float(1 / amdahl(p.workers, 0.06)), threads(1, 2, 4, 8, 16), noise=0.005)
    found = made.fit("amdahl", "threads")
    assert found.values[0] == pytest.approx(0.06, abs=0.01) and len(found.measured) == 25
    assert isinstance(made.fits("mlp", 256)["threads"]["usl"], Fit)
    with pytest.raises(HyperparameterError, match="Gustafson's for weak"):
        made.fit("gustafson", "threads")
    with pytest.raises(UnknownNameError, match="expected one of threads"):
        made.fit("amdahl", "treads")


@pytest.mark.study
def test_too_few_counts_make_a_reason_and_not_a_fit():
    pytest.importorskip("scipy")
    made = study(perfect, threads(1, 2))
    assert "expected 3 or more different numbers of workers" in made.fits("mlp", 256)["threads"]["amdahl"]
    with pytest.raises(DataError):
        made.fit("usl", "threads")
