"""For whom others waited: the last process at each meeting, by the stamps of all. Stage: executors. Must not know: files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tapes import WAIT, Tape


def latest(tapes: Sequence[Tape]) -> list[np.ndarray | None]:
    """Which process came last to each meeting of processes.

    Args:
        tapes: closed ones of all processes.
    Returns:
        for each tape (kept batches, lines) numbers of processes, -1 at lines where processes do not meet. None for a tape
        whose batches no other process has a tape of, as where a worker was replaced.
    """
    result: list[np.ndarray | None] = [None] * len(tapes)
    for members in _alike(tapes):
        arrivals = np.array([_arrivals(tapes[k]) for k in members])
        last = np.array([tapes[k].number for k in members])[np.argmax(arrivals, axis=0)]
        for k in members:
            result[k] = np.full((len(last), len(tapes[k].lines)), -1)
            result[k][:, meetings(tapes[k])] = last  # type: ignore[index]
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
