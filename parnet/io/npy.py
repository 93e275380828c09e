"""Arrays as .npy bytes, listed with their sha256. Stage: io, above `fields`. Must not know: zips, models.

Version 1.0 with the one header that numpy writes for an array in C order: a header is compared, not parsed.
Object arrays, which would need pickle, have no place in it.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from .fields import damaged, take

#: as they stand in headers
DTYPES = ("<f4", "<f8")
#: bytes of a header at most; numpy writes 128
HEADER_LIMIT = 4096

_MAGIC = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class Entry:
    """An array as a document lists it.

    Attributes:
        dtype: "<f4" or "<f8".
        shape: of the array.
        sha256: of all bytes, the header's too, in hex.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, line: Any, where: str) -> Entry:
        """From its line in a document. Raises FileFormatError."""
        dtype, shape, digest = take(line, where, dtype=str, shape=list, sha256=str)
        if dtype not in DTYPES:
            raise damaged(where, f"one of {', '.join(DTYPES)}", repr(dtype))
        if len(shape) > 32 or any(type(n) is not int or n < 1 for n in shape):
            raise damaged(where, "a shape of whole numbers above 0", shape)
        return cls(dtype, tuple(shape), digest)

    @property
    def size_bytes(self) -> int:
        """Of the numbers, without the header."""
        return math.prod(self.shape) * int(self.dtype[-1])


class _Hashing:
    """What `numpy.lib.format` writes to: a stream and the digest of all that went there."""

    def __init__(self, stream: Any):
        self.stream, self.digest = stream, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self.stream.write(data)


def write_array(stream: Any, array: np.ndarray) -> dict[str, Any]:
    """Write a float32 or float64 array. Returns its line for the document."""
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    out = _Hashing(stream)
    np.lib.format.write_array(out, array, version=(1, 0), allow_pickle=False)  # type: ignore[arg-type]
    return {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": out.digest.hexdigest()}


def read_array(data: bytes, entry: Entry, where: str) -> np.ndarray:
    """The array (read-only) in a member's bytes. Raises FileFormatError where it is not the one listed."""
    received = hashlib.sha256(data).hexdigest()
    if received != entry.sha256:
        raise damaged(where, f"sha256 {entry.sha256}", received)
    start = max(0, len(data) - entry.size_bytes)
    wanted = f"{{'descr': '{entry.dtype}', 'fortran_order': False, 'shape': {entry.shape}, }}"
    beginning = _MAGIC + struct.pack("<H", max(0, start - 10) % 2**16)
    if data[:10] != beginning or data[10:start].rstrip() != wanted.encode():
        raise damaged(where, f"the .npy header {wanted}", data[:start])
    return np.frombuffer(data, entry.dtype, offset=start).reshape(entry.shape)
