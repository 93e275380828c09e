"""The executor of a parameter server whose workers go at their own pace: the modes beside plain "sync". Stage: executors.

The process that called `fit` is the server. It sleeps until a worker has finished a task, hands the event to the state
machine (`parnet.server.machine`), and carries out the replies in their order: updates, averages, and the next tasks. So no
core is lost to it. All workers come to rest at the end of each run, and the parameters are whole then and at any other
moment: nothing has to be undone when a worker is lost, and its task is simply given out again.
`evaluate` and `predict` run as in mode sync. Must not know: models, training.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import HyperparameterError, StateError, warn
from ..kernels import control
from ..plan.plan import Plan
from ..server.machine import Server, Tally
from ..server.messages import Average, Begin, Event, Join, Leave, Push, Update
from ..server.rules import Local, Rule
from ..server.work import Cycles, NextShard, OwnShard, Task, Work
from .base import Feed
from .crew import LOST, Member, lost_error
from .desk import GRADIENTS, NOTHING, PARAMETERS, Desk
from .interrupts import interrupts_held_back, one_interrupt
from .link import Program
from .memory import Store
from .outline import outline
from .processes import Conduct, ProcessesExecutor, goes_on, with_note
from .remote import RemoteProgram
from .shards import Place
from .solo import Answer
from .tapes import WAIT, Line, lines_of_script
from .worker import Ref


class ServedProgram(RemoteProgram):
    """A training whose workers go at their own pace.

    Attributes:
        desk: what the workers have before them.
        tally: what the server counted in all runs.
        missed: rows of the feed at hand that nobody computed.
        busy_s: seconds that each worker computed since the feed was connected; apply_s: that the server updated;
            run_s: of the runs.
    """

    tally: Tally  # type: ignore[assignment]

    def __init__(self, executor: ServerExecutor, key: int, plan: Plan, store: Store, desk: Desk):
        super().__init__(executor, key, plan, store, [])
        self.desk, self.tally, self.missed = desk, Tally(), 0
        self.busy_s, self.apply_s, self.run_s = np.zeros(desk.workers), 0.0, 0.0

    def lines_at(self, place: Place) -> tuple[Line, ...]:
        """Those of one shard, whichever it is; a gap between two batches is a wait for the server."""
        plan = self.plan if self.desk.updater is None else replace(self.plan, after=None)
        lines = lines_of_script(plan, outline(plan, [0], 0, len(plan.steps)), WAIT)
        return tuple(replace(line, shard=-1) for line in lines)

    @property
    def control(self) -> np.ndarray:  # type: ignore[override]
        """(workers, control.WIDTH): the words that say where the time went, in nanoseconds."""
        words = np.zeros((self.desk.workers, control.WIDTH), np.int64)
        idle = np.maximum(0.0, self.run_s - self.busy_s)
        applied = np.minimum(idle, self.apply_s)
        for word, seconds in ((control.CYCLES, self.run_s), (control.APPLIED, applied), (control.WAITED, idle - applied)):
            words[:, word] = 1e9 * seconds
        return words


@dataclass
class Run:
    """One run of batches.

    Attributes:
        program, feed: of it. work: what is left to do. server: decides.
        events: that the server has not seen. busy: tasks under way, and when they were given out; done: the last of each.
        rows: computed so far.
        over: no more tasks are given out; failed: because a loss is not finite.
    """

    program: ServedProgram
    feed: Feed
    work: Work
    server: Server
    events: deque[Event] = field(default_factory=deque)
    busy: dict[int, tuple[Task, float]] = field(default_factory=dict)
    done: dict[int, Task] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    rows: int = 0
    over: bool = False
    failed: bool = False

    def behind(self) -> int:
        """The first batch that the parameters do not hold yet."""
        return self.work.behind(self.server.version, self.rows // self.program.plan.request.batch)

    def rows_of(self, first: int, last: int) -> int:
        """Rows of some batches."""
        batch = self.program.plan.request.batch
        return min(self.feed.total, last * batch) - first * batch


class ServerExecutor(ProcessesExecutor):
    """Worker processes at their own pace.

    Args:
        conduct: how they are run.
        mode: its name; rule: when a worker may begin.
    """

    def __init__(self, conduct: Conduct, mode: str, rule: Rule):
        super().__init__(conduct)
        self.mode, self.rule = mode, rule
        self._desks: dict[int, Desk] = {}

    # -- programs -------------------------------------------------------------------------------

    def open(self, plan: Plan, store: Store) -> RemoteProgram:
        purpose, optimizer = plan.request.purpose, plan.request.optimizer
        if purpose in ("manual", "update"):
            raise StateError(
                f"parameter server: expected mode='sync' for a manual loop, received mode={self.mode!r}; the other modes "
                "belong to fit"
            )
        if optimizer is not None and optimizer.gradient_accumulation_steps is not None:
            raise HyperparameterError(
                f"ParameterServer(mode={self.mode!r}): expected an optimizer without gradient_accumulation_steps, for "
                f"workers at their own pace make no groups of batches, received {optimizer.gradient_accumulation_steps}; "
                "take a larger batch_size, or ParameterServer(mode='sync') without backup"
            )
        if self.mode == "hogwild" and optimizer is not None:
            if optimizer.kernel != "update.sgd" or optimizer.clips:
                raise HyperparameterError(
                    "ParameterServer(mode='hogwild'): expected SGD without momentum and clipping, for nobody locks the "
                    f"weights, received {optimizer!r}; take pn.optimizers.SGD(lr), or mode='async'"
                )
            warn("ParameterServer(mode='hogwild') is experimental: workers write over each other, so no two runs are alike")
        return super().open(plan, store)

    @staticmethod
    def _serves(plan: Plan) -> bool:
        """Whether the workers run it at their own pace; one alone has nobody to wait for."""
        return plan.request.purpose == "train" and plan.request.shards > 1

    def _common(self, plan: Plan, store: Store) -> dict[str, Ref]:
        return {} if self._serves(plan) else super()._common(plan, store)

    def _program(self, key: int, plan: Plan, store: Store) -> RemoteProgram:
        if not self._serves(plan):
            return super()._program(key, plan, store)
        bring = PARAMETERS if self.rule.averages else NOTHING if self.mode == "hogwild" else GRADIENTS
        self._desks[key] = Desk(plan, self._setups[key][1], self.shared, self.conduct.workers, bring)
        return ServedProgram(self, key, plan, store, self._desks[key])

    def _send_program(self, key: int, members: list[Member]) -> None:
        if key not in self._desks:
            super()._send_program(key, members)
            return
        plan, _, _, words = self._setups[key]
        self._send_kernels(plan)
        for member in members:
            self.crew.tell("solo", self._desks[key].setup(key, member.number, plan, words[member.number]), to=[member])
        self.rings.send(key, members)

    def start(self, program: Program, feed: Feed) -> None:
        super().start(program, feed)
        if isinstance(program, ServedProgram):
            program.missed = 0
            program.busy_s, program.apply_s, program.run_s = np.zeros(self.conduct.workers), 0.0, 0.0
            program.desk.connect(feed)

    # -- running --------------------------------------------------------------------------------

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        if not isinstance(program, ServedProgram):
            super().run(program, first, last, steps)
            return
        feed = self._feeds[program.key][1]
        if feed.rates is not None:  # a callback may have set them
            self._fed(program, "rates", feed.rates)[first:last] = feed.rates[first:last]
        if self._behind:
            self._push()
        self._ahead = True
        run = Run(program, feed, self._work(program, feed, first, last), Server(self.rule))
        began, self.undone = time.monotonic(), 0
        with one_interrupt() as heard:
            try:
                self._serve(run, heard)
            except BaseException:
                self._break_up(run)
                raise
            finally:
                program.run_s += time.monotonic() - began
                program.tally.add(run.server.tally)
            self._close_books(run, bool(heard))

    def _work(self, program: ServedProgram, feed: Feed, first: int, last: int) -> Work:
        shards = self.conduct.workers
        if isinstance(self.rule, Local):
            end = -(-feed.total // program.plan.request.batch)
            return Cycles(first, last, shards, self.rule.every, end)
        return (OwnShard if self.rule.drops_late else NextShard)(first, last, shards)

    def _push(self) -> None:
        """As ever; where somebody has only looked, workers in the middle of a cycle go on with what they have."""
        if any(not np.array_equal(own, shared) for own, shared in self._pairs()):
            super()._push()
            for desk in self._desks.values():
                desk.renew()
        self._behind = self._ahead = False

    def _serve(self, run: Run, heard: list[int]) -> None:
        """Events in, replies out, until all workers are at rest."""
        run.events.extend(Join(member.number) for member in self.crew.members)
        while True:
            while run.events:
                with interrupts_held_back():  # what the server has decided is done
                    for reply in run.server.handle(run.events.popleft()):
                        self._carry_out(run, reply)
            if not run.busy:
                if run.over or not run.work.waits() or not self.crew.members:
                    return
                run.events.extend(Join(m.number) for m in self.crew.members)  # a task came back when all had left
                continue
            for member, answer in self.crew.listen([m for m in self.crew.members if m.number in run.busy]):
                run.over |= bool(heard)
                if answer is LOST:
                    self._lost(run, member)
                else:
                    self._hear(run, member.number, answer)

    def _carry_out(self, run: Run, reply: object) -> None:
        began, desk = time.monotonic(), run.program.desk
        if isinstance(reply, Begin):
            task = None if run.over else run.work.take(reply.worker, reply.step)
            if task is None:
                run.events.append(Leave(reply.worker))
                return
            run.steps[reply.worker] = reply.step
            desk.begin(reply.worker)
            self._tell(run, reply.worker, task)
        elif isinstance(reply, Update) and not run.failed:
            rows = {task.first: run.rows_of(task.first, task.first + 1) for task in run.done.values()}
            desk.update(reply.shares, run.done, rows, reply.rate_factor)
            run.program.apply_s += time.monotonic() - began
        elif isinstance(reply, Average) and not run.failed:
            desk.average(reply.shares, reply.rows)
            run.program.apply_s += time.monotonic() - began

    def _tell(self, run: Run, worker: int, task: Task) -> None:
        member = next(m for m in self.crew.members if m.number == worker)
        member.rest()
        run.busy[worker] = task, time.monotonic()
        self.crew.tell("task", run.program.key, task, to=[member])

    def _hear(self, run: Run, worker: int, answer: Answer) -> None:
        """A worker has done its task."""
        (task, began), program, desk = run.busy.pop(worker), run.program, run.program.desk
        program.busy_s[worker] += time.monotonic() - began
        run.done[worker] = task
        run.rows += answer.rows
        run.feed.sums += answer.sums
        for batch, loss in enumerate(answer.losses, task.first):
            run.feed.losses[batch - run.feed.first_batch] += loss / run.rows_of(batch, batch + 1)
        if answer.stopped:
            run.over = run.failed = True
            run.events.append(Leave(worker))
            return
        desk.rows[worker] += answer.rows
        rows = desk.rows[worker] if desk.bring == PARAMETERS else answer.rows
        run.events.append(Push(worker, run.steps[worker], rows) if task.pushes else Leave(worker))

    # -- losses ---------------------------------------------------------------------------------

    def _lost(self, run: Run, member: Member) -> None:
        """Another worker does what a lost one was at; or the error is raised."""
        (task, _), conduct, desk = run.busy.pop(member.number), self.conduct, run.program.desk
        self.crew.drop([member])
        error = lost_error([member], f"in step {task.first + 1}")
        if conduct.on_failure == "abort":
            raise error
        self.restarts += 1
        if self.restarts > conduct.restarts:
            raise with_note(error, f"{conduct.restarts} workers have been lost before; that is enough")
        if conduct.on_failure == "shrink" and not self.crew.members:
            raise with_note(error, "no worker is left")
        left_out = conduct.on_failure == "shrink" and not isinstance(run.work, NextShard)
        note = "; the samples of its shards are left out" if left_out else ""
        warn(f"{str(error).splitlines()[0]}; {goes_on(conduct.on_failure, len(self.crew.members))}{note}")
        if conduct.on_failure == "shrink":
            if desk.bring != NOTHING:
                run.work.give_back(task)
            run.events.append(Leave(member.number))
            return
        self._begin([member.number])
        if desk.bring == NOTHING:  # it may have updated the weights already
            run.done[member.number] = task
            run.events.append(Push(member.number, run.steps[member.number], 0))
            return
        desk.renew_worker(member.number)
        self._tell(run, member.number, task)

    def _break_up(self, run: Run) -> None:
        """The run ends in the middle; the weights are those of the last update."""
        with interrupts_held_back():
            self._copy_back()
            self.batches_done = run.behind()
            self._behind, self._safe = True, None
            self.crew.close(at_once=True)

    def _close_books(self, run: Run, early: bool) -> None:
        """Count what has been done, and what nobody did."""
        work, program = run.work, run.program
        program.flags = [1] if run.failed else []
        self.batches_done = work.last
        if early:
            self.batches_done = run.behind()
        elif not run.failed:
            missed = run.rows_of(work.first, work.last) - run.rows
            program.missed += missed
            program.tally.missed_rows += missed

    def close(self) -> None:
        super().close()
        self._desks.clear()
