"""What an MPI job may leave behind, and who removes it. Stage: outermost, beneath `launch`.

`parnet launch` sweeps up after its job. Should it be killed itself, a guard does, which it has started beforehand: this
module run as a script, which waits until the other end of its standard input is gone. Must not know: models, training.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

#: what tells the ranks of a job from all other processes, in their environment
JOB = "PARNET_JOB"
#: seconds between being asked to end and being killed
GRACE_S = 5.0


class Guard:
    """The process that sweeps up where this one cannot any more.

    Args:
        job: in the environment of its ranks. before: shared memory that was there before it.
    """

    def __init__(self, job: str, before: set[Path]):
        # by its path, without the user's folder and settings: a file json.py there would be taken for Python's own
        words = [sys.executable, "-I", __file__, job, json.dumps(sorted(map(str, before)))]
        environ = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}
        none = subprocess.DEVNULL  # whoever reads what the job says waits for nobody else
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=none, stderr=none, env=environ, start_new_session=True
        )

    def leave(self) -> None:
        """There is nothing to do for it."""
        self._process.kill()
        self._process.communicate()


def sweep(job: str, before: set[Path]) -> None:
    """End what still runs of the job, and remove the shared memory that its MPI library has left."""
    for pid in _left(job):
        kill(pid)
    _left(job)  # until they are gone, they hold the memory
    new = shared_memory() - before
    for path in new - _mapped(new):
        path.unlink(missing_ok=True)


def _left(job: str) -> list[int]:
    """What still runs of the job after a while."""
    until = time.monotonic() + GRACE_S
    while (left := ranks_of(job)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def kill(pid: int) -> None:
    """End a process at once, if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ranks_of(job: str) -> list[int]:
    """Processes of this machine that carry the job's number in their environment, but for this one."""
    mark = f"{JOB}={job}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int(place.name) != os.getpid() and mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except (OSError, ValueError):
            continue
    return found


def shared_memory() -> set[Path]:
    """The MPI libraries' files in /dev/shm that belong to this user."""
    found = set()
    for pattern in ("mpich_shm_*", "Intel_MPI_*", "vader_segment.*", "sm_segment.*"):
        for path in Path("/dev/shm").glob(pattern):
            try:
                if path.stat().st_uid == os.getuid():
                    found.add(path)
            except OSError:
                continue
    return found


def _mapped(paths: set[Path]) -> set[Path]:
    """Those of the files that some process still uses."""
    used: set[Path] = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if paths else ():
        try:
            text = maps.read_text()
        except OSError:
            continue
        used |= {path for path in paths if str(path) in text}
    return used


if __name__ == "__main__":
    sys.stdin.buffer.read()  # until whoever has the other end is gone
    sweep(sys.argv[1], {Path(name) for name in json.loads(sys.argv[2])})
