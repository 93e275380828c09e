"""The native loop of a batch in virtual shards: which table runs for which shard, and where everybody meets.

Stage: kernels. A script is a list of entries, see `entries.py`, the same for every part but for the addresses of its tables.
With the header's words it needs nothing else. Must not know: what the kernels compute, who the other processes are.
"""

from __future__ import annotations

import math

from .barrier import barrier, meet
from .control import (
    ACCUMULATE,
    APPLIED,
    BATCH,
    FIRST,
    LOSSES,
    ROWS,
    SCRATCH,
    SHARD,
    STEP,
    STOP,
    SUMS,
    WAITED,
    WHOLE,
)
from .declare import device
from .entries import (
    COMPUTE,
    ENTRY,
    H_ACCUMULATE,
    H_LOSSES,
    H_PART,
    H_PARTS,
    H_SHARDS,
    H_SPARE,
    H_SPINS,
    H_STOP,
    H_SUMS,
    H_TOTALS,
    H_WIDTH,
    H_WORDS,
    MEET,
    TALLY,
)
from .intrinsics import address_of, at, atomic_load, atomic_store, call_kernel, cycles, float64_at, int64_at
from .shards import first_row, shard_rows
from .step import EVERYONE, TABLE_ROW


@device
def run_steps(table, steps, state, ctl, memory, part, parts, abort):
    """One table, once. Returns 1 if the stop flag ended it, 2 if the watch over the processes did."""
    for s in range(steps):
        row = at(table, s * TABLE_ROW)
        if row[1] == EVERYONE:
            call_kernel(row[0], at(row, 3), ctl, memory, 0, 1)
        elif part < row[1]:
            call_kernel(row[0], at(row, 3), ctl, memory, part, row[1])
        if row[2]:
            if parts > 1:
                begun = cycles()
                if barrier(state, parts, abort):
                    return 2
                ctl[WAITED] += cycles() - begun
            if row[2] == 2 and 0 < atomic_load(int64_at(ctl[STOP])) <= ctl[STEP] + 1:
                return 1  # a flag of the next batch is not for this one: a fast part may have raised it already
    return 0


@device
def everybody(header, state, ctl, part, parts):
    """Wait for all parts of all processes. Returns whether the wait was ended from outside."""
    begun, ended = cycles(), False
    if header[H_WORDS]:
        ended = meet(int64_at(header[H_WORDS]), header[H_PART] + part, header[H_PARTS], header[H_SPINS])
    elif parts > 1:
        barrier(state, parts, 0)
    ctl[WAITED] += cycles() - begun
    return ended


@device
def folded(values, stride, shards, spare):
    """The sum of one number of each shard along the tree; spare: room for `shards` numbers."""
    for s in range(shards):
        spare[s] = values[s * stride]
    width = 1
    while width < shards:
        for s in range(0, shards - width, 2 * width):
            spare[s] += spare[s + width]
        width *= 2
    return spare[0]


@device
def tally(header, ctl, batch, part):
    """Fold the sums of the shards; every part does it for itself, part 0 of all keeps them. Returns 1 at a bad loss."""
    shards, width = header[H_SHARDS], header[H_WIDTH]
    sums = at(float64_at(header[H_SUMS]), batch % 2 * shards * width)
    spare, totals = float64_at(ctl[SCRATCH]), float64_at(header[H_TOTALS])
    loss = folded(sums, width, shards, spare)
    if header[H_PART] + part == 0:
        for m in range(width):
            totals[m] += folded(at(sums, m), width, shards, spare)
        float64_at(header[H_LOSSES])[batch] = loss / ctl[WHOLE]
    if math.isfinite(loss):
        return 0
    ctl[ROWS] = ctl[WHOLE]
    if part == 0:
        atomic_store(int64_at(header[H_STOP]), batch + 1)
    return 1


@device
def begin_shard(row, header, ctl, batch, part):
    """The control words of a shard's entry. Returns its rows."""
    shard, shards, width, rows = row[4], header[H_SHARDS], header[H_WIDTH], ctl[WHOLE]
    ctl[FIRST], ctl[ROWS] = batch * ctl[BATCH] + first_row(rows, shard, shards), shard_rows(rows, shard, shards)
    ctl[SHARD] = shard
    sums, spare = at(float64_at(header[H_SUMS]), (batch % 2 * shards + shard) * width), int64_at(header[H_SPARE])
    ctl[SUMS], ctl[STOP], ctl[LOSSES] = address_of(sums), header[H_SPARE], header[H_SPARE] + 8 - 8 * batch
    if part == 0:
        spare[0] = 0
        if row[5]:
            for m in range(width):
                sums[m] = 0.0
    return ctl[ROWS]


@device
def compute(row, header, state, ctl, batch, part, parts):
    """A shard's entry. Returns 2 if the wait was ended from outside."""
    if begin_shard(row, header, ctl, batch, part) == 0:
        return 0
    return run_steps(int64_at(row[1]), row[2], state, ctl, row[3], part, parts, header[H_WORDS])


@device
def begin_apply(header, ctl, batch):
    """The control words of the steps that come once a batch."""
    ctl[FIRST], ctl[ROWS], ctl[ACCUMULATE] = batch * ctl[BATCH], ctl[WHOLE], header[H_ACCUMULATE]


@device
def apply_step(step, header, ctl, memory, mine):
    """This part's share of such a step. Returns whether there was any."""
    if step[1] == EVERYONE:
        call_kernel(step[0], at(step, 3), ctl, memory, 0, 1)
        return True
    for p in range(mine, step[1], header[H_PARTS]):  # a plan made for more workers than are left: the parts go round
        call_kernel(step[0], at(step, 3), ctl, memory, p, step[1])
    return mine < step[1]


@device
def apply(row, header, state, ctl, batch, part, parts):
    """The steps that come once a batch, cut over all parts of all processes. Returns whether a wait was ended."""
    begun, table, mine = cycles(), int64_at(row[1]), header[H_PART] + part
    begin_apply(header, ctl, batch)
    waited, ended = ctl[WAITED], False
    for s in range(row[2]):
        step = at(table, s * TABLE_ROW)
        apply_step(step, header, ctl, row[3], mine)
        if step[2] and everybody(header, state, ctl, part, parts):
            ended = True
            break
    ctl[ACCUMULATE] = 0
    ctl[APPLIED + row[5]] += cycles() - begun - (ctl[WAITED] - waited)
    return ended


@device
def run_entry(row, header, state, ctl, batch, part, parts):
    """One entry of the script. Returns 0 to go on, 1 at a loss that is not finite, 2 where a wait was ended from outside."""
    if row[0] == COMPUTE:
        return compute(row, header, state, ctl, batch, part, parts)
    if row[0] == TALLY:
        return tally(header, ctl, batch, part)
    if row[0] == MEET:
        return 2 * everybody(header, state, ctl, part, parts)
    return 2 * apply(row, header, state, ctl, batch, part, parts)


@device
def run_entries(op, header, state, ctl, batch, part, parts):
    """A batch of the script. Returns as `run_entry` does."""
    for e in range(op[1]):
        ended = run_entry(at(int64_at(op[0]), e * ENTRY), header, state, ctl, batch, part, parts)
        if ended:
            return ended
    return 0
