"""A plan in virtual shards as one MPI rank runs it: stretches of native code, and what ranks show each other between them.

Stage: executors. A rank computes its own shards and adds their gradients up, as far as they make up whole nodes of the tree
(`comm/tree.py`). It sends each rank that rank's range of these sums, adds up along the tree what it receives, and the
finished ranges are gathered: each rank has the whole gradient, and does what comes once a batch by itself.
Must not know: how numbers travel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..comm.tree import Node, additions, cover, share_of
from ..kernels import control, entries, library
from ..kernels.entries import rows_before
from ..kernels.step import TABLE_ROW
from ..plan.plan import Plan
from ..plan.schedule import NO_BARRIER
from .memory import Store, aligned_zeros
from .outline import BETWEEN, Passage
from .serial import native
from .shards import Common, Place, ShardedProgram
from .tapes import FOLD, SEND, WAIT, WAIT_RANKS, Line, Tape, lines_of_script

#: ranges of the gradient begin at multiples of so many numbers: whole cache lines
GRAIN = 64


#: what ranks do between two stretches, as a trace names it
TELL, SHOW = Line("meet", "loss", wait=WAIT_RANKS), Line("show statistics", SEND)
SWAP, ADD, SHARE = Line("send gradients", SEND), Line("fold", FOLD), Line("gather gradients", SEND)
OUTPUTS = Line("gather outputs", SEND)


@dataclass(frozen=True)
class Stretch:
    """Native code between two meetings of the ranks.

    Attributes:
        first, last: entries of the script.
        shown: buffers that the shards leave for each other in it: (first number, numbers a shard).
        sums: what follows reads the losses of all shards. gradients: it reads the whole gradient.
        line: of a recorded batch, that the messages behind it begin with.
    """

    first: int
    last: int
    shown: tuple[tuple[int, int], ...] = ()
    sums: bool = False
    gradients: bool = False
    line: int = 0

    @property
    def messages(self) -> tuple[Line, ...]:
        """What is done behind it, in its order."""
        return (
            *((TELL,) if self.sums else ()),
            *((SHOW,) * len(self.shown)),
            *((SWAP, ADD, SHARE) if self.gradients else ()),
        )


class Ranges:
    """Who adds up which range of the gradient, and where its pieces lie on the way there. Pure numbers.

    Args:
        rank, size: this rank, of how many.
        shards: V. numbers: length of the gradient.

    Attributes:
        ends: (size + 1,) rank r adds up the numbers ends[r] .. ends[r + 1].
        nodes: of each rank, the nodes that make up its shards.
        pieces: of all ranks, in the order of the tree.
        sent, received: (counts, places) of what this rank sends each rank, and gets from it.
    """

    def __init__(self, rank: int, size: int, shards: int, numbers: int):
        grains = -(-numbers // GRAIN)
        self.ends = [min(numbers, share_of(r, size, grains)[0] * GRAIN) for r in range(size)] + [numbers]
        self.nodes: list[list[Node]] = [cover(*share_of(r, size, shards), shards) for r in range(size)]
        self.pieces = [node for nodes in self.nodes for node in nodes]
        self.own, mine = self.nodes[rank], self.length(rank)
        sent = [self.length(r) * len(self.own) for r in range(size)]
        received = [mine * len(nodes) for nodes in self.nodes]
        self.sent, self.received = (sent, _places(sent)), (received, _places(received))

    def length(self, rank: int) -> int:
        """Numbers of a rank's range."""
        return self.ends[rank + 1] - self.ends[rank]


def _places(counts: list[int]) -> list[int]:
    return [sum(counts[:r]) for r in range(len(counts))]


class RankProgram(ShardedProgram):
    """See the module's docstring.

    Attributes:
        ranges: of the gradient; out, into: its pieces as they are sent and received.
        words: (n,) what this rank tells all others once a batch, (size, n) what all tell.
    """

    def __init__(self, plan: Plan, store: Store, rank: int, size: int):
        self._plan, self.runs_on = plan, None
        self._recorded: tuple[Line, ...] = ()
        self._cut(rank, size, store)

    def cut_anew(self, rank: int, size: int) -> None:
        """Cut the shards over so many ranks from now on; a feed must be connected again."""
        runs_on = self.runs_on
        self._cut(rank, size, self.store)
        self.runs_on = runs_on

    def _cut(self, rank: int, size: int, store: Store) -> None:
        plan = self._plan
        shards, numbers = plan.request.shards, len(store.parameters)
        trains = plan.after is not None and plan.request.purpose in ("train", "manual")
        self.ranges = Ranges(rank, size, shards, numbers if trains else 0)
        self.out = aligned_zeros(max(1, sum(self.ranges.sent[0])), store.dtype)
        self.into = aligned_zeros(max(1, sum(self.ranges.received[0])), store.dtype)
        self.owners = [share_of(r, size, shards)[0] for r in range(size)] + [shards]
        most = max(b - a for a, b in pairwise(self.owners))
        self.words = np.zeros(1 + most * plan.sums), np.zeros((size, 1 + most * plan.sums))
        self._stretches: dict[tuple[int, int], list[Stretch]] = {}
        self._orders: dict[int, tuple[list[int], list[tuple[int, int]]]] = {}
        if plan.after is not None:
            plan = replace(plan, after=_without_fold(plan.after))
        super().__init__(plan, store, Common.of(plan, numbers), Place(rank, size))
        self._folds = self._fold_tables()
        if [last - first for first, last in self.ranges.own] == [1]:  # nothing to add up: sent from where it is made
            self.out, self._folds = self.common.gradients[self.ranges.own[0][0]], self._folds[:0]

    def _fill_header(self, parts: int) -> None:
        """What comes once a batch is done by each rank for itself, so no words to meet at, and all the parts are here."""
        super()._fill_header(parts)
        head = self.header
        head[entries.H_PART], head[entries.H_PARTS], head[entries.H_WORDS] = 0, parts, 0

    def _fold_tables(self) -> np.ndarray:
        """(steps, TABLE_ROW): the sums of this rank's nodes, laid out as they are sent."""
        ranges, gradients, parts = self.ranges, self.common.gradients, self.plan.request.threads
        address, item = library.address("shards.fold_node", self.store.dtype), self.out.itemsize
        rows, place = [], 0
        for rank in range(len(ranges.nodes)):
            for first, last in ranges.own:
                begin, count = ranges.ends[rank], ranges.length(rank)
                base = (gradients[first:].ctypes.data - self.out.ctypes.data) // item + begin
                operands = [base, gradients.shape[1], first, last, place, count]
                rows.append([address, parts, NO_BARRIER, *operands])
                place += count
        table = np.zeros((len(rows), TABLE_ROW), np.int64)
        for row, words in zip(table, rows, strict=True):
            row[: len(words)] = words
        return table

    # -- stretches ------------------------------------------------------------------------------

    def stretches(self, steps: tuple[int, int]) -> list[Stretch]:
        """A run of the shards' steps, and what comes once a batch behind it, cut where ranks must meet."""
        if steps not in self._stretches:
            self._script(steps)
        return self._stretches[steps]

    def _outline(self, first: int, last: int) -> list[Passage]:
        """The script without the meetings, and what is done between its stretches; the adding up of gradients put in before
        they are sent."""
        groups: list[list[Passage]] = [[]]
        for passage in super()._outline(first, last):
            if passage.kind == entries.MEET:
                groups.append([])
            else:
                groups[-1].append(passage)
        cuts = [first, *[m for m in self.plan.meetings if first < m < last], last]
        backward = any(step.phase == "backward" for step in self.plan.steps[first:last])
        result: list[Passage] = []
        found: list[Stretch] = []
        begin = line = 0
        for k, group in enumerate(groups):
            kinds = {passage.kind for passage in group}
            coming = {passage.kind for passage in groups[k + 1]} if k + 1 < len(groups) else set()
            gradients = backward and entries.COMPUTE in kinds and entries.COMPUTE not in coming and bool(coming)
            if gradients and len(self._folds):
                group = [*group, Passage(entries.MEET), Passage(entries.APPLY, 0, len(self._folds), own=True)]
            shown = self._shown(*cuts[k : k + 2]) if entries.COMPUTE in kinds else ()
            if group:
                line += sum(passage.lines for passage in group)
                stretch = Stretch(begin, begin + len(group), shown, entries.TALLY in coming, gradients, line)
                begin, line = stretch.last, line + len(stretch.messages)
                found.append(stretch)
                result += [*group, *[Passage(BETWEEN)] * len(stretch.messages)]
        if self.plan.request.purpose == "predict":
            result.append(Passage(BETWEEN))
        self._stretches[first, last] = found
        return result

    def _entry(self, passage: Passage, part: int) -> list[int]:
        if passage.own:
            return [entries.APPLY, self._folds.ctypes.data, len(self._folds), self.out.ctypes.data, -1]
        return super()._entry(passage, part)

    def _shown(self, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """What the steps first..last leave in the region "exchange"."""
        left = {}
        for step in self.plan.steps[first:last]:
            for access in step.accesses:
                if access.writes and access.buffer.region == "exchange":
                    left[access.buffer.name] = access.buffer
        return tuple((self.plan.places[name], buffer.shape[1]) for name, buffer in left.items())

    def lines(self) -> tuple[Line, ...]:
        steps = 0, len(self.plan.steps)
        passages = self._outline(*steps)
        between = [message for stretch in self._stretches[steps] for message in stretch.messages] + [OUTPUTS]
        named = iter(between)
        groups = [[next(named)] if p.kind == BETWEEN else lines_of_script(self.plan, [p], WAIT) for p in passages]
        return tuple(line for group in groups for line in group)

    @property
    def last_line(self) -> int:
        """Of a recorded batch."""
        return len(self._recorded) - 1

    def mark(self, line: int) -> int:
        """What is done outside of native code, that line of a recorded batch, is done. Returns the next line."""
        if self.control[0, control.TRACE]:
            parts = len(self.control)
            self._stamp_op[parts:] = line, self._recorded[line].wait == WAIT_RANKS
            self._stamp(self._stamp_op.ctypes.data, None, None, 0, parts)
        return line + 1

    def record(self, tapes: list[Tape], kept_steps: int) -> None:
        super().record(tapes, kept_steps)
        self._recorded, self._stamp = self.lines(), native("loop.stamp")
        self._stamp_op = np.array([*self.addresses.control, 0, 0], np.int64)

    def run_stretch(self, steps: tuple[int, int], stretch: Stretch) -> None:
        """The next run of this program's `job` is that stretch of the script of those steps."""
        self._now = self._script(steps), stretch

    def job(self, part: int, first: int, last: int, steps: tuple[int, int]) -> tuple[int, ...]:
        script, now = self._now
        where, count = script[part, now.first :].ctypes.data, now.last - now.first
        return (where, count, first, last, self.addresses.barrier, self.header.ctypes.data, 0)

    # -- what is sent, and what comes -----------------------------------------------------------

    def rows_of(self, batch: int) -> int:
        """Rows of a batch of the feed."""
        whole, total = (int(self.control[0, word]) for word in (control.BATCH, control.TOTAL))
        return min(whole, total - batch * whole)

    def tell(self, batch: int, stop: bool) -> None:
        """Put down what the other ranks need to know of this batch."""
        own, sums = self.place.shards(self.plan.request.shards), self.plan.sums
        mine = self.words[0]
        mine[0] = stop
        mine[1 : 1 + len(own) * sums] = self.common.sums[batch % 2, own.start : own.stop].ravel()

    def hear(self, batch: int) -> bool:
        """Take in what the ranks told of this batch. Returns whether one of them wants to stop."""
        told, sums = self.words[1], self.plan.sums
        for rank, (first, last) in enumerate(pairwise(self.owners)):
            self.common.sums[batch % 2, first:last] = told[rank, 1 : 1 + (last - first) * sums].reshape(-1, sums)
        return bool(told[:, 0].any())

    def accumulates(self) -> bool:
        """Whether gradients are added to those that are there."""
        return bool(self.header[entries.H_ACCUMULATE])

    def add_up(self, batch: int, out: np.ndarray) -> None:
        """Add what has been received along the tree. out: this rank's range of the gradient, written."""
        if not len(out):
            return
        there, order = self._order(self.rows_of(batch))
        pieces = self.into.reshape(-1, len(out))
        for into, source in order[:-1]:
            pieces[there[into]] += pieces[there[source]]
        if order:
            np.add(pieces[there[order[-1][0]]], pieces[there[order[-1][1]]], out=out)
        else:
            out[:] = pieces[there[0]]

    def _order(self, rows: int) -> tuple[list[int], list[tuple[int, int]]]:
        """The pieces that are no sum of empty shards alone, and how they are added."""
        if rows not in self._orders:
            shards, pieces = self.plan.request.shards, self.ranges.pieces
            there = [k for k, (a, b) in enumerate(pieces) if rows_before(rows, b, shards) > rows_before(rows, a, shards)]
            self._orders[rows] = there, additions([pieces[k] for k in there], shards)
        return self._orders[rows]


def _without_fold(after: Plan) -> Plan:
    """What comes once a batch, but for the adding up of the shards' gradients; its barriers go to the step before."""
    steps, slots = [], []
    for step, slot in zip(after.steps, after.slots, strict=True):
        if step.kernel != "shards.fold":
            steps.append(step)
            slots.append(slot)
        elif slots and slots[-1].barrier == NO_BARRIER:
            slots[-1] = replace(slots[-1], barrier=slot.barrier)
    return replace(after, steps=tuple(steps), slots=tuple(slots))
