"""Workers that die, fail, hang or leave, in every phase of a step: each row of the README's table."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import leaks
import numpy as np
import pytest
from nets import digest
from server_cases import AT, EPOCHS, FAULTY, PHASES, bits_of, fitted, model, plan_fault, server

import parnet as pn
from parnet.errors import ParnetWarning, WorkerLostError
from parnet.strategy import Serial

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are injected by Linux's signals")

#: how a worker ends -> what the error says of it
WAYS = {
    "kill": "was ended by SIGKILL",
    "segfault": "was ended by SIGSEGV",
    "exit": "left with exit code 0",
    "exception": "(?s)failed .*Traceback .*DeliberateFault: worker 1 was told to fail",
}


@pytest.fixture(scope="module")
def undisturbed():
    return bits_of(Serial(4))


@pytest.mark.parametrize(
    "phase, how", [*((phase, "kill") for phase in PHASES), *(("apply", how) for how in WAYS if how != "kill")]
)
def test_a_lost_worker_is_named_and_the_weights_are_whole(phase, how, monkeypatch):
    """The error names worker, process, signal or exit code, step and traceback; nobody hangs and nothing is left."""
    plan_fault(monkeypatch, phase, how)
    net, before = model(), leaks.children()
    with pytest.raises(WorkerLostError, match=WAYS[how]) as caught:
        fitted(server(), net)
    error, text = caught.value, str(caught.value)
    assert error.worker == FAULTY and f"worker {FAULTY} (process {error.pid})" in text
    assert "at the start" in text if phase == "rendezvous" else f"in step {AT + 1}" in text
    assert leaks.children() == before
    assert all(np.isfinite(w).all() for w in net.get_weights())
    assert net.optimizer.iterations == 0  # the last safe moment was the beginning
    assert digest(net) == digest(model())


@pytest.mark.parametrize(
    "phase, on_failure", [*((phase, "restart") for phase in PHASES[1:]), ("push", "shrink"), ("apply", "shrink")]
)
def test_a_worker_that_is_replaced_or_missed_changes_no_bit(phase, on_failure, monkeypatch, tmp_path, undisturbed):
    plan_fault(monkeypatch, phase, "kill", once=tmp_path / "done")
    with pytest.warns(ParnetWarning, match=rf"worker {FAULTY} .*SIGKILL in step {AT + 1}"):
        assert bits_of(server(on_failure=on_failure)) == undisturbed
    assert (tmp_path / "done").exists()


def test_threads_in_the_workers_are_ended_with_them(monkeypatch, tmp_path, undisturbed):
    plan_fault(monkeypatch, "compute", "kill", once=tmp_path / "done")
    with pytest.warns(ParnetWarning, match="SIGKILL"):
        assert bits_of(server(3, threads_per_worker=2, on_failure="restart")) == undisturbed


def test_too_many_losses_and_no_worker_left_are_errors(monkeypatch):
    plan_fault(monkeypatch, "compute", "kill")  # again and again
    with pytest.warns(ParnetWarning), pytest.raises(WorkerLostError, match="2 workers have been lost before"):
        fitted(server(on_failure="restart", restarts=2))
    plan_fault(monkeypatch, "compute", "kill", worker=0)
    with pytest.raises(WorkerLostError, match="no worker is left"):
        fitted(server(1, on_failure="shrink"))


def test_a_stopped_worker_is_warned_of_by_name_and_then_given_up(monkeypatch):
    plan_fault(monkeypatch, "pushed", "stop")
    strategy = server(stall_warning_s=0.6, stall_limit_s=1.5)
    warned, raised = rf"worker {FAULTY} \(process \d+\) has done nothing", rf"worker {FAULTY} .*no processor time"
    with pytest.warns(ParnetWarning, match=warned), pytest.raises(WorkerLostError, match=f"(?s){raised}"):
        fitted(strategy)


def test_updates_that_a_failure_has_undone_are_not_counted(monkeypatch):
    """The weights are those of the last safe moment, and the optimizer knows."""
    net = model()
    fitted(server(), net, epochs=1)
    done, state = net.optimizer.iterations, digest(net)
    plan_fault(monkeypatch, "apply", "kill")
    with pytest.raises(WorkerLostError):
        fitted(server(), net, epochs=1)
    assert net.optimizer.iterations == done and digest(net) == state


def test_training_goes_on_from_a_checkpoint_with_another_number_of_workers(tmp_path, monkeypatch):
    """A worker dies in the second epoch; the checkpoint of the first is loaded and trained on with three workers."""
    path = tmp_path / "model.parnet"
    whole, _ = fitted(Serial(4))

    class Kill(pn.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                os.kill(min(leaks.children()), signal.SIGKILL)

    with pytest.raises(WorkerLostError):
        fitted(server(), callbacks=[pn.callbacks.ModelCheckpoint(path), Kill()])
    again, _ = fitted(server(3), pn.load_model(path), initial_epoch=1)
    assert digest(again) == digest(whole)


SCRIPT = """
import os, sys, numpy as np, parnet as pn
sys.path.insert(0, {tests!r})
from server_cases import model, data, server
net, (x, y) = model(), data()
class Say(pn.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch, *sorted(os.listdir(f"/proc/{{os.getpid()}}/task")), flush=True)
try:
    net.fit(x, y, batch_size=16, epochs=100000, verbose=0, strategy=server({arguments}), callbacks=[Say()])
except KeyboardInterrupt:
    print("interrupted", net.optimizer.iterations, all(np.isfinite(w).all() for w in net.get_weights()), flush=True)
    sys.exit(130)
"""


def begin(arguments=""):
    """A training in a process group of its own, once it is under way; arguments: of the server."""
    paths = os.pathsep.join([str(Path(pn.__file__).parents[1]), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent), arguments=arguments)],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("epoch 3"):
            return process
    raise AssertionError("the training did not begin")


def workers_of(pid):
    return [int(n) for path in Path(f"/proc/{pid}/task").glob("*/children") for n in path.read_text().split()]


def gone(pids, limit_s=10.0):
    """Whether all processes end within the limit."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "how, arguments", [("SIGKILL", ""), ("SIGTERM", ""), ("SIGKILL", "2, None, mode='ssp', staleness=1")]
)
def test_a_killed_parent_leaves_no_process_and_no_shared_memory(how, arguments):
    """In mode ssp it is the server of the weights: its workers wait for nobody."""
    before = leaks.shared_memory()
    process = begin(arguments)
    workers = workers_of(process.pid)
    assert len(workers) == 2 and all(alive(pid) for pid in workers)
    process.send_signal(getattr(signal, how))
    process.stdout.close()
    process.wait()
    assert gone(workers)
    assert not {name for name in leaks.shared_memory() - before if "parnet" in name}


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_stops_after_the_batches_at_hand_and_twice_at_once(times):
    process = begin()
    workers = workers_of(process.pid)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"interrupted \d+ True", out)
    assert gone(workers)


def test_workers_that_are_killed_by_a_seeded_hand_do_no_harm(undisturbed):
    """A short chaos; bench/chaos.py is the long one."""
    rng, over = np.random.default_rng(3), threading.Event()

    def strike():
        for _ in range(3):
            if over.wait(0.05 + 0.3 * rng.random()):
                return
            for pid in sorted(leaks.children())[: 1 + int(rng.integers(2))]:
                if "parnet" in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                    os.kill(pid, signal.SIGKILL)

    hand = threading.Thread(target=strike)
    hand.start()
    try:
        with pytest.warns(ParnetWarning):
            pn.errors.warn("so that there is one in any case")
            net, _ = fitted(server(on_failure="restart", restarts=100), epochs=40 * EPOCHS)
    finally:
        over.set()
        hand.join()
    assert digest(net) == digest(fitted(Serial(4), epochs=40 * EPOCHS)[0])


#: marker of a table -> where its tests are
TABLES = {
    "failures": [
        *(f"test_server_{name}.py" for name in ("failures", "faults", "interrupts", "processes", "modes")),
        "test_parallel_promises.py",
    ],
    "failures of ranks": [
        *(f"test_{name}.py" for name in ("mpi", "mpi_stalls", "mpi_shrink", "launch", "launch_ends")),
        "test_parallel_promises.py",
    ],
}


@pytest.mark.parametrize("marker", TABLES)
def test_every_row_of_the_readmes_tables_has_its_tests(marker):
    readme = Path(__file__).parents[1] / "README.md"
    rows = re.search(rf"<!-- {marker} -->\n(.*?)\n\n", readme.read_text(encoding="utf-8"), re.DOTALL)[1].splitlines()[2:]
    sources = [Path(__file__).parent / name for name in TABLES[marker]]
    written = set(re.findall(r"def (test_\w+)", "".join(path.read_text(encoding="utf-8") for path in sources)))
    assert len(rows) >= 9
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named and named <= written, row
