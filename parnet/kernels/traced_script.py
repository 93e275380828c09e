"""A batch of a script with the clock read. Stage: kernels.

Each entry knows by its word E_LINE how many steps stand before it in the record of a batch. A batch whose stretches are run
one by one, as by MPI ranks, has one record: a stretch that does not begin at 0 goes on in it, and what was done between two
stretches has ended when the second begins. Must not know: what the kernels compute, who reads the ring.
"""

from __future__ import annotations

from .control import ACCUMULATE, APPLIED, BATCH_HEAD, TRACE, WAITED
from .declare import device
from .entries import APPLY, COMPUTE, E_LINE, ENTRY, H_PART, H_PARTS, H_WORDS, TALLY
from .intrinsics import at, cycles, int64_at
from .script import apply_step, begin_apply, begin_shard, everybody, tally
from .step import TABLE_ROW
from .tracing import open_record, record_of, traced_steps


@device
def stamps_of(mine, line):
    """The two stamps of a step; the one before them is when it began."""
    return at(mine, BATCH_HEAD + 2 * line)


@device
def skip(mine, line, count):
    """So many steps that have nothing to do."""
    stamps = stamps_of(mine, line)
    for s in range(2 * count):
        stamps[s] = at(stamps, -1)[0]
    mine[2] = line + count


@device
def traced_meeting(header, state, ctl, part, parts, mine, line):
    """`everybody`, behind the step whose first stamp is written. Returns whether the wait was ended."""
    stamps = stamps_of(mine, line)
    stamps[1] = stamps[0]
    if header[H_PARTS] > 1:
        if everybody(header, state, ctl, part, parts):
            return True
        stamps[1] = cycles()
    mine[2] = line + 1
    return False


@device
def traced_apply(row, header, state, ctl, batch, part, parts, mine, line):
    """`script.apply`. Returns whether a wait was ended."""
    begun, table, me = cycles(), int64_at(row[1]), header[H_PART] + part
    begin_apply(header, ctl, batch)
    waited, ended = ctl[WAITED], False
    for s in range(row[2]):
        step, stamps = at(table, s * TABLE_ROW), stamps_of(mine, line + s)
        worked = apply_step(step, header, ctl, row[3], me)
        stamps[0] = cycles() if worked else at(stamps, -1)[0]
        stamps[1] = stamps[0]
        if step[2] == 0:
            mine[2] = line + s + 1
        elif traced_meeting(header, state, ctl, part, parts, mine, line + s):
            ended = True
            break
    ctl[ACCUMULATE] = 0
    ctl[APPLIED + row[5]] += cycles() - begun - (ctl[WAITED] - waited)
    return ended


@device
def traced_entry(row, header, state, ctl, batch, part, parts, mine):
    """`script.run_entry`."""
    line = row[E_LINE]
    stamps = stamps_of(mine, line)
    if row[0] == COMPUTE:
        if begin_shard(row, header, ctl, batch, part) == 0:
            skip(mine, line, row[2])
            return 0
        return traced_steps(int64_at(row[1]), row[2], state, ctl, row[3], part, parts, header[H_WORDS], mine, line)
    if row[0] == APPLY:
        return 2 * traced_apply(row, header, state, ctl, batch, part, parts, mine, line)
    if row[0] == TALLY:
        ended = tally(header, ctl, batch, part)
        stamps[0] = cycles()
        stamps[1], mine[2] = stamps[0], line + 1
        return ended
    stamps[0] = at(stamps, -1)[0]
    return 2 * traced_meeting(header, state, ctl, part, parts, mine, line)


@device
def traced_entries(op, header, state, ctl, batch, part, parts):
    """`script.run_entries`."""
    script, now = int64_at(op[0]), cycles()
    if script[E_LINE] == 0:
        mine = open_record(ctl, now)
    else:
        mine = record_of(ctl, int64_at(ctl[TRACE])[1] - 1)
        last = stamps_of(mine, script[E_LINE] - 1)
        if last[0] == last[1]:
            last[0] = now
        last[1] = now
    for e in range(op[1]):
        ended = traced_entry(at(script, e * ENTRY), header, state, ctl, batch, part, parts, mine)
        if ended:
            return ended
    return 0
