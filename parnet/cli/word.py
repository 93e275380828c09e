"""The word that ranks send to `parnet launch` when they begin their script, and when rank 0 has come to its end.

An exit code of 0 is no proof of that: a launcher that goes on after deaths (Open MPI with `--with-ft ulfm`) returns it when
every rank has been killed too. Messages go to a socket without a file, so nothing can be left behind; they come from ranks
of this machine alone, and Linux alone has such sockets. Stage: outermost, beneath `launch`. Must not know: what ranks do.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from .sweep import JOB

#: a rank begins its script; rank 0 has come to the end of its own
BEGUN, OVER = b"begun", b"over"
#: seconds that a rank waits until `parnet launch` has room for its word
LIMIT_S = 5.0


def _address(job: str) -> bytes:
    return f"\0parnet-{job}".encode()


def tell(word: bytes) -> None:
    """A rank says something to `parnet launch`, where that is on this machine and wants to know."""
    job = os.environ.get(JOB)
    if job and sys.platform == "linux":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours, contextlib.suppress(OSError):
            ours.settimeout(LIMIT_S)
            ours.sendto(word, _address(job))


class Ear:
    """What `parnet launch` hears of a job. job: its name in the environment of its ranks."""

    def __init__(self, job: str):
        self._heard: set[bytes] = set()
        self._socket: socket.socket | None = None
        if sys.platform == "linux":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind(_address(job))
            self._socket.setblocking(False)

    def listen(self) -> None:
        """Hear what has been said since the last call: ranks wait where there is no room for their words."""
        with contextlib.suppress(BlockingIOError):
            while self._socket is not None:
                self._heard.add(self._socket.recv(64))

    @property
    def begun(self) -> bool:
        """Whether ranks of this machine have begun: all have met then."""
        return BEGUN in self._heard

    @property
    def over(self) -> bool:
        """Whether rank 0 has come to the end of its script, as far as ranks of this machine have told."""
        return OVER in self._heard

    def close(self) -> None:
        """Hear no more."""
        if self._socket is not None:
            self._socket.close()
