"""The CUDA executor: a plan's steps as launches of numba.cuda kernels, on an arena in the device's memory.

Stage: executors. A plan is opened once: each step becomes a list of launches (`parnet.cuda.table`) on vectors of the
device. Control words, data, rates and sums lie there too, so a batch is the same launches every time, without a copy or an
answer in between; a kernel of its own moves the control words on. Sums, losses and predictions come back at the end of a
run of batches.

The store's vectors have twins on the device. A run sends those whose newest numbers are on the host, and takes them away
(`memory.send_away`): they come home when somebody asks the session for its store. Must not know: models, training.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..cuda import gather, runtime, table
from ..cuda.launch import Context, Fed, Launch
from ..errors import DeviceError, KernelError
from ..kernels import control
from ..kernels.step import Buffer, Step, row_stride
from ..plan.layout import size_of
from ..plan.plan import Plan
from .base import Executor, Feed, listed
from .cuda_watch import Watch
from .interrupts import interrupts_held_back
from .link import Addresses, Program
from .memory import Store, forget_away, is_away, send_away
from .tapes import Tape

#: fed arrays that hold the data set: kept on the device for as long as somebody vouches for them
DATA = ("x", "y", "weight")
NOTHING = np.zeros(0, np.int64)


@dataclass(repr=False)
class CudaProgram(Program):
    """A plan on a device.

    Attributes:
        memory: of the device; `arena`, `words` (control words) and `spare` (scratch memory) lie there. launches: of each
        step. fed: what feeds have brought, by name and number; kept: what vouched for it, and the host's array. feed: the
        last one. ready: the launches of each step of a span with the fed vectors in place; graphs: of them, ways to launch
        them all at once. watch: while it is recorded.
    """

    memory: Any = None
    words: Any = None
    spare: Any = None
    launches: list[list[Launch]] = field(default_factory=list)
    fed: dict[Fed, Any] = field(default_factory=dict)
    kept: dict[Fed, tuple[object, Any]] = field(default_factory=dict)
    feed: Feed | None = None
    ready: dict[tuple[int, int], list[list[Launch]]] = field(default_factory=dict)
    graphs: dict[tuple[int, int], Callable[[], None]] = field(default_factory=dict)
    watch: Watch | None = None

    def forget_launches(self) -> None:
        """The vectors they work on have been made anew."""
        self.ready.clear()
        self.graphs.clear()

    def view(self, buffer: Buffer, rows: int) -> np.ndarray:
        """The first rows of an arena buffer (rows, width), as a copy on the host."""
        first, stride = self.plan.offsets[buffer.name], row_stride(buffer.width)
        found = np.empty(rows * stride, self.store.dtype)
        self.memory.use()
        self.memory.fetch(self.arena, found, first)
        return found.reshape(rows, stride)[:, : buffer.width]

    def record(self, tapes: list[Tape], kept_steps: int) -> None:
        """Recorded batches are launched kernel by kernel, without a graph, with an event behind each step."""
        if self.watch is None:
            self.watch = Watch(self.memory, self.plan, kept_steps)
            tapes.append(self.watch.tape)

    def stop_recording(self) -> None:
        self.watch = None

    def resume(self, accumulate: bool) -> None:
        self.control[:, control.ACCUMULATE] = accumulate
        self.control[:, control.STOP] = 0

    def stopped(self) -> bool:
        return bool(self.control[0, control.STOP])


class CudaExecutor(Executor):
    """One device.

    Args:
        device: its number.
        graph: a batch's launches are captured as a graph, once, and replayed.
    Raises:
        MissingExtraError, DeviceError: the extra, the driver or the device is missing.
    """

    name = "cuda"

    def __init__(self, device: int = 0, graph: bool = False) -> None:
        self.memory, self.graph = runtime.Memory(device), graph
        self._programs: list[weakref.ref[CudaProgram]] = []

    def open(self, plan: Plan, store: Store) -> Program:
        """Raises KernelError where a step's kernel has no twin on the device, ResourceError where the arena does not fit."""
        missing = next((step for step in plan.steps if table.find(step.kernel) is None), None)
        if missing is not None:
            raise KernelError(
                f"{missing.label}: its kernel {missing.kernel} has no twin on the GPU; use strategy='threads', or write one "
                "(parnet.cuda.table.add_twin)"
            )
        self.memory.use()
        what = f"plan for batch {plan.request.batch}: activations"
        arena, words = self.memory.zeros(plan.arena_size, store.dtype, what), np.zeros((1, control.WIDTH), np.int64)
        words[0, control.BATCH] = plan.request.batch
        nowhere = Addresses((), (0,), 0, 0)
        program = CudaProgram(
            plan, store, arena, NOTHING, NOTHING, words, NOTHING, nowhere, {}, store.vectors, memory=self.memory,
            words=self.memory.zeros(control.WIDTH, np.int64, "control words"),
        )  # fmt: skip
        _add_launches(program)
        self._programs.append(weakref.ref(program))
        return program

    def start(self, program: Program, feed: Feed) -> None:
        """Raises ResourceError where the data do not fit."""
        program = own(program)
        words = program.control[0]
        words[control.STEP], words[control.STOP], words[control.TOTAL] = -1, 0, feed.total
        words[control.ORDER], words[control.ACCUMULATE] = feed.order is not None, feed.accumulate
        words[control.EPOCH], words[control.SEED] = feed.epoch, feed.seed
        self.memory.use()
        program.feed = feed
        for spot, host in _arrays(feed).items():
            _put(program, spot, host, feed.unchanged if spot.name in DATA else None)

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        """Raises DeviceError where a kernel fails; the weights are then those that were read, or set, last."""
        program = own(program)
        span, words, feed = steps or program.span(()), program.control[0], program.feed
        self.memory.use()
        try:
            _send_weights(program)
            words[control.STEP], words[control.ROWS] = first - 1, 0 if words[control.STOP] else 1
            self.memory.send(words, program.words)
            if feed is not None and feed.rates is not None:
                rates = feed.rates.reshape(-1)[first * control.RATES_PER_STEP : last * control.RATES_PER_STEP]
                self.memory.send(rates, program.fed[Fed("rates")][first * control.RATES_PER_STEP :])
            with interrupts_held_back() as interrupted:
                self._launch(program, last - first, span, interrupted)
                _fetch_results(program, first, last)
            if program.watch is not None:
                done = int(words[control.STEP]) + 1 - first
                program.watch.end(int(words[control.EPOCH]), first, span, done)
        except DeviceError:
            program.forget_launches()
            for vector in program.vectors:
                forget_away(vector)
            raise

    def _launch(self, program: CudaProgram, batches: int, span: tuple[int, int], interrupted) -> None:
        """All batches; stops between two of them when interrupted. A graph is captured once its kernels have run."""
        steps, watch = [partial(self._start, launches) for launches in _ready(program, span)], program.watch

        def batch() -> None:
            for step in steps:
                step()

        with runtime.said("cuda: launching kernels"):
            if watch is not None:
                watch.begin()
            for number in range(batches):
                if self.graph and watch is None and number and span not in program.graphs:
                    program.graphs[span] = self.memory.capture(batch)
                if watch is not None:
                    watch.batch(steps)
                else:
                    program.graphs.get(span, batch)()
                if interrupted:
                    break

    def _start(self, launches: list[Launch]) -> None:
        stream = self.memory.stream
        for launch in launches:
            launch.kernel[launch.grid, launch.block, stream](*launch.args)

    def close(self) -> None:
        """Let go of the data sets on the device; weights stay there until they are read."""
        for reference in self._programs:
            program = reference()
            if program is not None:
                for spot in [spot for spot in program.fed if spot.name in DATA]:
                    del program.fed[spot]
                program.kept.clear()
                program.forget_launches()
                program.feed = None
        self._programs = [reference for reference in self._programs if reference() is not None]


def own(program: Program) -> CudaProgram:
    """The program; programs go to the executor that opened them."""
    if not isinstance(program, CudaProgram):
        raise DeviceError(f"cuda: expected a program that a CudaExecutor opened, received {type(program).__name__}")
    return program


def _add_launches(program: CudaProgram) -> None:
    """The launches of all steps. Scratch memory is as large as the step that needs most of it, and shared by all."""
    plan, store, memory = program.plan, program.store, program.memory
    none, wanted = memory.zeros(1, store.dtype, "an operand"), [1]

    def place(operand) -> Any:
        return none if isinstance(operand, int) else _place(program, operand)

    def measure(size: int) -> Any:
        wanted.append(size)
        return none

    def spare(size: int) -> Any:
        return program.spare[:size]

    for scratch in (measure, spare):
        context = Context(store.dtype, plan.request.batch, program.words, place, scratch)
        program.launches = [_launches(context, step) for step in plan.steps]
        if scratch is measure:
            program.spare = memory.zeros(max(wanted), store.dtype, "scratch memory")


def _launches(context: Context, step: Step) -> list[Launch]:
    launcher = table.find(step.kernel)
    return launcher(context, step.operands) if launcher else []


def _place(program: CudaProgram, operand) -> Any:
    """The vector on the device that an operand stands for."""
    named, further = operand if isinstance(operand, tuple) else (operand, 0)
    plan = program.plan
    buffer = plan.buffers[named.name]
    if buffer.region == "arena":
        first = plan.offsets[buffer.name]
        return program.arena[first + further : first + size_of(buffer, plan.request.batch, 1)]
    twin = _twin_of(program.store.region(buffer.region), program.memory).device
    if buffer.name == buffer.region:
        return twin[further:]
    first = plan.places[buffer.name.removeprefix("d ")]
    return twin[first + further : first + buffer.width]


# -- what a feed brings ----------------------------------------------------------------------------


def _arrays(feed: Feed) -> dict[Fed, np.ndarray]:
    """The host's arrays by the name the launches know them by."""
    found = {Fed("sums"): feed.sums, Fed("losses"): feed.losses}
    found[Fed("order")] = np.zeros(1, np.int64) if feed.order is None else feed.order
    found[Fed("rates")] = np.zeros(control.RATES_PER_STEP) if feed.rates is None else feed.rates
    if feed.weight is not None:
        found[Fed("weight")] = feed.weight
    for name, arrays in (("x", feed.x), ("y", feed.y), ("out", feed.out)):
        found |= {Fed(name, number): array for number, array in enumerate(listed(arrays)) if array is not None}
    return found


def _put(program: CudaProgram, spot: Fed, host: np.ndarray, voucher: object) -> None:
    """Bring an array to its vector on the device, a new one where the old one is too small or of another type."""
    kept = program.kept.get(spot)
    if voucher is not None and kept is not None and kept[0] is voucher and kept[1] is host and spot in program.fed:
        return
    there = program.fed.get(spot)
    if there is None or there.size < host.size or there.dtype != host.dtype:
        program.fed.pop(spot, None)
        program.forget_launches()
        program.fed[spot] = program.memory.zeros(host.size, host.dtype, f"{spot.name} ({host.nbytes / 2**20:,.1f} MiB)")
    if spot.name != "out":
        program.memory.send(np.ascontiguousarray(host), program.fed[spot])
    program.kept[spot] = (voucher, host)


def _ready(program: CudaProgram, span: tuple[int, int]) -> list[list[Launch]]:
    """What each step of a batch launches; the first moves the control words on before."""
    if span not in program.ready:
        steps = program.launches[span[0] : span[1]]
        ready = [[launch.ready(program.fed.__getitem__) for launch in step] for step in steps] or [[]]
        ready[0].insert(0, Launch(gather.advance, (1,), (1,), (program.words,)))
        program.ready[span] = ready
    return program.ready[span]


def _fetch_results(program: CudaProgram, first: int, last: int) -> None:
    """Control words, and what the feed wants to know, come back; waits for all kernels."""
    memory, feed, batch = program.memory, program.feed, program.plan.request.batch
    memory.wait("cuda: running kernels")
    memory.fetch(program.words, program.control[0])
    if feed is None:
        return
    memory.fetch(program.fed[Fed("sums")], feed.sums)
    memory.fetch(program.fed[Fed("losses")], feed.losses[first:last], first)
    for number, out in enumerate(listed(feed.out)):
        if out is not None:
            rows, width = out[first * batch : min(len(out), last * batch)], out[:1].size
            memory.fetch(program.fed[Fed("out", number)], rows.reshape(-1), first * batch * width)


# -- the weights' twins ----------------------------------------------------------------------------


class _Twin:
    """A vector of the store on a device."""

    def __init__(self, memory: Any, host: np.ndarray):
        self.memory, self.device = memory, memory.zeros(len(host), host.dtype, "weights")

    def fetch(self, host: np.ndarray) -> None:
        self.memory.use()
        self.memory.fetch(self.device, host)


#: id of a vector of the host -> a reference to it, and its twin
_twins: dict[int, tuple[weakref.ref, _Twin]] = {}


def _twin_of(host: np.ndarray, memory: Any) -> _Twin:
    """The twin of a vector on that device; one on another device comes home and is given up."""
    from .memory import bring_home

    key, found = id(host), _twins.get(id(host))
    if found is None or found[1].memory.index != memory.index:
        bring_home(host)
        _twins[key] = found = (weakref.ref(host, lambda _: _twins.pop(key, None)), _Twin(memory, host))
    return found[1]


def _send_weights(program: CudaProgram) -> None:
    """Send the vectors whose newest numbers are on the host; from now on they are on the device."""
    for host in program.vectors:
        if len(host) and not is_away(host):
            twin = _twin_of(host, program.memory)
            program.memory.send(host, twin.device)
            send_away(host, twin.fetch)
