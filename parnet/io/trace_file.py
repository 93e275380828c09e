"""Recorded runs as files: the trace event format of Chrome, which https://ui.perfetto.dev shows. Stage: io.

One line an event, times in microseconds from the start of the recording. Each process has a group of rows, and each thread a
row: batches, and within them the steps of the plan (name: layer, category: phase; their shard in the arguments), waits for
other threads (category "wait"), and waits for other workers or ranks, which say for whom. Epochs and whole runs have a row
of their own. "parnet" says how many of the batches that were run are kept. `trace_writer.py` writes them.
Must not know: models, pictures.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FileFormatError

FORMAT = "parnet-trace-1"
#: row of the epochs; thread k has row k + 1
PYTHON_ROW, THREADS = 0, 1
#: number of the process that calls `fit`; worker or rank k has the number WORKERS + k
PYTHON, WORKERS = 1, 2
#: categories that are no phase of a plan, besides the kinds of waits
BATCH, RUN = "batch", "run"


@dataclass(frozen=True)
class Slice:
    """One stretch of time on one row; begun and took in microseconds; shard: -1 for the whole batch."""

    process: int
    row: int
    name: str
    category: str
    begun: float
    took: float
    shard: int = -1


@dataclass(frozen=True)
class Timeline:
    """A trace as it was read.

    Attributes:
        slices: in the order of the file.
        rows: (process, row) -> its name.
        programs: what the file says of each program: purpose, threads, batch_size, batches, kept, steps.
        processes: number -> name.
    """

    slices: tuple[Slice, ...]
    rows: dict[tuple[int, int], str]
    programs: tuple[dict[str, Any], ...]
    processes: dict[int, str] = field(default_factory=dict)


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
        slices, rows, processes = [], {}, {}
        for event in events:
            place = int(event["pid"]), int(event["tid"])
            if event["ph"] == "X":
                times = float(event["ts"]), float(event["dur"])
                shard = int(event.get("args", {}).get("shard", -1))
                slices.append(Slice(*place, str(event["name"]), str(event["cat"]), *times, shard))
            elif event["name"] == "thread_name":
                rows[place] = str(event["args"]["name"])
            elif event["name"] == "process_name":
                processes[place[0]] = str(event["args"]["name"])
        if not all(np.isfinite(s.begun) and s.took >= 0 and (s.process, s.row) in rows for s in slices):
            raise ValueError("a slice without a row, or without a time")
        return Timeline(tuple(slices), rows, tuple(dict(one) for one in header["programs"]), processes)
    except FileFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected a trace that fit(..., trace=path) has written, whole; received something else ({error!r}); "
            "record it again"
        ) from error
