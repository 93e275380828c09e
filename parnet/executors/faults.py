"""Faults on purpose, for tests alone: a worker that dies, fails, hangs or leaves at a named moment. Stage: executors.

The environment variable PARNET_FAULT holds JSON: {"worker": 1, "phase": "apply", "batch": 3, "how": "kill", "once": path}.
phase: rendezvous, compute (before a gradient is pushed), push (half of it is), pushed, apply (half of the update is done).
how: kill, segfault, exit, exception, stop; sleep for "seconds", in the phases rendezvous and compute. batch: 0; or "all" of
them, at a worker's own pace. once: a file that marks that it has happened. Must not know: models, training.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import control
from ..kernels.entries import APPLY, ENTRY, MEET
from .serial import SerialExecutor, native

if TYPE_CHECKING:
    from .link import Program
    from .solo import SoloProgram

VARIABLE = "PARNET_FAULT"


class DeliberateFault(Exception):
    """What a worker raises when it is told to fail."""


def strike(phase: str, worker: int, batch: int | None = None) -> None:
    """Come to grief if this is the moment."""
    fault = _planned(worker, phase)
    if fault is None or not _due(worker, phase, batch):
        return
    if "once" in fault:
        try:
            Path(fault["once"]).touch(exist_ok=False)
        except FileExistsError:
            return
    how = fault["how"]
    if how == "sleep":
        time.sleep(fault["seconds"])
        return
    if how == "exception":
        raise DeliberateFault(f"worker {worker} was told to fail in {phase}")
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)


def _planned(worker: int, *phases: str) -> dict[str, Any] | None:
    text = os.environ.get(VARIABLE)
    fault = json.loads(text) if text else None
    return fault if fault and fault["worker"] == worker and fault["phase"] in phases else None


def _due(worker: int, phase: str, batch: int | None) -> bool:
    """Whether this is the moment, and it has not been yet."""
    fault = _planned(worker, phase)
    if fault is None or (batch is not None and fault.get("batch", 0) not in (batch, "all")):
        return False
    return not Path(fault.get("once", "/nowhere")).exists()


def before(worker: Any, program: SoloProgram, batch: int, shard: int) -> None:
    """A worker is about to compute a shard of a batch at its own pace; half done, where it updates its weights itself."""
    strike("compute", worker.number, batch)
    if program.updates and _due(worker.number, "apply", batch):
        program.compute(worker.executor, batch, shard)
        strike("apply", worker.number, batch)


def behind(worker: Any, program: SoloProgram, batch: int) -> None:
    """It has computed it, and said nothing yet."""
    if _due(worker.number, "push", batch):
        program.common.gradients[:, ::2] = np.nan
        strike("push", worker.number, batch)


def run(worker: Any, program: Program, first: int, last: int, steps: tuple[int, int]) -> int:
    """If a fault is due in one of the batches: run up to there, leave what was being written half written, and strike.

    Returns the batch to go on with.
    """
    fault = _planned(worker.number, "compute", "push", "pushed", "apply")
    if fault is None or not first <= fault.get("batch", 0) < last or Path(fault.get("once", "/nowhere")).exists():
        return first
    phase, batch = fault["phase"], fault.get("batch", 0)
    worker.executor.run(program, first, batch, steps)
    program.control[:, control.STEP] = batch
    job = program.job(0, batch, batch + 1, steps)
    if program.loop != "loop.run_script":  # no shards: one worker alone
        strike(phase, worker.number, batch)
        return batch
    kinds = np.ctypeslib.as_array(ctypes.cast(job[0], ctypes.POINTER(ctypes.c_int64)), (job[1], ENTRY))[:, 0]
    meeting = next((k for k in range(len(kinds)) if kinds[k] == MEET), len(kinds))
    applying = next((k for k in range(len(kinds)) if kinds[k] == APPLY), len(kinds))
    until = {"compute": 0, "push": meeting, "pushed": meeting + 1, "apply": applying}[phase]
    if until and isinstance(worker.executor, SerialExecutor):
        operands = np.array([job[0], until, *job[2:]], np.int64)
        native(program.loop)(operands.ctypes.data, program.addresses.control[0], None, 0, 1)
    if phase == "push":
        for shard in program.shards:  # type: ignore[attr-defined]
            program.common.gradients[shard, ::2] = np.nan  # type: ignore[attr-defined]
    if phase == "apply":
        for vector in (program.store.parameters, program.store.slots, program.store.state):
            vector[::2] = np.nan
    strike(phase, worker.number, batch)
    return batch
