"""One known file: found on this machine, or fetched once. Stage: before the model. Must not know: what is in the file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..config import settings
from ..datasets._files import download_folder, scratch_folder
from ..errors import DatasetError, FileFormatError

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class KnownFile:
    """A file on the web, and how to know it when it is found.

    Attributes:
        name: of the file, in every folder.
        url: the web folder that has it.
        size_bytes: of the file; None where it is not known.
        md5: of the file, in hex, as its publisher gives it.
    """

    name: str
    url: str
    size_bytes: int | None
    md5: str

    def __str__(self) -> str:
        size = f"{self.size_bytes:,} bytes, " if self.size_bytes else ""
        return f"{self.name} ({size}md5 {self.md5})"


@contextmanager
def located(file: KnownFile, where: str) -> Iterator[Path]:
    """The file in the folder PARNET_DATA or in the cache, else from the web into the cache, checked each time.

    Args:
        file: to find.
        where: who wants it, for messages.
    Raises:
        DatasetError: it is not on this machine and cannot be fetched.
        FileFormatError: what is there is damaged, or another file.
    """
    here = settings()
    folders = [folder for folder in (here.data_dir, here.cache_dir and here.cache_dir / "models") if folder]
    for folder in folders:
        path = folder / file.name
        if path.is_file():
            _check(path, file, str(path), f"put a good copy there, or delete it: {where} then downloads it again")
            yield path
            return
    with download_folder(here.cache_dir, "models") as folder:
        try:
            path = _fetched(file, folder)
        except DatasetError as error:
            looked = ", ".join(str(folder / file.name) for folder in folders) or "nowhere: no folder is set"
            raise DatasetError(
                f"{where}: expected {file} on this machine or on the web. Looked at: {looked}. Download failed: "
                f"{error}. Without a network, put the file into the folder that PARNET_DATA names or into "
                f"{folders[-1] if folders else 'one'}, or pass its path; {file.url}/{file.name} has it"
            ) from error
        yield path


def _fetched(file: KnownFile, folder: Path) -> Path:
    """Download, check, then move into its place: nothing partial stays, and two processes may do this at once."""
    from ..datasets._download import fetch

    address = f"{file.url}/{file.name}"
    with scratch_folder(folder) as scratch:
        part = Path(scratch, file.name)
        fetch(address, part)
        _check(part, file, address, "nothing was kept; try again later")
        os.replace(part, folder / file.name)
    return folder / file.name


def _check(path: Path, file: KnownFile, where: str, cure: str) -> None:
    """Raises FileFormatError where the file is another."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as data:
            while chunk := data.read(CHUNK_BYTES):
                digest.update(chunk)
    except PermissionError as error:
        raise DatasetError(f"{where}: expected a readable file, received: {error}; allow reading it") from error
    if digest.hexdigest() != file.md5:
        received = f"{path.stat().st_size:,} bytes with md5 {digest.hexdigest()}"
        raise FileFormatError(f"{where}: expected {file}, received {received}; {cure}")
