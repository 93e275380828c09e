"""Real MPI ranks for tests: the launcher that is there, a script run by `parnet launch`, what is left afterwards."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import parnet
from parnet.cli.launchers import kind_of

TESTS = Path(__file__).parent
#: the launcher to test with; Open MPI's of this environment by default
LAUNCHER = os.environ.get("PARNET_TEST_LAUNCHER") or shutil.which(
    "mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)


def why_not():
    """Why tests with real ranks cannot run here; empty where they can."""
    if sys.platform != "linux":
        return "real ranks are tested on Linux"
    if importlib.util.find_spec("mpi4py") is None:
        return "needs mpi4py: pip install 'parnet[mpi]'"
    return "" if LAUNCHER else "needs a launcher of MPI ranks: pip install 'parnet[mpi]'"


def open_mpi():
    """Whether the launcher is Open MPI's."""
    return not why_not() and kind_of(LAUNCHER) == "openmpi"


needs_mpi = [pytest.mark.mpi, pytest.mark.skipif(bool(why_not()), reason=why_not() or "there")]


class Job:
    """`parnet launch` of a script's text, under way.

    Args:
        folder: where script and files go.
        text: of the script.
        ranks: how many.
        options: further ones for `parnet launch`.
        more_path: a folder that Python looks through before all others.
    """

    def __init__(self, folder, text, ranks, *options, words=(), more_path="", **environment):
        script = folder / "script.py"
        script.write_text(textwrap.dedent(text))
        paths = os.pathsep.join(map(str, filter(None, [more_path, Path(parnet.__file__).parents[1], TESTS])))
        # a temporary folder of its own: the MPI library keeps its session's files there
        self.environment = os.environ | {"PYTHONPATH": paths, "TMPDIR": str(folder)} | environment
        command = [sys.executable, "-m", "parnet", "launch", "-n", str(ranks), "--oversubscribe", "--threads", "1"]
        self.process = subprocess.Popen(
            [*command, "--launcher", LAUNCHER, *options, str(script), *words],
            env=self.environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, path, limit_s=90):
        """Until a file is there."""
        until = time.monotonic() + limit_s
        while not path.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"no {path.name}: {self.end(1)}")
            time.sleep(0.02)

    def end(self, limit_s=120):
        """(exit code, stdout, stderr); a job that hangs is killed and fails the test."""
        try:
            out, err = self.process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its ranks end with it
            out, err = self.process.communicate(timeout=30)
            pytest.fail(f"the job did not end within {limit_s} s: {out[-1500:]} {err[-1500:]}")
        return self.process.returncode, out, err


def run_ranks(folder, text, ranks, *options, limit_s=120, code=0, both=False, **environment):
    """What a script printed, all ranks together; of one that fails, or where `both` are wanted, with its errors."""
    got, out, err = Job(folder, text, ranks, *options, **environment).end(limit_s)
    assert got == code, f"exit code {got}: {out[-1500:]} {err[-3000:]}"
    return out + err if both or code else out


def of_jobs(folder):
    """Processes of jobs that a test started in its folder."""
    mark = f"TMPDIR={folder}".encode()
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.add(int(place.name))
        except OSError:
            continue
    return found
