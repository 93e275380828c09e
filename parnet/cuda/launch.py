"""The words of a launch: a kernel, its grid, its arguments; and what a step's operands are on the device. Stage: cuda.

A launcher turns the operands of one step into a list of launches, once, when a plan is opened. All that changes from batch
to batch lies in device memory: the control words (`parnet.kernels.control`), and what a feed brings. So a step's launches
are the same for all batches, and can be captured as a graph.

Kernels take (ctl, geo, par, arrays ...): the control words, a tuple of whole numbers, a tuple of T, vectors. Grids are made
for a full batch; a kernel looks up the rows of the batch at hand in ctl[ROWS], which is 0 once the loss was not finite:
nothing is changed from then on. Must not know: plans, executors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import runtime


@dataclass(frozen=True)
class Fed:
    """An array that a feed brings, and that an executor puts in its place: "x", "y", "weight", "order", "out", "rates",
    "sums" or "losses", of the input or output of that number."""

    name: str
    number: int = 0


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: as numba.cuda made it.
        grid, block: blocks, and threads of each, in x and y (and z).
        args: vectors on the device, tuples of numbers or vectors; some vectors may still be `Fed`.
    """

    kernel: Any
    grid: tuple[int, ...]
    block: tuple[int, ...]
    args: tuple

    def ready(self, fed: Callable[[Fed], Any]) -> Launch:
        """The launch with what a feed brings in place."""
        return Launch(self.kernel, self.grid, self.block, tuple(_ready(a, fed) for a in self.args))


def _ready(argument, fed: Callable[[Fed], Any]):
    if isinstance(argument, tuple):
        return tuple(_ready(a, fed) for a in argument)
    return fed(argument) if isinstance(argument, Fed) else argument


def float_of(word: int) -> float:
    """The number that an operand word holds; the reverse of `parnet.kernels.step.number`."""
    return float(struct.unpack("<d", struct.pack("<q", word))[0])


def upper(word: int) -> int:
    """The first number of a `pair`."""
    return word >> 32


def lower(word: int) -> int:
    """The second number of a `pair`."""
    return word & 0xFFFFFFFF


class Context:
    """What a launcher is handed.

    Args:
        dtype: "float32" or "float64".
        batch: rows of a full batch.
        ctl: control words on the device.
        place: the vector on the device that an operand stands for.
        scratch: called with a size, a vector of so many T that lasts for the step.

    Attributes:
        T: np.float32 or np.float64; kernels are made for one of them.
    """

    def __init__(self, dtype: str, batch: int, ctl: Any, place: Callable, scratch: Callable[[int], Any]):
        self.T = {"float32": np.float32, "float64": np.float64}[dtype]
        self.batch, self.ctl, self._place, self.scratch = batch, ctl, place, scratch

    def array(self, operand) -> Any:
        """The vector of an operand; for 0, that of something that no kernel touches."""
        return self._place(operand)

    def arrays(self, *operands) -> tuple:
        """The vectors of some operands."""
        return tuple(self._place(operand) for operand in operands)

    def launch(self, kernel, grid, block, geo, par, *arrays) -> Launch:
        """A launch with the usual arguments."""
        par = tuple(self.T(p) for p in par) or (self.T(0),)
        return Launch(kernel, tuple(grid), tuple(block), (self.ctl, tuple(int(g) for g in geo) or (0,), par, *arrays))

    def flat(self, kernel, n: int, geo, par, *arrays) -> Launch:
        """A thread a number, of n numbers in a row."""
        blocks = max(1, min(runtime.MOST_BLOCKS, -(-n // runtime.THREADS)))
        return self.launch(kernel, (blocks,), (runtime.THREADS,), geo, par, *arrays)

    def plane(self, kernel, width: int, geo, par, *arrays, rows: int | None = None) -> Launch:
        """A thread a number, of rows of that width; x runs along a row."""
        rows = self.batch if rows is None else rows
        across = runtime.WARP if not runtime.SIMULATED else 2
        down = runtime.THREADS // across
        most = runtime.MOST_BLOCKS
        columns = max(1, min(most, -(-width // across)))
        grid = columns, max(1, min(max(1, most // columns), 65535, -(-rows // down)))
        return self.launch(kernel, grid, (across, down), geo, par, *arrays)

    def warps(self, kernel, rows: int, geo, par, *arrays) -> Launch:
        """A warp a row: threads (WARP, warps of a block); a row's number is y."""
        high = max(1, runtime.THREADS // runtime.WARP)
        grid = (1, max(1, min(65535, -(-rows // high))))
        return self.launch(kernel, grid, (runtime.WARP, high), geo, par, *arrays)

    def block(self, kernel, blocks: int, geo, par, *arrays) -> Launch:
        """So many whole blocks, for sums that a block makes together."""
        return self.launch(kernel, (max(1, blocks),), (runtime.THREADS,), geo, par, *arrays)


#: a launcher: the operands of a step, as it declares them, to launches
Launcher = Callable[[Context, tuple], list[Launch]]
