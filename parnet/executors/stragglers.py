"""For whom others waited: the last process at each meeting, by the stamps of all. Stage: executors. Must not know: files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .tapes import WAIT, Tape


@dataclass(frozen=True)
class Latest:
    """Who came last to each meeting of processes, and when.

    Attributes:
        who: (kept batches, lines) numbers of processes, -1 at lines where processes do not meet.
        when: (kept batches, lines) seconds, inf there: from then on nobody was missing.
    """

    who: np.ndarray
    when: np.ndarray


def latest(tapes: Sequence[Tape]) -> list[Latest | None]:
    """The last at the meetings of each of the tapes, closed ones of all processes.

    Returns:
        None for a tape whose batches no other process has a tape of, as where a worker was replaced.
    """
    result: list[Latest | None] = [None] * len(tapes)
    for members in _alike(tapes):
        arrivals = np.array([_arrivals(tapes[k]) for k in members])
        last = np.array([tapes[k].number for k in members])[np.argmax(arrivals, axis=0)]
        for k in members:
            shape = len(last), len(tapes[k].lines)
            found = result[k] = Latest(np.full(shape, -1), np.full(shape, np.inf))
            found.who[:, meetings(tapes[k])], found.when[:, meetings(tapes[k])] = last, arrivals.max(axis=0)
    return result


def meetings(tape: Tape) -> list[int]:
    """The lines behind which processes may meet; the same number in all processes that run a program together."""
    return [k for k, line in enumerate(tape.lines) if line.wait != WAIT]


def _alike(tapes: Sequence[Tape]) -> list[list[int]]:
    """Tapes of the same batches of the same program, in several processes."""
    groups: dict[tuple, list[int]] = {}
    for k, tape in enumerate(tapes):
        first, count = tape.part(0), len(meetings(tape))
        if count and tape.clock is not None:
            groups.setdefault((tape.purpose, first.epoch.tobytes(), first.batch.tobytes(), count), []).append(k)
    return [members for members in groups.values() if len({tapes[k].number for k in members}) == len(members) > 1]


def _arrivals(tape: Tape) -> np.ndarray:
    """(kept batches, meetings): seconds at which the last part came."""
    parts = [tape.part(part).ended[:, meetings(tape)] for part in range(tape.parts)]
    return np.max([tape.clock.of(ended) for ended in parts if tape.clock is not None], axis=0)
