"""The serial executor: the native loop on the calling thread. Stage: executors. Must not know: models, training."""

from __future__ import annotations

import ctypes

import numpy as np

from ..kernels import library
from .base import Executor
from .link import TABLE_ROW, Program

#: every kernel's signature; calling through ctypes lets other Python threads run meanwhile
KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)


def native(name: str, dtype: str = "float32"):
    """A kernel as a Python callable (op, ctl, mem, part, parts) of addresses."""
    return KERNEL(library.address(name, dtype))


def job_words(program: Program, part: int, first: int, last: int, steps: tuple[int, int]) -> tuple[int, ...]:
    """The operands of `loop.run` for one part."""
    where = program.addresses
    table = where.tables[part] + steps[0] * TABLE_ROW * 8
    return (table, steps[1] - steps[0], first, last, where.barrier, where.arena)


class SerialExecutor(Executor):
    """Everything on one thread."""

    name = "serial"

    def __init__(self) -> None:
        self._loop = native("loop.run")
        self._op = np.zeros(8, np.int64)
        self._op_address = self._op.ctypes.data

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        self._op[:6] = job_words(program, 0, first, last, steps or program.span(()))
        self._loop(self._op_address, program.addresses.control[0], None, 0, 1)
