"""What a script says, in words: which steps run for which shard, and where everybody meets. Stage: executors. Pure.

The script itself has addresses, see `shards.py`; this can be known of a process that lies elsewhere. Must not know: memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..kernels import entries
from ..plan.plan import Plan

#: no entry of a script: what is done between two stretches of native code
BETWEEN = 0


@dataclass(frozen=True)
class Passage:
    """One entry of a script.

    Attributes:
        kind: of `kernels/entries.py`, or BETWEEN.
        first, last: steps of the plan for COMPUTE; for APPLY of what comes once a batch.
        shard: of COMPUTE. flag: see there.
        own: of APPLY, the adding up of this process's own gradients instead.
    """

    kind: int
    first: int = 0
    last: int = 0
    shard: int = -1
    flag: bool = False
    own: bool = False

    @property
    def lines(self) -> int:
        """Steps of a recorded batch that it makes."""
        return self.last - self.first if self.kind in (entries.COMPUTE, entries.APPLY) else 1


def outline(plan: Plan, shards: Iterable[int], first: int, last: int) -> list[Passage]:
    """A process's passages for the steps first..last of its shards, with what comes once a batch behind them."""
    result: list[Passage] = []
    cuts = [m for m in plan.meetings if first < m < last]
    phases = {step.phase for step in plan.steps[first:last]}
    own = list(shards)
    for index, (begin, end) in enumerate(zip([first, *cuts], [*cuts, last], strict=True)):
        result += [Passage(entries.MEET)] if index else []
        fresh = "loss" in phases and not index
        result += [Passage(entries.COMPUTE, begin, end, shard, fresh) for shard in own if end > begin]
    met = "loss" in phases
    if met:
        result += [Passage(entries.MEET), Passage(entries.TALLY)]
    if plan.after is not None and (span := _after(plan, phases)) != (0, 0):
        result += [] if met else [Passage(entries.MEET)]
        steps = plan.after.steps
        update = next((k for k in range(*span) if steps[k].phase == "update"), span[1])
        cut = [(span[0], update, False), (update, span[1], True)]
        result += [Passage(entries.APPLY, begin, end, flag=flag) for begin, end, flag in cut if end > begin]
        result.append(Passage(entries.MEET))
    return result


def _after(plan: Plan, phases: set[str]) -> tuple[int, int]:
    """The run of steps that come once a batch behind those phases."""
    if plan.after is None:
        return 0, 0
    if plan.request.purpose == "update":
        return plan.after.span("update")
    if plan.request.purpose == "train" and "backward" in phases:
        phases = phases | {"update"}
    return plan.after.span(*phases)
