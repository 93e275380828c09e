"""The product of a measurement: a file of records, written anew with each; `parnet report` shows it.

A record that is measured again on the same day and processor takes the old one's place. Must not know: how
anything is measured.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from parnet.study import benchmarks
from parnet.study.benchmarks import read

from .targets import TARGETS, meets
from .timing import Summary

FOLDER = Path(__file__).parent / "results"


class Record(benchmarks.Record):
    """One measured value, made here; see `parnet.study.benchmarks`."""

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
        self.records: dict[str, benchmarks.Record] = {}
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
