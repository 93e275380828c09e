"""A results file as tables: for a terminal, and for the README. Pure but for `write_figures`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .results import Record

GROUPS = ("epochs", "products", "accuracy", "startup")
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


def number(value: float | None) -> str:
    """Four digits, or what fits before the point."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def verdict(record: Record) -> str:
    """Whether a record does what it must, in a word."""
    return {True: "yes", False: "NO", None: ""}[record.meets]


def place(machine: dict) -> str:
    """The machine in a line."""
    cores = f"{machine.get('cores_usable')} of {machine.get('cores_logical')} cores"
    versions = ", ".join(f"{k} {machine.get(k)}" for k in ("numpy", "numba", "llvmlite"))
    day = str(machine.get("date", ""))[:10]
    source = f"parnet {machine.get('parnet')} ({machine.get('commit') or 'no commit'})"
    built = f"{machine.get('cpu')}, {cores}, {machine.get('simd')}, {machine.get('os')}"
    return f"{built}; {versions}; {source}; {day}"


def text_table(records: Iterable[Record]) -> str:
    """The records in columns, for a terminal."""
    rows = [("", "value", "unit", "spread", "n", "ratio", "to", "target", "met", "others")]
    for r in records:
        count = "" if r.samples is None else str(r.samples)
        beside = ("" if r.ratio is None else number(r.ratio), r.against)
        others = "" if r.other_cpu is None else f"{r.other_cpu:.2f}"
        spread = "" if r.spread is None else number(r.spread)
        rows.append((r.name, number(r.value), r.unit, spread, count, *beside, r.target, verdict(r), others))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = {0, 2, 6, 7, 8}
    lines = []
    for row in rows:
        cells = [t.ljust(w) if i in left else t.rjust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def in_order(records: Iterable[Record]) -> list[Record]:
    """Group by group, the epochs first; within a group as they were measured."""
    return sorted(records, key=lambda r: GROUPS.index(r.group) if r.group in GROUPS else len(GROUPS))


def report(content: dict) -> str:
    """Everything in a results file, for a terminal: a table a group, peers, machine."""
    groups: dict[str, list[Record]] = {}
    for record in in_order(content["records"]):
        groups.setdefault(record.group, []).append(record)
    parts = [f"{name}\n{text_table(records)}" for name, records in groups.items()]
    notes = [f"{r.name}: {r.note}" for r in content["records"] if r.note]
    notes += [f"peer {name}: {state}" for name, state in sorted(content["peers"].items())]
    return "\n\n".join([*parts, "\n".join([*notes, place(content["machine"])])])


def figures(content: dict) -> str:
    """The README's table: every record with a target, then the machine and the peers."""
    lines = ["| | measured | beside | ratio | wanted | reached |", "|---|---|---|---|---|---|"]
    for r in in_order(content["records"]):
        if r.target:
            cells = (
                r.name,
                f"{number(r.value)} {r.unit}".strip(),
                r.against,
                "" if r.ratio is None else number(r.ratio),
            )
            lines.append(f"| {' | '.join(cells)} | {r.target} | {'yes' if r.meets else '**no**'} |")
    peers = "; ".join(f"{name}: {state}" for name, state in sorted(content["peers"].items()))
    lines += [
        "",
        f"Medians, parnet and peer in turn. {place(content['machine'])}." + (f" Peers: {peers}." if peers else ""),
    ]
    return "\n".join(lines)


def write_figures(readme: Path, table: str) -> None:
    """Put a table between the markers of a README.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    text = readme.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"{readme.name}: expected {BEGIN} and {END}, once each; add them where the figures belong")
    readme.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text))
