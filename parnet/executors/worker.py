"""A worker process: holds its programs, runs its part of them, and says how it went. Stage: executors.

It imports parnet and NumPy and nothing of the user's: plans are data, kernels come as machine code from the process that
started it, arrays lie in shared memory. So a script needs no `if __name__ == "__main__"` for it, and a notebook, a
script on standard input or an embedded interpreter will do.

It ends when it is told to, and when the process that started it is gone, whatever the reason. Ctrl-C is that process's
business: it decides what becomes of a run. Must not know: models, training, who else there is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..comm.blocks import Block
from ..comm.channel import Channel, ChannelEnded
from ..errors import StateError
from ..kernels import library
from ..kernels.control import TRACE
from ..plan.plan import Plan
from ..server.work import Task
from . import faults
from .base import Executor, Feed
from .link import STOP_WORD, Program, link
from .memory import Store, aligned_zeros
from .serial import SerialExecutor
from .shards import Common, Place, link_shards
from .solo import Answer, SoloProgram, added
from .threads import ThreadsExecutor

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ref:
    """An array in a shared block.

    Attributes:
        block: its number.
        shape, dtype: of the array, which starts where the block does.
    """

    block: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Setup:
    """Everything about a program.

    Attributes:
        key: its number.
        plan: without what only the other process needs.
        vectors: the store's, by name; common: what the workers share, by name, empty for a plan without shards.
        words: this worker's control words, which the other process reads.
        place: of this worker.
    """

    key: int
    plan: Plan
    vectors: dict[str, Ref]
    common: dict[str, Ref]
    words: Ref
    place: Place


@dataclass(frozen=True)
class SoloSetup:
    """Everything about a program that a worker runs at its own pace.

    Attributes:
        key, plan, words: as of `Setup`.
        vectors: the store's, by name, as this worker sees them; gradients are its own.
        gradient, exchange: where it leaves what the server reads.
        updates: it updates its parameters by itself.
    """

    key: int
    plan: Plan
    vectors: dict[str, Ref]
    gradient: Ref
    exchange: Ref
    words: Ref
    updates: bool


@dataclass(frozen=True)
class Report:
    """How a run went.

    Attributes:
        ended: it was ended from outside, because another worker is gone.
        stopped: the flag of a loss that is not finite.
    """

    ended: bool
    stopped: int


class Worker:
    """See the module's docstring.

    Args:
        channel: to the process that started it.
        number: of the worker; threads: that it runs.
    """

    def __init__(self, channel: Channel, number: int, threads: int):
        self.channel, self.number, self.threads = channel, number, threads
        self.blocks: dict[int, Block] = {}
        self.programs: dict[int, Program] = {}
        self._executor: Executor | None = None

    @property
    def executor(self) -> Executor:
        """What runs programs here."""
        if self._executor is None:
            self._executor = SerialExecutor() if self.threads == 1 else ThreadsExecutor(self.threads)
        return self._executor

    def serve(self) -> None:
        """Do what the messages say until there are no more."""
        faults.strike("rendezvous", self.number)
        self.channel.send(("ready", os.getpid()))
        while True:
            message, handles = self.channel.receive()
            verb, *arguments = message
            if verb == "end":
                return
            getattr(self, f"on_{verb}")(*arguments, *handles)

    def array(self, ref: Ref | None) -> np.ndarray | None:
        """The array that a reference stands for."""
        return None if ref is None else self.blocks[ref.block].array(ref.shape, ref.dtype)

    # -- messages -------------------------------------------------------------------------------

    def on_block(self, number: int, size: int, handle: int) -> None:
        """A block of shared memory."""
        self.blocks[number] = Block(handle, size)
        self.blocks[number].close()

    def on_forget(self, blocks: list[int], programs: list[int]) -> None:
        """Let go of what is no longer needed."""
        for number in programs:
            self.programs.pop(number, None)
        for number in blocks:
            self.blocks.pop(number, None)

    def on_kernels(self, found: dict[tuple[str, str], tuple[bytes, str]]) -> None:
        """Machine code."""
        for (name, dtype), code in found.items():
            library.adopt(name, dtype, *code)

    def on_program(self, setup: Setup) -> None:
        """A plan to be run later."""
        dtype = setup.plan.request.dtype
        store = Store(dtype, **{name: self._vector(ref) for name, ref in setup.vectors.items()})
        if setup.common:
            common = Common(**{name: self._vector(ref) for name, ref in setup.common.items()})
            self.programs[setup.key] = link_shards(setup.plan, store, common, setup.place, self._vector(setup.words))
        else:
            self.programs[setup.key] = link(setup.plan, store, self._vector(setup.words))

    def on_solo(self, setup: SoloSetup) -> None:
        """A plan to be run later, batch by batch."""
        dtype, vectors = setup.plan.request.dtype, {name: self._vector(ref) for name, ref in setup.vectors.items()}
        own = aligned_zeros(len(vectors["parameters"]) if setup.updates else 0, dtype)
        room = self._vector(setup.gradient), self._vector(setup.exchange), setup.updates, self._vector(setup.words)
        self.programs[setup.key] = SoloProgram(setup.plan, Store(dtype, gradients=own, **vectors), *room)

    def on_task(self, key: int, task: Task) -> None:
        """Some batches at this worker's own pace, then what came of them."""
        program = self.programs[key]
        if not isinstance(program, SoloProgram):
            raise StateError("worker: expected a program of its own")
        answers: list[Answer] = []
        for batch in range(task.first, task.last):
            faults.before(self, program, batch, task.shard)
            answers.append(program.compute(self.executor, batch, task.shard))
            faults.behind(self, program, batch)
            if answers[-1].stopped:
                break
        self.channel.send(("done", added(answers)))
        faults.strike("pushed", self.number, task.last - 1)

    def _vector(self, ref: Ref) -> np.ndarray:
        return self.blocks[ref.block].array(ref.shape, ref.dtype)

    def on_feed(self, key: int, feed: Feed, arrays: dict[str, Any]) -> None:
        """What the next runs of a program read and write."""
        for name, ref in arrays.items():
            several = isinstance(ref, tuple)
            setattr(feed, name, tuple(self.array(one) for one in ref) if several else self.array(ref))
        self.programs[key].connect(feed)

    def on_resume(self, key: int, accumulate: bool) -> None:
        """Further phases of the batch at hand."""
        self.programs[key].resume(accumulate)

    def on_record(self, key: int, ref: Ref | None) -> None:
        """Put time stamps of the next runs of a program there, or nowhere."""
        program, rings = self.programs[key], self.array(ref)
        program.control[:, TRACE] = 0 if rings is None else [ring.ctypes.data for ring in rings]

    def on_run(self, key: int, first: int, last: int, steps: tuple[int, int]) -> None:
        """Batches first..last, then a report."""
        program = self.programs[key]
        first = faults.run(self, program, first, last, steps)
        self.executor.run(program, first, last, steps)
        ended = self.executor.ended
        if ended:
            self._start_again(program)
        self.channel.send(("done", Report(ended, int(program.barrier[STOP_WORD]))))

    def _start_again(self, program: Program) -> None:
        """The run was ended in the middle: threads may still be on their way out, and their barrier is no longer whole."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None
        program.barrier[:] = 0

    def close(self) -> None:
        """End the threads."""
        if self._executor is not None:
            self._executor.close()


def end_with(parent: int, lifeline: int, from_main_thread: bool) -> None:
    """See to it that this process ends when the one that started it does, even when it is stopped or killed."""
    if sys.platform == "linux" and from_main_thread:  # the signal comes at the end of the thread that started us
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(lifeline,), name="parnet-lifeline", daemon=True).start()


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # nobody writes: it returns when the other end is closed
    os._exit(1)


def main(settings: dict[str, Any]) -> None:
    """The process's life.

    Args:
        settings: what `crew.py` has put on the command line.
    """
    import socket

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with(settings["parent"], settings["lifeline"], settings["main_thread"])
    if settings["cores"]:
        os.sched_setaffinity(0, settings["cores"])
    channel = Channel(socket.socket(fileno=settings["socket"]))
    worker = Worker(channel, settings["worker"], settings["threads"])
    try:
        worker.serve()
    except ChannelEnded:
        os._exit(1)
    except BaseException:
        channel.send(("error", traceback.format_exc()))
        os._exit(1)
    worker.close()
