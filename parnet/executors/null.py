"""The null executor: records what would run and computes nothing. Stage: executors, for tests of everything above it."""

from __future__ import annotations

from .base import Executor, Feed
from .link import Program


class NullExecutor(Executor):
    """Keeps a list of calls.

    Attributes:
        calls: ("start",) and ("run", first batch, last batch, steps) in order.
    """

    name = "null"

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self.calls: list[tuple] = []

    def start(self, program: Program, feed: Feed) -> None:
        super().start(program, feed)
        self.calls.append(("start",))

    def run(self, program: Program, first: int, last: int, steps: tuple[int, int] | None = None) -> None:
        self.calls.append(("run", first, last, steps or program.span(())))
