"""A file that grows for long has one writer, and a killed one keeps nobody out."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import studies

import parnet as pn
from parnet.errors import StateError
from parnet.io import lock
from parnet.io.lock import alone_with

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(lock.fcntl is None, reason="this system has no locks of this kind"),
]
HOLD = """
import sys, time
from parnet.io.lock import alone_with
with alone_with(sys.argv[1], "test"):
    print("on", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes to "study.jsonl"."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "study.jsonl"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"on\n"
        yield process
        process.kill()


def test_a_second_writer_is_told(tmp_path, holder):
    with pytest.raises(StateError, match="another process that writes to it"), alone_with(tmp_path / "study.jsonl", "test"):
        pass
    with alone_with(tmp_path / "other.jsonl", "test"):
        pass


def test_a_study_beside_another_one_touches_nothing(tmp_path, holder):
    path = tmp_path / "study.jsonl"
    path.write_text("whatever the other one has written")
    with pytest.raises(StateError, match="study: expected to be alone"):
        pn.study.scaling(studies.small, studies.blobs(), strategies={}, repeats=1, verbose=0, path=path)
    assert path.read_text() == "whatever the other one has written"


def test_a_killed_writer_keeps_nobody_out_and_nothing_is_left(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with alone_with(tmp_path / "study.jsonl", "test"):
        assert len(os.listdir(tmp_path)) == 1
    assert not os.listdir(tmp_path)


def test_of_many_one_is_alone_at_any_time(tmp_path):
    """The name vanishes with its owner: who has opened it just before has the lock of a file that is gone."""
    inside, most, entered = [], [], []

    def work():
        for _ in range(300):
            try:
                with alone_with(tmp_path / "file", "test"):
                    inside.append(1)
                    most.append(len(inside))
                    entered.append(1)
                    inside.pop()
            except StateError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(entered) > 10


def test_disks_without_locks_and_other_systems_let_everybody_in(tmp_path, holder, monkeypatch):
    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(*_):
            raise OSError(95, "Operation not supported")

    for system in (NoLocks, None):
        monkeypatch.setattr(lock, "fcntl", system)
        with alone_with(tmp_path / "study.jsonl", "test"):
            pass
