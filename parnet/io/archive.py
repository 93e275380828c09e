"""The container of a model file: a zip of one JSON document and .npy arrays. Stage: io.

Nothing in it is compressed, so no member is larger than the file. The zip's directory and the document's list
of arrays must agree before an array is read.
Must not know: models.
"""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from .._version import __version__
from ..errors import FileFormatError, HyperparameterError
from .atomic import replacing
from .fields import DOCUMENT_LIMIT, clip, damaged, parse, take
from .npy import HEADER_LIMIT, Entry, read_array, write_array

FORMAT = "parnet"
#: raised with each change that older readers cannot read
VERSION = 1
DOCUMENT = "model.json"

_WORD = r"(?!\.{1,2}(/|$))[A-Za-z0-9_.\-]+"
_MEMBER = re.compile(rf"({_WORD}/)*{_WORD}\.npy")
_A_ZIP = "a zip of uncompressed members, as parnet writes it"


def write(path: str | os.PathLike[str], where: str, document: dict, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write a file, or leave the old one as it was. Equal arguments give equal bytes.

    Args:
        path: of the file.
        where: who saves, for messages.
        document: the parts of model.json, ready for JSON.
        arrays: (member's name, float32 or float64 array), in the order in which they shall be listed.
    Raises:
        HyperparameterError: the document has values, or an array a name, that no file can have.
        OSError: the file cannot be written.
    """
    head = {"format": FORMAT, "version": VERSION, "parnet": __version__}
    with replacing(path, where) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        listed = {}
        for name, array in arrays:
            if not _MEMBER.fullmatch(name):
                raise HyperparameterError(
                    f"{where}: expected names such as weights/dense/kernel.npy, received {name}; rename the layer"
                )
            info = zipfile.ZipInfo(name)
            info.file_size = array.nbytes + HEADER_LIMIT  # tells the zip early if it needs 64-bit sizes
            with archive.open(info, "w") as member:
                listed[name] = write_array(member, array)
        archive.writestr(zipfile.ZipInfo(DOCUMENT), encode(head | document | {"arrays": listed}, where))


def encode(document: Any, where: str) -> bytes:
    """JSON that `parse` takes back. Raises HyperparameterError."""
    try:
        text = json.dumps(document, indent=1, allow_nan=False).encode()
        parse(text, where)
    except (TypeError, ValueError, RecursionError) as error:
        raise HyperparameterError(
            f"{where}: expected a get_config() of plain numbers, strings, lists and objects, received: "
            f"{clip(error)}; let it return nothing else"
        ) from error
    return text


class Archive:
    """A file that is open for reading; made by `reading`.

    Attributes:
        name: of the file, for messages.
        document: model.json.
        entries: the arrays by member, in the document's order.
    """

    def __init__(self, name: str, file: BinaryIO):
        self.name = name
        size = os.fstat(file.fileno()).st_size
        start = file.read(4)
        if start != b"PK\3\4":
            raise damaged(name, _A_ZIP, f"{size} bytes that begin with {start!r}")
        with refusing(name):
            self._zip = zipfile.ZipFile(file)
        self._sizes = self._read_directory(size)
        self.document = self._read_document()
        self.entries = self._read_entries()

    def _read_directory(self, size: int) -> dict[str, int]:
        """The size of each member; all fit into the file."""
        infos = self._zip.infolist()
        sizes = {info.filename: info.file_size for info in infos}
        if len(sizes) != len(infos):
            raise damaged(self.name, "each member once", "a zip that has one twice")
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise damaged(
                    f"{self.name}: {clip(info.filename)}",
                    "a member that is not compressed",
                    f"{info.compress_size} bytes that claim to become {info.file_size}",
                    "use the file as parnet wrote it, not as another program has packed it",
                )
        if sum(sizes.values()) > size:
            raise damaged(self.name, f"members of together at most {size} bytes, the file's size", "larger ones")
        return sizes

    def _read_document(self) -> dict[str, Any]:
        """model.json, of a version that this parnet reads."""
        where = f"{self.name}: {DOCUMENT}"
        size, cure = self._sizes.pop(DOCUMENT, None), "give a file that model.save wrote"
        if size is None:
            raise damaged(self.name, f"a member {DOCUMENT}", ", ".join(self._sizes) or "no member", cure)
        if size > DOCUMENT_LIMIT:
            raise damaged(where, f"at most {DOCUMENT_LIMIT} bytes", size)
        document = parse(self._bytes(DOCUMENT), where)
        if type(document) is not dict or document.get("format") != FORMAT:
            raise damaged(where, f"format {FORMAT!r}", "another or none", cure)
        version, writer = document.get("version"), document.get("parnet")
        if type(version) is not int or version < 1:
            raise damaged(where, f"format version {VERSION}", repr(version))
        if version > VERSION:
            raise damaged(where, f"format version {VERSION}", f"{version}, written by parnet {writer}", "update parnet")
        return document

    def _read_entries(self) -> dict[str, Entry]:
        """The document's list of arrays, which is the zip's."""
        where = f"{self.name}: {DOCUMENT}: arrays"
        listed = self.document.get("arrays")
        if type(listed) is not dict:
            raise damaged(where, "an object", repr(listed))
        entries = {name: Entry.of(line, f"{where}: {clip(name)}") for name, line in listed.items()}
        if odd := [name for name in entries if not _MEMBER.fullmatch(name)]:
            raise damaged(where, "names such as weights/dense/kernel.npy", odd)
        if odd := sorted(entries.keys() ^ self._sizes.keys()):
            raise damaged(self.name, f"the members that {DOCUMENT} lists", f"others or fewer: {', '.join(odd)}")
        for name, entry in entries.items():
            header = self._sizes[name] - entry.size_bytes
            if not 0 < header <= HEADER_LIMIT:
                wanted = f"{entry.size_bytes} bytes and a header, for {entry.dtype} {entry.shape}"
                raise damaged(f"{self.name}: {name}", wanted, f"{self._sizes[name]} bytes")
        return entries

    def _bytes(self, member: str) -> bytes:
        with refusing(f"{self.name}: {member}"):
            return self._zip.read(member)

    def array(self, member: str) -> np.ndarray:
        """An array (read-only). Raises FileFormatError where it is not the one that was written."""
        return read_array(self._bytes(member), self.entries[member], f"{self.name}: {member}")

    def parts(self, **kinds: Any) -> list[Any]:
        """The document's parts besides its head; see `fields.take`."""
        head = {"format": str, "version": int, "parnet": str, "arrays": dict}
        return take(self.document, f"{self.name}: {DOCUMENT}", **head, **kinds)[len(head) :]


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """A file, opened and checked as far as that can be done without reading arrays.

    Raises:
        FileFormatError: it is damaged, or no file of parnet.
        OSError: it is not there or cannot be read.
    """
    name = os.fsdecode(path)
    with open(name, "rb") as file:
        yield Archive(name, file)


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """What `zipfile` raises about a damaged zip, as FileFormatError; a disk that fails stays an OSError."""
    try:
        yield
    except FileFormatError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise
        raise damaged(where, _A_ZIP, f"a damaged one ({error})") from error
    except (
        zipfile.BadZipFile,
        EOFError,
        ValueError,
        RuntimeError,
        LookupError,
        OverflowError,
        struct.error,
    ) as error:
        raise damaged(where, _A_ZIP, f"a damaged one ({clip(error)})") from error
