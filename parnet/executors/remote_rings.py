"""Recordings of worker processes: rings in shared memory, which the parent reads afterwards. Stage: executors.

The cycle counter is common to the processes of one machine, so their stamps are those of one clock. A worker that is put in
another's place goes on in its ring; where the shards are shared out anew, new tapes begin. Must not know: what is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .crew import Crew, Member
from .shards import Place
from .shared import Shared
from .tapes import Line, Tape, laid, ring_words, room_for
from .worker import Ref


@dataclass
class Recorded:
    """A program that is recorded.

    Attributes:
        purpose, rows: of its plan. lines_at: what a batch of the worker at a place is made of.
        tapes: where new ones are put. kept_steps: of all workers together.
        rings: worker -> its lines and its rings.
    """

    purpose: str
    rows: int
    lines_at: Callable[[Place], tuple[Line, ...]]
    tapes: list[Tape]
    kept_steps: int
    rings: dict[int, tuple[tuple[Line, ...], Ref]] = field(default_factory=dict)


class RemoteRings:
    """The rings of all programs of an executor.

    Args:
        shared: where they lie; crew: the workers.
    """

    def __init__(self, shared: Shared, crew: Crew):
        self._shared, self._crew = shared, crew
        self._recorded: dict[int, Recorded] = {}

    def record(self, key: int, recorded: Recorded) -> None:
        """Have the next runs of a program recorded; for one that is, it does nothing."""
        if key not in self._recorded:
            self._recorded[key] = recorded
            self.send(key, self._crew.members)

    def send(self, key: int, members: list[Member]) -> None:
        """Tell members of the crew, which have just been given a program, where their stamps of it go."""
        recorded, crew = self._recorded.get(key), self._crew.members
        if recorded is None or not crew:
            return
        lines = {m.number: recorded.lines_at(Place(place, len(crew))) for place, m in enumerate(crew)}
        most = max(len(one) for one in lines.values())
        room = room_for(recorded.kept_steps, most, self._crew.threads * len(crew))
        for member in members:
            old = recorded.rings.get(member.number)
            if old is None or old[0] != lines[member.number]:
                self._new_rings(recorded, member.number, lines[member.number], room)
            self._crew.tell("record", key, recorded.rings[member.number][1], to=[member])

    def _new_rings(self, recorded: Recorded, worker: int, lines: tuple[Line, ...], room: int) -> None:
        ref = self._shared.array((self._crew.threads, ring_words(room, len(lines))), "int64", "trace")
        recorded.rings[worker] = lines, ref
        rings = laid(self._shared.view(ref), room, len(lines))
        recorded.tapes.append(Tape(recorded.purpose, lines, recorded.rows, rings, f"worker {worker}"))

    def stop(self, key: int) -> None:
        """Record no more of a program; its tapes stay."""
        if self._recorded.pop(key, None) is not None:
            self._crew.tell("record", key, None)

    def clear(self) -> None:
        """All programs are gone."""
        self._recorded.clear()
