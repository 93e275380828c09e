"""How many parts each step is cut into, and after which steps all parts must meet. Stage: plan. Pure functions.

Parts come from a cost model: cutting a step saves time only if what each part does outlasts the barrier it may need.
Barriers come from the accesses: two steps need one between them when a part of the second touches what another part of
the first wrote, or writes what another part reads. Must not know: executors, kernels' code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..kernels.step import (
    COLUMNS,
    EACH,
    EVERYONE,
    FLAT,
    NARROW,
    ONE,
    PANEL,
    PANELS,
    PIXELS,
    ROWS_SHARED,
    Step,
    window_panel,
)

#: cost model, one thread of a current core; only ratios to GRAIN_US matter
FLOPS_PER_US, BYTES_PER_US, CALL_US = 60e3, 12e3, 0.05
#: a part of a step must do at least this much work, microseconds; a barrier costs 0.2 to 0.35
GRAIN_US = 0.5

#: up to this many columns of a product the rows are shared out: too few vectors for several parts
FEW_COLUMNS = 32
#: a last panel of at most NARROW columns takes as long as so many of the others
NARROW_COST = 8
#: what decides between columns and rows: speed of a product on one core, and of lines that come from another core's cache
WEIGHT_FLOPS_PER_US, MOVED_BYTES_PER_US = 100e3, 8e3

NO_BARRIER, MEET, MEET_AND_CHECK = 0, 1, 2


@dataclass(frozen=True)
class Slot:
    """How one step runs.

    Attributes:
        parts: how many parts it is cut into; EVERYONE: each part does all of it for itself.
        barrier: what follows it.
    """

    parts: int
    barrier: int


def cost_us(step: Step, rows: int) -> float:
    """Estimated microseconds of the step on one thread."""
    times = rows if step.per_row else 1
    return CALL_US + times * (step.flops / FLOPS_PER_US + step.bytes / BYTES_PER_US)


def product_share(width: int, batch: int, parts: int) -> int:
    """Who owns what of a product with that many columns.

    Columns, so that a part's share of the weights stays in its cache, unless they cannot be shared evenly and the batch is
    so large that moving the weights costs less than waiting for the part with most of them.
    """
    if width <= FEW_COLUMNS:
        return ROWS_SHARED
    panels = max(1, width // PANEL + (width % PANEL > NARROW))
    narrow = NARROW_COST if width > PANEL and 0 < width % PANEL <= NARROW else 0
    worst = (-(-panels // parts) * PANEL + narrow) * parts / width
    waiting = (worst - 1) * batch * 2 / (parts * WEIGHT_FLOPS_PER_US)
    moving = 4 * (1 - 1 / parts) / MOVED_BYTES_PER_US
    return ROWS_SHARED if waiting > moving else COLUMNS


def cut_key(step: Step) -> tuple:
    """Steps of equal key and parts are cut alike: a part touches the same rows or columns in each of them."""
    if step.share == ROWS_SHARED:
        return (ROWS_SHARED, step.extent[0])
    if step.share == PIXELS:
        return (PIXELS, *step.extent[1:])
    return (step.share, step.extent[-1]) if step.share in (COLUMNS, PANELS) else (step.share, step.extent)


def pieces(step: Step, rows: int) -> int:
    """Into how many parts the step can be cut at all."""
    extent = [rows if n == -1 else n for n in step.extent]
    if step.share == ROWS_SHARED:
        return -(-extent[0] // 8)
    if step.share == COLUMNS:
        return max(1, extent[-1] // PANEL + (extent[-1] % PANEL > NARROW))
    if step.share == PANELS:
        return -(-extent[-1] // window_panel(extent[-1]))
    if step.share == PIXELS:
        return extent[0] * -(-extent[1] // extent[2])
    return -(-extent[0] // 64) if step.share == FLAT else 1


def parts_of(group: list[Step], rows: int, threads: int) -> int:
    """Parts for a run of steps that are cut alike."""
    if group[0].share == EACH:
        return EVERYONE if threads > 1 else 1
    if group[0].share == ONE or threads == 1:
        return 1
    wanted = int(sum(cost_us(step, rows) for step in group) / GRAIN_US)
    return max(1, min(threads, wanted, pieces(group[0], rows)))


def groups(steps: tuple[Step, ...]) -> list[list[Step]]:
    """Runs of neighbouring steps that are cut alike."""
    result: list[list[Step]] = []
    for step in steps:
        if result and cut_key(result[-1][0]) == cut_key(step):
            result[-1].append(step)
        else:
            result.append([step])
    return result


def schedule(steps: tuple[Step, ...], rows: int, threads: int, sharded: bool = False) -> tuple[Slot, ...]:
    """Parts and barriers of all steps, for that many threads.

    The steps are run again and again, so the end of the list meets its beginning.

    Args:
        sharded: the loss of these rows is not that of the batch, and no reason to stop.
    """
    parts = [parts_of(group, rows, threads) for group in groups(steps) for _ in group]
    barriers = [NO_BARRIER] * len(steps)
    if threads > 1:
        _place_barriers(steps, parts, barriers)
    if not sharded:
        _place_check(steps, barriers)
    return tuple(Slot(p, b) for p, b in zip(parts, barriers, strict=True))


def meeting_at_end(slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
    """All parts meet behind the last step too: what comes next is not known."""
    last = slots[-1]
    return (*slots[:-1], replace(last, barrier=max(last.barrier, MEET)))


def meetings(steps: tuple[Step, ...]) -> tuple[int, ...]:
    """Steps that all shards must have reached before one of them goes on: they read what other shards have left."""
    result: list[int] = []
    left: set[str] = set()
    for index, step in enumerate(steps):
        names = {a.buffer.name: a.writes for a in step.accesses if a.buffer.region == "exchange"}
        if any(name in left and not writes for name, writes in names.items()):
            result.append(index)
            left.clear()
        left.update(name for name, writes in names.items() if writes)
    return tuple(result)


def _place_barriers(steps, parts, barriers) -> None:
    """Go round the list twice, so that the second round sees what the end of the first left open."""
    open_accesses: list[tuple] = []
    count = len(steps)
    for turn in range(2 * count):
        index = turn % count
        now = _accesses(steps[index], parts[index])
        if any(_clash(a, b) for a in open_accesses for b in now):
            barriers[(index - 1) % count] = MEET
            open_accesses = []
        open_accesses.extend(now)
        if barriers[index] != NO_BARRIER:
            open_accesses = []


def _place_check(steps, barriers) -> None:
    """The stop flag that `tally` may raise is looked at in the next barrier, or at once where a weight changes before it."""
    for index, step in enumerate(steps):
        if step.kernel != "loss.tally":
            continue
        place = index
        while barriers[place] == NO_BARRIER and place + 1 < len(steps):
            place += 1
            if any(a.writes and a.buffer.region != "arena" for a in steps[place].accesses):
                place = index
                break
        barriers[place if barriers[place] else index] = MEET_AND_CHECK


def _accesses(step: Step, parts: int) -> list[tuple]:
    """(memory, writes, who): who is None when any part may touch any of it."""
    alone = parts in (1, EVERYONE)
    result = []
    for access in step.accesses:
        own = access.local or parts == 1
        if parts == EVERYONE and not access.writes:
            own = False
        who = ("each",) if alone and parts == EVERYONE and access.writes else None
        if who is None and own:
            who = ("one",) if parts == 1 else (*cut_key(step), parts)
        result.append((access.buffer.name, access.writes, who, access.buffer.copies))
    return result


def _clash(a: tuple, b: tuple) -> bool:
    """Whether two accesses, a before b, need a barrier between them."""
    if a[0] != b[0] or not (a[1] or b[1]):
        return False
    if a[2] == ("each",) or b[2] == ("each",):
        return False  # each part has its own copy
    return a[2] is None or b[2] is None or a[2] != b[2]
