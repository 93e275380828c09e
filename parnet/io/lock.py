"""One process at a time works on a file that grows for long. Stage: io, lowest.

The lock lies beside the file, as `.<name>.parnet-lock`, for the file itself is replaced meanwhile. The system gives it back
when its process ends in whatever way; a name that a killed process left is taken over. Must not know: what is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import StateError

try:
    import fcntl
except ImportError:  # Windows, where nobody is kept out
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone_with(path: str | os.PathLike[str], where: str) -> Iterator[None]:
    """While the block runs, no other process enters such a block for that file.

    Args:
        path: a link is followed. where: for the message.
    Raises:
        StateError: another process is in its block. OSError: the folder cannot be written to.
    """
    if fcntl is None:
        yield
        return
    target = Path(os.path.realpath(path))
    place = target.with_name(f".{target.name[:200]}.parnet-lock")
    handle = _taken(place)
    if handle is None:
        raise StateError(
            f"{where}: expected to be alone with {path}, received another process that writes to it; wait for it, or name "
            "another file"
        )
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(place)
        os.close(handle)


def _taken(place: Path) -> int | None:
    """The lock's handle; None where another process has it."""
    while True:
        handle = os.open(place, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # some network disks have no locks
            return handle
        with suppress(OSError):
            if os.path.samestat(os.fstat(handle), os.stat(place)):
                return handle
        os.close(handle)  # its owner has removed it meanwhile
