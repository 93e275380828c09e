"""The contenders' processes: started, asked for epochs, stopped. Each runs a script of bench/peers.

A peer's Python is named by PARNET_PEER_TORCH, _JAX, _KERAS, _SKLEARN, _OPENVINO or _ONNXRUNTIME; without that it is this
one, if it has the package. A peer that is missing, fails or takes too long is left out, with the reason kept in
`failure`; it never ends a measurement. Must not know: what the scripts do.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .timing import Contender

PEERS = Path(__file__).parent / "peers"
ROOT = Path(__file__).parent.parent
#: libraries beside parnet, each the name of its package
PACKAGES = ("torch", "jax", "keras", "sklearn", "openvino", "onnxruntime")
#: seconds for imports, of all and of each after the others; for the first epoch, with compilation; for one more
READY_S, READY_LEAST_S, WARM_S, EPOCH_S = 90.0, 20.0, 90.0, 45.0
#: seconds for ending
CLOSE_S = 10.0
#: seconds of epochs after which a slow contender sits out the rounds that are left; two it runs in any case
BUDGET_S = 12.0
#: seconds of rest before an epoch: threads of the contender before it spin on for a while after their work
REST_S = 0.03


def interpreter(library: str) -> str | None:
    """The Python that a library's script runs on, or None where there is none. parnet runs on this one."""
    if library == "parnet":
        return sys.executable
    named = os.environ.get(f"PARNET_PEER_{library.upper()}")
    if named:
        return named
    return sys.executable if importlib.util.find_spec(library) else None


def reason_in(errors: str) -> str:
    """The last exception of an error output, else its last line; without folders' names."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Exit|Interrupt)\b", line)]
    return without_paths((raised or lines or ["ended without a word"])[-1])[:200]


def without_paths(text: str) -> str:
    """A message for a file that others read: folders are cut from the names of files in it."""
    path = r"(?:[A-Za-z]:)?[\w.~-]*(?:[/\\][\w.+~-]+)+[/\\]?"
    return re.sub(path, lambda found: re.split(r"[/\\]", found[0])[-1] or "...", text)


@dataclass(eq=False)
class Worker:
    """One contender's process.

    Attributes:
        library: "parnet", or one of PACKAGES.
        variant: what its script is asked for.
        threads: that its library may use; it is held on as many cores.
        net, data, batch: see `bench.peers.serve`; batch 0 is the network's, no data are samples of its own.
        script: of bench/peers is LIBRARY_SCRIPT.py.
        warming: the line that asks for its first epoch.
        failure: why it is out of the race; empty while it is in.
        version: of its library, once that is loaded.
        asked, spent_s: epochs so far, and their seconds.
    """

    library: str
    variant: str
    threads: int
    net: str
    data: Path | None = None
    batch: int = 0
    script: str = "peer"
    warming: str = ""
    failure: str = ""
    version: str = ""
    asked: int = 0
    spent_s: float = 0.0
    _process: subprocess.Popen | None = field(default=None, repr=False)
    _lines: queue.Queue = field(default_factory=queue.Queue, repr=False)
    _errors: IO | None = field(default=None, repr=False)
    _reader: threading.Thread | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """For tables: "torch eager, 1 thread"."""
        kind = f"{self.library} {self.variant}".strip()
        return f"{kind}, {self.threads} threads" if self.threads > 1 else f"{kind}, 1 thread"

    def start(self) -> None:
        """Start the process; `wait_ready` hears from it."""
        python = interpreter(self.library)
        if python is None:
            self.failure = f"not installed; name its Python in PARNET_PEER_{self.library.upper()}"
            return
        command = [python, str(PEERS / f"{self.library}_{self.script}.py"), self.net]
        command += ["--data", str(self.data)] if self.data else []
        command += ["--threads", str(self.threads), "--batch", str(self.batch)]
        command += ["--variant", self.variant] if self.library != "parnet" else []
        command += ["--cores", ",".join(map(str, cores(self.threads)))]
        self._errors = tempfile.TemporaryFile("w+")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors, "text": True}
        try:
            self._process = subprocess.Popen(command, env=environment(self.library, self.threads), **pipes)
        except OSError as error:
            self.failure = f"cannot be started: {error.strerror}"
            self._errors.close()
            return
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def _answer(self, limit_s: float) -> dict | None:
        """The next message, or None where the worker has failed."""
        deadline = time.monotonic() + limit_s
        while not self.failure:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self._fail(f"no answer in {limit_s:.0f} s")
                break
            if line is None:
                self._fail("")
                break
            with suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    return message
        return None

    def _fail(self, reason: str) -> None:
        """Out of the race; what its error output says is the reason, if there is no other."""
        if self._process is not None and reason:
            self._process.kill()
        if not reason:
            self._errors.seek(0)
            reason = reason_in(self._errors.read())
        self.failure = reason

    def wait_ready(self, limit_s: float) -> bool:
        """Whether its library is loaded."""
        answer = self._answer(limit_s)
        if answer is not None:
            self.version = str(answer.get("ready", ""))
        return answer is not None

    def warm_up(self) -> bool:
        """Whether it got through a first epoch."""
        self.ask(self.warming, limit_s=WARM_S)
        self.asked, self.spent_s = 0, 0.0
        return not self.failure

    def ask(self, line: str = "", limit_s: float = EPOCH_S) -> float:
        """Microseconds a sample (or step) of one epoch; NaN where it is out, or sits this round out."""
        if self.failure or self._process is None or self._process.stdin is None:
            return math.nan
        if self.asked >= 2 and self.spent_s > BUDGET_S and self.library != "parnet":
            return math.nan
        time.sleep(REST_S)
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except OSError:
            self._fail("")
            return math.nan
        answer = self._answer(limit_s)
        if answer is None:
            return math.nan
        self.asked, self.spent_s = self.asked + 1, self.spent_s + answer["seconds"]
        return 1e6 * answer["seconds"] / answer["count"]

    def asking(self, line: str = "") -> Contender:
        """`ask` of that line, as a contender."""
        return lambda: self.ask(line)

    def close(self) -> None:
        """End the process. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            process.stdin.close()  # the script's loop ends with its input
        try:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(CLOSE_S)
        process.stdout.close()
        self._errors.close()


def cores(count: int) -> list[int]:
    """The first `count` cores that this process may use; empty where they cannot be chosen."""
    return sorted(os.sched_getaffinity(0))[:count] if hasattr(os, "sched_getaffinity") else []


def environment(library: str, threads: int) -> dict[str, str]:
    """Of a worker: as many threads as it may use; parnet's is found where this one is."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    result = os.environ | dict.fromkeys(names, str(threads))
    result.pop("PYTHONPATH", None)
    if library == "parnet":
        result["PYTHONPATH"] = str(ROOT)
    return result


@contextmanager
def running(workers: list[Worker]):
    """All workers loaded at once and warmed up one by one; ended afterwards. Yields those in the race.

    Warmed up at once, contenders of several spinning threads each took minutes.
    """
    deadline = time.monotonic() + READY_S
    try:
        for worker in workers:
            worker.start()
        loaded = [w for w in workers if w.wait_ready(max(READY_LEAST_S, deadline - time.monotonic()))]
        yield [worker for worker in loaded if worker.warm_up()]
    finally:
        for worker in workers:
            worker.close()
