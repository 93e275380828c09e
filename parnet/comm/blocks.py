"""Shared memory without a name: blocks that live as long as a process holds them. Stage: comm.

On Linux a block is a memfd, elsewhere a file that has been unlinked before anybody uses it; it travels to other processes as
a file descriptor. Nothing has to be removed, whoever dies, and /dev/shm may be as small as it likes. Its memory is reserved
when it is made, so that a lack of memory is an error then and no crash later. Must not know: what lies in it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np

from ..errors import ResourceError
from . import pages

#: bytes left alone for everything else when a block is reserved
SPARE = 32 * 2**20


class Block:
    """A run of shared memory.

    Args:
        handle: file descriptor of the memory; the block closes it.
        size: bytes.

    Attributes:
        address: where it starts in this process.
        huge: whether it was put into huge pages when it was made.
    """

    def __init__(self, handle: int, size: int):
        self.handle, self.size, self.huge = -1, size, False
        self._map, self._start = pages.map_file(handle, max(1, size))
        self.handle = handle  # its own from now on
        self.bytes = self.array((size,), np.uint8)
        self.address: int = self.array((1,), np.uint8).ctypes.data

    def array(self, shape: tuple[int, ...], dtype) -> np.ndarray:
        """Its beginning as an array; a view, which keeps the memory alive."""
        count = int(np.prod(shape))
        return np.frombuffer(self._map, dtype, count, self._start).reshape(shape)

    def gather_pages(self) -> None:
        """Put it into huge pages where the system can."""
        self.huge = pages.collapse(self._map, self._start, self.size)

    def close(self) -> None:
        """Close the handle; arrays that have been given out stay valid."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def __del__(self) -> None:
        self.close()


def new_block(size: int, what: str, cure: str = "use less data, or a smaller model") -> Block:
    """A zeroed block of that many bytes, reserved, in huge pages where it is large and the system can.

    Args:
        what, cure: for the message: what it is for, and what to do.
    Raises:
        ResourceError: the machine has not that much memory free.
    """
    size = max(1, size)
    free = available()
    if free is not None and size + SPARE > free and size > SPARE:
        raise _too_large(size, what, free, cure)
    try:
        handle, place = _open()
    except OSError as error:
        raise ResourceError(f"{what}: expected shared memory, the system gives none ({error.strerror}); {cure}") from error
    try:
        left = None if place is None else _room(place)
        if left is not None and size > left:
            raise _too_large(size, what, left, f"{cure}, or enlarge {place} (docker run --shm-size)")
        _reserve(handle, pages.rounded(size))
        block = Block(handle, size)
    except BaseException as error:
        os.close(handle)
        if isinstance(error, OSError) and not isinstance(error, ResourceError):
            raise _too_large(size, what, left, cure) from error
        raise
    block.gather_pages()
    return block


def _too_large(size: int, what: str, free: int | None, cure: str) -> ResourceError:
    left = "" if free is None else f", {_mib(max(0, free))} are free"
    return ResourceError(f"{what}: expected {_mib(size)} of shared memory{left}; {cure}")


def _mib(size: int) -> str:
    mib = size / 2**20
    return f"{mib:,.0f} MiB" if mib >= 100 else f"{mib:.2f} MiB"


def _open() -> tuple[int, Path | None]:
    """A file descriptor of nothing yet, and the folder whose space it takes; None for memory."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            return os.memfd_create("parnet", os.MFD_CLOEXEC), None
    folder = Path("/dev/shm")
    folder = folder if folder.is_dir() and os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
    handle, path = tempfile.mkstemp(prefix="parnet-", dir=folder)
    os.unlink(path)
    return handle, folder


def _room(folder: Path) -> int:
    """Bytes that files in a folder may still take."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def _reserve(handle: int, size: int) -> None:
    """Take the memory now: a lack of it would otherwise end the process at the first touch."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.ftruncate(handle, size)


def available() -> int | None:
    """Bytes of memory that may still be taken: the system's, cut by the cgroup's limit; None where that is unknown."""
    found = [n for n in (_system_memory(), _cgroup_memory()) if n is not None]
    return min(found) if found else None


def _system_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _cgroup_memory() -> int | None:
    base = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit = (base / "memory.max").read_text().strip()
        return None if limit == "max" else int(limit) - int((base / "memory.current").read_text())
    return None
