"""HDF5 files from which only plain arrays and names are taken. Stage: io, beneath the reader of Keras's files.

Links to other files, arrays kept in other files, filters from plug-ins and loops of groups are refused, and an array is
read only when its caller knows its shape to be wanted: a file of a kilobyte may claim terabytes. HDF5 itself is a
library in C; a file from a stranger is better had as safetensors.
Must not know: Keras, models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..errors import FileFormatError, require_extra
from .fields import clip, damaged
from .found import Found, as_float

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: groups and arrays a file may have
MEMBERS_LIMIT = 200_000
#: groups within groups
DEPTH_LIMIT = 16
#: filters that come with HDF5 and h5py: gzip, shuffle, checksum, szip, two that pack bits, lzf
FILTERS = {1, 2, 3, 4, 5, 6, 32000}


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """What h5py raises about a damaged file, as FileFormatError."""
    try:
        yield
    except FileFormatError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, OverflowError, MemoryError, AttributeError) as error:
        raise damaged(where, "an HDF5 file that is whole", f"a damaged one ({clip(error)})") from error


@contextmanager
def opened(file: Any, where: str) -> Iterator[Any]:
    """A file for reading, from its path or from an object that has its bytes; at the end it is closed.

    Raises:
        FileFormatError: it is truncated or damaged.
        MissingExtraError: h5py is not installed.
    """
    h5py = require_extra("h5py", "io", f"{where}: reading HDF5")
    with refusing(where):
        handle = h5py.File(file, "r")
    try:
        yield handle
    finally:
        handle.close()


def is_group(thing: Any) -> bool:
    """Whether it is a group, not an array."""
    return hasattr(thing, "keys")


def child(group: Any, path: str, where: str) -> Any:
    """The group or array at a path below a group; every step of it within this file."""
    here = group
    for part in path.split("/"):
        with refusing(f"{where}: {path}"):
            link = here.get(part, getlink=True) if is_group(here) else None
            kind = type(link).__name__
        if kind != "HardLink":
            received = "nothing of that name" if link is None else f"a {kind} to elsewhere"
            raise damaged(f"{where}: {clip(path)}", "a group or an array in the file itself", received)
        with refusing(f"{where}: {path}"):
            here = here[part]
    return here


def places(dataset: Any, where: str) -> tuple[int | None, int]:
    """Where an array's numbers begin in the file, None for one in pieces, and its description, in bytes."""
    h5py = require_extra("h5py", "io", f"{where}: reading HDF5")
    with refusing(where):
        return dataset.id.get_offset(), int(h5py.h5o.get_info(dataset.id).addr)


def members(group: Any, where: str) -> list[str]:
    """The names in a group."""
    with refusing(where):
        names = list(group.keys())
    if len(names) > MEMBERS_LIMIT:
        raise damaged(where, f"at most {MEMBERS_LIMIT} members", len(names))
    return names


def words(group: Any, name: str, where: str) -> list[str] | None:
    """An attribute that is a list of names, or None. Long ones are cut into `<name>0`, `<name>1`, ..."""
    with refusing(f"{where}: attribute {name}"):
        if name in group.attrs:
            pieces = [group.attrs[name]]
        else:
            pieces = []
            while f"{name}{len(pieces)}" in group.attrs:
                pieces.append(group.attrs[f"{name}{len(pieces)}"])
        if not pieces:
            return None
        found = [item.decode() if isinstance(item, bytes) else item for piece in pieces for item in np.ravel(piece)]
    if not all(isinstance(item, str) for item in found) or len(found) > MEMBERS_LIMIT:
        raise damaged(f"{where}: attribute {name}", "a list of names", found[:3])
    return [str(item) for item in found]


def word(group: Any, name: str, where: str) -> str:
    """An attribute that is one name, or an empty text."""
    with refusing(f"{where}: attribute {name}"):
        value = group.attrs.get(name, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""


def is_float(dataset: Any, where: str) -> bool:
    """Whether it is an array of a floating type, bfloat16 (for HDF5 two opaque bytes) included."""
    with refusing(where):
        return hasattr(dataset, "shape") and (dataset.dtype.kind == "f" or dataset.dtype == np.dtype("V2"))


def found(dataset: Any, name: str, weight: str, where: str) -> Found:
    """An array of the file, to be read later."""
    where = f"{where}: {clip(name)}"
    with refusing(where):
        shape = tuple(int(n) for n in dataset.shape)
        outside = dataset.is_virtual or dataset.external is not None
        made = dataset.id.get_create_plist()
        filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
    if outside:
        raise damaged(where, "numbers in the file itself", "a reference to other files")
    if not filters <= FILTERS:
        raise damaged(where, "gzip, or no compression", f"filters {filters}", "save the weights without compression")
    return Found(name, weight, shape, partial(_read, dataset, where))


def _read(dataset: Any, where: str) -> np.ndarray:
    with refusing(where):
        array = np.asarray(dataset[()])
    bfloat16 = array.dtype == np.dtype("V2")
    return as_float(array.view("<u2") if bfloat16 else array, bfloat16)
