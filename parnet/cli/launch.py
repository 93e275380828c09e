"""`parnet launch`: a script on several MPI ranks, by the launcher that the machine has. Stage: outermost.

    parnet launch -n 4 --threads 2 train.py --epochs 3

Every rank runs the script under `python -m mpi4py`, so that an exception on one rank ends the job. Each is bound to cores
of its own, and its thread budget stands in its environment before anything is imported. The first Ctrl-C asks the ranks to
stop after the step they are in, the second ends them at once. What the job leaves behind is swept away.
Must not know: models, training.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import math
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from ..checks import check_count
from ..comm.process import Limits, look_at
from ..config import usable_cores
from ..errors import HyperparameterError, MissingExtraError, ResourceError
from .launchers import Launcher, Wish, command, find, physical_cores
from .sweep import GRACE_S, JOB, Guard, kill, ranks_of, shared_memory, sweep

#: how many ranks there should be
RANKS = "PARNET_RANKS"
#: environment variables with the thread budget of a rank
BUDGETS = ("PARNET_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: what reaches the ranks besides, where it is set
PASSED_ON = ("PARNET_DATA", "PARNET_CACHE", "PARNET_SIMD", "PYTHONPATH", "PATH", "LD_LIBRARY_PATH")
#: seconds between two looks at whether the job has ended; so many of them between two looks at its ranks
LOOK_S, EACH_LOOK = 0.2, 5
#: of patience with ranks that are stopped where no other rank watches
LIMITS = Limits()
INTERRUPTED = 130


def launch(arguments: argparse.Namespace) -> int:
    """Start the ranks and wait for them. Returns the job's exit code, 130 after Ctrl-C.

    Raises:
        HyperparameterError, ResourceError, MissingExtraError: before anything is started.
    """
    wish = _wish(arguments)
    launcher = find(arguments.launcher, os.environ)
    environ = environment(wish)
    passed = [JOB, RANKS, *BUDGETS, *(name for name in PASSED_ON if name in environ)]
    words = command(launcher, wish, passed)
    if arguments.dry_run:
        print(" ".join([*(f"{name}={environ[name]}" for name in (RANKS, *BUDGETS)), shlex.join(words)]))
        return 0
    return run(launcher, words, environ)


def _words(text: str) -> tuple[str, ...]:
    """Words as a shell cuts them. Raises HyperparameterError for a quotation that does not end."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise HyperparameterError(
            f"launch: --mpi-args: expected words as in a shell, received {text!r} ({error}); close the quotation"
        ) from error


def _wish(arguments: argparse.Namespace) -> Wish:
    """What the command line asks for, checked against the machine."""
    ranks = check_count(arguments.n, "launch: -n")
    more = _words(arguments.mpi_args)
    script = Path(arguments.script)
    if not script.is_file():
        raise HyperparameterError(
            f"launch: expected a script, received {arguments.script!r}, which is no file; check the path"
        )
    if importlib.util.find_spec("mpi4py") is None:
        raise MissingExtraError(
            "launch: expected the package 'mpi4py', which is not installed; run: pip install 'parnet[mpi]'"
        )
    elsewhere = bool(more) or "SLURM_JOB_ID" in os.environ  # other machines may take part: their cores are not known here
    cores = usable_cores()
    threads = _threads(arguments, ranks, cores)
    if ranks * threads > cores and not (arguments.oversubscribe or elsewhere):
        raise ResourceError(
            f"launch: expected at most {cores} threads in all, the cores this process may use (affinity and quota), "
            f"received {ranks} ranks x {threads} threads; start fewer, or give --oversubscribe, which is slow"
        )
    solid = physical_cores()
    return Wish(
        ranks,
        threads,
        (sys.executable, "-m", "mpi4py", "-m", "parnet.cli.rank", str(script), *arguments.arguments),
        arguments.oversubscribe,
        arguments.ulfm,
        more,
        not elsewhere and solid is not None and ranks * threads > solid,
        hasattr(os, "geteuid") and os.geteuid() == 0,
    )


def _threads(arguments: argparse.Namespace, ranks: int, cores: int) -> int:
    """Of each rank: as asked for, as Slurm gives it, or its share of the cores."""
    if arguments.threads is not None:
        return check_count(arguments.threads, "launch: --threads")
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(given) if given.isdigit() and int(given) else max(1, cores // ranks)


def environment(wish: Wish) -> dict[str, str]:
    """What the ranks find in their environment."""
    budget = dict.fromkeys(BUDGETS, str(wish.threads))
    return os.environ | budget | {JOB: uuid.uuid4().hex, RANKS: str(wish.ranks)}


# -- the job --------------------------------------------------------------------------------------


def run(launcher: Launcher, words: list[str], environ: dict[str, str]) -> int:
    """Start the launcher, pass Ctrl-C on, sweep up. Returns its exit code, 130 after Ctrl-C."""
    before = shared_memory()
    guard = Guard(environ[JOB], before)
    # a session of its own: a key pressed in the terminal reaches us alone, not the launcher, which would kill the ranks
    job = subprocess.Popen(words, env=environ, start_new_session=True, preexec_fn=_die_with_parent)
    asked = _Asked(job, environ[JOB])
    kinds = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    old = {kind: signal.signal(kind, asked) for kind in kinds}
    try:
        unseen, hung = _Unseen(environ[JOB]), False
        while (code := _ended(job)) is None:
            if unseen.hang(LOOK_S):
                hung = True
                asked.end()
            if asked.patience_is_over():
                job.kill()
    finally:
        for kind, handler in old.items():
            signal.signal(kind, handler)
        sweep(environ[JOB], before)
        guard.leave()
    if asked.times:
        return INTERRUPTED
    return (code if code >= 0 else 128 - code) or int(hung)  # a launcher that is ended may say that all was well


def _ended(job: subprocess.Popen) -> int | None:
    """The exit code, or None after a while."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return job.wait(LOOK_S)
    return None


class _Unseen:
    """Ranks of this machine that are stopped where the others do not watch over them: before all have met, and behind their
    scripts. job: its name in their environment.
    """

    def __init__(self, job: str):
        self._job, self._stopped_s, self._until_look = job, 0.0, EACH_LOOK
        self._said = False

    def hang(self, seconds: float) -> bool:
        """Whether a rank has been stopped for so long that the job must end. seconds: since the last call."""
        self._until_look -= 1
        if self._until_look:
            return False
        self._until_look = EACH_LOOK
        looks = {pid: look_at(pid) for pid in ranks_of(self._job) if _name(pid).startswith("python")}
        stopped = [pid for pid, look in looks.items() if look is not None and look.stopped]
        if not stopped:
            self._stopped_s, self._said = 0.0, False
            return False
        self._stopped_s += EACH_LOOK * seconds
        words = f"MPI: rank of process {stopped[0]} has been stopped for {self._stopped_s:.0f} s before or behind its script"
        if self._stopped_s >= LIMITS.end_s:
            print(f"parnet.errors.RankError: {words}; the job ends", file=sys.stderr, flush=True)
            return True
        if self._stopped_s >= LIMITS.warning_s and not self._said:
            self._said = True
            print(f"parnet: {words}; after {LIMITS.end_s:.0f} s the job ends", file=sys.stderr, flush=True)
        return False


def _name(pid: int) -> str:
    """What a process calls itself; "python", unless it is a rank under watch."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


class _Asked:
    """What signals do to a job: the first asks its ranks to stop after their step, the second ends it.

    Attributes:
        name: of the job, in the environment of its ranks.
        times: how often we were asked.
    """

    def __init__(self, job: subprocess.Popen, name: str):
        self.job, self.name, self.times, self.until = job, name, 0, math.inf

    def __call__(self, number: int, frame: object) -> None:
        self.times += 1
        if self.times == 1:
            print(
                "parnet launch: the ranks stop after this step; Ctrl-C again ends them at once", file=sys.stderr, flush=True
            )
            self.job.send_signal(signal.SIGUSR1)
            return
        self.end()

    def end(self) -> None:
        """End the job at once."""
        self.job.terminate()  # ends ranks on other machines too
        for pid in set(ranks_of(self.name)) - {self.job.pid}:
            kill(pid)
        self.until = time.monotonic() + GRACE_S

    def patience_is_over(self) -> bool:
        """Whether the job should have ended by now."""
        return time.monotonic() > self.until


def _die_with_parent() -> None:
    """Between fork and exec: the launcher is asked to end when we are killed (Linux)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
