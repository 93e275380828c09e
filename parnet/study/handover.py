"""What a study and its runs hand each other: files without a name. Stage: study, beneath `launch`.

On Linux each is unlinked before anybody uses it and is reached by its number in the parent, by MPI ranks too: however
processes end, nothing has to be removed. Elsewhere the files lie in a folder, which the parent removes, or the run of a
parent that was killed. Must not know: what is in them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO

#: files can be reached that have no name
NAMELESS = sys.platform == "linux"


class Handover:
    """The files of one study.

    Attributes:
        folder: of the files where they have names, else None.
    """

    def __init__(self) -> None:
        self.folder = None if NAMELESS else Path(tempfile.mkdtemp(prefix="parnet-study-"))
        self._files: dict[str, IO[bytes]] = {}

    def file(self, name: str) -> IO[bytes]:
        """A new file to write and read; the one that was called so before is closed."""
        self._drop(name)
        self._files[name] = tempfile.TemporaryFile() if self.folder is None else open(self.folder / name, "w+b")
        return self._files[name]

    def path(self, name: str) -> str:
        """Where other processes find it, as long as this one lives."""
        file = self._files[name]
        return f"/proc/{os.getpid()}/fd/{file.fileno()}" if self.folder is None else str(file.name)

    def _drop(self, name: str) -> None:
        if name in self._files:
            self._files.pop(name).close()

    def close(self) -> None:
        """Close and remove everything. May be called twice."""
        for name in list(self._files):
            self._drop(name)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
