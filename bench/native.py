"""A kernel run in a native loop, and the peak of the processor. Python is entered once a sample.

A product is one step of a one-layer plan, run for many batches by the executor; the peak is parnet's own
register tile on operands that never leave the first-level cache. Must not know: what a product is compared
with.
"""

from __future__ import annotations

import threading
import time

import numpy as np

import parnet as pn
from parnet import layers as L
from parnet.executors.base import Feed
from parnet.executors.memory import aligned_zeros
from parnet.executors.serial import KERNEL, SerialExecutor
from parnet.executors.threads import ThreadsExecutor
from parnet.kernels import library
from parnet.kernels.declare import kernel
from parnet.kernels.intrinsics import at, like
from parnet.kernels.product import three
from parnet.kernels.share import TILE_ROWS, TILE_VECTORS
from parnet.kernels.target import vector_bytes
from parnet.kernels.tile import STORE
from parnet.losses import MeanSquaredError
from parnet.plan.plan import Request, make_plan

#: numbers between the operands of two threads: pages apart
APART = 8192
LANES = vector_bytes() // 4


@kernel
def resident_tile(op, ctl, mem, part, parts):
    """The widest tile over and over on a handful of cache lines; FLOPs 2 rows columns depth.

    op: depth, numbers from one part's operands to the next part's.
    """
    mine = at(mem, part * op[1])
    three(op[0], mine, 1, 0, at(mine, 64), 0, at(mine, 256), 256, TILE_ROWS, 0, STORE, like(mem, 0))


class Peak:
    """The most multiply-adds the processor does, measured.

    Args:
        threads: that run the tile at once.
    """

    DEPTH = 400_000

    def __init__(self, threads: int):
        library.add_user_kernel(resident_tile)
        self.threads, self._run = threads, KERNEL(library.address(resident_tile.name, "float32"))
        self._memory = aligned_zeros(threads * APART, np.float32)
        self._memory[:] = 1e-6
        self._words = np.zeros(64, np.int64)
        self._op = np.array([self.DEPTH, APART], np.int64)
        self.flops = 2.0 * TILE_ROWS * min(3, TILE_VECTORS) * LANES * self.DEPTH * threads

    def seconds(self) -> float:
        """One run: from the start of the last thread to the end of the last."""
        if self.threads == 1:
            return self._timed(0)[1]
        gate, ends = threading.Barrier(self.threads), [(0.0, 0.0)] * self.threads

        def work(part: int) -> None:
            gate.wait()
            begun, took = self._timed(part)
            ends[part] = (begun, begun + took)

        crowd = [threading.Thread(target=work, args=(part,)) for part in range(self.threads)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        return max(end for _, end in ends) - min(begun for begun, _ in ends)

    def _timed(self, part: int) -> tuple[float, float]:
        begun = time.perf_counter()
        op, words, memory = (array.ctypes.data for array in (self._op, self._words, self._memory))
        self._run(op, words, memory, part, self.threads)
        return begun, time.perf_counter() - begun


class Product:
    """One product of a Dense layer, without bias, run for many batches.

    Args:
        kernel: "product.forward" or "product.weight_gradient".
        rows, depth, width: of the batch, the layer's inputs and its outputs.
        threads: parts.
    """

    def __init__(self, kernel: str, rows: int, depth: int, width: int, threads: int = 1):
        model = pn.Sequential([L.Input((depth,)), L.Dense(width, use_bias=False)], seed=0)
        request = Request("manual", rows, threads=threads, loss=MeanSquaredError())
        self.network, self.store = model.session.network, model.session.store
        self.store.need_gradients()
        self.plan = make_plan(self.network, request)
        self.executor = SerialExecutor() if threads == 1 else ThreadsExecutor(threads)
        self.program = self.executor.open(self.plan, self.store)
        rng = np.random.default_rng(0)
        self.program.arena[:] = rng.uniform(-1, 1, len(self.program.arena)).astype(np.float32)
        self.step = next(i for i, step in enumerate(self.plan.steps) if step.kernel == kernel)
        self.kernel, self.rows, self.flops = kernel, rows, 2.0 * rows * depth * width
        self.x = self.buffer("product.forward", 0).copy()
        self.weights = model.get_weights()[0]
        self.dy = self.buffer("product.weight_gradient", 1).copy()

    def buffer(self, kernel: str, operand: int) -> np.ndarray:
        """The rows of an operand of the first step of that kernel, as a view."""
        step = next(step for step in self.plan.steps if step.kernel == kernel)
        return self.program.view(self.plan.buffers[step.operands[operand].name], self.rows)

    def seconds(self, batches: int) -> float:
        """The native loop over that many batches."""
        feed = Feed(self.x, self.rows * batches)
        self.executor.start(self.program, feed)
        begun = time.perf_counter()
        self.executor.run(self.program, 0, batches, steps=(self.step, self.step + 1))
        return time.perf_counter() - begun

    def result(self) -> np.ndarray:
        """What the last run computed."""
        if self.kernel == "product.forward":
            return self.buffer("product.forward", 2)
        (placed,) = self.network.placed.values()
        return placed.read(self.store.gradients)

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """The same two matrices for NumPy, the first as a transpose for the gradient."""
        return (self.x, self.weights) if self.kernel == "product.forward" else (self.x.T, self.dy)
