"""One file from the web to the disk. Stage: before the model. Must not know: what is in the file.

Imported only when something has to be downloaded.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from ..errors import DatasetError

#: longest silence of the server, in seconds
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 16


class _Bar(tqdm):
    """A progress bar without tqdm's monitor thread, which would outlive the download."""

    monitor_interval = 0


def fetch(url: str, path: Path) -> None:
    """Write what `url` serves to `path`; it is complete and on the disk when this returns.

    Args:
        url: address of one file.
        path: file to write. On an error it may be left half written: the caller owns and removes it.
    Raises:
        DatasetError: no such address, no answer, a refusal, an early end, or a full disk.
    """
    try:
        with urlopen(Request(url, headers={"User-Agent": "parnet"}), timeout=TIMEOUT_S) as reply:
            length = reply.headers.get("Content-Length")
            total = int(length) if length else None
            with open(path, "wb") as file:
                received = _copy(reply, file, total, path.name)
                file.flush()
                os.fsync(file.fileno())
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise DatasetError(f"{url}: {error}") from error
    if total is not None and received != total:
        raise DatasetError(f"{url}: expected {total} bytes, the connection ended after {received}")


def _copy(reply: IO[bytes], file: IO[bytes], total: int | None, name: str) -> int:
    """Copy to the end of the reply under a progress bar on stderr; returns the bytes copied."""
    with _Bar(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc=name, file=sys.stderr) as bar:
        while chunk := reply.read(CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
        return bar.n
