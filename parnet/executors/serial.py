"""The serial executor: the native loop on the calling thread. Stage: executors. Must not know: models, training."""

from __future__ import annotations

import ctypes

import numpy as np

from ..kernels import library
from .base import Executor
from .link import TABLE_ROW, Program

#: every kernel's signature; calling through ctypes lets other Python threads run meanwhile
KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)


def native(name: str):
    """A kernel as a Python callable (op, ctl, mem, part, parts) of addresses."""
    return KERNEL(library.address(name, "float32"))


def write_job(op: np.ndarray, program: Program, part: int, first: int, last: int, steps: tuple[int, int]) -> None:
    """The operands of `loop.run` for one part."""
    table = program.tables[part].ctypes.data + steps[0] * TABLE_ROW * 8
    op[:6] = (table, steps[1] - steps[0], first, last, program.barrier.ctypes.data, program.arena.ctypes.data)


class SerialExecutor(Executor):
    """Everything on one thread."""

    name = "serial"

    def __init__(self) -> None:
        self._loop = native("loop.run")
        self._op = np.zeros(8, np.int64)

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        write_job(self._op, program, 0, first, last, steps or (0, len(program.plan.steps)))
        self._loop(self._op.ctypes.data, program.control.ctypes.data, None, 0, 1)
