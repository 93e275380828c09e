"""Files of measurements that `pytest --benchmark` has written: read, and one run held against an earlier one. Stage: study.

    content = read("bench/results/2026-11-21-some-cpu.json")
    print(compare(read("old.json"), read("new.json")).table())

Must not know: how anything is measured, command lines.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..checks import check_number
from ..errors import DataError, DatasetError, FileFormatError

#: where `pytest --benchmark` writes
FOLDER = Path("bench") / "results"
#: what must be equal for times to be comparable; versions may differ, as they are what is compared
HARDWARE = ("cpu", "cores_physical", "cores_logical", "cores_usable", "quota", "memory_mib", "simd")
SOFTWARE = ("parnet", "commit", "python", "numpy", "numba", "llvmlite", "os")
#: units of which less is better, and of which more is
LESS, MORE = ("s", "ms", "us", "us/sample", "us/step", "MiB"), ("GFLOP/s", "GB/s", "samples/s", "images/s")
#: share that a value must have changed by to count
THRESHOLD = 0.05
#: cores that others used during a measurement from which on it is doubtful
BUSY = 0.3


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
        detail: it is left out of the README's table, where another record sums it up.
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

    @property
    def better(self) -> int:
        """1 where more is better, -1 where less is, 0 where neither is said."""
        if self.unit in LESS + MORE:
            return 1 if self.unit in MORE else -1
        return {"<": -1, ">": 1}.get(self.target[:1], 0) if self.ratio in (None, self.value) else 0

    @property
    def doubt(self) -> float:
        """Standard error of the median, by the distance of the quartiles as of a normal distribution; 0 if not known."""
        return 0.929 * self.spread / math.sqrt(self.samples) if self.spread and self.samples else 0.0


NUMBERS = ("value", "median", "minimum", "spread", "samples", "ratio", "other_cpu")
TEXTS = ("name", "group", "unit")


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A results file: "machine", "peers", and "records" as `Record`; a value that is null there is NaN here.

    Raises:
        DatasetError: it cannot be read. FileFormatError: it is damaged, or no results file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        records = [_record(given) for given in content["records"]]
        if not isinstance(content["machine"], dict) or not isinstance(content["peers"], dict):
            raise TypeError("machine and peers are no tables")
    except OSError as error:
        raise DatasetError(f"results: expected a file that can be read, received {str(path)!r}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected results that pytest --benchmark has written, whole; received something else "
            f"({type(error).__name__}: {str(error)[:80]}); "
            "measure again, or take the file from your version control"
        ) from error
    return content | {"records": records}


def _record(given: dict[str, Any]) -> Record:
    known = {field.name for field in fields(Record)}
    record = Record(**{key: value for key, value in given.items() if key in known})
    for name in NUMBERS:
        value = getattr(record, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{record.name}: {name} is {value!r}")
    for name in TEXTS:
        if not isinstance(getattr(record, name), str):
            raise TypeError(f"{name} is {getattr(record, name)!r}")
    record.value = math.nan if record.value is None else record.value
    return record


def newest(folder: str | os.PathLike[str] = FOLDER) -> Path:
    """The results file of the latest measurement.

    Raises:
        DatasetError: there is none. FileFormatError: one of them is damaged.
    """
    found = sorted(Path(folder).glob("*.json"), key=lambda path: str(read(path)["machine"].get("date", "")))
    if not found:
        raise DatasetError(
            f"results: expected a .json file in {str(folder)!r}, received none; run pytest --benchmark in parnet's sources, "
            "or name a file"
        )
    return found[-1]


@dataclass(frozen=True)
class Change:
    """A value that both runs have.

    Attributes:
        old, new: the records.
        verdict: "better", "worse", "same" (within the threshold or the doubt), or "" where no direction is known.
    """

    old: Record
    new: Record
    verdict: str

    @property
    def change(self) -> float:
        """Of the value, as a share of the old one."""
        return (self.new.value - self.old.value) / abs(self.old.value) if self.old.value else math.nan


@dataclass(frozen=True)
class Comparison:
    """See `compare`.

    Attributes:
        changes: in the order of the new file.
        missing, added: names that only the old, only the new file has.
        versions: what of the software differs, "numpy: 2.3 -> 2.4".
    """

    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    versions: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What has become worse."""
        return tuple(change for change in self.changes if change.verdict == "worse")

    def table(self) -> str:
        """All changes as text, the worst first."""
        from .bench_tables import columns, number

        order = {"worse": 0, "better": 1, "same": 2, "": 3}
        rows = [("", "old", "new", "unit", "change", "doubt", "verdict", "others")]
        for one in sorted(self.changes, key=lambda change: order[change.verdict]):
            doubt = 2 * math.hypot(one.old.doubt, one.new.doubt) / abs(one.old.value) if one.old.value else 0.0
            busy = max(one.old.other_cpu or 0.0, one.new.other_cpu or 0.0)
            values = number(one.old.value), number(one.new.value), one.new.unit, f"{100 * one.change:+.1f} %"
            rows.append((one.new.name, *values, f"±{100 * doubt:.1f} %", one.verdict or "-", "busy" if busy > BUSY else ""))
        lines = [columns(rows, {0, 3, 6, 7})] if self.changes else ["no value is in both files"]
        lines += [f"only in the old file: {name}" for name in self.missing]
        lines += [f"only in the new file: {name}" for name in self.added]
        worse, better = len(self.regressions), sum(change.verdict == "better" for change in self.changes)
        lines += [*self.versions, f"{worse} worse, {better} better, of {len(self.changes)} values in both"]
        return "\n".join(lines)


def compare(old: dict[str, Any], new: dict[str, Any], threshold: float = THRESHOLD) -> Comparison:
    """Hold a run against an earlier one of the same machine.

    A value counts as changed where it differs by more than the threshold, and by more than twice the standard error of the
    difference of the medians.

    Args:
        old, new: as `read` gives them.
        threshold: share of the old value.
    Raises:
        DataError: they were measured on two machines. HyperparameterError: threshold lies outside 0 to 1.
    """
    limit = check_number(threshold, "compare(threshold)", 0.0, 1.0)
    one, other = old["machine"], new["machine"]
    apart = [f"{key}: {one.get(key)} and {other.get(key)}" for key in HARDWARE if one.get(key) != other.get(key)]
    if apart:
        raise DataError(
            f"compare: expected results of one machine, received those of two ({'; '.join(apart)}); "
            "measure both on one machine, their times say nothing about each other"
        )
    before, after = ({record.name: record for record in content["records"]} for content in (old, new))
    both = tuple(
        Change(before[name], record, _verdict(before[name], record, limit))
        for name, record in after.items()
        if name in before
    )
    versions = tuple(f"{key}: {one.get(key)} -> {other.get(key)}" for key in SOFTWARE if one.get(key) != other.get(key))
    missing, added = (tuple(n for n in a if n not in b) for a, b in ((before, after), (after, before)))
    return Comparison(both, missing, added, versions)


def _verdict(old: Record, new: Record, limit: float) -> str:
    if not new.better or old.unit != new.unit or not (math.isfinite(old.value) and math.isfinite(new.value)):
        return ""
    difference = new.value - old.value
    if abs(difference) <= max(limit * abs(old.value), 2 * math.hypot(old.doubt, new.doubt)):
        return "same"
    return "better" if difference * new.better > 0 else "worse"
