"""The native loop: runs the step table batch after batch, on one part or many. Stage: kernels; executors start it.

A call through the table costs 5 ns and a barrier 0.2 us; Python is entered once a run of batches, never once a step.

The table has ROW words a step: address of its kernel, parts (EVERYONE: each part does it whole), barrier, then its
operands. barrier: 0 none; 1 wait for all parts; 2 wait, then leave if the loss has raised the stop flag.

Numbers too small to be normal (below 1.2e-38 in float32) count as 0 in all of a run, as in TensorFlow: arithmetic on them
takes an x86 core a hundred times as long. The 784-100-10 network on unscaled bytes, where most gradients vanish, took 70 us
a sample without that and 4 with it. Must not know: what the kernels compute.
"""

from __future__ import annotations

from .barrier import barrier
from .control import BATCH, CYCLES, FIRST, ROWS, SHARDS, STEP, STOP, TOTAL, TRACE, WAITED, WHOLE
from .declare import device, kernel
from .entries import H_SHARDS, H_WORDS
from .intrinsics import (
    at,
    atomic_add,
    atomic_load,
    atomic_store,
    call_kernel,
    cycles,
    float_mode,
    int64_at,
    pause,
    set_float_mode,
)
from .script import run_entries, run_steps
from .step import EVERYONE, TABLE_ROW, high, low
from .traced_script import stamps_of, traced_entries
from .tracing import open_behind, record_of, record_turn, traced_steps

#: bits of x86's control word: denormal results become 0 (flush to zero), denormal operands are read as 0
FLUSH = 1 << 15 | 1 << 6
upper, lower = device(high), device(low)


@device
def run_entries_of_batches(op, ctl, part, parts):
    """What `run_script` does. Returns 1 if the stop flag ended it, 2 where other processes are gone, see `script.py`."""
    header, state, begun, ended = int64_at(op[5]), int64_at(op[4]), cycles(), 0
    ctl[SHARDS] = header[H_SHARDS]
    for batch in range(op[2], op[3]):
        ctl[STEP] = batch
        ctl[WHOLE] = min(ctl[BATCH], ctl[TOTAL] - batch * ctl[BATCH])
        if ctl[TRACE]:
            ended = traced_entries(op, header, state, ctl, batch, part, parts)
        else:
            ended = run_entries(op, header, state, ctl, batch, part, parts)
        if ended:
            break
    if parts > 1 and ended != 2:
        waiting = cycles()
        ended = 2 if barrier(state, parts, header[H_WORDS]) else ended
        ctl[WAITED] += cycles() - waiting
    ctl[CYCLES] += cycles() - begun
    return ended


@device
def run_table(op, ctl, part, parts):
    """What `run` does."""
    state, begun, before, steps = int64_at(op[4]), cycles(), upper(op[1]), lower(op[1])
    for batch in range(op[2], op[3]):
        ctl[STEP] = batch
        ctl[FIRST] = batch * ctl[BATCH]
        ctl[ROWS] = min(ctl[BATCH], ctl[TOTAL] - ctl[FIRST])
        if ctl[TRACE]:
            mine = open_behind(ctl, before, cycles())
            if traced_steps(int64_at(op[0]), steps, state, ctl, op[5], part, parts, 0, mine, before):
                break
        elif run_steps(int64_at(op[0]), steps, state, ctl, op[5], part, parts, 0):
            break
    if parts > 1:
        waiting = cycles()
        barrier(state, parts, 0)
        ctl[WAITED] += cycles() - waiting
    ctl[CYCLES] += cycles() - begun


@kernel
def run(op, ctl, mem, part, parts):
    """Batches first..last of a run.

    op: table, a `pair`: steps of the plan before it, its steps; first batch, last batch, barrier state, address of the
    arena, written at the end: 1.
    """
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    run_table(op, ctl, part, parts)
    set_float_mode(mode)
    op[6] = 1


@kernel
def run_script(op, ctl, mem, part, parts):
    """Batches first..last of a script. A kernel of its own: plain runs are spared four seconds of compiling it.

    op: script, its entries, first batch, last batch, barrier state, the script's header, written at the end: 1, or 2 where a
    wait for other processes was ended.
    """
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    ended = run_entries_of_batches(op, ctl, part, parts)
    set_float_mode(mode)
    op[6] = max(1, ended)


@device
def run_all_parts(op, ctl, parts):
    """What `run_alone` does."""
    jobs = at(op, 2 * parts)
    before, steps = upper(jobs[0]), lower(jobs[0])
    for batch in range(jobs[1], jobs[2]):
        for p in range(parts):
            own = int64_at(op[parts + p])
            own[STEP] = batch
            own[FIRST] = batch * own[BATCH]
            own[ROWS] = min(own[BATCH], own[TOTAL] - own[FIRST])
            if own[TRACE]:
                open_behind(own, before, cycles())
        for s in range(steps):
            for p in range(parts):
                row, own = at(int64_at(op[p]), s * TABLE_ROW), int64_at(op[parts + p])
                begun = cycles()
                if row[1] == EVERYONE:
                    call_kernel(row[0], at(row, 3), own, jobs[3], 0, 1)
                elif p < row[1]:
                    call_kernel(row[0], at(row, 3), own, jobs[3], p, row[1])
                if own[TRACE]:
                    record_turn(own, before + s, begun, row[1] == EVERYONE or p < row[1])
            if at(int64_at(op[0]), s * TABLE_ROW)[2] == 2 and 0 < int64_at(ctl[STOP])[0] <= batch + 1:
                return


@kernel
def run_alone(op, ctl, mem, part, parts):
    """Batches first..last of a run, step by step with all parts of a step one after another, on the calling thread.

    op: addresses of the parts' tables, parts long; then of their control words; steps as of `run`, first batch, last batch,
    address of the arena.
    """
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    run_all_parts(op, ctl, parts)
    set_float_mode(mode)


@kernel
def now(op, ctl, mem, part, parts):
    """The cycle counter.   op: it is written here."""
    op[0] = cycles()


@kernel
def stamp(op, ctl, mem, part, parts):
    """Write down when something ended that was done outside the loop, in the record that each part has open.

    op: addresses of the parts' control words, parts long; how many steps stand before it; 1 if all of it was waiting.
    """
    now = cycles()
    for p in range(parts):
        own = int64_at(op[p])
        mine = record_of(own, int64_at(own[TRACE])[1] - 1)
        stamps = stamps_of(mine, op[parts])
        stamps[0] = at(stamps, -1)[0] if op[parts + 1] else now
        stamps[1], mine[2] = now, op[parts] + 1


@kernel
def post(op, ctl, mem, part, parts):
    """Announce the job that lies in the mailbox.   op: mailbox, helpers' bits written: bit p stands for part p asleep.

    The addition is a full fence: either this part sees that a helper is asleep, or the helper sees the job.
    """
    mailbox = int64_at(op[0])
    atomic_add(mailbox, 1)
    asleep = 0
    for p in range(1, parts):
        if atomic_load(at(mailbox, 8 + 16 * p)):
            asleep |= 1 << p
    op[1] = asleep


@kernel
def serve(op, ctl, mem, part, parts):
    """A helper thread's life between two sleeps: take each job as it is posted, return after a long idle spell.

    op: mailbox, idle spins. mailbox: word 0 counts jobs; word 8 + 16 * part: asleep flag of the part; word 9 + 16 * part:
    jobs it has taken; words 10 and 11 + 16 * part: addresses of the job's op and of the part's control words;
    word 12 + 16 * part: parts; word 13 + 16 * part: address of the kernel, `run` or `run_script`.
    """
    mailbox, idle = int64_at(op[0]), op[1]
    mine = at(mailbox, 8 + 16 * part)
    atomic_store(mine, 0)
    spins = 0
    while True:
        if atomic_load(mailbox) != mine[1]:
            mine[1] += 1
            if part < mine[4]:
                call_kernel(mine[5], int64_at(mine[2]), int64_at(mine[3]), 0, part, mine[4])
            spins = 0
            continue
        pause()
        spins += 1
        if spins > idle:
            atomic_store(mine, 1)
            if atomic_load(mailbox) == mine[1]:
                return
            atomic_store(mine, 0)
            spins = 0
