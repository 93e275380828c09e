"""The serial executor: the native loop on the calling thread. Stage: executors. Must not know: models, training."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np

from ..kernels import library
from .base import Executor
from .link import Program

#: word of the loop's operands that it sets when it has ended, and what it says where it was ended from outside
DONE_WORD, ENDED = 6, 2
#: every kernel's signature; calling through ctypes lets other Python threads run meanwhile
KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)


def native(name: str, dtype: str = "float32"):
    """A kernel as a Python callable (op, ctl, mem, part, parts) of addresses."""
    return _callable(library.address(name, dtype))


@lru_cache(maxsize=64)
def _callable(address: int):
    return KERNEL(address)


class SerialExecutor(Executor):
    """Everything on one thread."""

    name = "serial"
    keeps = True

    def __init__(self) -> None:
        native("loop.run")  # compiled now, not in the first run
        self._op = np.zeros(DONE_WORD + 1, np.int64)
        self._op_address = self._op.ctypes.data

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        self._op[:] = program.job(0, first, last, steps or program.span(()))
        native(program.loop)(self._op_address, program.addresses.control[0], None, 0, 1)
        self.ended = bool(self._op[DONE_WORD] == ENDED)
