"""Threads that lack cores give way to one thread and come back; one thread doing all parts gives the same bits."""

import numpy as np
import pytest
from nets import Parts, digest, images, n1, n2
from subprocesses import run_python

import parnet as pn
from parnet import layers as L
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
    assert pace.to_try(1000, now=10.0) == 2  # a hundredth of a second
    assert pace.tried(1e-4, now=10.0) and pace.alone
    pace.ran(1e-4, 0.0)
    assert pace.to_try(1000, now=10.5) == 0


def test_threads_that_wait_and_are_still_faster_go_on_and_are_doubted_less_and_less():
    pace, tries, now = Pace(), [], 0.0
    while len(tries) < 10:
        pace.ran(1e-3, 0.9)
        if pace.to_try(10, now):
            tries.append(now)
            assert not pace.tried(2e-3, now) and not pace.alone
        now += 0.5
    gaps = np.diff(tries)
    assert gaps[0] <= 2 * FIRST_PAUSE_S and all(gaps[1:] >= gaps[:-1])
    assert gaps[-1] == LONGEST_PAUSE_S


def test_threads_come_back_when_the_cores_are_free():
    pace = Pace()
    pace.ran(5e-3, 0.9)
    pace.to_try(1, 0.0)
    pace.tried(1e-4, 0.0)
    pace.ran(1e-4, 0.0)
    assert pace.to_try(100, FIRST_PAUSE_S) == 100
    assert pace.tried(6e-5, FIRST_PAUSE_S) and not pace.alone


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
tiny = np.float32(1e-39)
net = pn.Sequential([L.Dense(1, input_shape=(1,), use_bias=False)])
net.layers[0].kernel = np.ones((1, 1), np.float32)
print(float(net.predict(np.full((1, 1), tiny))[0, 0]) if pn.kernels.target.is_x86() else 0.0)
print(tiny * np.float32(1) > 0)
"""
    code = code.replace("pn.kernels.target.is_x86()", "__import__('parnet.kernels.target').kernels.target.is_x86()")
    assert run_python(code) == ["0.0", "True"]
