"""The executor of the parameter server: worker processes on this machine. Stage: executors. Must not know: models, training.

The vectors of the model lie in shared memory while workers work on them. The store's own vectors are the last state that is
known to be whole: they are brought up to date when somebody looks, and once a second. What is lost with a worker is done
again from there by those who are left or put in its place; the arithmetic is the same, so are the bits.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass, field, replace

import numpy as np

from ..comm.process import Limits
from ..errors import StateError, WorkerLostError, warn
from ..kernels import control, library
from ..kernels.entries import SPINS
from ..plan.plan import Plan
from .base import Executor, Feed, listed
from .crew import Crew, Member, lost_error
from .interrupts import interrupts_held_back, one_interrupt
from .link import Program
from .memory import Store
from .remote import VECTORS, RemoteProgram, bare_plan
from .remote_rings import RemoteRings
from .shards import Common, Place
from .shared import Shared
from .worker import Ref, Report, Setup

#: seconds between two moments that are safe to start again from
SAFE_S = 1.0


@dataclass(frozen=True)
class Conduct:
    """How the processes are run.

    Attributes:
        workers, threads: processes, and threads of each.
        on_failure: "abort", "restart" or "shrink".
        restarts: at most, in the life of the executor.
        crowded: there may be more threads than cores, so nobody waits long without offering its core to others.
        limits: of patience with a silent worker.
    """

    workers: int
    threads: int = 1
    on_failure: str = "abort"
    restarts: int = 3
    crowded: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass
class Safe:
    """A moment to start again from: the store holds the weights, and here is the rest.

    Attributes:
        program: that runs; batch: the first that has not been done; sums: of the batches before it.
        at_s: when it was.
    """

    program: RemoteProgram
    batch: int
    sums: np.ndarray
    at_s: float


class ProcessesExecutor(Executor):
    """Worker processes.

    Args:
        conduct: how they are run.
    """

    name = "parameter-server"

    def __init__(self, conduct: Conduct):
        self.conduct, self.threads = conduct, conduct.threads
        self.crew = Crew(conduct.threads, conduct.limits)
        self.undone = self.batches_done = self.restarts = 0
        self._setups: dict[int, tuple[Plan, dict, dict, list[Ref]]] = {}
        self._feeds: dict[int, tuple[RemoteProgram, Feed]] = {}
        self.shared = Shared(self.crew.tell)
        self.rings = RemoteRings(self.shared, self.crew)
        self._kernels: set[tuple[str, str]] = set()
        self._numbers = 0
        self._gone: list[int] = []
        self._store: Store | None = None
        self._ahead = False  # the workers' vectors are newer than the store's
        self._behind = True  # the store's vectors may be newer than the workers'
        self._safe: Safe | None = None
        self._copied_s = 0.0

    # -- programs -------------------------------------------------------------------------------

    def open(self, plan: Plan, store: Store) -> RemoteProgram:
        self.fetch()
        bare = bare_plan(plan)
        key, self._numbers = self._numbers, self._numbers + 1
        self._behind = True
        vectors = {name: self.shared.vector(store, name) for name in VECTORS}
        common = self._common(plan, store)
        words = [
            self.shared.array((self.threads, control.WIDTH), "int64", "parameter server")
            for _ in range(self.conduct.workers)
        ]
        self._setups[key] = (bare, vectors, common, words)
        program = self._program(key, plan, store)
        self._store = store
        for one in self._plans(bare):  # compiled here, once, before any worker wants them
            for step in one.steps:
                library.address(step.kernel, store.dtype)
        self._ready()
        self._send_program(key, self.crew.members)
        weakref.finalize(program, self._gone.append, key)
        return program

    def _common(self, plan: Plan, store: Store) -> dict[str, Ref]:
        """What the workers share, by name."""
        if plan.request.shards == 1:
            return {}
        sizes = Common.sizes(plan, len(store.parameters)).items()
        return {name: self.shared.array(*size, "parameter server: gradients") for name, size in sizes}

    def _program(self, key: int, plan: Plan, store: Store) -> RemoteProgram:
        return RemoteProgram(self, key, plan, store, [self.shared.view(ref) for ref in self._setups[key][3]])

    @staticmethod
    def _plans(plan: Plan) -> list[Plan]:
        return [plan] if plan.after is None else [plan, plan.after]

    def _ready(self) -> None:
        """All workers are there."""
        if not self.crew.members:
            self._begin(list(range(self.conduct.workers)))

    def _begin(self, numbers: list[int]) -> None:
        """Start workers and tell them everything."""
        missing, how = numbers, self.conduct.on_failure
        while missing:
            try:
                self.crew.start(missing, self.conduct.workers)
            except BaseException as error:
                self.restarts += 1
                left, lost = len(self.crew.members), isinstance(error, WorkerLostError)
                if not lost or how == "abort" or self.restarts > self.conduct.restarts or (how == "shrink" and not left):
                    self.crew.close(at_once=True)
                    raise
                warn(f"{str(error).splitlines()[0]}; {goes_on(how, left)}")
            there = [member.number for member in self.crew.members]
            missing = [number for number in numbers if number not in there] if how == "restart" else []
        fresh = [m for m in self.crew.members if m.number in numbers]
        for number, block in self.shared.blocks.items():
            self.crew.tell("block", number, block.size, handles=(block.handle,), to=fresh)
        self.crew.tell("kernels", {one: library.object_code(*one) for one in self._loop_kernels()}, to=fresh)
        self.crew.tell("kernels", {one: library.object_code(*one) for one in self._kernels}, to=fresh)
        for key in self._setups:
            self._send_program(key, fresh)
        for program, feed in self._feeds.values():
            self._send_feed(program, feed, fresh)

    def _loop_kernels(self) -> list[tuple[str, str]]:
        names = ["loop.run", "loop.run_script"]
        names += [] if self.threads == 1 else ["loop.run_alone", "loop.serve", "loop.post"]
        return [(name, "float32") for name in names]

    def _send_program(self, key: int, members: list[Member]) -> None:
        plan, vectors, common, words = self._setups[key]
        self._send_kernels(plan)
        crew = self.crew.members
        for place, member in enumerate(crew):
            if member in members:
                where = Place(place, len(crew), 0 if self.conduct.crowded else SPINS)
                setup = Setup(key, plan, vectors, common, words[member.number], where)
                self.crew.tell("program", setup, to=[member])
        self.rings.send(key, members)

    def _send_kernels(self, plan: Plan) -> None:
        wanted = {(step.kernel, plan.request.dtype) for one in self._plans(plan) for step in one.steps}
        if fresh := wanted - self._kernels:
            self._kernels |= fresh
            self.crew.tell("kernels", {one: library.object_code(*one) for one in fresh})

    # -- feeds ----------------------------------------------------------------------------------

    def start(self, program: Program, feed: Feed) -> None:
        if not isinstance(program, RemoteProgram):
            raise StateError("parameter server: expected a program that it opened")
        for key in self._gone:
            self._setups.pop(key, None)
            self._feeds.pop(key, None)
            self.crew.tell("forget", [], [key])
        self._gone.clear()
        self._ready()
        self._feeds[program.key] = (program, feed)
        program.flags = []
        self.batches_done = 0
        for words in program.words:  # the step that a worker is at, should it never come to say so itself
            words[:, control.STEP] = -1
        self._send_feed(program, feed, self.crew.members)
        self._safe = None

    def _send_feed(self, program: RemoteProgram, feed: Feed, members: list[Member]) -> None:
        arrays: dict[str, object] = {}
        once = program.plan.request.purpose in ("train", "evaluate", "predict") and feed.total > program.plan.request.batch
        for name in ("x", "y", "weight", "order", "rates", "sums", "losses"):
            value = getattr(feed, name)
            if isinstance(value, tuple):
                arrays[name] = tuple(self.shared.hand_over((program.key, name, k), one, once) for k, one in enumerate(value))
            else:
                arrays[name] = self.shared.hand_over((program.key, name, 0), value, once and name in ("x", "y", "weight"))
        arrays["out"] = tuple(self._outputs(program, feed)) or None
        none = np.zeros(0)
        bare = replace(feed, x=None, y=None, weight=None, order=None, out=None, rates=None, sums=none, losses=none)
        bare.unchanged = None  # it may be the samples themselves
        self.crew.tell("feed", program.key, bare, arrays, to=members)

    def _outputs(self, program: RemoteProgram, feed: Feed) -> list[Ref]:
        """Room for predictions, or for what a manual loop is shown."""
        plan = program.plan
        if plan.request.purpose == "manual":
            shapes = [(plan.request.batch, buffer.width) for buffer in plan.shown]
            refs = [self.shared.role((program.key, "out", k), shape, plan.request.dtype) for k, shape in enumerate(shapes)]
            program.shown = [self.shared.view(ref) for ref in refs]
            return refs
        given = [out for out in listed(feed.out) if out is not None]
        return [self.shared.role((program.key, "out", k), out.shape, out.dtype.name) for k, out in enumerate(given)]

    def _fed(self, program: RemoteProgram, name: str, like: np.ndarray) -> np.ndarray:
        """The shared copy of one of a feed's arrays."""
        return self.shared.fed((program.key, name, 0), like)

    # -- running --------------------------------------------------------------------------------

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        if not isinstance(program, RemoteProgram):
            raise StateError("parameter server: expected a program that it opened")
        feed = self._feeds[program.key][1]
        if feed.rates is not None and feed.rates.size:  # a callback may have set them
            self._fed(program, "rates", feed.rates)[first:last] = feed.rates[first:last]
        self._be_safe(program, feed, first)
        with one_interrupt():
            try:
                self._run(program, first, last, steps or program.span(()))
            except BaseException:
                self._give_up(first)
                raise
            self._take_back(program, feed, first, last)

    def _be_safe(self, program: RemoteProgram, feed: Feed, first: int) -> None:
        """Make this a moment to start again from, where the last is long ago or somebody else has had the weights."""
        now, safe, purpose = time.monotonic(), self._safe, program.plan.request.purpose
        if purpose in ("manual", "update"):
            if self._behind:
                self._push()
            elif self._ahead and purpose == "update" and now - self._copied_s > SAFE_S:
                self._copy_back()
            return
        if self._behind:
            self._push()
        elif safe is not None and safe.program is program and now - safe.at_s < SAFE_S:
            return
        elif self._ahead:
            self._copy_back()
        self._safe = Safe(program, first, self._fed(program, "sums", feed.sums).copy(), now)

    def _run(self, program: RemoteProgram, first: int, last: int, steps: tuple[int, int]) -> None:
        while True:
            self._ahead |= program.plan.request.purpose in ("train", "manual", "update")
            self.crew.tell("run", program.key, first, last, steps)
            answers, lost = self.crew.collect(
                self.crew.members, on_loss=lambda _: self._break_off(program), all_of_them=self._goes_on(program)
            )
            if not lost:
                program.flags = [report.stopped for report in answers.values() if isinstance(report, Report)]
                return
            error = lost_error(lost, f"in step {self._step(program, lost, first, last)}")
            self._replace(program, lost, error)
            first = self._safe.batch if self._safe is not None else first

    def _step(self, program: RemoteProgram, lost: list[Member], first: int, last: int) -> int:
        """The step that a lost worker was at, of the batches first..last; from 1."""
        return min(last, max(first, int(program.words[lost[0].number][0, control.STEP])) + 1)

    def _break_off(self, program: RemoteProgram) -> None:
        """End the others' waiting for one that is gone."""
        common = self._setups[program.key][2]
        if common and common["words"].shape[0]:
            self.shared.view(common["words"])[0] = 1

    def _goes_on(self, program: RemoteProgram) -> bool:
        """Whether a run survives the loss of a worker: then the others must have come to rest first."""
        return self.conduct.on_failure != "abort" and program.plan.request.purpose not in ("manual", "update")

    def _replace(self, program: RemoteProgram, lost: list[Member], error: WorkerLostError) -> None:
        """Make the crew whole again and go back to the safe moment, or raise the error."""
        conduct, safe = self.conduct, self._safe
        self.crew.drop(lost)
        if safe is None or not self._goes_on(program):
            raise error
        self.restarts += len(lost)
        if self.restarts > conduct.restarts:
            raise with_note(error, f"{conduct.restarts} workers have been lost before; that is enough")
        if conduct.on_failure == "shrink" and not self.crew.members:
            raise with_note(error, "no worker is left")
        how = goes_on(conduct.on_failure, len(self.crew.members))
        warn(f"{str(error).splitlines()[0]}; {how} from step {safe.batch + 1}")
        if conduct.on_failure == "restart":
            self._begin([m.number for m in lost])
        for key in self._setups:
            self._send_program(key, self.crew.members)
        for one, feed in self._feeds.values():
            self._send_feed(one, feed, self.crew.members)
        for _, _, common, _ in self._setups.values():
            for ref in common.values():  # what a dying worker has left there, in padding too
                self.shared.view(ref)[...] = 0
        self._fed(program, "sums", safe.sums)[...] = safe.sums
        self._push()

    def _give_up(self, first: int) -> None:
        """The weights are those of the safe moment from now on."""
        with interrupts_held_back():
            safe = self._safe
            self.undone = 0 if safe is None else max(0, first - safe.batch)
            self.batches_done = first
            self._ahead, self._behind = False, True
            self.crew.close(at_once=True)

    def _take_back(self, program: RemoteProgram, feed: Feed, first: int, last: int) -> None:
        """Results of a run that the other side of the executor reads."""
        self.batches_done, batch = last, program.plan.request.batch
        if program.stopped():
            self.batches_done = max(program.flags) - 1
        feed.sums[...] = self._fed(program, "sums", feed.sums)
        feed.losses[first:last] = self._fed(program, "losses", feed.losses)[first:last]
        for k, out in enumerate(listed(feed.out) if program.plan.request.purpose == "predict" else ()):
            if out is not None:
                rows = slice(first * batch, last * batch)
                out[rows] = self.shared.fed((program.key, "out", k), out)[rows]

    # -- weights --------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(the store's vector, the workers' copy)."""
        store = self._store
        pairs = [] if store is None else [self.shared.pair(store, name) for name in VECTORS]
        return [pair for pair in pairs if pair is not None]

    def _push(self) -> None:
        """The workers' vectors become those of the store."""
        for own, shared in self._pairs():
            shared[...] = own
        self._behind = self._ahead = False

    def _copy_back(self) -> None:
        for own, shared in self._pairs():
            own[...] = shared
        self._ahead, self._copied_s = False, time.monotonic()

    def fetch(self) -> None:  # type: ignore[override]
        """The store's vectors become those of the workers; whoever asked may change them."""
        if self._ahead:
            self._copy_back()
        self._behind, self._safe = True, None

    def close(self) -> None:
        if self._ahead and self.crew.members:
            self.fetch()
        self.crew.close()
        self.shared.close()
        self._setups.clear()
        self.rings.clear()
        self._feeds.clear()
        self._kernels.clear()
        self._behind, self._safe = True, None


def goes_on(how: str, left: int) -> str:
    return "it is replaced, and training goes on" if how == "restart" else f"training goes on with {left}"


def with_note(error: WorkerLostError, note: str) -> WorkerLostError:
    """The same error with a reason why it is raised after all."""
    head, newline, rest = str(error).partition("\n")
    result = WorkerLostError(f"{head}; {note}{newline}{rest}")
    result.worker, result.pid = error.worker, error.pid
    return result
