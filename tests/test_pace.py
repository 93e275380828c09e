"""Threads that lack cores give way to one thread and come back; one thread doing all parts gives the same bits."""

import numpy as np
import pytest
from nets import Parts, digest, images, n1, n2
from subprocesses import run_python

import parnet as pn
from parnet import layers as L
from parnet.config import usable_cores
from parnet.errors import NonFiniteLossError
from parnet.executors.pace import FIRST_PAUSE_S, LONGEST_PAUSE_S, Pace
from parnet.executors.threads import ThreadsExecutor


def test_threads_that_work_are_never_tried_against_one():
    pace = Pace()
    for now in range(100):
        assert pace.to_try(1000, now) == 0
        pace.ran(1e-4, 0.5)


def test_threads_that_wait_give_way_to_a_faster_thread_alone():
    pace = Pace()
    pace.ran(5e-3, 0.9)
    assert pace.to_try(1000, now=10.0) == 1  # no longer than a tenth of the pause
    assert pace.tried(1e-4, now=10.0) and pace.alone
    pace.ran(1e-4, 0.0)
    assert pace.to_try(1000, now=10.0 + 0.9 * FIRST_PAUSE_S) == 0


def test_threads_that_wait_and_are_still_faster_go_on_and_are_doubted_less_and_less():
    pace, tries, now = Pace(), [], 0.0
    while len(tries) < 14:
        pace.ran(1e-3, 0.9)
        if pace.to_try(10, now):
            tries.append(now)
            assert not pace.tried(2e-3, now) and not pace.alone
        now += FIRST_PAUSE_S / 2
    gaps = np.diff(tries)
    assert gaps[0] <= 2 * FIRST_PAUSE_S and all(gaps[1:] >= gaps[:-1])
    assert gaps[-1] == pytest.approx(LONGEST_PAUSE_S, rel=0.01)


def test_threads_come_back_when_the_cores_are_free():
    pace = Pace()
    pace.ran(5e-3, 0.9)
    pace.to_try(1, 0.0)
    pace.tried(1e-4, 0.0)
    pace.ran(1e-4, 0.0)
    assert pace.to_try(1000, FIRST_PAUSE_S) == 100
    assert pace.tried(6e-5, FIRST_PAUSE_S) and not pace.alone


def test_cores_that_are_taken_for_a_moment_cost_no_more_than_a_moment():
    """As by the thread that looks through the first pass of a file for NaN: threads are back a few tries later."""
    pace, now, alone_s = Pace(), 0.0, 0.0
    while now < 2.0:
        taken = now < 0.2
        threads_s, alone_now_s = (5e-3, 1e-3) if taken else (0.6e-3, 1e-3)
        batches = pace.to_try(10, now)
        if batches:
            took = threads_s if pace.alone else alone_now_s
            now += batches * took
            pace.tried(took, now)
        took = alone_now_s if pace.alone else threads_s
        pace.ran(took, 0.9 if taken and not pace.alone else 0.1)
        now += 10 * took
        alone_s += 10 * took * (pace.alone and not taken)
    assert not pace.alone and alone_s < 0.5


def test_a_run_too_short_for_a_fair_try_waits_for_a_longer_one_but_not_for_ever():
    """The first run of new samples is short, and the thread that reads the next ones is at work then."""
    pace = Pace(alone=True, batch_s=1e-4, again_at=1.0, pause_s=0.1)
    assert pace.to_try(4, now=1.0) == 0 and pace.to_try(1000, now=1.0) == 100
    assert pace.to_try(4, now=1.1) == 4


def samples(model, rows):
    x, y = images(np.random.default_rng(5), rows)
    return x.reshape(rows, *model.input_shape), y


def fitted(make, strategy):
    model = make()
    x, y = samples(model, 300)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=2, verbose=0, strategy=strategy)
    return digest(model), history.history, model.predict(x[:50], strategy=strategy)


@pytest.mark.parametrize("make", [n1, n2])
def test_one_thread_doing_all_parts_gives_the_same_bits(make, monkeypatch):
    wanted = fitted(make, "serial")
    monkeypatch.setattr(ThreadsExecutor, "_run_threads", ThreadsExecutor._run_alone)
    found = fitted(make, Parts(3))
    assert found[:2] == wanted[:2]
    assert np.array_equal(found[2], wanted[2])


@pytest.mark.parametrize("strategy", ["serial", Parts(3)])
def test_one_thread_doing_all_parts_stops_at_the_step_whose_loss_is_not_finite(strategy, monkeypatch):
    monkeypatch.setattr(ThreadsExecutor, "_run_threads", ThreadsExecutor._run_alone)
    model = pn.Sequential([L.Dense(6, activation="relu", input_shape=(4,)), L.Dense(3)], seed=1)
    model.compile(pn.optimizers.SGD(1e9), "mse")
    x = np.random.default_rng(5).normal(size=(96, 4)).astype(np.float32)
    with pytest.raises(NonFiniteLossError, match="step 3 "):
        model.fit(x, x[:, :3], batch_size=8, epochs=1, shuffle=False, verbose=0, strategy=strategy)
    assert model.optimizer.iterations == 2


def test_a_change_of_pace_is_said_once_and_changes_no_bit(monkeypatch, caplog):
    wanted = fitted(n1, "serial")
    monkeypatch.setattr(Pace, "to_try", lambda self, batches, now: 1)
    monkeypatch.setattr(Pace, "tried", lambda self, batch_s, now: setattr(self, "alone", not self.alone) is None)
    with caplog.at_level("INFO", "parnet"):
        found = fitted(n1, Parts(2))
    assert found[:2] == wanted[:2]
    assert ["one alone is faster" in message for message in caplog.messages] == [
        True,
        True,
    ]  # the threads of fit, and predict's


def test_numbers_too_small_to_be_normal_count_as_zero_in_a_run_and_only_there():
    code = """
import numpy as np, parnet as pn
from parnet import layers as L
from parnet.config import usable_cores
tiny = np.float32(1e-39)
net = pn.Sequential([L.Dense(1, input_shape=(1,), use_bias=False)])
net.layers[0].kernel = np.ones((1, 1), np.float32)
print(float(net.predict(np.full((1, 1), tiny))[0, 0]) if pn.kernels.target.is_x86() else 0.0)
print(tiny * np.float32(1) > 0)
"""
    code = code.replace("pn.kernels.target.is_x86()", "__import__('parnet.kernels.target').kernels.target.is_x86()")
    assert run_python(code) == ["0.0", "True"]


def test_short_runs_are_judged_together():
    """A run of one batch is too short to tell; a hundred of them that mostly waited are not."""
    pace = Pace()
    pace.ran(0.001, 0.9, 0.001)
    assert not pace.suspected
    for _ in range(25):
        pace.ran(0.001, 0.9, 0.001)
    assert pace.suspected


def test_nothing_runs_behind_a_loss_that_is_no_number(monkeypatch):
    if usable_cores() < 2:
        pytest.skip("this process may use one core")
    ran = []
    timed = ThreadsExecutor._timed

    def noted(self, program, first, last, span, alone):
        ran.append((first, last))
        return timed(self, program, first, last, span, alone)

    monkeypatch.setattr(Pace, "to_try", lambda self, batches, now: 1)
    monkeypatch.setattr(ThreadsExecutor, "_timed", noted)
    model = pn.Sequential([pn.Input((300,)), pn.layers.Dense(200), pn.layers.Dense(1)], seed=1)
    model.compile(pn.optimizers.SGD(0.1), "mse")
    x = np.full((320, 300), 1e30, np.float32)
    with pytest.raises(NonFiniteLossError):
        model.fit(x, np.zeros((320, 1)), batch_size=32, verbose=0, strategy=pn.strategy.Threads(2))
    assert ran == [(0, 1)]
