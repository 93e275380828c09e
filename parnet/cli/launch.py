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
from ..config import usable_cores
from ..errors import HyperparameterError, MissingExtraError, ResourceError
from .launchers import Wish, command, find, physical_cores
from .sweep import GRACE_S, JOB, Guard, kill, ranks_of, shared_memory, sweep
from .unseen import COMMAND, Unseen, unseen
from .verdict import Ending, verdict
from .word import Ear

#: how many ranks there should be
RANKS = "PARNET_RANKS"
#: environment variables with the thread budget of a rank
BUDGETS = ("PARNET_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: what reaches the ranks besides, where it is set
PASSED_ON = ("PARNET_DATA", "PARNET_CACHE", "PARNET_SIMD", "PYTHONPATH", "PATH", "LD_LIBRARY_PATH")
#: seconds between two looks at whether the job has ended; so many of them between two looks at its ranks
LOOK_S, EACH_LOOK = 0.2, 5
#: seconds after SIGTERM in which ranks may finish their step and save: as long as Slurm and Kubernetes wait before SIGKILL
STOPPING_S = 30.0
#: where batch systems name the machines of a job
HOSTS_FROM = (
    "SLURM_JOB_ID",
    "PBS_NODEFILE",
    "LSB_HOSTS",
    "LSB_MCPU_HOSTS",
    "PE_HOSTFILE",
    "HYDRA_HOST_FILE",
    "I_MPI_HYDRA_HOST_FILE",
)


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
    return run(words, environ, None if _elsewhere(arguments) else wish.ranks)


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
    elsewhere = _elsewhere(arguments)
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
        (sys.executable, *COMMAND, str(script), *arguments.arguments),
        arguments.oversubscribe,
        arguments.ulfm,
        more,
        not elsewhere and solid is not None and ranks * threads > solid,
        hasattr(os, "geteuid") and os.geteuid() == 0,
    )


def _elsewhere(arguments: argparse.Namespace) -> bool:
    """Whether other machines may take part: their cores are not known here, nor is what their ranks do."""
    named = any(name in os.environ for name in HOSTS_FROM) or any(
        name.startswith(("OMPI_MCA_", "PRTE_MCA_")) and "host" in name for name in os.environ
    )
    return bool(arguments.mpi_args) or named or arguments.launcher == "srun"


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


def run(words: list[str], environ: dict[str, str], ranks: int | None) -> int:
    """Start the launcher, pass Ctrl-C on, sweep up. Returns its exit code, 130 after Ctrl-C.

    Args:
        words: of the command; environ: of it; ranks: that run on this machine, None where others may take part.
    """
    name, before, ear, hung, looks = environ[JOB], shared_memory(), Ear(environ[JOB]), False, 0
    here = ranks if sys.platform == "linux" else None  # elsewhere the system does not say who is there
    asked, watch = _Asked(name, ear, here is not None), Unseen(name, here)
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(ear.close)
        for kind in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
            at_the_end.callback(signal.signal, kind, signal.signal(kind, asked))
        guard = Guard(name, before)
        at_the_end.callback(guard.leave)
        at_the_end.callback(sweep, name, before)
        # a session of its own: a key pressed in the terminal reaches us alone, not the launcher, which would kill the ranks
        asked.job = job = subprocess.Popen(words, env=environ, start_new_session=True, preexec_fn=_die_with_parent)
        while (code := _ended(job)) is None:
            ear.listen()
            looks += 1
            if looks % EACH_LOOK == 0 and not hung and watch.hang(EACH_LOOK * LOOK_S, ear.begun):
                hung = True
                asked.end()
            if asked.patience_is_over():
                job.kill()
        ear.listen()
    ending = Ending(code, ear.begun, ear.over, here is not None, bool(asked.times), hung, watch.alone)
    result, trouble = verdict(ending)
    if trouble:
        print(f"parnet.errors.RankError: {trouble}", file=sys.stderr, flush=True)
    return result


def _ended(job: subprocess.Popen) -> int | None:
    """The exit code, or None after a while."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return job.wait(LOOK_S)
    return None


class _Asked:
    """What signals do to a job: the first asks its ranks to stop after their step, the second ends it; and so does the first
    while ranks wait for each other before their scripts: they hear nothing there, and have nothing to save. A program that
    sends SIGTERM does so once: a job that has not stopped STOPPING_S later is ended.

    Attributes:
        name: of the job, in the environment of its ranks; ear: for its ranks; all_here: on this machine.
        job: the launcher, once it is started.
        times: how often we were asked.
    """

    def __init__(self, name: str, ear: Ear, all_here: bool):
        self.name, self.ear, self.all_here, self.times = name, ear, all_here, 0
        self.stopped_by = self.until = math.inf
        self.job: subprocess.Popen | None = None

    def __call__(self, number: int, frame: object) -> None:
        self.times += 1
        if self.job is None:
            raise KeyboardInterrupt
        self.ear.listen()
        if self.times == 1 and (self.ear.begun or not (self.all_here or unseen(self.name))):
            if number == signal.SIGINT:
                then = "Ctrl-C again ends them at once"
            else:
                then = f"in {STOPPING_S:g} s they are ended"
                self.stopped_by = time.monotonic() + STOPPING_S
            print(f"parnet launch: the ranks stop after this step; {then}", file=sys.stderr, flush=True)
            self.job.send_signal(signal.SIGUSR1)
            return
        self.end()

    def end(self) -> None:
        """End the job at once."""
        if self.job is not None:
            self.job.terminate()  # ends ranks on other machines too
            for pid in set(ranks_of(self.name)) - {self.job.pid}:
                kill(pid)
        self.until = min(self.until, time.monotonic() + GRACE_S)

    def patience_is_over(self) -> bool:
        """Whether the job should have ended by now; one that should have stopped is told to end."""
        if time.monotonic() > self.stopped_by:
            self.stopped_by = math.inf
            self.end()
        return time.monotonic() > self.until


def _die_with_parent() -> None:
    """Between fork and exec: the launcher is asked to end when we are killed (Linux)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
