"""The parameter server's modes with real workers: ssp, async, local, hogwild, and sync with backup workers."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings

import leaks
import numpy as np
import pytest
from nets import digest
from server_cases import AT, BATCH, EPOCHS, FAULTY, ROWS, data, fitted, plan_fault, server
from test_server_failures import begin, gone, workers_of

import parnet as pn
from parnet import layers as L
from parnet.errors import (
    HyperparameterError,
    NonFiniteLossError,
    ParnetWarning,
    StateError,
    UnknownNameError,
    WorkerLostError,
)
from parnet.executors.faults import VARIABLE
from parnet.server.work import Cycles, NextShard, OwnShard, Task
from parnet.strategy import ParameterServer, Serial

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are injected by Linux's signals")

OPTIMIZERS = {
    "adam": lambda: pn.optimizers.Adam(0.01, global_clipnorm=1.0),
    "momentum": lambda: pn.optimizers.SGD(0.05, momentum=0.9, nesterov=True, clipvalue=0.05),
    "sgd": lambda: pn.optimizers.SGD(0.1),
}


def plain(optimizer="adam", dtype="float32", norm=None):
    """A network with dropout and a penalty; norm: a BatchNormalization in it."""
    first = [L.Dense(24, activation="relu", input_shape=(12,), kernel_regularizer=pn.regularizers.L2(0.001))]
    layers = [*first, *([] if norm is None else [norm]), L.Dropout(0.2), L.Dense(4, activation="softmax")]
    net = pn.Sequential(layers, seed=5, dtype=dtype)
    net.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy", ["accuracy"])
    return net


def own_pace(mode, workers=2, **arguments):
    """A server in one of the modes."""
    return server(workers, None, mode=mode, **arguments)


def whenever(monkeypatch, phase, how, **more):
    """One worker comes to grief in whatever batch it is given."""
    fault = {"worker": FAULTY, "phase": phase, "batch": "all", "how": how} | more
    monkeypatch.setenv(VARIABLE, json.dumps(fault))


def slow(monkeypatch, seconds=0.05):
    """One worker is slow in every step."""
    whenever(monkeypatch, "compute", "sleep", seconds=seconds)


def counted(history):
    """What the server counted."""
    return history.timing.server


# -- sync and its relatives -------------------------------------------------------------------------


@pytest.mark.parametrize("workers, threads, optimizer", [(2, 1, "momentum"), (3, 2, "adam")])
def test_ssp_of_no_staleness_gives_the_bits_of_sync(workers, threads, optimizer):
    """Clipping, penalties, dropout, uneven and empty shards; weights, losses and metrics."""
    net, history = fitted(own_pace("ssp", workers, threads_per_worker=threads), plain(optimizer))
    alone, expected = fitted(Serial(workers), plain(optimizer))
    assert digest(net) == digest(alone) and net.optimizer.iterations == alone.optimizer.iterations
    assert history.history["accuracy"] == expected.history["accuracy"]
    assert np.allclose(history.history["loss"], expected.history["loss"], rtol=1e-12)
    tally = counted(history)
    assert set(tally.staleness) == set(tally.lead) == {0} and tally.missed_rows == 0 and not tally.dropped
    assert tally.updates == EPOCHS * -(-ROWS // BATCH)


def test_several_inputs_and_outputs_of_bytes_and_weighted_samples_give_the_bits_of_sync(rng):
    bytes_, numbers = rng.integers(0, 256, (45, 6, 6, 1)).astype(np.uint8), rng.normal(size=(45, 5))
    labels, values, weights = rng.integers(0, 3, 45), rng.normal(size=(45, 2)), rng.random(45)

    def result(strategy):
        one, two = pn.Input((6, 6, 1)), pn.Input((5,))
        seen = L.Flatten()(L.Conv2D(4, 3, activation="relu")(L.Rescaling(1 / 255)(one)))
        both = L.Concatenate()([seen, L.Dense(6, "tanh")(two)])
        net = pn.Model([one, two], [L.Dense(3, "softmax", name="c")(both), L.Dense(2, name="r")(both)], seed=2)
        net.compile("adam", ["sparse_categorical_crossentropy", "mse"], [["accuracy"], []], loss_weights=[1, 0.3])
        arguments = {"batch_size": 16, "epochs": 2, "verbose": 0, "sample_weight": weights, "strategy": strategy}
        return digest(net) if net.fit([bytes_, numbers], [labels, values], **arguments) else None

    assert result(own_pace("ssp")) == result(Serial(2))


def test_sync_with_backup_of_equal_workers_drops_the_slow_ones_gradients_and_counts_them(monkeypatch):
    slow(monkeypatch)
    net, history = fitted(own_pace("sync", backup=1, workers=3), plain())
    tally = counted(history)
    assert tally.dropped[FAULTY] > 0 and sum(tally.dropped.values()) < tally.used
    assert tally.dropped_rows > 0 and tally.missed_rows > 0  # what it did too late, and what it never came to
    assert tally.updates == EPOCHS * -(-ROWS // BATCH) and set(tally.staleness) == {0}
    assert f"dropped, most of worker {FAULTY}" in history.timing.limit and "left out" in history.timing.limit
    assert all(np.isfinite(w).all() for w in net.get_weights()) and np.isfinite(history.history["loss"]).all()


def test_losses_and_metrics_are_means_over_the_samples_that_were_computed(monkeypatch):
    """With a rate of 0 the weights stay: every sample's loss is known, and so is the mean over any of them."""
    slow(monkeypatch)
    net = pn.Sequential([L.Dense(1, use_bias=False, kernel_initializer="zeros", input_shape=(12,))], seed=1)
    net.compile(pn.optimizers.SGD(1e-30), "mse")
    x = data()[0]
    history = net.fit(x, np.full((ROWS, 1), 3.0), batch_size=BATCH, verbose=0, strategy=own_pace("sync", backup=1))
    assert counted(history).missed_rows > 0 and np.isclose(history.history["loss"][0], 9.0)


# -- their own pace -----------------------------------------------------------------------------------


def test_nobody_gets_further_ahead_of_a_slow_worker_than_the_staleness(monkeypatch):
    slow(monkeypatch)
    _, history = fitted(own_pace("ssp", staleness=2), plain(), epochs=3)
    tally = counted(history)
    assert 0 < max(tally.lead) <= 2 and max(tally.staleness) > 0
    assert tally.missed_rows == 0 and 3 * 13 <= tally.used <= 3 * 14  # one shard of the last batch is empty
    assert "older weights" in history.timing.limit


def test_async_learns_the_digits_as_sync_does():
    """Within 0.1 of its loss, at half the rate, for it makes twice as many updates; both below 0.35."""
    (x, y), _ = pn.datasets.digits.load_data()
    losses = {}
    for mode, rate in (("sync", 0.2), ("async", 0.1)):
        net = pn.Sequential(
            [L.Flatten(input_shape=x.shape[1:]), L.Rescaling(1 / 16), L.Dense(32, "relu"), L.Dense(10, "softmax")], seed=1
        )
        net.compile(pn.optimizers.SGD(rate), "sparse_categorical_crossentropy")
        history = net.fit(x, y, batch_size=64, epochs=6, verbose=0, strategy=own_pace(mode))
        losses[mode] = net.evaluate(x, y)
    tally = counted(history)
    assert max(losses.values()) < 0.35 and abs(losses["async"] - losses["sync"]) < 0.1
    assert tally.used == 6 * 2 * -(-len(x) // 64) and tally.missed_rows == 0


def test_a_fast_worker_does_a_slow_ones_part_in_async(monkeypatch):
    slow(monkeypatch, 0.2)
    _, history = fitted(own_pace("async"), plain())
    assert counted(history).missed_rows == 0 and max(counted(history).lead) > 3


# -- local and hogwild ----------------------------------------------------------------------------------


def bare(dtype="float64", momentum=0.0):
    """A network without chance, penalties and clipping."""
    net = pn.Sequential([L.Dense(24, activation="tanh", input_shape=(12,)), L.Dense(4, "softmax")], seed=5, dtype=dtype)
    net.compile(pn.optimizers.SGD(0.1, momentum=momentum), "sparse_categorical_crossentropy")
    return net


def assert_close(mine, theirs, tolerance):
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance, momentum", [("float64", 1e-12, 0.9), ("float32", 1e-5, 0.0)])
def test_averaging_after_each_step_of_sgd_is_sync(dtype, tolerance, momentum):
    """The mean of the updates is the update by the mean; with uneven and empty shards, and for momentum too."""
    nets = [fitted(strategy, bare(dtype, momentum))[0] for strategy in (own_pace("local", 3), Serial(3))]
    assert_close(*(net.get_weights() for net in nets), tolerance)


def by_hand(every):
    """Two models, each trained serially on its shard of every batch, and averaged after so many batches."""
    (x, y), nets, batches = data(), [bare() for _ in range(2)], -(-ROWS // BATCH)
    for first in [*range(0, batches, every)] * EPOCHS:
        counts = []
        for w, net in enumerate(nets):
            rows = []
            for k in range(first, min(first + every, batches)):
                n = min(BATCH, ROWS - k * BATCH)
                rows += range(k * BATCH + n * w // 2, k * BATCH + n * (w + 1) // 2)
            net.fit(x[rows], y[rows], batch_size=BATCH // 2, shuffle=False, verbose=0, strategy="serial")
            counts.append(len(rows))
        means = [np.average(pair, axis=0, weights=counts) for pair in zip(*(n.get_weights() for n in nets), strict=True)]
        for net in nets:
            net.set_weights(means)
    return means


class Look(pn.callbacks.Callback):
    """Looks at the weights after each batch, and so cuts the run into stretches of one."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.get_weights()


@pytest.mark.parametrize("callbacks", [[], [Look()]], ids=["whole", "in stretches"])
def test_local_training_averages_after_every_k_batches_and_at_the_end_of_an_epoch(callbacks):
    net, history = fitted(own_pace("local", every=4), bare(), shuffle=False, callbacks=callbacks)
    assert_close(net.get_weights(), by_hand(4), 1e-12)
    assert counted(history).updates == EPOCHS * 2 and net.optimizer.iterations == EPOCHS * 7


def test_local_training_gives_the_same_bits_whoever_is_faster(monkeypatch):
    net, _ = fitted(own_pace("local", every=3), plain())
    slow(monkeypatch, 0.01)
    assert digest(fitted(own_pace("local", every=3), plain())[0]) == digest(net)


def test_hogwild_warns_that_it_is_experimental_and_learns():
    with pytest.warns(ParnetWarning, match="experimental"):
        _, history = fitted(own_pace("hogwild"), bare("float32"), epochs=12)
    losses = history.history["loss"]
    assert losses[-1] < 0.8 * losses[0] and counted(history).missed_rows == 0
    with pytest.raises(HyperparameterError, match="without momentum"):
        fitted(own_pace("hogwild"), bare(momentum=0.9))


# -- batch normalisation ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*normalises each shard")
def test_statistics_of_each_shard_alone_are_those_of_sync():
    """A layer that takes no others' statistics anyway has the bits of sync."""
    nets = [plain(norm=L.BatchNormalization(synchronized=False)) for _ in range(2)]
    fitted(own_pace("ssp", 3), nets[0])
    fitted(Serial(3), nets[1])
    assert digest(nets[0]) == digest(nets[1])


@pytest.mark.filterwarnings("ignore:.*normalises each shard")
@pytest.mark.parametrize("mode", [{"mode": "ssp"}, {"mode": "local", "every": 1}], ids=["ssp", "local"])
def test_batch_normalisation_takes_the_statistics_of_the_worker_s_shard(mode):
    """Weights are those of a layer that is told so; moving means too, and moving variances within those between shards."""
    nets = [plain("sgd", "float64", L.BatchNormalization(synchronized=flag)) for flag in (True, False)]
    fitted(own_pace(**mode), nets[0], epochs=1)
    fitted(Serial(2), nets[1], epochs=1)
    weights = [net.get_weights() for net in nets]
    assert_close(weights[0][:5], weights[1][:5], 1e-12)
    assert not np.allclose(weights[0][4], 0.0) and np.allclose(weights[0][5], weights[1][5], atol=0.05)


def warned(action):
    """What was said of lost workers, and what the action returned."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    return [str(one.message) for one in caught if "process" in str(one.message)], result


# -- workers that are lost ----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["push", "pushed"])
def test_a_worker_that_is_lost_is_named_and_the_weights_are_those_of_the_last_update(phase, monkeypatch):
    """The updates that have been made count, in the weights and in the optimizer."""
    plan_fault(monkeypatch, phase, "kill")
    net, before = plain(), leaks.children()
    with pytest.raises(WorkerLostError, match="was ended by SIGKILL") as caught:
        fitted(own_pace("ssp"), net)
    done = AT + (phase == "pushed")
    assert caught.value.worker == FAULTY and f"in step {done + 1}" in str(caught.value)
    assert leaks.children() == before and net.optimizer.iterations == done
    monkeypatch.delenv(VARIABLE)
    assert digest(net) == digest(fitted(Serial(2), plain(), epochs=1, steps_per_epoch=done)[0])


@pytest.mark.parametrize("phase", ["compute", "push", "pushed"])
def test_a_worker_that_is_replaced_does_its_task_again_and_no_gradient_counts_twice(phase, monkeypatch, tmp_path):
    plan_fault(monkeypatch, phase, "kill", once=tmp_path / "done")
    with pytest.warns(ParnetWarning, match=rf"worker {FAULTY} .*SIGKILL in step .*replaced"):
        net, history = fitted(own_pace("ssp", on_failure="restart"), plain())
    assert digest(net) == digest(fitted(Serial(2), plain())[0])
    assert counted(history).missed_rows == 0 and counted(history).updates == EPOCHS * 7


@pytest.mark.parametrize("mode, phase", [("async", "push"), ("local", "apply"), ("hogwild", "apply")])
def test_training_goes_on_when_a_worker_is_replaced(mode, phase, monkeypatch, tmp_path):
    whenever(monkeypatch, phase, "kill", once=str(tmp_path / "done"))
    texts, (net, history) = warned(lambda: fitted(own_pace(mode, on_failure="restart"), bare()))
    assert "it is replaced" in texts[0]
    assert all(np.isfinite(w).all() for w in net.get_weights())
    assert counted(history).missed_rows == (BATCH // 2 if mode == "hogwild" else 0)  # its rows may be in the weights already


@pytest.mark.parametrize("mode", ["async", "ssp", "local", "sync"])
def test_the_others_go_on_without_a_worker(mode, monkeypatch):
    """They take over its shards where they may; else its samples are left out, counted, and named in one warning."""
    whenever(monkeypatch, "push", "kill")
    arguments = {"backup": 1} if mode == "sync" else {}
    texts, (net, history) = warned(lambda: fitted(own_pace(mode, on_failure="shrink", **arguments), plain()))
    assert len(texts) == 1 and "goes on with 1" in texts[0]
    assert all(np.isfinite(w).all() for w in net.get_weights())
    takes_over = mode in ("async", "ssp")
    assert (counted(history).missed_rows == 0) == takes_over and ("are left out" in texts[0]) != takes_over


def test_too_many_losses_and_no_worker_left_are_errors(monkeypatch):
    plan_fault(monkeypatch, "compute", "kill")  # again and again
    with pytest.warns(ParnetWarning), pytest.raises(WorkerLostError, match="1 workers have been lost before"):
        fitted(own_pace("ssp", on_failure="restart", restarts=1), plain())


def test_a_stopped_worker_is_warned_of_by_name_and_then_given_up(monkeypatch):
    whenever(monkeypatch, "compute", "stop")
    strategy = own_pace("async", stall_warning_s=0.6, stall_limit_s=1.5)
    with pytest.warns(ParnetWarning, match=rf"worker {FAULTY} \(process \d+\) has done nothing"):
        with pytest.raises(WorkerLostError, match=f"(?s)worker {FAULTY} .*no processor time"):
            fitted(strategy, plain())


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_stops_after_the_tasks_at_hand_and_twice_at_once(times):
    process = begin("2, None, mode='ssp', staleness=2")
    workers = workers_of(process.pid)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and " True" in out and gone(workers)


# -- what surrounds it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ssp", "local"])
def test_a_loss_that_is_not_finite_stops_everybody_before_the_weights_change(mode):
    net, good = (pn.Sequential([L.Dense(3, input_shape=(4,))], seed=1) for _ in range(2))
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(64, 4)), rng.normal(size=(64, 3))
    y[60:] = 1e30
    for one in (net, good):
        one.compile("sgd", "mse")
    good.fit(x[:32], y[:32], batch_size=32, shuffle=False, verbose=0, strategy=Serial(2))
    with pytest.raises(NonFiniteLossError, match="step 2"):
        net.fit(x, y, batch_size=32, shuffle=False, verbose=0, strategy=own_pace(mode))
    assert_close(net.get_weights(), good.get_weights(), 1e-6)
    assert net.optimizer.iterations == 1


def test_validation_callbacks_evaluate_and_predict_see_the_server_s_weights():
    class Halve(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([w / 2 for w in self.model.get_weights()])

    nets, (x, y) = [plain(), plain()], data()
    for net, strategy in zip(nets, (own_pace("ssp"), Serial(2)), strict=True):
        net.history = fitted(strategy, net, callbacks=[Halve()], validation_split=0.2)[1].history
    assert digest(nets[0]) == digest(nets[1]) and np.allclose(nets[0].history["val_loss"], nets[1].history["val_loss"])
    strategy = own_pace("async")
    assert nets[0].evaluate(x, y, strategy=strategy) == nets[0].evaluate(x, y, strategy=Serial(2))
    assert np.array_equal(nets[0].predict(x, strategy=strategy), nets[0].predict(x))


def test_a_manual_loop_is_told_to_take_sync():
    net = plain()
    net.session.strategy = own_pace("async")
    with pytest.raises(StateError, match=r"expected mode='sync' for a manual loop, received mode='async'"):
        net(data()[0])


def test_one_worker_alone_is_serial_in_every_mode():
    expected = digest(fitted("serial", plain())[0])
    assert digest(fitted(own_pace("async", 1), plain())[0]) == expected


def test_arguments_that_belong_to_another_mode_are_refused():
    for mode in ("asinc", None, ["ssp"]):
        with pytest.raises(UnknownNameError, match="async, hogwild, local, ssp, sync"):
            ParameterServer(1, mode=mode)
    for name, arguments in {
        "staleness": {"mode": "async", "staleness": 2},
        "backup": {"mode": "ssp", "backup": 1},
        "every": {"every": 3},
        "damped": {"mode": "ssp", "damped": True},
        "shards": {"mode": "async", "shards": 4},
    }.items():
        with pytest.raises(HyperparameterError, match=rf"ParameterServer\({name}\): expected"):
            ParameterServer(2, threads_per_worker=1, **arguments)
    with pytest.raises(HyperparameterError, match="fewer than the 2 workers"):
        ParameterServer(2, backup=2)
    with pytest.raises(HyperparameterError, match=r"every\): expected a whole number of 1 or more"):
        ParameterServer(2, mode="local", every=0)


def test_work_is_given_out_once_each():
    own, line, cycles = OwnShard(3, 5, 2), NextShard(3, 5, 2), Cycles(5, 10, 2, 4, 9)
    assert [own.take(1, step) for step in range(3)] == [Task(3, 4, 1), Task(4, 5, 1), None]
    first = line.take(1, 0)
    line.give_back(first)
    taken = [line.take(0, 0) for _ in range(5)]
    assert taken[0] == first == Task(3, 4, 0) and taken[3] == Task(4, 5, 1) and taken[4] is None
    assert [cycles.take(0, step) for step in range(4)] == [Task(5, 8, 0), Task(8, 9, 0), Task(9, 10, 0, False), None]
