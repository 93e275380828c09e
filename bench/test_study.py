"""The study itself: what its timing costs, and whether it measures the same twice."""

from __future__ import annotations

import time

import numpy as np
import pytest

from parnet import study
from parnet.config import usable_cores
from parnet.study.design import Point
from parnet.study.sample import take

from . import timing
from .models import compiled
from .peers.serve import NETS

ROUNDS, STUDY_REPEATS = 8, 5
#: epochs of a run of about a second
EPOCHS, ROWS, BATCH = 10, 20_000, 256


def n1():
    """N1; a fresh process finds it here."""
    return compiled("N1", NETS["N1"].rate, 0, metrics=["accuracy"])


def test_timing_of_a_run(benchmark, record, repeats, samples):
    """The seconds of a run of the study, as the study takes them, beside those of the same `fit` without it."""
    x, y = samples.scaled(ROWS), samples.y_train[:ROWS]
    point = Point("N1", "serial", "Serial", 1, BATCH, ROWS, BATCH)
    settings = {"warmup": 1, "epochs": EPOCHS, "seed": 0, "oversubscribe": False, "accuracy": False, "peak": False}

    def studied() -> float:
        found = take(n1, {}, point, {"x": x, "y": y}, settings)
        return sum(found["epochs_s"])

    def plain() -> float:
        history = n1().fit(x, y, batch_size=BATCH, epochs=1 + EPOCHS, verbose=0, strategy="serial")
        return sum(history.timing.epochs_s[1:])

    times = timing.pedantic(benchmark, "studied", {"studied": studied, "plain": plain}, repeats(ROUNDS))
    beside = timing.ratio(times["studied"], times["plain"]).median
    record("a run of a study", timing.summarize(times["studied"]), "s", "study", ratio=beside, against="fit alone")


def test_the_same_twice(benchmark, record, repeats, samples, tmp_path):
    """Two studies, one after the other; the share of configurations whose intervals share a number."""
    strategies = {"threads": [count for count in (1, 2) if count <= usable_cores()]}
    made = []

    def measured() -> None:
        path = tmp_path / f"{len(made)}.jsonl"
        given = {"repeats": max(2, repeats(STUDY_REPEATS)), "batch_size": BATCH, "epochs": 5, "verbose": 0}
        data = samples.scaled(ROWS), samples.y_train[:ROWS]
        begun = time.perf_counter()
        made.append((study.scaling(n1, data, strategies=strategies, path=path, **given), time.perf_counter() - begun))

    benchmark.pedantic(measured, rounds=2, iterations=1)
    (first, took), (second, _) = made[-2:]
    pairs = list(zip(first.results, second.results, strict=True))
    if not all(a.epoch.known and b.epoch.known for a, b in pairs):
        pytest.skip("a run failed")
    agree = float(np.mean([a.epoch.overlaps(b.epoch) for a, b in pairs]))
    worst = max(abs(a.epoch.value / b.epoch.value - 1) for a, b in pairs)
    note = f"{len(pairs)} configurations, medians differ by at most {100 * worst:.1f} %"
    record("two studies, intervals that meet", agree, "share", "two studies", note=note)
    record("a study of N1, serial and threads", took, "s", note=f"{len(first.runs)} runs in fresh processes")
