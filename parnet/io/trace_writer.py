"""Writes the tapes of a recording as a trace, see `trace_file.py`. Stage: io. Must not know: models, pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ..executors.recording import Recorder
from ..executors.stragglers import Latest, latest
from ..executors.tapes import RESUME, Line, Tape
from .atomic import replacing
from .trace_file import BATCH, FORMAT, PYTHON, PYTHON_ROW, RUN, THREADS, WORKERS

#: a wait that lasts so many microseconds longer than the last to come is its thread's own: it has been off its core, as
#: where another program took it, and did not see that it could go on; clocks of processes agree better than that
RESUME_US = 100.0


def write_trace(path: str | os.PathLike[str], recorder: Recorder, where: str = "trace") -> None:
    """Write a closed recorder's tapes, whole or not at all."""
    header = {"format": FORMAT, "programs": [_program(tape) for tape in recorder.tapes]}
    with replacing(path, where) as file:
        file.write(f'{{"displayTimeUnit":"ns","parnet":{json.dumps(header)},"traceEvents":[\n'.encode())
        file.write(",\n".join(_names(recorder)).encode())
        for events in _events(recorder):
            file.write(b",\n" + ",\n".join(events).encode() if events else b"")
        file.write(b"\n]}\n")


def _program(tape: Tape) -> dict[str, Any]:
    """What is said of a program besides its events."""
    counts = {"batches": tape.batches, "kept": tape.kept, "steps": len(tape.lines)}
    process = {"process": tape.process} if tape.process else {}
    return {"purpose": tape.purpose, "threads": tape.parts, "batch_size": tape.rows, **counts, **process}


def _place(tape: Tape) -> int:
    """The number of the tape's process in the file."""
    return WORKERS + tape.number if tape.process else PYTHON


def _names(recorder: Recorder) -> list[str]:
    """The events that name processes and rows."""
    processes, rows = {PYTHON: "parnet"}, {(PYTHON, PYTHON_ROW): "epochs"}
    for tape in recorder.tapes:
        processes[_place(tape)] = tape.process or "parnet"
        rows |= {(_place(tape), THREADS + part): tape.device or f"thread {part}" for part in range(tape.parts)}
    result = []
    for process, name in sorted(processes.items()):
        result.append(_event("M", "process_name", process, PYTHON_ROW, args={"name": name}))
        result.append(_event("M", "process_sort_index", process, PYTHON_ROW, args={"sort_index": process}))
    for (process, row), name in sorted(rows.items()):
        result.append(_event("M", "thread_name", process, row, args={"name": name}))
        result.append(_event("M", "thread_sort_index", process, row, args={"sort_index": row}))
    return result


def _event(kind: str, name: str, process: int, row: int, **more: Any) -> str:
    return json.dumps({"ph": kind, "name": name, "pid": process, "tid": row, **more}, separators=(",", ":"))


def _events(recorder: Recorder) -> Iterator[list[str]]:
    """The slices, as lines."""
    origin = recorder.begun
    yield [
        _event("X", name, PYTHON, PYTHON_ROW, cat=RUN, ts=round(1e6 * (begun - origin), 3), dur=round(1e6 * took, 3))
        for name, begun, took in recorder.marks
    ]
    for tape, late in zip(recorder.tapes, latest(recorder.tapes), strict=True):
        for part in range(tape.parts):
            yield _part_events(tape, part, origin, late)


def _part_events(tape: Tape, part: int, origin: float, late: Latest | None) -> list[str]:
    """The batches of one part, each followed by its steps and waits. Times are rounded once, so that slices nest.

    late: see `latest`.
    """
    if tape.clock is None:
        return []
    stretch, place = tape.part(part), (_place(tape), THREADS + part)
    times = np.empty((len(stretch.begun), 2 * len(tape.lines) + 1))
    times[:, 0], times[:, 1::2], times[:, 2::2] = stretch.begun, stretch.ended, stretch.met
    times = np.round(1e6 * (tape.clock.of(times) - origin), 3)
    who, when = np.full((len(times), len(tape.lines)), -1), np.full((len(times), len(tape.lines)), np.inf)
    if late is not None:
        who, when = late.who, np.round(1e6 * (late.when - origin), 3)
    steps, waits = [_step_form(line, place) for line in tape.lines], _Waits(tape, place)
    lines, training, done = [], tape.purpose == "train", stretch.done.tolist()
    for k, marks in enumerate(times.tolist()):
        marks = marks[: 2 * done[k] + 1]
        name = f"{'' if training else tape.purpose + ' '}batch {stretch.batch[k] + 1}"
        form = _form(name, BATCH, place, {"epoch": int(stretch.epoch[k]) + 1} if training else {})
        lines.append(form % (marks[0], marks[-1] - marks[0]))
        for at, (begun, ended) in enumerate(pairwise(marks)):
            step, waited = divmod(at, 2)
            there = max(begun, float(when[k, step])) if waited else ended
            there = there if ended - there > RESUME_US else ended
            if there > begun:
                form = waits.form(step, int(who[k, step])) if waited else steps[step]
                lines.append(form % (begun, there - begun))
            if ended > there:  # nobody was missing any more
                lines.append(waits.resume % (there, ended - there))
    return lines


class _Waits:
    """Events of the waits on one row."""

    def __init__(self, tape: Tape, place: tuple[int, int]):
        self.tape, self.place = tape, place
        self.resume = _form(RESUME, RESUME, place, {})
        self._forms: dict[tuple[str, int], str] = {}

    def form(self, line: int, late: int) -> str:
        """Of the wait behind a line; late: who came last, -1 for nobody known."""
        kind = self.tape.lines[line].wait
        if (kind, late) not in self._forms:
            known = late >= 0 and late != self.tape.number
            name = f"{kind.removesuffix('s')} {late}" if known else kind  # "wait for worker 1"
            self._forms[kind, late] = _form(name, kind, self.place, {})
        return self._forms[kind, late]


def _step_form(line: Line, place: tuple[int, int]) -> str:
    kernel = {"kernel": line.kernel} if line.kernel else {}
    return _form(line.name, line.category, place, kernel | ({"shard": line.shard} if line.shard >= 0 else {}))


def _form(name: str, category: str, place: tuple[int, int], args: dict[str, Any]) -> str:
    """An event with gaps for its times."""
    more: dict[str, Any] = {"args": args} if args else {}
    whole = _event("X", name, *place, cat=category, **more).replace("%", "%%")
    return whole[:-1] + ',"ts":%.3f,"dur":%.3f}'
