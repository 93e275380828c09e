"""Recorded runs as files: the trace event format of Chrome, which https://ui.perfetto.dev shows. Stage: io.

One line an event, times in microseconds from the start of the recording. Each thread has a row: batches, and within them the
steps of the plan (name: layer, category: phase) and waits for other threads (category "wait"). Epochs and whole runs have a
row of their own. "parnet" says how many of the batches that were run are kept. Must not know: models, pictures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..checks import check_path
from ..errors import FileFormatError
from ..executors.recording import Clock, Recorder, Tape
from .atomic import destination, replacing

FORMAT = "parnet-trace-1"
#: row of the epochs; thread k has row k + 1
PYTHON_ROW, THREADS = 0, 1
#: categories that are no phase of a plan
WAIT, BATCH, RUN = "wait", "batch", "run"


@dataclass(frozen=True)
class Slice:
    """One stretch of time on one row; begun and took in microseconds."""

    process: int
    row: int
    name: str
    category: str
    begun: float
    took: float


@contextmanager
def recorded(session: Any, path: str | os.PathLike[str] | None, where: str) -> Iterator[Recorder | None]:
    """Record what a session runs, and write it at the end, whatever ended it.

    Args:
        session: of `parnet.train.session`.
        path: of the file; None for no recording.
        where: who records, for messages.
    Raises:
        OSError: the file cannot be where it shall be; before the block runs. ResourceError: no cycle counter.
    """
    if path is None:
        yield None
        return
    destination(check_path(path, f"{where}: trace"), f"{where}: trace")
    recorder = session.recorder = Recorder()
    try:
        yield recorder
    finally:
        session.recorder = None
        recorder.close()
        if recorder.tapes:
            write_trace(path, recorder, f"{where}: trace")


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
    counts = {"batches": tape.batches, "kept": tape.kept, "steps": len(tape.steps)}
    return {"purpose": tape.purpose, "threads": tape.parts, "batch_size": tape.rows, **counts}


def _names(recorder: Recorder) -> list[str]:
    """The events that name the rows."""
    threads = max((tape.parts for tape in recorder.tapes), default=0)
    rows = {PYTHON_ROW: "epochs"} | {THREADS + part: f"thread {part}" for part in range(threads)}
    result = [_event("M", "process_name", 1, 0, args={"name": "parnet"})]
    for row, name in rows.items():
        result.append(_event("M", "thread_name", 1, row, args={"name": name}))
        result.append(_event("M", "thread_sort_index", 1, row, args={"sort_index": row}))
    return result


def _event(kind: str, name: str, process: int, row: int, **more: Any) -> str:
    return json.dumps({"ph": kind, "name": name, "pid": process, "tid": row, **more}, separators=(",", ":"))


def _events(recorder: Recorder) -> Iterator[list[str]]:
    """The slices, as lines."""
    yield [
        _event("X", name, 1, PYTHON_ROW, cat=RUN, ts=round(1e6 * (begun - recorder.begun), 3), dur=round(1e6 * took, 3))
        for name, begun, took in recorder.marks
    ]
    if recorder.clock is None:
        return
    for tape in recorder.tapes:
        for part in range(tape.parts):
            yield _part_events(tape, part, recorder.clock, recorder.begun)


def _part_events(tape: Tape, part: int, clock: Clock, origin: float) -> list[str]:
    """The batches of one part, each followed by its steps and waits. Times are rounded once, so that slices nest."""
    stretch = tape.part(part)
    times = np.empty((len(stretch.begun), 2 * len(tape.steps) + 1))
    times[:, 0], times[:, 1::2], times[:, 2::2] = stretch.begun, stretch.ended, stretch.met
    times = np.round(1e6 * (clock.of(times) - origin), 3)
    row = THREADS + part
    forms = [_form(step.label or step.kernel, step.phase or tape.purpose, row, step.kernel) for step in tape.steps]
    wait, lines, training = _form("wait", WAIT, row), [], tape.purpose == "train"
    epochs, batches, done = stretch.epoch.tolist(), stretch.batch.tolist(), stretch.done.tolist()
    for k, marks in enumerate(times.tolist()):
        marks = marks[: 2 * done[k] + 1]
        name = f"{'' if training else tape.purpose + ' '}batch {batches[k] + 1}"
        form = _form(name, BATCH, row, epoch=epochs[k] + 1 if training else None)
        lines.append(form % (marks[0], marks[-1] - marks[0]))
        for at, (begun, ended) in enumerate(pairwise(marks)):
            if ended > begun:
                lines.append((wait if at % 2 else forms[at // 2]) % (begun, ended - begun))
    return lines


def _form(name: str, category: str, row: int, kernel: str = "", epoch: int | None = None) -> str:
    """An event with gaps for its times."""
    args = {"kernel": kernel} if kernel else {} if epoch is None else {"epoch": epoch}
    whole = _event("X", name, 1, row, cat=category, **({"args": args} if args else {})).replace("%", "%%")
    return whole[:-1] + ',"ts":%.3f,"dur":%.3f}'


@dataclass(frozen=True)
class Timeline:
    """A trace as it was read.

    Attributes:
        slices: in the order of the file.
        rows: (process, row) -> its name.
        programs: what the file says of each program: purpose, threads, batch_size, batches, kept, steps.
    """

    slices: tuple[Slice, ...]
    rows: dict[tuple[int, int], str]
    programs: tuple[dict[str, Any], ...]


def read_trace(path: str | os.PathLike[str]) -> Timeline:
    """What `fit(..., trace=path)` has written.

    Raises:
        OSError: it cannot be read. FileFormatError: it is damaged, or no trace of parnet.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        header, events = content["parnet"], content["traceEvents"]
        if header["format"] != FORMAT:
            raise FileFormatError(f"{path}: expected a trace of the format {FORMAT!r}, received {header['format']!r}")
        slices, rows = [], {}
        for event in events:
            place = int(event["pid"]), int(event["tid"])
            if event["ph"] == "X":
                times = float(event["ts"]), float(event["dur"])
                slices.append(Slice(*place, str(event["name"]), str(event["cat"]), *times))
            elif event["name"] == "thread_name":
                rows[place] = str(event["args"]["name"])
        if not all(np.isfinite(s.begun) and s.took >= 0 and (s.process, s.row) in rows for s in slices):
            raise ValueError("a slice without a row, or without a time")
        return Timeline(tuple(slices), rows, tuple(dict(one) for one in header["programs"]))
    except FileFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected a trace that fit(..., trace=path) has written, whole; received something else ({error!r}); "
            "record it again"
        ) from error
