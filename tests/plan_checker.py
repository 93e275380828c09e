"""Finds races in a plan by looking at it: an independent reading of what steps, parts and barriers mean. Runs no kernel.

Between two meetings of all parts every part goes on alone, so any two calls of different parts may run at once. Two
accesses of one stretch of memory clash when one of them writes, unless the same part is sure to make both. Memory is what
counts, not the buffer's name: buffers that share a place are the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from parnet.kernels.step import COLUMNS, EVERYONE, PANELS, ROWS_SHARED


@dataclass(frozen=True)
class Touch:
    """One access of one step.

    Attributes:
        buffer: its name; region, first, last: the memory it takes.
        writes: or only reads.
        owner: equal for two touches of a buffer in which a part meets only itself; None where any part may touch all of it.
        copies: each part has its own.
    """

    buffer: str
    region: str
    first: int
    last: int
    writes: bool
    owner: tuple | None
    copies: bool


def owner(step, access, parts):
    """Who touches what: with one part, that one; else what a part owns follows from the way the step is cut."""
    if parts == 1:
        return ("first",)
    if not access.local or parts == EVERYONE:
        return None
    cut = {ROWS_SHARED: ("rows", step.extent[0])}
    cut |= {share: (share, step.extent[-1]) for share in (COLUMNS, PANELS)}
    return (*cut.get(step.share, (step.share, *step.extent)), parts)


def run_of(step, name):
    """First and last element of the run of a whole region that a step works on: its operands are (region, first) pairs and
    the run's length, the first of them that is a number."""
    firsts = [operand[1] for operand in step.operands if isinstance(operand, tuple) and operand[0].name == name]
    if not firsts:
        return 0, 0  # slots of a rule that keeps none
    length = next(operand for operand in step.operands if isinstance(operand, int) and operand)
    return min(firsts), max(firsts) + length


def touches(steps, slots, where):
    """The touches of each step. where(step, buffer) gives region, first, last element and copies."""
    result = []
    for step, slot in zip(steps, slots, strict=True):
        row = []
        for access in step.accesses:
            region, first, last, copies = where(step, access.buffer)
            row.append(
                Touch(access.buffer.name, region, first, last, access.writes, owner(step, access, slot.parts), copies)
            )
        result.append(row)
    return result


def clash(a: Touch, b: Touch) -> bool:
    """Whether two parts may disturb each other."""
    if not (a.writes or b.writes) or a.region != b.region or a.last <= b.first or b.last <= a.first:
        return False
    if a.owner == b.owner == ("first",):
        return False
    whole = a.region in (a.buffer, b.buffer)  # an update works on a run of a region and names the weights in it too
    if a.buffer != b.buffer and not whole:
        return True
    if a.copies and b.copies:
        return False
    return a.owner is None or b.owner is None or a.owner != b.owner


def races(steps, slots, where):
    """Pairs of steps that clash with no meeting between them, as words. The list is run again and again."""
    rows, found = touches(steps, slots, where), []
    for start in range(len(steps)):
        index = start
        while not slots[index].barrier:
            index = (index + 1) % len(steps)
            for a in rows[start]:
                found += [_words(steps, start, a, index, b) for b in rows[index] if clash(a, b)]
            if index == start:
                break
    return found


def _words(steps, i, a, j, b):
    one, two = (f"{steps[k].kernel} {'writes' if t.writes else 'reads'} {t.buffer}" for k, t in ((i, a), (j, b)))
    return f"step {i} {one} while step {j} {two}"


def overlaps(steps, place, lasting=()):
    """Pairs of arena buffers that share memory although one is in use between the first and the last use of the other."""
    spans = {}
    for index, step in enumerate(steps):
        for access in step.accesses:
            if access.buffer.region == "arena":
                first = spans.get(access.buffer.name, (index, index))[0]
                spans[access.buffer.name] = (first, len(steps) if access.buffer.name in lasting else index)
    found = []
    for a in spans:
        for b in spans:
            (a1, a2), (b1, b2) = place(a), place(b)
            (first, last), (begin, end) = spans[a], spans[b]
            if a < b and a1 < b2 and b1 < a2 and first <= end and begin <= last:
                found.append(f"{a} and {b}")
    return found


def places_of(plan, size_of):
    """where(buffer) and place(name) of a real plan."""

    def place(name):
        first = plan.offsets[name]
        return first, first + size_of(plan.buffers[name], plan.request.batch, plan.request.threads)

    def where(step, buffer):
        if buffer.region == "arena":
            return ("arena", *place(buffer.name), plan.buffers[buffer.name].copies)
        if buffer.name == buffer.region:
            return buffer.region, *run_of(step, buffer.name), False
        first = plan.places[buffer.name.removeprefix("d ")]
        return buffer.region, first, first + buffer.width, False

    return where, place
