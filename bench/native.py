"""A kernel run in a native loop. Python is entered once a sample.

A product or convolution is a step of a small plan, run for many batches by the executor. Must not know: what it is
compared with.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

import parnet as pn
from parnet import layers as L
from parnet.executors.base import Executor, Feed
from parnet.executors.serial import SerialExecutor
from parnet.executors.threads import ThreadsExecutor
from parnet.losses import MeanSquaredError
from parnet.plan.plan import Request, make_plan


def executor_of(threads: int) -> Executor:
    """So many threads, that never give way to one."""
    if threads == 1:
        return SerialExecutor()
    executor = ThreadsExecutor(threads)
    executor.gives_way = False
    return executor


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
        self.executor = executor_of(threads)
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


@dataclass(frozen=True)
class Shape:
    """Of a convolution: the image's side, channels, the window's side, its step, filters; "same" padding for 3x3."""

    side: int
    channels: int
    taps: int
    step: int
    filters: int

    @property
    def name(self) -> str:
        """For tables: "3x3 64-64 at 56", "1x1 / 2 256-512 at 56"."""
        step = f" / {self.step}" if self.step > 1 else ""
        return f"{self.taps}x{self.taps}{step} {self.channels}-{self.filters} at {self.side}"

    @property
    def padding(self) -> str:
        """Of the layer."""
        return "same" if self.taps == 3 else "valid"


class Convolution:
    """The three passes of a Conv2D with bias, behind a layer that wants the gradient of its input.

    Args:
        shape: of the convolution.
        rows: of the batch.
        threads: parts.
    """

    #: pass -> its kernels
    PASSES = {
        "forward": ("conv.forward",),
        "input gradient": ("conv.turn_weights", "conv.input_gradient"),
        "weight gradient": ("conv_weights.gradient",),
    }

    def __init__(self, shape: Shape, rows: int, threads: int = 1):
        size = (shape.side, shape.side, shape.channels)
        layer = L.Conv2D(shape.filters, shape.taps, strides=shape.step, padding=shape.padding)
        self.model = pn.Sequential([L.Input(size), L.BatchNormalization(), layer], seed=0)
        network, store = self.model.session.network, self.model.session.store
        store.need_gradients()
        self.shape, self.rows = shape, rows
        self.plan = make_plan(network, Request("manual", rows, threads=threads, loss=MeanSquaredError()))
        self.executor = executor_of(threads)
        self.program = self.executor.open(self.plan, store)
        np.random.default_rng(0).random(dtype=np.float32, out=self.program.arena)
        self.program.arena -= 0.5
        self.image = np.zeros((rows, *size), np.float32)
        out = layer.output_shape(size)
        self.flops = 2.0 * rows * np.prod(out) * shape.channels * shape.taps**2

    def seconds(self, what: str, batches: int) -> float:
        """The native loop over that many batches of a pass."""
        kernels = self.PASSES[what]
        found = [i for i, step in enumerate(self.plan.steps) if step.kernel in kernels]
        self.executor.start(self.program, Feed(self.image, self.rows * batches))
        begun = time.perf_counter()
        self.executor.run(self.program, 0, batches, steps=(found[0], found[-1] + 1))
        return time.perf_counter() - begun

    def middle(self) -> tuple[np.ndarray, np.ndarray]:
        """What the last forward run computed for one pixel of the last image, and what NumPy makes of its window."""
        step = next(step for step in self.plan.steps if step.kernel == "conv.forward")
        x, y = (self.program.view(self.plan.buffers[step.operands[i].name], self.rows)[-1] for i in (0, 2))
        given, shape = self.plan.buffers[step.operands[0].name].shape, self.shape
        weights = {placed.key.rsplit("/")[-1]: placed for placed in self.model.session.network.placed.values()}
        kernel, bias = (weights[name].read(self.model.session.store.parameters) for name in ("kernel", "bias"))
        side = round((y.size // shape.filters) ** 0.5)
        at = side // 2
        first = at * shape.step - (shape.taps // 2 if shape.padding == "same" else 0)
        window = x.reshape(given)[first : first + shape.taps, first : first + shape.taps]
        expected = np.tensordot(window, kernel, 3) + bias
        return y.reshape(side, side, -1)[at, at], expected
