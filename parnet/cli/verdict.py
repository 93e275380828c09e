"""How a job of `parnet launch` has ended: from what is known of it to the exit code. Stage: outermost, beneath `launch`.

Must not know: processes, sockets, clocks.
"""

from __future__ import annotations

from dataclasses import dataclass

#: after Ctrl-C
INTERRUPTED = 130
#: what is said where no rank is left to say it
BROKE_OFF = (
    "MPI: rank 0 has not come to the end of its script, though the launcher reports no error: the ranks were killed, or "
    "left by os._exit; start again from the last checkpoint"
)


@dataclass(frozen=True)
class Ending:
    """What is known of a job that is over.

    Attributes:
        code: of the launcher, minus the signal that ended it.
        begun, over: ranks of this machine have told that they begin their scripts; that rank 0 came to the end of its own.
        all_here: no rank ran on another machine, of whose ranks we hear nothing.
        asked: somebody asked us to stop.
        hung: we ended the job, for ranks hung or the launcher did not end.
        alone: and no rank was left then.
    """

    code: int
    begun: bool = False
    over: bool = False
    all_here: bool = True
    asked: bool = False
    hung: bool = False
    alone: bool = False


def verdict(ending: Ending) -> tuple[int, str]:
    """The exit code, and what has to be said, perhaps nothing.

    A code of 0 is believed where rank 0 has come to its end: a launcher that is ended, or goes on after deaths, may say that
    all was well. What the launcher says is ours where we ended it; then the ranks' words alone count.
    """
    if ending.asked:
        return INTERRUPTED, ""
    code = 0 if ending.hung and ending.alone else ending.code
    if code:
        return (code if code > 0 else 128 - code), ""
    if not ending.over and (ending.begun or ending.all_here):
        return 1, BROKE_OFF
    return int(ending.hung and not ending.alone), ""
