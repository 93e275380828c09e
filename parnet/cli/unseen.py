"""Ranks that no other rank watches over yet, or any more: before all have met, and behind their scripts.

`parnet launch` looks after those of its machine, and after the program that started them, which may wait for nobody.
Stage: outermost, beneath `launch`. Must not know: how ranks start and end.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from ..comm.process import Limits, look_at, started
from .rank import WATCHED
from .sweep import ranks_of

#: words of the command of each rank, behind that of Python
COMMAND = ("-m", "mpi4py", "-m", "parnet.cli.rank")
#: of patience with them
LIMITS = Limits()
#: what is wrong where no rank is left
ALONE = "the launcher has not ended for {seconds} after its last rank"
NOBODY = "the launcher has started no rank for {seconds}"


class Unseen:
    """See the module's docstring.

    Args:
        job: its name in the environment of its ranks.
        ranks: how many of them run on this machine; None where others may take part.
    """

    def __init__(self, job: str, ranks: int | None):
        self._job, self._ranks = job, ranks
        self._trouble, self._since_s, self._said = "", 0.0, False
        self._known: dict[int, int] = {}  # ranks seen so far and when they started: a script may change its name
        self._seen = False

    @property
    def alone(self) -> bool:
        """Whether no rank is left, and only the launcher has not noticed."""
        return self._trouble == ALONE

    def hang(self, seconds: float, begun: bool) -> bool:
        """Whether something has been wrong with a rank for so long that the job must end.

        Args:
            seconds: since the last call. begun: all ranks have met.
        """
        trouble = self._look(begun)
        if trouble != self._trouble:
            self._trouble, self._since_s, self._said = trouble, 0.0, False
        if not trouble:
            return False
        self._since_s += seconds
        words = f"MPI: {trouble.format(seconds=f'{self._since_s:.0f} s')}"
        if self._since_s >= (LIMITS.warning_s if self.alone else LIMITS.end_s):
            kind = "parnet" if self.alone else "parnet.errors.RankError"  # the ranks may have done all they should
            print(f"{kind}: {words}; the job ends", file=sys.stderr, flush=True)
            return True
        if self._since_s >= LIMITS.warning_s and not self._said:
            self._said = True
            print(f"parnet: {words}; after {LIMITS.end_s:.0f} s the job ends", file=sys.stderr, flush=True)
        return False

    def _look(self, begun: bool) -> str:
        """What is wrong, in words with a place for the time; "" for nothing."""
        everybody = all_ranks(self._job)
        ranks = [pid for pid, name in everybody.items() if name != WATCHED]
        self._known |= {pid: began for pid in everybody if (began := started(pid))}
        self._known = {pid: began for pid, began in self._known.items() if started(pid) == began}
        self._seen |= begun or bool(everybody)
        if not self._known and not everybody and self._ranks is not None:
            return ALONE if self._seen else NOBODY
        for pid in ranks:
            look = look_at(pid)
            if look is not None and look.stopped:
                return f"rank of process {pid} has been stopped for {{seconds}} before or behind its script"
        if not begun and self._ranks is not None and 0 < len(ranks) < self._ranks:
            return (
                f"{len(ranks)} of {self._ranks} ranks have waited for {{seconds}} for others that have left before all met"
            )
        return ""


def unseen(job: str) -> list[int]:
    """The ranks of this machine that no other watches over."""
    return [pid for pid, name in all_ranks(job).items() if name != WATCHED]


def all_ranks(job: str) -> dict[int, str]:
    """The ranks of this machine, none of the programs that their scripts have started, and what they call themselves."""
    found = {}
    for pid in ranks_of(job):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
            if tuple(words[1:5]) == COMMAND:
                found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found
