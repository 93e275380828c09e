"""The product of a measurement: a file of records, the tables made from it, and the figures in the README.

    python -m bench.results [--file FILE] [--readme README.md]

prints the newest file of bench/results and writes its targets between the README's markers. A record that
is measured again on the same day and processor takes the old one's place. Must not know: how anything is
measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from . import tables
from .targets import TARGETS, meets
from .timing import Summary

FOLDER = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


@dataclass
class Record:
    """One measured value.

    Attributes:
        name, group: what was measured, and in which file.
        value, unit: the figure; where it is a median, `median` is the same.
        median, minimum, spread, samples: of the repeats; spread is the distance of the quartiles.
        ratio, against: the value beside something else, and what that is.
        target, meets: what the ratio, or the value where there is no ratio, must be, and whether it is.
        other_cpu: cores that other processes used meanwhile.
        note: what a reader must know.
        detail: another record sums it up; it is shown in a matrix of ratios, at the row and column that its name gives,
            "ROW, COLUMN".
        commit, at: of parnet, and when.
    """

    name: str
    group: str
    value: float
    unit: str
    median: float | None = None
    minimum: float | None = None
    spread: float | None = None
    samples: int | None = None
    ratio: float | None = None
    against: str = ""
    target: str = ""
    meets: bool | None = None
    other_cpu: float | None = None
    note: str = ""
    detail: bool = False
    commit: str | None = None
    at: str = ""

    @classmethod
    def of(cls, name: str, group: str, value: float | Summary, unit: str, target: str = "", **more) -> Record:
        """A record; a Summary gives its median as the value.

        Args:
            target: a key of `bench.targets.TARGETS`, or nothing.
        """
        if isinstance(value, Summary):
            more |= asdict(value)
            value = value.median
        wanted = TARGETS[target] if target else ""
        ratio = more.get("ratio")
        met = meets(wanted, value if ratio is None else ratio) if target else None
        at = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(name, group, value, unit, target=wanted, meets=met, at=at, **more)


class Results:
    """A results file, written anew with every record.

    Args:
        machine: of `bench.fingerprint`.
        path: of the file; what is in it is kept.
    """

    def __init__(self, machine: dict, path: Path):
        self.path, self.machine = path, machine
        self.records: dict[str, Record] = {}
        self.peers: dict[str, str] = {}
        if path.exists():
            old = read(path)
            self.records, self.peers = {r.name: r for r in old["records"]}, old["peers"]

    def add(self, record: Record) -> Record:
        """Keep a record and write the file."""
        record.commit = self.machine.get("commit")
        self.records[record.name] = record
        self.write()
        return record

    def peer(self, name: str, state: str) -> None:
        """Say which library a peer was, or why there is none."""
        self.peers[name] = state
        self.write()

    def write(self) -> None:
        """The file as it stands; a NaN is written as null."""
        records = [{k: _plain(v) for k, v in asdict(r).items()} for r in self.records.values()]
        content = {"machine": self.machine, "peers": self.peers, "records": records}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(draft, self.path)


def _plain(value):
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def read(path: Path) -> dict:
    """A results file: machine, peers, and records as `Record`."""
    content = json.loads(path.read_text())
    known = set(Record.__dataclass_fields__)
    records = [Record(**{k: v for k, v in r.items() if k in known}) for r in content["records"]]
    for record in records:
        record.value = math.nan if record.value is None else record.value
    return content | {"records": records}


def newest(folder: Path = FOLDER) -> Path:
    """The results file of the latest measurement.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(folder.glob("*.json"), key=lambda path: json.loads(path.read_text())["machine"]["date"])
    if not found:
        raise FileNotFoundError(f"{folder.name}: no results yet; run pytest --benchmark")
    return found[-1]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.results", description="Print results, renew the README.")
    parser.add_argument("--file", type=Path, help="of results; the newest by default")
    parser.add_argument("--readme", type=Path, default=README)
    given = parser.parse_args(arguments)
    try:
        content = read(given.file or newest())
        print(tables.report(content))
        tables.write_figures(given.readme, tables.figures(content))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
