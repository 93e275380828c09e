"""Whole files or none: written beside their place, then moved there. Stage: io, lowest.

While it is written, a file is called `.<name>.<16 hex digits>.parnet-part`. A process that is killed leaves
it behind; the next save to the same path removes it. A lock tells such a leftover from a save that goes on
elsewhere.
Must not know: what is written.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".parnet-part"
#: what the system says where a disk, a quota or a limit on files leaves no room
FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}


@contextmanager
def replacing(path: str | os.PathLike[str], where: str) -> Iterator[BinaryIO]:
    """A file to write, which takes its place when the block ends and vanishes when the block raises.

    Args:
        path: where it will be; a link is followed. An older file there stays intact until then, and passes on
            its mode.
        where: who saves, for messages.
    Raises:
        OSError: the place is no file, its folder is not there, the disk is full, ...
    """
    folder, name = os.path.split(destination(path, where))
    target, part = os.path.join(folder, name), ""
    _remove_leftovers(folder, name)
    try:
        file = None
        while file is None:
            part = os.path.join(folder, f"{_stem(name)}{secrets.token_hex(8)}{SUFFIX}")
            file = _claim(part)
        with file:
            yield file
            file.flush()
            with suppress(OSError):
                shutil.copymode(target, part)
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()
            os.replace(part, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(part)
        number = error.errno if isinstance(error, OSError) else None
        if number is not None and number in FULL:  # the system names no file then
            cure = "make room, or give another path; an older file there is as it was"
            message = f"{where}: expected room to write the file, received: {os.strerror(number)}; {cure}"
            raise OSError(number, message, target) from error
        raise
    _sync_folder(folder)


def destination(path: str | os.PathLike[str], where: str) -> str:
    """The path without links.

    Raises:
        OSError: no file can be there.
    """
    target = os.path.realpath(os.fsdecode(path))
    if os.path.isdir(target):
        message = f"{where}: expected the path of a file, received that of a folder; add a file's name"
        raise IsADirectoryError(errno.EISDIR, message, target)
    if os.path.exists(target) and not os.path.isfile(target):
        message = f"{where}: expected the path of a file, received that of a device or pipe; give another path"
        raise OSError(errno.EINVAL, message, target)
    if not os.path.isdir(os.path.dirname(target)):
        message = f"{where}: expected a path in a folder that exists; make the folder first"
        raise FileNotFoundError(errno.ENOENT, message, os.path.dirname(target))
    return target


def _stem(name: str) -> str:
    """How the temporary files of that name begin; cut, so that they are not too long for the disk."""
    return f".{name[:50]}."


def _claim(part: str) -> Any:
    """The new file, locked; None where another save took it for a leftover before it was locked."""
    file = open(part, "xb")
    if fcntl is not None:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
    if os.path.exists(part):
        return file
    file.close()
    return None


def _remove_leftovers(folder: str, name: str) -> None:
    """Delete what killed saves to this path left behind."""
    leftover = re.compile(re.escape(_stem(name)) + "[0-9a-f]{16}" + re.escape(SUFFIX))
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if leftover.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    with suppress(OSError):
        if fcntl is None:
            os.unlink(path)
            return
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)


def _sync_folder(folder: str) -> None:
    """Bring the new name to the disk, where the platform can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
