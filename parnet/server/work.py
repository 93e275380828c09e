"""Who computes which rows in one stretch of a run: plain lists of what is left to do. Stage: server, pure.

A batch is cut into as many virtual shards as there were workers at the beginning.

    OwnShard     worker w computes shard w of each batch; what a late or lost worker leaves out, nobody computes
    NextShard    whoever comes takes the next shard in line: a fast worker does more, and nothing is left out
    Cycles       worker w trains on shard w of so many batches, up to the next average

Must not know: arrays, processes, transports.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a worker is told to do.

    Attributes:
        first, last: batches first .. last - 1 of the run.
        shard: of each of them.
        pushes: the parameter server hears of the result; else the worker stands still in the middle of a cycle.
    """

    first: int
    last: int
    shard: int
    pushes: bool = True


class Work:
    """What is left to do of the batches first .. last - 1, each cut into `shards`."""

    def __init__(self, first: int, last: int, shards: int):
        self.first, self.last, self.shards = first, last, shards

    def take(self, worker: int, step: int) -> Task | None:
        """What a worker does in its step of that number; None for nothing more."""
        raise NotImplementedError

    def give_back(self, task: Task) -> None:
        """A task that has not been done, and is done next if others may do it."""

    def waits(self) -> bool:
        """Whether there is a task that anybody may do."""
        return False

    def behind(self, updates: int, batches: int) -> int:
        """The first batch that the parameters do not hold yet, if the work is broken off.

        Args:
            updates: that have been made. batches: whole ones that the samples computed so far would make.
        """
        return self.first + updates


class OwnShard(Work):
    """See the module's docstring."""

    def take(self, worker: int, step: int) -> Task | None:
        batch = self.first + step
        return Task(batch, batch + 1, worker) if batch < self.last else None


class NextShard(Work):
    """See the module's docstring."""

    def __init__(self, first: int, last: int, shards: int):
        super().__init__(first, last, shards)
        self._left = deque(Task(batch, batch + 1, shard) for batch in range(first, last) for shard in range(shards))

    def take(self, worker: int, step: int) -> Task | None:
        return self._left.popleft() if self._left else None

    def give_back(self, task: Task) -> None:
        self._left.appendleft(task)

    def waits(self) -> bool:
        return bool(self._left)

    def behind(self, updates: int, batches: int) -> int:
        return self.first + batches


class Cycles(Work):
    """See the module's docstring.

    Args:
        every: an average comes behind each batch whose number is a multiple of it, counted from 1.
        end: batches of the whole run; one comes behind the last of them too.
    """

    def __init__(self, first: int, last: int, shards: int, every: int, end: int):
        super().__init__(first, last, shards)
        moments = [k for k in range(first + 1, last + 1) if k % every == 0 or k == end]
        self._ends = moments if last in moments else [*moments, last]
        self._averages = set(moments)

    def take(self, worker: int, step: int) -> Task | None:
        if step >= len(self._ends):
            return None
        first, last = [self.first, *self._ends][step : step + 2]
        return Task(first, last, worker, last in self._averages)
