"""Promises of parallel training that hold across workers and ranks, or of the process that serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import leaks
import pytest
from nets import digest
from rank_cases import SMALL
from ranks import Job, needs_mpi, run_ranks
from server_cases import BATCH, ROWS, fitted, plan_fault, server
from test_server_failures import gone

import parnet as pn
from parnet.strategy import Serial

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="worker processes need a system with sockets that pass files"
)
#: 17 steps an epoch, the last of one row: 51 in all
FIFTY = {"batch_size": 6, "epochs": 3}


@pytest.fixture(scope="module")
def fifty():
    """The digest of fifty steps in one process."""
    net, _ = fitted(Serial(4), **FIFTY)
    assert net.optimizer.iterations == 51
    return digest(net)


@pytest.mark.parametrize("workers, threads", [(1, 2), (2, 1), (3, 2), (4, 1)])
def test_fifty_steps_on_workers_have_the_digest_of_one_process(workers, threads, fifty):
    assert digest(fitted(server(workers, threads_per_worker=threads), **FIFTY)[0]) == fifty


@pytest.mark.parametrize("phase", ["compute", "push", "pushed", "apply"])
def test_fifty_steps_with_a_kill_and_a_restart_have_the_digest_of_one_process(phase, fifty, monkeypatch, tmp_path):
    plan_fault(monkeypatch, phase, "kill", once=tmp_path / "done")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, _ = fitted(server(on_failure="restart"), **FIFTY)
    assert (tmp_path / "done").exists() and digest(net) == fifty


#: a training that kills itself, or not, at a call of a function of its own, then trains on from its checkpoint
SERVES = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import parnet as pn
from parnet.executors import crew, desk
from parnet.io import archive
from server_cases import data, digest, model
place, name, number, mode = {place}, {name!r}, {number}, {mode}
original, calls = getattr(place, name), []
def dying(*arguments, **more):
    calls.append(1)
    if len(calls) == number:
        children = [n for t in os.listdir("/proc/self/task") for n in open(f"/proc/self/task/{{t}}/children").read().split()]
        print(*children, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **more)
setattr(place, name, dying)
net = model(synchronized=False)
strategy = pn.strategy.ParameterServer(2, threads_per_worker=1, oversubscribe=True, **mode)
saved = pn.callbacks.ModelCheckpoint("m.parnet")
net.fit(*data(), batch_size=16, epochs=50, strategy=strategy, verbose=0, callbacks=[saved])
"""


@pytest.mark.parametrize(
    "place, name, number",
    [("desk.Desk", "begin", 40), ("crew.Crew", "listen", 60), ("desk.Desk", "update", 40), ("archive", "write_array", 30)],
    ids=["pull", "push", "apply", "checkpoint"],
)
def test_a_killed_server_leaves_nothing_and_its_checkpoint_trains_on(place, name, number, tmp_path):
    """In mode ssp the process that trains is the server of the weights: its workers end with it."""
    before = leaks.shared_memory()
    paths = os.pathsep.join([str(Path(pn.__file__).parents[1]), str(Path(__file__).parent)])
    text = SERVES.format(place=place, name=name, number=number, mode={"mode": "ssp", "staleness": 1})
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2 and gone(workers)
    assert not {name for name in leaks.shared_memory() - before if "parnet" in name}
    net, steps = pn.load_model(tmp_path / "m.parnet"), -(-ROWS // BATCH)
    epochs = net.optimizer.iterations // steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted(server(3, None, mode="ssp", staleness=1), net, initial_epoch=epochs, epochs=epochs + 2)
    assert net.optimizer.iterations == (epochs + 2) * steps


SMALL_FOLDER = "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec {python} -c '{script}'"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is Linux's")
def test_a_real_dev_shm_that_is_too_small_is_not_used_or_named():
    train = 'from server_cases import fitted, server; fitted(server()); print("trained")'
    without = "import os; del os.memfd_create; " + train
    paths = os.pathsep.join([str(Path(pn.__file__).parents[1]), str(Path(__file__).parent)])

    def run(script):
        words = ["unshare", "-m", "sh", "-c", SMALL_FOLDER.format(python=sys.executable, script=script)]
        environ = os.environ | {"PYTHONPATH": paths}
        return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60)

    try:
        if run("pass").returncode:
            pytest.skip("mounting a folder is not allowed here")
    except FileNotFoundError:
        pytest.skip("there is no program unshare")
    assert run(train).stdout == "trained\n"
    said = run(without)
    assert said.returncode == 1 and "enlarge /dev/shm (docker run --shm-size)" in said.stderr.splitlines()[-1]
    assert "ResourceError: parameter server:" in said.stderr


class TestRanks:
    pytestmark = [*needs_mpi, pytest.mark.usefixtures("nothing_left")]

    @pytest.mark.parametrize("size, threads", [(2, 2), (3, 1)])
    def test_fifty_steps_on_ranks_have_the_digest_of_one_process_and_of_workers(self, size, threads, fifty, tmp_path):
        text = f"""
            import parnet as pn
            from server_cases import digest, fitted
            class Threads(pn.strategy.MPI):
                def threads_for(self, estimate_us):
                    return {threads}
            strategy = Threads(shards=4)
            net, _ = fitted(strategy, **{FIFTY})
            if strategy.ranks.leads:
                print(digest(net))
        """
        assert run_ranks(tmp_path, text, size).split() == [fifty]

    def test_ctrl_c_while_a_checkpoint_is_written_leaves_a_whole_one(self, tmp_path):
        text = """
    import pathlib, time
    from parnet.io import archive
    write = archive.write_array
    def slow(*arguments):
        pathlib.Path("saving").touch()
        time.sleep(0.3)
        return write(*arguments)
    archive.write_array = slow
    saved = pn.callbacks.ModelCheckpoint("checkpoint.parnet")
    model.fit(x, y, 32, 1000, callbacks=[saved], strategy=strategy, verbose=0)
"""
        job = Job(tmp_path, SMALL + text, 2)
        job.wait_for(tmp_path / "saving")
        os.killpg(job.process.pid, signal.SIGINT)
        assert job.end(60)[0] == 130
        assert pn.load_model(tmp_path / "checkpoint.parnet").optimizer.iterations == 4
        assert not [name for name in os.listdir(tmp_path) if "checkpoint" in name and name != "checkpoint.parnet"]
