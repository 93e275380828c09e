"""Faults around the steps of a training on workers: at their start, between epochs, while it measures or saves."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import leaks
import numpy as np
import pytest
from nets import digest
from server_cases import FAULTY, bits_of, data, fitted, model, plan_fault, server
from test_server_failures import gone, workers_of

import parnet as pn
from parnet.errors import ParnetWarning, ResourceError, WorkerLostError
from parnet.executors import crew
from parnet.io import archive
from parnet.strategy import Serial
from parnet.train import fit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are injected by Linux's signals")

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def undisturbed():
    return bits_of(Serial(4))


def kill_one(how=signal.SIGKILL):
    """The worker that was started first."""
    os.kill(min(leaks.children()), how)


class Moments(pn.callbacks.Callback):
    """Does something at hooks, once each: {"epoch_begin": action, ...}; in the epoch of that number."""

    def __init__(self, epoch, **actions):
        self.epoch, self.actions, self.now = epoch, actions, -1

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch
        self._at("epoch_begin")

    def on_epoch_end(self, epoch, logs=None):
        self._at("epoch_end")

    def _at(self, hook):
        if self.now == self.epoch and hook in self.actions:
            self.actions.pop(hook)()


def while_saving(monkeypatch, saves, action):
    """Does something in the middle of the save of that number, from 1."""
    write, seen = archive.write_array, []

    def slowly(stream, array):
        seen.append(stream)
        if len(seen) == 3 + (saves - 1) * arrays:
            action()
        return write(stream, array)

    arrays = len(model().weights) + 1  # and the optimizer's slots
    monkeypatch.setattr(archive, "write_array", slowly)


# -- at the start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure, words", [("restart", "it is replaced"), ("shrink", "training goes on with 1")])
def test_a_worker_killed_in_rendezvous_is_named_and_replaced_or_missed(
    on_failure, words, monkeypatch, tmp_path, undisturbed
):
    plan_fault(monkeypatch, "rendezvous", "kill", once=tmp_path / "done")
    with pytest.warns(ParnetWarning, match=rf"worker {FAULTY} .*SIGKILL at the start; {words}"):
        assert bits_of(server(on_failure=on_failure)) == undisturbed


def test_workers_that_never_come_up_are_an_error_in_bounded_time(monkeypatch):
    """Killed again and again, or stopped before their first word."""
    plan_fault(monkeypatch, "rendezvous", "kill")
    with pytest.warns(ParnetWarning), pytest.raises(WorkerLostError, match="SIGKILL at the start"):
        fitted(server(on_failure="restart", restarts=2))
    plan_fault(monkeypatch, "rendezvous", "stop")
    monkeypatch.setattr(crew, "START_LIMIT_S", 3.0)
    with pytest.raises(WorkerLostError, match="at the start"):
        fitted(server())


def test_a_worker_that_reads_nothing_is_warned_of_and_given_up(monkeypatch):
    """Stopped after its first word: kernels are more than a socket holds, so sending them would wait for ever."""
    start = crew.Crew.start

    def then_stop(self, numbers, workers):
        start(self, numbers, workers)
        os.kill(self.members[0].process.pid, signal.SIGSTOP)

    monkeypatch.setattr(crew.Crew, "start", then_stop)
    with pytest.warns(ParnetWarning, match="worker 0 .* has done nothing"), pytest.raises(WorkerLostError, match="worker 0"):
        fitted(server(stall_warning_s=0.6, stall_limit_s=1.5))


def test_no_file_descriptors_left_is_an_error_and_nothing_stays_open(monkeypatch):
    """At whichever of the calls that start the second worker."""
    for place, name in ((os, "pipe"), (crew.subprocess, "Popen"), (crew.Channel, "pair")):
        original, calls = getattr(place, name), []

        def fail(*arguments, original=original, calls=calls, **more):
            calls.append(arguments)
            if len(calls) == 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return original(*arguments, **more)

        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch, pytest.raises(ResourceError, match=r"worker \d could .*Too many open"):
            patch.setattr(place, name, fail)
            fitted(server())
        gc.collect()
        assert leaks.children() == set() and len(os.listdir("/proc/self/fd")) <= before


# -- beside the steps -------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["epoch_begin", "validation"])
def test_a_worker_killed_between_two_runs_changes_no_bit(moment, monkeypatch):
    """Before an epoch's first step, and before the epoch is validated."""
    x, y = data()
    whole, expected = fitted(Serial(4), validation_data=(x, y))
    callbacks = [Moments(1, epoch_begin=kill_one)] if moment == "epoch_begin" else []
    if moment == "validation":
        measure, left = fit.measure, [kill_one]
        monkeypatch.setattr(fit, "measure", lambda *a: (left and left.pop()(), measure(*a))[1])
    with pytest.warns(ParnetWarning, match="SIGKILL .* it is replaced"):
        net, history = fitted(server(on_failure="restart"), callbacks=callbacks, validation_data=(x, y))
    assert digest(net) == digest(whole) and history.history == expected.history


def test_workers_killed_in_evaluate_and_predict_are_replaced(monkeypatch, tmp_path):
    net, (x, y) = model(), data()
    serial = net.evaluate(x, y, batch_size=16, strategy=Serial(4)), net.predict(x, batch_size=16, strategy="serial")
    for verb, expected in zip((net.evaluate, net.predict), serial, strict=True):
        plan_fault(monkeypatch, "compute", "kill", once=tmp_path / verb.__name__)
        arguments = (x, y) if verb == net.evaluate else (x,)
        with pytest.warns(ParnetWarning, match="SIGKILL in step 4"):
            assert np.array_equal(verb(*arguments, batch_size=16, strategy=server(on_failure="restart")), expected)


@pytest.mark.parametrize("phase", ["push", "apply"])
def test_a_worker_killed_while_gradients_are_accumulated_changes_no_bit(phase, monkeypatch, tmp_path):
    """Groups of three batches, which neither the fault nor the epochs stop at."""

    def accumulating():
        net = model()
        net.compile(pn.optimizers.Adam(0.01, gradient_accumulation_steps=3), "sparse_categorical_crossentropy")
        return net

    expected, _ = fitted(Serial(4), accumulating())
    plan_fault(monkeypatch, phase, "kill", once=tmp_path / "done")
    with pytest.warns(ParnetWarning, match="SIGKILL in step 4"):
        net, _ = fitted(server(on_failure="restart"), accumulating())
    assert digest(net) == digest(expected) and net.optimizer.batches == expected.optimizer.batches == 14


def test_an_error_does_not_wait_for_workers_that_are_still_busy():
    """One is stopped, which takes more than an hour to be given up; another is killed, which is told at once."""

    def strike():
        first, second = sorted(leaks.children())
        os.kill(first, signal.SIGSTOP)
        os.kill(second, signal.SIGKILL)

    with pytest.raises(WorkerLostError, match="SIGKILL in step 1"):
        fitted(server(stall_warning_s=5000, stall_limit_s=5000), callbacks=[Moments(1, epoch_begin=strike)])


# -- while it saves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["restart", "abort"])
def test_a_worker_killed_while_a_checkpoint_is_written_does_it_no_harm(on_failure, monkeypatch, tmp_path, undisturbed):
    """The file is whole, and nothing lies beside it; after an abort another number of workers goes on from it."""
    path = tmp_path / "model.parnet"
    while_saving(monkeypatch, 1, kill_one)
    arguments = {"callbacks": [pn.callbacks.ModelCheckpoint(path)]}
    if on_failure == "restart":
        with pytest.warns(ParnetWarning, match="SIGKILL"):
            assert digest(fitted(server(on_failure="restart"), **arguments)[0]) == undisturbed[0]
        again = pn.load_model(path)
    else:
        with pytest.raises(WorkerLostError, match="SIGKILL"):
            fitted(server(), **arguments)
        again = pn.load_model(path)
        assert again.optimizer.iterations == 7
        fitted(server(3), again, initial_epoch=1)
    assert digest(again) == undisturbed[0] and os.listdir(tmp_path) == ["model.parnet"]


KILLED = """
import sys, time
import parnet as pn
from parnet.io import archive
from server_cases import fitted, server

path, write, seen = sys.argv[1], archive.write_array, []

def slowly(stream, array):
    seen.append(stream)
    if len(seen) > 12:  # the second save
        print("saving", flush=True)
        time.sleep(0.1)
    return write(stream, array)

archive.write_array = slowly
fitted(server(), epochs=3, callbacks=[pn.callbacks.ModelCheckpoint(path)])
"""


def test_a_parent_killed_while_it_writes_a_checkpoint_leaves_the_earlier_one(tmp_path):
    """No process is left; the earlier file is whole, trains on to the right bits, and the next save tidies up."""
    path = tmp_path / "model.parnet"
    paths = os.pathsep.join([str(Path(pn.__file__).parents[1]), str(TESTS)])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "saving\n"
    workers = workers_of(process.pid)
    process.kill()
    process.stdout.close()
    process.wait()
    assert len(workers) == 2 and gone(workers)
    assert len(os.listdir(tmp_path)) == 2  # the earlier file, and what was being written
    again = pn.load_model(path)
    assert again.optimizer.iterations == 7
    fitted(server(3), again, epochs=3, initial_epoch=1, callbacks=[pn.callbacks.ModelCheckpoint(path)])
    assert digest(again) == digest(fitted(Serial(4), epochs=3)[0]) and os.listdir(tmp_path) == ["model.parnet"]


FULL = """
import errno, os, resource, sys
import leaks
import parnet as pn
from nets import digest
from server_cases import fitted, model, server

folder, path = sys.argv[1], os.path.join(sys.argv[1], "model.parnet")

class Fill(pn.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:  # no file may grow beyond this from now on
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))

net = model()
try:
    fitted(server(), net, epochs=3, callbacks=[Fill(), pn.callbacks.ModelCheckpoint(path)])
except OSError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(errno.errorcode[error.errno], path in str(error), "make room" in str(error), len(leaks.children()))
print(os.listdir(folder), pn.load_model(path).optimizer.iterations, net.optimizer.iterations, digest(net))
fitted(server(), net, epochs=3, initial_epoch=2)
print(digest(net))
"""


def test_a_disk_that_is_full_keeps_the_earlier_checkpoint_and_the_trained_weights(tmp_path):
    """An OSError that names the file and the cure; no process and no temporary file is left; training can go on."""
    paths = os.pathsep.join([str(Path(pn.__file__).parents[1]), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    two, three = (digest(fitted(Serial(4), epochs=epochs)[0]) for epochs in (2, 3))
    assert done.stdout.splitlines() == ["EFBIG True True 0", f"['model.parnet'] 7 14 {two}", three], done.stderr
