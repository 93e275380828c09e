"""A results file as tables: for a terminal, and for the README. Stage: study. Pure but for `write_figures`.

Must not know: how anything is measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import FileFormatError
from ..io.atomic import replacing
from .benchmarks import Record

GROUPS = (
    "epochs",
    "resnet",
    "products",
    "convolutions",
    "layers",
    "strategies",
    "gains",
    "trace",
    "study",
    "accuracy",
    "startup",
)
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
    return columns(rows, {0, 2, 6, 7, 8})


def columns(rows: Sequence[tuple[str, ...]], left: set[int]) -> str:
    """Rows of cells as lines; the columns of these numbers stand flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [t.ljust(w) if i in left else t.rjust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def matrix(records: Iterable[Record]) -> list[list[str]]:
    """Details as rows of cells: the ratio of a record "ROW, COLUMN" in its row and column, the columns' names first."""
    cells: dict[str, dict[str, str]] = {}
    for r in records:
        if r.detail:
            row, column = r.name.split(", ", 1)
            cells.setdefault(row, {})[column] = "-" if r.ratio is None else f"{r.ratio:.2f}"
    columns = sorted({column for found in cells.values() for column in found})
    return [["", *columns], *([row, *(found.get(c, "") for c in columns)] for row, found in cells.items())]


def text_matrix(rows: list[list[str]]) -> str:
    """A matrix for a terminal; the columns' names stand in several lines."""
    names = [name.split(", ") for name in rows[0]]
    heads = [[name[i] if i < len(name) else "" for name in names] for i in range(max(map(len, names)))]
    rows = [*heads, *rows[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    lines = [[t.rjust(w) if i else t.ljust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def in_order(records: Iterable[Record]) -> list[Record]:
    """Group by group, the epochs first; within a group as they were measured."""
    return sorted(records, key=lambda r: GROUPS.index(r.group) if r.group in GROUPS else len(GROUPS))


def report(content: dict) -> str:
    """Everything in a results file, for a terminal: a table a group, one more of its details, peers, machine."""
    groups: dict[str, list[Record]] = {}
    for record in in_order(content["records"]):
        groups.setdefault(record.group, []).append(record)
    parts = []
    for name, records in groups.items():
        parts.append(f"{name}\n{text_table(r for r in records if not r.detail)}")
        parts += [text_matrix(matrix(records))] * any(r.detail for r in records)
    notes = [f"{r.name}: {r.note}" for r in content["records"] if r.note]
    notes += [f"peer {name}: {state}" for name, state in sorted(content["peers"].items())]
    return "\n\n".join([*parts, "\n".join([*notes, place(content["machine"])])])


def figures(content: dict) -> str:
    """The README's tables: every record with a target that is no detail; machine and peers; details, folded away."""
    lines = ["| | measured | beside | ratio | wanted | reached |", "|---|---|---|---|---|---|"]
    for r in in_order(content["records"]):
        if r.target and not r.detail:
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
    for group in GROUPS:
        details = [r for r in content["records"] if r.detail and r.group == group]
        lines += folded(f"Of {group}, each as a fraction of the {details[0].against}", matrix(details)) if details else []
    return "\n".join(lines)


def folded(title: str, rows: list[list[str]]) -> list[str]:
    """A matrix for the README that a click opens."""
    head = [name.replace(", ", "<br>") for name in rows[0]]
    lines = [f"| {' | '.join(row)} |" for row in [head, *rows[1:]]]
    lines.insert(1, "|---" + "|---:" * (len(head) - 1) + "|")
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def write_figures(readme: Path, table: str) -> None:
    """Put a table between the markers of a README.

    Raises:
        FileFormatError: the markers are not there, once each and in order.
    """
    text = readme.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise FileFormatError(f"{readme.name}: expected {BEGIN} and {END}, once each; add them where the figures belong")
    new = pattern.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text)
    with replacing(readme, "report: --readme") as file:
        file.write(new.encode())
