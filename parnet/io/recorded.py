"""A recording around what a session runs, and the file at its end. Stage: io.

On several MPI ranks each records itself, and rank 0 writes one file of all. After an error the others are not waited for:
it writes what it has itself. Must not know: models, pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..checks import check_path
from ..comm.mpi import Ranks
from ..executors.recording import Recorder
from ..strategy import Strategy
from .atomic import destination
from .trace_writer import write_trace


@contextmanager
def recorded(session: Any, path: str | os.PathLike[str] | None, where: str, strategy: Strategy) -> Iterator[Recorder | None]:
    """Record what a session runs, and write it at the end, whatever ended it.

    Args:
        session: of `parnet.train.session`.
        path: of the file; None for no recording.
        where: who records, for messages.
        strategy: by which it runs.
    Raises:
        OSError: the file cannot be where it shall be; before the block runs. ResourceError: no cycle counter.
    """
    if path is None:
        yield None
        return
    ranks = strategy.ranks if strategy.ranks is not None and strategy.ranks.size > 1 else None
    check_place(path, f"{where}: trace", ranks)
    recorder = session.recorder = Recorder(process="" if ranks is None else f"rank {ranks.rank}")
    try:
        yield recorder
        if ranks is not None:
            recorder.close(ranks.clock_ahead())
            recorder.tapes = [tape for tapes in ranks.all_objects(recorder.tapes) for tape in tapes]
    finally:
        session.recorder = None
        recorder.close()
        if recorder.tapes and strategy.leads:
            write_trace(path, recorder, f"{where}: trace")


def check_place(path: str | os.PathLike[str], where: str, ranks: Ranks | None) -> None:
    """Raise OSError where no file can be written; on all ranks together, as rank 0 alone will write it."""
    path = check_path(path, where)
    if ranks is None:
        destination(path, where)
    else:
        ranks.lead_first(lambda: destination(path, where) if ranks.leads else None)
