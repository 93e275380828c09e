"""What the measurements show, in sentences a student can follow. Stage: study. Must not know: how runs are made."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .laws import Fit
from .markup import interval, number, percent, seconds
from .result import Study
from .statistics import Result
from .ways import way_of

#: a serial fraction that changes by less than this from first to last is called constant
FLAT = 0.02
#: a Karp-Flatt number whose interval is wider than this tells nothing
VAGUE = 0.5
#: efficiencies above this are more than noise
SUPER = 1.05


def findings(study: Study) -> list[str]:
    """Sentences, network by network; the first of each says what is the fastest."""
    return [line for lines in grouped(study).values() for line in lines]


def grouped(study: Study) -> dict[str, list[str]]:
    """Network (and batch) -> its sentences; those over several batches come last, under the name "batches"."""
    found: dict[str, list[str]] = {}
    for (network, batch), members in study.groups.items():
        where = _where(study, network, batch)
        measured = [r for r in members if r.runs]
        if not measured:
            continue
        lines = found.setdefault(where, [*_fastest(study, where, measured)])
        for strategy, curve in study.curves(network, batch).items():
            lines += _overhead(where, strategy, curve, members)
            lines += _curve(study, where, strategy, curve)
            lines += _laws(where, strategy, study.fits(network, batch).get(strategy, {}), curve)
        lines += _refusals(where, study.fits(network, batch))
        lines += _accuracy(study, where, measured)
        lines += _same_bits(where, measured)
    across = list(_crossovers(study))
    return found | ({"batches": across} if across else {})


def under(name: str, line: str) -> str:
    """A sentence as it stands below a heading that says already what it is of."""
    for start in (f"{name}: ", f"{name}, "):
        if line.startswith(start):
            rest = line[len(start) :]
            return rest[0].upper() + rest[1:]
    return line


def _where(study: Study, network: str, batch: int) -> str:
    several = len({key[1] for key in study.groups}) > 1
    return f"{network}, batch {batch}" if several else network


def _count(result: Result) -> str:
    noun = way_of(result.point.kind).noun
    return f"{result.point.workers} {noun}{'s' * (result.point.workers > 1)}"


def _fastest(study: Study, where: str, measured: list[Result]) -> Iterator[str]:
    if study.design.kind == "weak":
        best = max(measured, key=lambda r: r.rate.value)
        yield f"{where}: {_named(best)} trained the most samples a second, {number(best.rate.value)}."
        return
    best = min(measured, key=lambda r: r.epoch.value)
    if best.point.kind == "Serial":
        rivals = [r for r in measured if r.point.workers > 1 and not r.speedup.high < 1]
        pays = ": here parallel work does not pay"
        if rivals:
            pays = f", but {_named(min(rivals, key=lambda r: r.epoch.value))} may be as fast: the intervals cannot tell"
        yield f"{where}: serial is the fastest, with {seconds(best.epoch.value)} an epoch{pays}."
        return
    doubt = ", though its interval holds 1: it may be no faster" if best.speedup.known and best.speedup.low < 1 else ""
    yield (
        f"{where}: {_named(best)} is the fastest, with {seconds(best.epoch.value)} an epoch, {interval(best.speedup)} times "
        f"the speed of the best serial run{doubt}."
    )


def _named(result: Result) -> str:
    return "serial" if result.point.kind == "Serial" else f"{result.point.strategy} with {_count(result)}"


def _overhead(where: str, strategy: str, curve: list[Result], members: list[Result]) -> Iterator[str]:
    """What one worker costs beside serial."""
    serial = next((r for r in members if r.point.kind == "Serial" and r.runs), None)
    if serial is None or curve[0].point.workers != 1 or serial.epoch.overlaps(curve[0].epoch):
        return
    extra = curve[0].epoch.value / serial.epoch.value - 1
    if abs(extra) >= 0.02:
        yield (
            f"{where}, {strategy}: one {way_of(curve[0].point.kind).noun} takes {percent(abs(extra))} "
            f"{'more' if extra > 0 else 'less'} time than serial; speedups are given over serial, so they include this."
        )


def _curve(study: Study, where: str, strategy: str, curve: list[Result]) -> Iterator[str]:
    """Waiting, super-linear speedups, and what the Karp-Flatt numbers do."""
    many = [r for r in curve if r.point.workers > 1 and math.isfinite(r.speedup.value)]
    if not many:
        return
    last = many[-1]
    reasons = {"waiting for each other": last.wait, "communication": last.comm, "work outside of the plan": last.other}
    reason, share = max(reasons.items(), key=lambda item: item[1])
    lost = 1 - last.efficiency.value
    if lost > 0.02:
        why = f"; the largest loss that was measured is {reason}, {percent(share)} of the time" if share >= 0.02 else ""
        yield f"{where}, {strategy}: with {_count(last)} the efficiency is {percent(last.efficiency.value)}{why}."
    if any(r.efficiency.value > SUPER and (not r.efficiency.known or r.efficiency.low > 1) for r in many):
        yield (
            f"{where}, {strategy}: more than linear speedup: each worker's share of the data or weights fits into a cache "
            "that "
            "the whole did not fit into, or the serial run was disturbed."
        )
    if study.design.kind == "strong":
        yield from _karp_flatt(where, strategy, many)
    slower = [r for r in many if r.speedup.known and r.speedup.high < 1]
    if slower:
        yield (
            f"{where}, {strategy}: slower than serial with {', '.join(_count(r) for r in slower)}; the work of one batch "
            "is too "
            "small to be worth sharing. A larger batch or network changes that."
        )


def _karp_flatt(where: str, strategy: str, many: list[Result]) -> Iterator[str]:
    first, last = many[0].karp_flatt, many[-1].karp_flatt
    if len(many) == 1:
        if first.known and first.low <= 1 and first.high - first.low > VAGUE:
            yield (
                f"{where}, {strategy}: the runs with {_count(many[0])} scatter too much to tell how much of the work is "
                f"serial: Karp-Flatt {interval(first, 2)}."
            )
        elif 0 <= first.value <= 1:
            bounds = f"; 95 %: {percent(max(0.0, first.low))} to {percent(min(1.0, first.high))}" if first.known else ""
            yield (
                f"{where}, {strategy}: {_count(many[0])} gain what a program would whose serial part is "
                f"{percent(first.value)} (Karp-Flatt{bounds}). One number of workers cannot tell a serial part from "
                "overhead."
            )
        return
    change = last.value - first.value
    listed = f"{number(first.value, 2)} with {_count(many[0])}, {number(last.value, 2)} with {_count(many[-1])}"
    if abs(change) >= FLAT and first.overlaps(last):
        yield (
            f"{where}, {strategy}: the intervals of the Karp-Flatt numbers overlap ({listed}): these runs cannot tell a "
            "serial part from overhead."
        )
    elif abs(change) < FLAT:
        yield f"{where}, {strategy}: the Karp-Flatt number stays ({listed}): a serial part limits the speedup, not overhead."
    elif change > 0:
        yield (
            f"{where}, {strategy}: the Karp-Flatt number rises ({listed}): overhead that grows with the workers (waiting, "
            "moving "
            "data, shared memory bandwidth) limits the speedup, rather than a serial part."
        )
    else:
        yield (
            f"{where}, {strategy}: the Karp-Flatt number falls ({listed}): a cost that the first worker pays already "
            "weighs less "
            "with more of them, or the shares of the work begin to fit into the caches."
        )


def _laws(where: str, strategy: str, fits: dict, curve: list[Result]) -> Iterator[str]:
    for made in fits.values():
        if isinstance(made, Fit):
            yield f"{where}, {strategy}: {_law(made, curve)}"


def _refusals(where: str, fits: dict[str, dict]) -> Iterator[str]:
    """Why laws were not fitted, each reason once."""
    reasons: dict[str, list[str]] = {}
    for strategy, made in fits.items():
        for reason in made.values():
            if isinstance(reason, str):
                reasons.setdefault(reason, []).append(strategy)
    for reason, strategies in reasons.items():
        yield f"{where}, {', '.join(strategies)}: no fit of {reason}."


def _law(made: Fit, curve: list[Result]) -> str:
    doubt = " The law fits badly, so do not rely on it." if made.r2 < 0.9 else ""
    if made.law.name == "Amdahl":
        most = (
            f"however many workers there are, the speedup stays below {number(made.limit)}"
            if made.limit < 1e4
            else "no limit"
        )
        value, low, high = made.values[0], made.low[0], made.high[0]
        return (
            f"by Amdahl's law {percent(value)} of the work is serial (95 %: {percent(low)} to {percent(high)}); "
            f"{most}.{doubt}"
        )
    if made.law.name == "Gustafson":
        value, low, high = made.values[0], made.low[0], made.high[0]
        return (
            f"by Gustafson's law {percent(value)} of each worker's time is serial (95 %: {percent(low)} to "
            f"{percent(high)}); the "
            f"scaled speedup grows by {number(1 - value)} with each worker.{doubt}"
        )
    if made.peak < 1e4:
        place = "beyond" if made.peak > max(r.point.workers for r in curve) else "within"
        peak = f"it peaks at {made.peak:.0f} workers, {place} what was measured, and falls after that"
        if made.low[1] <= 0:
            peak = f"a peak at {made.peak:.0f} workers is likely, but coherency may be 0 by its interval, which means none"
    else:
        peak = "no peak is in sight: coherency is 0 within what the points can tell"
    return (
        f"by the Universal Scalability Law contention is {number(made.values[0], 2)} and coherency "
        f"{number(made.values[1], 2)}; "
        f"{peak}.{doubt}"
    )


def _accuracy(study: Study, where: str, measured: list[Result]) -> Iterator[str]:
    target = study.design.target
    if target is None:
        return
    reached = [r for r in measured if math.isfinite(r.target.value)]
    missed = [r for r in measured if not math.isfinite(r.target.value)]
    if reached:
        best = min(reached, key=lambda r: r.target.value)
        yield f"{where}: {_named(best)} is the first to reach an accuracy of {target:g}, after {seconds(best.target.value)}."
    finals = [curve[-1][1] for r in measured for curve in r.curves]
    if missed and not reached:
        best_seen = f"; the best run ended at {percent(max(finals))}" if finals else ""
        yield f"{where}: no configuration reached an accuracy of {target:g} in all of its runs{best_seen}."
    elif missed:
        yield f"{where}: {', '.join(map(_named, missed))} did not reach an accuracy of {target:g} in all of the runs."


def _same_bits(where: str, measured: list[Result]) -> Iterator[str]:
    """Whether all configurations of the same samples and batch ended in the same weights."""
    alike: dict[tuple, list[Result]] = {}
    for result in measured:
        alike.setdefault((result.point.batch, result.point.rows), []).append(result)
    for members in alike.values():
        digests = {digest for result in members for digest in result.weights}
        if len(members) > 1 and len(digests) == 1:
            runs = sum(result.runs for result in members)
            yield f"{where}: all {runs} runs of {len(members)} configurations ended in the same weights, bit for bit."


def _crossovers(study: Study) -> Iterator[str]:
    """In a sweep over batches: from which batch on a strategy wins."""
    batches = sorted({key[1] for key in study.groups})
    if len(batches) < 2 or study.design.kind == "weak":
        return
    for network in study.design.networks:
        found: dict[tuple[str, int], list[Result]] = {}
        for batch in batches:
            for strategy, curve in study.curves(network, batch).items():
                for result in curve:
                    if result.point.workers > 1:
                        found.setdefault((strategy, result.point.workers), []).append(result)
        for (strategy, _), members in found.items():
            wins = [r for r in members if r.speedup.value > 1]
            losses = [r for r in members if r.speedup.value <= 1]
            who = f"{network}: {strategy} with {_count(members[0])}"
            if wins and losses and min(r.point.base for r in wins) > max(r.point.base for r in losses):
                last, first = max(r.point.base for r in losses), min(r.point.base for r in wins)
                yield f"{who} loses to serial at batch {last} and wins at batch {first}: the crossover lies between."
            elif not wins:
                yield f"{who} loses to serial at every batch that was measured."
