"""One rank of `parnet launch`: the user's script, run as `__main__`. Stage: outermost; `python -m mpi4py` runs it.

Ctrl-C reaches `parnet launch`, which passes it on as SIGUSR1: the launchers of MPI pass that signal on to every rank, and
would kill the ranks on Ctrl-C itself. Here it becomes a KeyboardInterrupt, as if the key had been pressed beside the rank.
All ranks meet before the script and behind it, so that they watch over each other all the while; and `parnet launch` is
told when rank 0 has come to the end of its script.
Must not know: models.
"""

from __future__ import annotations

import contextlib
import runpy
import signal
import sys
from pathlib import Path

from ..comm.mpi import ranks_of
from .word import BEGUN, OVER, tell

#: what a rank calls itself while the others watch over it
WATCHED = "parnet rank"


def run(words: list[str]) -> None:
    """Run a script with its arguments, as `python script.py ...` does."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.default_int_handler)
    sys.argv[:] = words
    sys.path[0] = str(Path(words[0]).resolve().parent)
    ranks = ranks_of()
    _call_myself(WATCHED)
    tell(BEGUN)
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):  # this ends all ranks
            raise
    if ranks.meet_at_the_end():
        tell(OVER)
    _call_myself("python")


def _call_myself(name: str) -> None:
    """Where the system lists processes, and where `parnet launch` sees whether the others watch over this one."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


if __name__ == "__main__":
    run(sys.argv[1:])
