"""The file of a study: JSON lines, a header and then one line a run, so that a killed study has lost nothing. Stage: study.

    {"parnet": "study", "version": 1, "design": {...}, "machine": {...}}
    {"point": {...}, "round": 0, "epochs_s": [...], ...}

A whole study in one JSON document, as `Study.save` writes it, is read too. Must not know: how runs are made.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, StateError, warn
from ..io.atomic import replacing
from .design import Design
from .machine import IDENTITY

VERSION = 1
#: what a run must have to be counted
NEEDED = ("point", "round")
#: parts of a design that may grow when a study goes on
EXTENSIBLE = ("repeats", "points", "networks")


class Records:
    """The header and the runs of one file.

    Attributes:
        path: the file, or None where there is none.
        design: what was asked for.
        machine: the record of the machine.
        runs: in the order in which they ended.
    """

    def __init__(self, design: Design, machine: dict, path: Path | None = None):
        self.design, self.machine, self.path = design, machine, path
        self.runs: list[dict] = []

    def header(self) -> dict:
        """The first line."""
        return {"parnet": "study", "version": VERSION, "design": self.design.config(), "machine": self.machine}

    def begin(self) -> None:
        """Write the header, and the runs there are; a file of that name is replaced as a whole."""
        if self.path is not None:
            with replacing(self.path, "study") as file:
                for line in (self.header(), *self.runs):
                    file.write((json.dumps(line) + "\n").encode())

    def add(self, run: dict) -> None:
        """Keep a run; it is on the disk when this returns."""
        self.runs.append(run)
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def done(self) -> set[tuple[int, str]]:
        """(round, point) of the runs that succeeded."""
        return {(run["round"], _key(run["point"])) for run in self.runs if "failure" not in run}

    def go_on(self, old: Records) -> None:
        """Take over the runs of an earlier start of the same study, and the configurations that they are of.

        Raises:
            StateError: another study, or another machine.
        """
        check_same_machine(old.machine, self.machine, str(self.path))
        mine, theirs = self.design.config(), old.design.config()
        for name in mine:
            if name not in EXTENSIBLE and mine[name] != theirs[name]:
                raise StateError(
                    f"{self.path}: expected the results of this study, received one whose {name} was "
                    f"{_short(theirs[name])} and "
                    f"not {_short(mine[name])}; name another file, or remove this one"
                )
        for name, known in mine["networks"].items():
            if theirs["networks"].get(name, known) != known:
                raise StateError(
                    f"{self.path}: expected results of the network {name!r} as it is now, received those of another; "
                    "name another file, or remove this one"
                )
        self.runs = [run for run in old.runs if "failure" not in run]
        seen = {_key(run["point"]) for run in self.runs}
        self.design = self.design.with_those_of(old.design, [p for p in old.design.points if _key(p) in seen])

    @staticmethod
    def key(run_or_point: Any) -> str:
        """What tells points apart."""
        return _key(run_or_point)


def _key(point: Any) -> str:
    return json.dumps(point if isinstance(point, dict) else point.config(), sort_keys=True)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_same_machine(a: dict, b: dict, where: str) -> None:
    """Raise StateError unless both were taken on one machine."""
    different = [name for name in IDENTITY if a.get(name) != b.get(name)]
    if different:
        name = different[0]
        raise StateError(
            f"{where}: expected results of one machine, received those of two: {name} is {_short(a.get(name))} in one and "
            f"{_short(b.get(name))} in the other; keep a file for each machine, and compare their reports"
        )


def read(path: str | os.PathLike) -> Records:
    """A file of results.

    Raises:
        FileFormatError: it is no such file, or damaged. A last line cut short by a kill is left out, with a warning.
        OSError: it cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    header, runs = _document(text) or _lines(path, text)
    if not isinstance(header, dict) or header.get("parnet") != "study":
        raise FileFormatError(f"{path}: expected the results of a parnet study, received another file")
    if header.get("version") != VERSION:
        raise FileFormatError(
            f"{path}: expected a results file of version {VERSION}, received version {header.get('version')!r}; "
            "read it with the parnet that wrote it"
        )
    try:
        records = Records(Design.of(header["design"]), dict(header["machine"]), Path(path))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileFormatError(
            f"{path}: expected a study's design in its header, received a damaged one ({error!r})"
        ) from error
    records.runs = runs
    return records


def _document(text: str) -> tuple[Any, list[dict]] | None:
    """Of a file that `write` wrote; None for one of lines."""
    try:
        whole = json.loads(text)
    except ValueError:
        return None
    return (whole, list(whole["runs"])) if isinstance(whole, dict) and isinstance(whole.get("runs"), list) else None


def _lines(path, text: str) -> tuple[Any, list[dict]]:
    lines = text.splitlines()
    parsed: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            if number > 1 and not (isinstance(found, dict) and all(name in found for name in NEEDED)):
                raise ValueError("no run")
            parsed.append(found)
        except ValueError:
            if number == len(lines) > 1 and not text.endswith("\n"):
                warn(f"{path}: the last line was cut short, as by a kill; that run is left out")
                break
            raise FileFormatError(
                f"{path}: expected a run in line {number}, received {line[:40]!r}; the other {len(lines) - 1} lines are "
                "kept "
                "as they are: remove that line from a copy of the file, and read the copy"
            ) from None
    if not parsed:
        raise FileFormatError(f"{path}: expected the results of a parnet study, received an empty file")
    return parsed[0], parsed[1:]


def write(records: Records, path: str | os.PathLike) -> None:
    """The whole study as one JSON document."""
    with replacing(path, "Study.save") as file:
        file.write(json.dumps(records.header() | {"runs": records.runs}, indent=1).encode() + b"\n")
