"""The native loop with the clock read: what each part did when, in a ring of time stamps. Stage: kernels.

The ring that ctl[TRACE] points to has RING_HEAD words: batches there is room for, batches begun, words a batch. Behind them
come the batches, the oldest overwritten, BATCH_HEAD words each: epoch, batch of the epoch, steps done, cycles when it began;
then for each step cycles at its end and after its barrier, which are those of the step before where there was nothing to do.
A script's entries count as steps too: those of a table as so many, the others as one each; see `traced_script.py`.
Must not know: what the kernels compute, who reads the ring.
"""

from __future__ import annotations

from .barrier import barrier
from .control import BATCH_HEAD, EPOCH, RING_HEAD, STEP, STOP, TRACE, WAITED
from .declare import device
from .intrinsics import at, atomic_load, call_kernel, cycles, int64_at
from .step import EVERYONE, TABLE_ROW


@device
def record_of(ctl, number):
    """Where the ring holds the batch that was begun as that number."""
    ring = int64_at(ctl[TRACE])
    return at(ring, RING_HEAD + number % ring[0] * ring[2])


@device
def open_record(ctl, now):
    """Begin the next batch of the ring."""
    ring = int64_at(ctl[TRACE])
    mine = record_of(ctl, ring[1])
    ring[1] += 1
    mine[0], mine[1], mine[2], mine[3] = ctl[EPOCH], ctl[STEP], 0, now
    return mine


@device
def open_behind(ctl, lines, now):
    """Begin the next batch of the ring where so many of its steps are left out: they take no time."""
    mine = open_record(ctl, now)
    for word in range(2 * lines):
        at(mine, BATCH_HEAD)[word] = now
    return mine


@device
def traced_steps(table, steps, state, ctl, memory, part, parts, abort, mine, line):
    """`script.run_steps`, with the time of every step's end and of every barrier's written down: 20 to 40 cycles each.

    mine: the open record; line: how many steps stand in it before these.
    """
    stamps = at(mine, BATCH_HEAD + 2 * line)
    now = at(stamps, -1)[0]
    for s in range(steps):
        row = at(table, s * TABLE_ROW)
        if row[1] == EVERYONE:
            call_kernel(row[0], at(row, 3), ctl, memory, 0, 1)
            now = cycles()
        elif part < row[1]:
            call_kernel(row[0], at(row, 3), ctl, memory, part, row[1])
            now = cycles()
        stamps[2 * s] = now
        if row[2] and parts > 1:
            if barrier(state, parts, abort):
                return 2
            begun, now = now, cycles()
            ctl[WAITED] += now - begun
        stamps[2 * s + 1] = now
        mine[2] = line + s + 1
        if row[2] == 2 and 0 < atomic_load(int64_at(ctl[STOP])) <= ctl[STEP] + 1:
            return 1
    return 0


@device
def record_turn(ctl, s, begun, worked):
    """A part's turn at step s, where one thread does all parts: since its turn before it has waited for the others'."""
    mine = record_of(ctl, int64_at(ctl[TRACE])[1] - 1)
    if s > 0:
        mine[BATCH_HEAD + 2 * s - 1] = begun
    else:
        mine[BATCH_HEAD - 1] = begun
    now = cycles() if worked else begun
    mine[BATCH_HEAD + 2 * s], mine[BATCH_HEAD + 2 * s + 1], mine[2] = now, now, s + 1
