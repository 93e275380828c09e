"""What the server does with the gradients that have come: means over those who contributed, and rates of updates."""

from __future__ import annotations

import json
import sys
from collections import Counter

import numpy as np
import pytest
from nets import digest
from server_cases import BATCH, EPOCHS, FAULTY, ROWS, data, fitted, server

import parnet as pn
from parnet import layers as L
from parnet.errors import ParnetWarning
from parnet.executors.faults import VARIABLE
from parnet.executors.solo import UpdateProgram

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are injected by Linux's signals")

BATCHES = -(-ROWS // BATCH)


def bare(optimizer, dtype="float64"):
    """A network without chance, penalties and clipping."""
    net = pn.Sequential([L.Dense(24, activation="tanh", input_shape=(12,)), L.Dense(4, "softmax")], seed=5, dtype=dtype)
    net.compile(optimizer, "sparse_categorical_crossentropy")
    return net


def test_an_update_is_the_mean_over_those_who_contributed_and_over_nobody_else(monkeypatch):
    """A worker of two is lost before its first gradient: each step is that of serial training on the other's rows alone."""
    fault = {"worker": FAULTY, "phase": "compute", "batch": "all", "how": "kill"}
    monkeypatch.setenv(VARIABLE, json.dumps(fault))
    with pytest.warns(ParnetWarning, match="are left out"):
        net, history = fitted(
            server(2, None, backup=1, on_failure="shrink"), bare(pn.optimizers.SGD(0.1, momentum=0.9)), shuffle=False
        )
    (x, y), alone = data(), bare(pn.optimizers.SGD(0.1, momentum=0.9))
    for first in [*range(0, ROWS, BATCH)] * EPOCHS:
        rows = slice(first, first + min(BATCH, ROWS - first) // 2)  # the shard of worker 0; that of the last row is empty
        if rows.stop > rows.start:
            alone.train_on_batch(x[rows], y[rows])
    for mine, theirs in zip(net.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
    assert history.timing.server.missed_rows == EPOCHS * (ROWS - ROWS // 2)


@pytest.mark.parametrize(
    "rule",
    [
        pn.optimizers.Nadam(0.01),
        pn.optimizers.Lion(0.01, weight_decay=0.1),
        pn.optimizers.Adam(0.01, amsgrad=True, clipnorm=0.5),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_workers_in_step_give_the_bits_of_one_process_with_any_rule(rule):
    again = pn.optimizers.registry.load(pn.optimizers.registry.dump(rule))
    (net, _), (alone, _) = fitted(server(2, 4), bare(rule, "float32")), fitted(pn.strategy.Serial(4), bare(again, "float32"))
    assert digest(net) == digest(alone)


@pytest.fixture
def used(monkeypatch):
    """(step of the training, rate) of each update, in their order."""
    seen, feeds, update, connect = [], [], UpdateProgram.update, UpdateProgram.connect

    def watched(self, executor, batch, shards, rows):
        seen.append(((len(feeds) - 1) * BATCHES + batch, feeds[-1].rates[batch, 0]))
        return update(self, executor, batch, shards, rows)

    def connected(self, feed):
        feeds.append(feed)
        connect(self, feed)

    monkeypatch.setattr(UpdateProgram, "update", watched)
    monkeypatch.setattr(UpdateProgram, "connect", connected)
    return seen


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_adam_corrects_its_averages_by_the_number_of_updates_and_schedules_follow_the_batches(mode, used):
    """In mode async a batch is two updates, in ssp without staleness one: that has the rates of serial training."""
    schedule = pn.schedules.InverseTimeDecay(0.01, 1, 0.5)
    fitted(server(2, None, mode=mode), bare(pn.optimizers.Adam(schedule)))
    rule = pn.optimizers.Adam(schedule)
    assert len(used) >= EPOCHS * BATCHES and (mode == "async") == (len(used) > EPOCHS * BATCHES)
    for k, (step, rate) in enumerate(used):
        assert rate == pytest.approx(schedule(step) * rule.correction(np.array([k]))[0, 0], rel=1e-12)


def test_a_damped_rate_falls_with_the_staleness_of_the_gradient(used):
    _, history = fitted(server(3, None, mode="async", damped=True), bare(pn.optimizers.SGD(0.1)), epochs=4)
    staleness = [0.1 / rate - 1 for _, rate in used]
    assert np.allclose(staleness, np.round(staleness)) and max(staleness) > 0.5
    assert Counter(np.round(staleness).astype(int).tolist()) == history.timing.server.staleness
