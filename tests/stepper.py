"""Runs a linked program step by step from Python, one part at a time, in any order that its barriers allow.

What the native loop does on many threads at once is done here one call after another; a result that depends on the order is
a race, found without luck.
"""

from __future__ import annotations

import contextlib

import numpy as np

from parnet.executors.base import Feed
from parnet.executors.link import Program, link
from parnet.executors.memory import Store
from parnet.executors.serial import KERNEL, SerialExecutor
from parnet.kernels import control
from parnet.kernels.declare import kernel
from parnet.kernels.intrinsics import float_mode, set_float_mode
from parnet.kernels.library import add_user_kernel, address
from parnet.kernels.loop import FLUSH
from parnet.kernels.step import EVERYONE
from parnet.plan.builder import align
from parnet.plan.layout import size_of


def open_program(session, plan) -> Program:
    """A program of a plan, on the weights of a session's model, in a store of its own."""
    store = Store.of_sizes(session.network.sizes, session.dtype)
    store.parameters[:], store.state[:] = session.store.parameters, session.store.state
    store.need_gradients()
    store.need_slots(plan.slot_size, plan.request.optimizer.starts() if plan.request.optimizer else ())
    return link(plan, store)


@kernel
def exchange_mode(op, ctl, mem, part, parts):
    """op: the floating-point mode to set, -1 for the native loop's; the one before is written there."""
    before = float_mode()
    set_float_mode(before | FLUSH if op[0] < 0 else op[0])
    op[0] = before


@contextlib.contextmanager
def tiny_as_zero():
    """Numbers too small to be normal count as 0, as in the native loop."""
    add_user_kernel(exchange_mode)
    word, call = np.array([-1]), KERNEL(address(exchange_mode.name, "float32"))
    call(word.ctypes.data, None, None, 0, 1)
    try:
        yield
    finally:
        call(word.ctypes.data, None, None, 0, 1)


class Stepper:
    """A program and a feed, ready to be stepped through."""

    def __init__(self, program: Program, feed: Feed):
        self.program, self.feed, self.plan = program, feed, program.plan
        self.parts = self.plan.request.threads
        SerialExecutor().start(program, feed)

    @property
    def batches(self):
        return -(-self.feed.total // self.plan.request.batch)

    def call(self, batch, step, part):
        """What a part does in a step of a batch."""
        words, row = self.program.control[part], self.program.tables[part, step]
        words[control.STEP], words[control.FIRST] = batch, batch * words[control.BATCH]
        words[control.ROWS] = min(words[control.BATCH], words[control.TOTAL] - words[control.FIRST])
        who = (0, 1) if row[1] == EVERYONE else (part, int(row[1]))
        if who[0] < who[1]:
            run = KERNEL(int(row[0]))
            run(row[3:].ctypes.data, words.ctypes.data, self.program.arena.ctypes.data, *who)

    def segments(self):
        """Runs of (batch, step) between two meetings of all parts."""
        run = []
        for batch in range(self.batches):
            for step, slot in enumerate(self.plan.slots):
                run.append((batch, step))
                if slot.barrier:
                    yield run
                    run = []
        yield run

    def run(self, order):
        """All batches. order(parts, calls) gives the parts in the order in which they take their next call."""
        with tiny_as_zero():
            self._run(order)

    def _run(self, order):
        for segment in self.segments():
            places = [0] * self.parts
            for part in order(self.parts, len(segment)):
                self.call(*segment[places[part]], part)
                places[part] += 1
            assert places == [len(segment)] * self.parts

    def memory(self):
        """All vectors that steps may touch, by region."""
        store = self.program.store
        regions = {"parameters": store.parameters, "gradients": store.gradients, "state": store.state}
        return regions | {"slots": store.slots, "arena": self.program.arena}

    def place(self, buffer):
        """Region, first and last element of a buffer, all copies and padding included."""
        plan = self.plan
        buffer = plan.buffers.get(buffer.name, buffer)
        if buffer.region == "arena":
            first = plan.offsets[buffer.name]
            return "arena", first, first + size_of(buffer, plan.request.batch, self.parts)
        if buffer.name == buffer.region:
            return buffer.region, 0, len(self.memory()[buffer.region])
        first = plan.places[buffer.name.removeprefix("d ")]
        return buffer.region, first, first + align(buffer.width)

    def touched(self, step, writes_only=False):
        """Region -> whether each of its elements is in a buffer that the step declares."""
        masks = {region: np.zeros(len(vector), bool) for region, vector in self.memory().items()}
        for access in self.plan.steps[step].accesses:
            region, first, last = self.place(access.buffer)
            if access.writes or not writes_only:
                masks[region][first:last] = True
        return masks


def one_by_one(parts, calls):
    """Part 0 does everything, then part 1, and so on."""
    return [part for part in range(parts) for _ in range(calls)]


def last_first(parts, calls):
    """The last part does everything, then the one before it."""
    return one_by_one(parts, calls)[::-1]


def in_step(parts, calls):
    """All parts do each step before any goes on."""
    return [part for _ in range(calls) for part in range(parts)]


def shuffled(seed):
    """Parts in random order."""
    rng = np.random.default_rng(seed)
    return lambda parts, calls: rng.permutation(one_by_one(parts, calls)).tolist()
