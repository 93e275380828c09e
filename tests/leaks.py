"""What a test may leave behind by accident: threads, processes, shared memory. `conftest.py` looks after each test."""

from __future__ import annotations

import os
import threading
from multiprocessing import resource_tracker
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
#: what MPI libraries leave there when a job of theirs is killed, anybody's on this machine; `test_mpi*.py` look after ours
OF_MPI = ("sm_segment.", "vader_segment.", "mpich_shm_")


def living_threads():
    """Threads by identity; tqdm keeps one daemon for all bars of a process, and a thread that `threading` has not started,
    such as the one by which pytest-xdist listens, shows up as soon as something collected in it asks for its name."""
    return {t for t in threading.enumerate() if type(t).__name__ not in ("TMonitor", "_DummyThread")}


def children():
    """Ids of this process's children, but for Python's own tracker of shared memory, which stays for good."""
    found = set()
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in path.read_text().split())
        except OSError:  # the thread has ended
            continue
    return found - {getattr(resource_tracker._resource_tracker, "_pid", None)}


def shared_memory():
    """Names in /dev/shm, but for those of MPI; none where there is no such folder."""
    return {n for n in os.listdir(SHARED_MEMORY) if not n.startswith(OF_MPI)} if SHARED_MEMORY.is_dir() else set()


def held_elsewhere(name):
    """Whether a process that is neither this one nor its child has the shared memory mapped: then it is not ours."""
    own = {os.getpid(), *children()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if int(maps.parent.name) not in own and f"{SHARED_MEMORY / name}" in maps.read_text():
                return True
        except OSError:
            continue
    return False


def now():
    """All there is."""
    return living_threads(), children(), shared_memory()


def since(before):
    """What is there now and was not before, in words."""
    threads, processes, memory = before
    found = [f"thread {t.name}" for t in living_threads() - threads]
    found += [f"process {pid}" for pid in children() - processes]
    return found + [f"shared memory {name}" for name in shared_memory() - memory if not held_elsewhere(name)]
