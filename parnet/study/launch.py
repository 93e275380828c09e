"""Starts a run in a process of its own and reads what it measured. Stage: study.

Nothing is shared with other runs but the job: builders, samples, settings. Must not know: statistics, what is measured.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import ResourceError, StateError
from .design import Point
from .handover import Handover
from .machine import Meter

#: what a process runs
WORKER = Path(__file__).with_name("worker.py")
#: seconds a killed process may take to end
END_S = 10.0
#: what a pickle says of things that the main module defines
_MAIN = b"__main__"
#: each process has as many threads of other libraries as its point has workers
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Bench:
    """What the runs of a study are given, and the processes that they are. Use as a context manager.

    Args:
        builders: network -> function that returns a fresh model.
        compiled, data, settings: see `sample.take`.
        limit_s: seconds a run may take.
    Attributes:
        networks: whose builders it has. handover: the files that pass between it and its runs.
    Raises:
        StateError: a builder that cannot be handed to another process.
        ResourceError: no room for a copy of the data.
    """

    def __init__(
        self, builders: Mapping[str, Callable[[], Any]], compiled: dict, data: dict, settings: dict, limit_s: float
    ):
        packed = {name: packed_builder(name, build) for name, build in builders.items()}
        self.limit_s, self.oversubscribe = limit_s, bool(settings.get("oversubscribe"))
        self.networks = frozenset(packed)
        needed = any(_MAIN in one for one in packed.values())
        where = main_module() if needed else {"script": "", "module": ""}
        job = {"builders": packed, "compiled": compiled, "data": data, "settings": settings}
        self.handover = Handover()
        try:
            with _room_for("a copy of the data"):
                file = self.handover.file("job")
                for part in (where | {"path": sys.path}, job):  # what the first says must be done before the second is read
                    pickle.dump(part, file, protocol=pickle.HIGHEST_PROTOCOL)
                file.flush()
        except BaseException:
            self.close()
            raise

    def run(self, point: Point, settings: dict, tick: Callable[[], None] = lambda: None) -> dict:
        """One run. Returns what `sample.take` returns, or {"failure": why}; other load with both.

        Args:
            tick: called several times a second while the run lasts.
        """
        with _room_for("a run's order"):
            order, result, output = (self.handover.file(name) for name in ("order", "result", "output"))
            order.write(json.dumps({"point": point.config(), "settings": settings}).encode())
            order.flush()
        meter = Meter()
        failure = self._wait(self._start(point, output), output, tick)
        other = meter.other()
        found: dict = {}
        with suppress(OSError, ValueError):
            found = json.loads(result.read())
        if not found:
            found = {"failure": failure or "it ended without a result"}
        return found | {"other_cores": other}

    def _start(self, point: Point, output: IO) -> subprocess.Popen:
        words = [self.handover.path(name) for name in ("job", "order", "result")]
        if self.handover.folder is not None and not point.chosen.way.ranks:
            words += [str(self.handover.folder), str(os.getpid())]
        worker, threads = ["-m", "parnet.study.worker", *words], str(point.workers)
        if point.chosen.way.ranks:
            threads = "1"
            more = ["--oversubscribe"] if self.oversubscribe else []
            worker = ["-m", "parnet", "launch", "-n", str(point.workers), "--threads", "1", *more, str(WORKER), *words]
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, threads) | {"PYTHONPATH": path}
        return subprocess.Popen(
            [sys.executable, *worker], stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment
        )

    def _wait(self, process: subprocess.Popen, output: IO, tick: Callable[[], None]) -> str:
        """Why it failed; empty where it did not say so itself."""
        waited = 0.0
        try:
            while True:
                try:
                    process.wait(0.25)
                    break
                except subprocess.TimeoutExpired:
                    waited += 0.25
                    tick()
                    if waited > self.limit_s:
                        return f"no result within {self.limit_s:g} s"
        finally:
            end(process)
        if process.returncode == 0:
            return ""
        output.seek(0)
        lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
        what = f"ended by signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        return f"{what}: {lines[-1][:300]}" if lines else what

    def close(self) -> None:
        """Remove the files. May be called twice."""
        self.handover.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def _room_for(what: str) -> Iterator[None]:
    """Raise ResourceError where files cannot be written."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"study: expected room for {what} in the folder for temporary files, received: {error}; free some, or name "
            "another folder in the environment variable TMPDIR"
        ) from error


def end(process: subprocess.Popen) -> None:
    """End a process, gently first, and give back its pipe."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()  # the worker ends with its input
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def packed_builder(name: str, build: Callable[[], Any]) -> bytes:
    """A builder as another process can read it.

    Raises:
        StateError: it cannot be pickled, or was typed into a session that has no file.
    """
    try:
        packed = pickle.dumps(build)
    except Exception as error:
        raise StateError(
            f"study: expected a builder that a fresh process can import, received {build!r} for {name!r}, which cannot be "
            f"pickled ({error}); define it with `def` at the top of a file, not as a lambda or within a function"
        ) from error
    if _MAIN in packed and not any(main_module().values()):
        raise StateError(
            f"study: expected a builder that a fresh process can import, received {build!r} for {name!r}, which was typed "
            "into "
            "an interactive session; save it in a file, models.py, and import it from there"
        )
    return packed


def main_module() -> dict[str, str]:
    """Where this process's main module can be found again: its file, or its dotted name."""
    module = sys.modules["__main__"]
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is not None:
        return {"script": "", "module": spec.name}
    return {"script": str(Path(file).resolve()) if file and Path(file).is_file() else "", "module": ""}
