"""The parameter server over processes: the same numbers as serial, whoever computes them, and nothing left behind."""

import gc
import os
import pickle
import subprocess
import sys

import leaks
import numpy as np
import pytest
from nets import digest
from server_cases import BATCH, bits_of, data, fitted, model, server
from subprocesses import run_python

import parnet as pn
from parnet import layers as L
from parnet.comm import blocks
from parnet.errors import HyperparameterError, NonFiniteLossError, ResourceError, UnknownNameError
from parnet.executors.crew import Crew
from parnet.strategy import ParameterServer, Serial

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="worker processes need a system with sockets that pass files"
)


@pytest.fixture(scope="module")
def serial():
    """Of four virtual shards."""
    return bits_of(Serial(4))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_any_number_of_workers_and_threads_gives_the_serial_bits(workers, threads, serial):
    """Clipping, Adam, dropout, batch normalisation, uneven and empty shards; more processes than cores."""
    assert bits_of(server(workers, threads_per_worker=threads)) == serial


def test_one_worker_of_one_shard_gives_the_bits_of_serial():
    assert bits_of(server(1, shards=1)) == bits_of("serial")


def test_evaluate_predict_and_train_on_batch_match_serial():
    net, (x, y) = model(), data()
    assert net.evaluate(x, y, batch_size=BATCH, strategy=server()) == net.evaluate(
        x, y, batch_size=BATCH, strategy=Serial(4)
    )
    with_server, alone = (net.predict(x, batch_size=BATCH, strategy=s) for s in (server(), "serial"))
    assert np.array_equal(with_server, alone)


def manual(strategy):
    net, (x, y) = model(), data()
    net.session.strategy = strategy
    optimizer, loss_fn = pn.optimizers.SGD(net.parameters(), lr=0.1, momentum=0.9), pn.losses.SparseCategoricalCrossentropy()
    seen = []
    for first in (0, 32, 64):
        optimizer.zero_grad()
        for rows in (slice(first, first + 20), slice(first + 20, first + 32)):  # gradients add up
            out = net(x[rows])
            loss = loss_fn(out, y[rows])
            loss.backward()
            seen += [np.asarray(out).tobytes(), loss.item(), net.layers[0].kernel.grad.tobytes()]
        optimizer.step()
        x[first : first + 32] = 0  # the loop may use its arrays again
    net.session.close()
    return seen, digest(net)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_manual_loop_on_workers_matches_serial_verb_by_verb(workers):
    shards = workers  # one worker of one shard, and two of two
    assert manual(server(workers, shards)) == manual(Serial(shards))


def test_weights_that_a_callback_sets_are_those_that_workers_go_on_with():
    class Halve(pn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.set_weights([w / 2 for w in self.model.get_weights()])

        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.lr = 0.001

    results = [fitted(s, callbacks=[Halve()]) for s in (Serial(4), server())]
    assert digest(results[0][0]) == digest(results[1][0])
    assert results[0][1].history == results[1][1].history


def test_a_loss_that_is_not_finite_stops_all_workers_before_the_weights_change():
    net, good = (pn.Sequential([L.Dense(3, input_shape=(4,))], seed=1) for _ in range(2))
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(64, 4)), rng.normal(size=(64, 3))
    y[60:] = 1e30
    for one in (net, good):
        one.compile("sgd", "mse")
    good.fit(x[:32], y[:32], batch_size=32, shuffle=False, verbose=0, strategy=Serial(2))
    with pytest.raises(NonFiniteLossError, match="step 2"):
        net.fit(x, y, batch_size=32, shuffle=False, verbose=0, strategy=server(2, 2))
    assert digest(net) == digest(good) and net.optimizer.iterations == 1


def test_no_process_memory_or_thread_outlives_a_manual_loop_that_is_forgotten():
    before, net = leaks.now(), model()
    net.session.strategy = server(2, 2)
    net(data()[0])
    assert len(leaks.children()) == 2
    del net
    gc.collect()
    assert leaks.since(before) == []


USER = """
import numpy as np, parnet as pn
from parnet import layers as L
twice = pn.activations.define("twice", lambda x, alpha: x + x, lambda x, y, alpha: 2 + x - x)
net = pn.Sequential([L.Dense(3, activation=twice, input_shape=(4,))], seed=1)
net.compile("sgd", "mse")
strategy = pn.strategy.ParameterServer(2, threads_per_worker=1, oversubscribe=True)
net.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0, strategy=strategy)
print("done")
"""


def test_a_script_with_kernels_of_its_own_needs_no_guard_and_may_come_from_standard_input(tmp_path):
    assert run_python(USER) == ["done"]
    script = tmp_path / "train.py"
    script.write_text(USER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for command, text in (([sys.executable, str(script)], ""), ([sys.executable, "-"], USER)):
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=environment, check=False
        )
        assert done.stdout.split() == ["done"], done.stderr


def test_too_little_memory_is_an_error_before_training(monkeypatch):
    monkeypatch.setattr(blocks, "available", lambda: 1000)
    monkeypatch.setattr(blocks, "SPARE", 0)
    with pytest.raises(ResourceError, match=r"parameter server: .*MiB of shared memory"):
        fitted(server())


def test_a_small_shared_memory_folder_is_named(monkeypatch, tmp_path):
    """Where the system has no memory without a name, space is looked at before it is taken."""

    class Full:
        f_bavail, f_frsize = 1, 512

    def refuse(*_):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    block = blocks.new_block(100, "test")
    block.bytes[:] = 7
    assert not [name for name in leaks.shared_memory() if name.startswith("parnet")]
    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(ResourceError, match="--shm-size"):
        fitted(server())


def test_arguments_that_make_no_sense_are_refused_at_once():
    with pytest.raises(UnknownNameError, match="sync"):
        ParameterServer(1, mode="asink")
    with pytest.raises(UnknownNameError, match="abort, restart, shrink"):
        ParameterServer(1, on_failure="pray")
    with pytest.raises(HyperparameterError, match="at least 3"):
        ParameterServer(3, shards=2, oversubscribe=True)
    with pytest.raises(ResourceError, match="oversubscribe"):
        ParameterServer(64, threads_per_worker=64)


def test_samples_go_through_shared_memory_and_not_through_messages(monkeypatch):
    sizes, tell = [], Crew.tell

    def heard(self, *message, **more):
        if message[0] not in ("kernels", "program"):
            sizes.append(len(pickle.dumps(message)))
        tell(self, *message, **more)

    monkeypatch.setattr(Crew, "tell", heard)
    net, rows = model(), 20_000
    net.fit(np.zeros((rows, 12), np.float32), np.zeros(rows, int), 5000, 2, verbose=0, strategy=server(2))
    assert 0 < max(sizes) < 4000


def test_timing_says_where_each_workers_time_went_and_what_limited_the_run():
    _, history = fitted(server(2))
    timing = history.timing
    assert len(timing.workers) == 2 and timing.limit.endswith(".")
    for worker in timing.workers:
        assert min(worker.compute_s, worker.wait_s, worker.comm_s) >= 0 and worker.comm_bytes > 0
        assert worker.update_s > 0
        parts = worker.compute_s + worker.wait_s + worker.comm_s + worker.update_s
        assert parts <= sum(timing.epochs_s)
    assert timing.comm_bytes == sum(worker.comm_bytes for worker in timing.workers)
    assert timing.update_s == pytest.approx(np.mean([worker.update_s for worker in timing.workers]))
    assert timing.compute_s + timing.wait_s + timing.comm_s <= sum(timing.epochs_s)
    assert fitted("serial")[1].timing.limit == ""


def test_the_sentence_on_what_limited_a_run_names_the_largest_cause():
    from parnet.train.worker_times import WorkerTime, limit_of

    busy, idle, moving = WorkerTime(9.0, 0.5, 0.5, 8), WorkerTime(5.0, 4.5, 0.5, 8), WorkerTime(5.0, 0.5, 4.5, 8)
    assert limit_of((busy, busy)).startswith("Arithmetic took 90%")
    assert "most for worker 0" in limit_of((busy, idle)) and limit_of((moving, moving)).startswith("Adding up")
