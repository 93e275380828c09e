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


NUMBA = """
import threading, numba, numpy as np
from nets import digest
from server_cases import fitted, server
from parnet.strategy import Serial, Threads

@numba.njit(parallel=True)
def total(values):
    result = 0.0
    for k in numba.prange(len(values)):
        result += values[k]
    return result

print(total(np.ones(1000)), digest(fitted(Serial(4))[0]), digest(fitted(Threads(1, 4))[0]), digest(fitted(server())[0]))
beside = threading.Thread(target=lambda: print(digest(fitted(server())[0])))
beside.start()
beside.join()
print(total(np.ones(1000)))
"""


def test_workers_start_behind_numba_s_own_threads_and_from_any_thread():
    first, *digests, last = run_python(NUMBA)
    assert first == last == "1000.0" and len(digests) == 4 and len(set(digests)) == 1


XDIST = """
import pytest
from nets import digest
from server_cases import fitted, server
from parnet.strategy import Serial

@pytest.mark.parametrize("workers", [2, 3])
def test_bits(workers, worker_id):
    assert worker_id.startswith("gw")
    assert digest(fitted(server(workers))[0]) == digest(fitted(Serial(4))[0])
"""


def test_trainings_on_workers_run_beside_each_other_under_xdist(tmp_path):
    (tmp_path / "test_beside.py").write_text(XDIST)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", "test_beside.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore:.*normalises each shard")
def test_batch_normalisation_of_each_shard_alone_has_the_same_bits_on_any_number_of_workers():
    expected = fitted(Serial(4), model(synchronized=False))
    assert digest(expected[0]) != digest(fitted(Serial(4))[0])
    for workers, threads in ((1, 2), (2, 1), (3, 1), (4, 1)):
        net, history = fitted(server(workers, threads_per_worker=threads), model(synchronized=False))
        assert digest(net) == digest(expected[0]) and history.history == expected[1].history


class Shown(pn.callbacks.Callback):
    """Collects the repr of every object of ours that an executor holds, while it works."""

    def __init__(self):
        self.found = {}

    def on_train_batch_end(self, batch, logs=None):
        self.look([*self.model.session._executors.values(), *self.model.session._programs.values()], set())

    def look(self, things, seen):
        for thing in things:
            if id(thing) in seen or isinstance(thing, np.ndarray | str | type):
                continue
            seen.add(id(thing))
            if type(thing).__module__.startswith(("parnet.executors", "parnet.server", "parnet.comm")):
                self.found[type(thing).__name__] = repr(thing)
                self.look(vars(thing).values() if hasattr(thing, "__dict__") else (), seen)
            elif isinstance(thing, dict):
                self.look(thing.values(), seen)
            elif isinstance(thing, list | tuple | set):
                self.look(thing, seen)


@pytest.mark.filterwarnings("ignore:.*normalises each shard")
@pytest.mark.parametrize("mode", [{}, {"mode": "ssp", "shards": None}])
def test_everything_an_executor_holds_can_be_shown(mode):
    """A debugger or a log shows objects at any time: that must neither raise nor change the training."""
    shown = Shown()
    net, _ = fitted(server(**mode), callbacks=[shown])
    expected, _ = fitted(server(**mode))
    assert digest(net) == digest(expected)
    wanted = {"ProcessesExecutor", "RemoteProgram"} if not mode else {"ServerExecutor", "ServedProgram", "Desk", "Tally"}
    assert wanted | {"Crew", "Member", "Conduct", "Shared", "Block", "Channel", "Store"} <= set(shown.found)
    assert all(len(text) < 100 for name, text in shown.found.items() if name.endswith("Program"))


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
