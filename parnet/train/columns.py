"""Rows that lie in memory or in files, read a stretch at a time. Stage: train, beneath the loader.

A `Column` is one array that may be cut into several files, shards, along its first axis. `.npy` files, and the members of
`.npz` files that are not compressed, are mapped: only the stretch that is asked for, so that neither memory nor addresses
are taken for the rest, and without a copy. Files with pickles are refused.
Must not know: models, batches, orders.
"""

from __future__ import annotations

import ast
import math
import os
import zipfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError, DTypeError, FileFormatError, ResourceError

#: kinds of numbers that the engine takes
NUMBERS = "buif"


class Part(ABC):
    """One array: a shard of a column.

    Attributes:
        name: for messages.
        shape, dtype: of the array.
        whole: whether it can only be read as a whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    whole = False

    @abstractmethod
    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows first..last, to be read only."""


class InMemory(Part):
    """An array, which may be a memory map of its owner's."""

    def __init__(self, array: np.ndarray, name: str):
        self.name, self.shape, self.dtype, self._array = name, array.shape, array.dtype, array

    def rows(self, first: int, last: int) -> np.ndarray:
        return self._array[first:last]


class Mapped(Part):
    """An array that lies in a file from some byte on, row after row."""

    def __init__(self, path: str, name: str, shape: tuple[int, ...], dtype: np.dtype, offset: int):
        self.path, self.name, self.shape, self.dtype, self.offset = path, name, shape, dtype, offset
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def rows(self, first: int, last: int) -> np.ndarray:
        shape = (last - first, *self.shape[1:])
        if not math.prod(shape):
            return np.zeros(shape, self.dtype)
        where = self.offset + first * self._row_bytes
        try:
            return np.asarray(np.memmap(self.path, self.dtype, "r", where, shape))
        except ValueError as error:
            raise FileFormatError(
                f"{self.name}: expected {where + (last - first) * self._row_bytes} bytes, received fewer; has the file been "
                "changed since it was opened?"
            ) from error


class Packed(Part):
    """A compressed member of a .npz file; the last one read is kept, since its neighbours are read next."""

    whole = True

    def __init__(self, path: str, member: str, name: str, shape: tuple[int, ...], dtype: np.dtype):
        self.path, self.member, self.name, self.shape, self.dtype = path, member, name, shape, dtype
        self._array: np.ndarray | None = None

    def rows(self, first: int, last: int) -> np.ndarray:
        if self._array is None:
            self._array = self._read()
        result = self._array[first:last]
        if last == self.shape[0]:
            self._array = None
        return result

    def _read(self) -> np.ndarray:
        size = math.prod(self.shape) * self.dtype.itemsize
        try:
            array = np.empty(self.shape, self.dtype)
        except (MemoryError, ValueError) as error:
            raise ResourceError(
                f"{self.name}: expected {size / 2**20:,.0f} MiB of memory for a compressed file, which the machine has not; "
                "save it by np.savez, which can be mapped, or in smaller shards"
            ) from error
        with _refusing(self.name), zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
            _read_header(stream, self.name)
            place, view = 0, array.reshape(-1).view(np.uint8)
            while place < size and (piece := stream.read(min(size - place, 1 << 20))):
                view[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
                place += len(piece)
            if place < size or stream.read(1):
                raise FileFormatError(f"{self.name}: expected {size} bytes of numbers, received more or fewer")
        return array


class Column:
    """Arrays of equal rows, one after the other.

    Attributes:
        parts: the arrays.
        shape: of all rows together.
        dtype: of the numbers.
    Raises:
        DataError: no parts, or parts whose rows or dtypes differ.
    """

    def __init__(self, parts: Sequence[Part], where: str):
        if not parts:
            raise DataError(f"{where}: expected at least one file, received none")
        first = parts[0]
        for part in parts:
            if not part.shape:
                raise DataError(f"{part.name}: expected rows, received one number")
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                raise DataError(
                    f"{part.name}: expected rows of {first.shape[1:]} {first.dtype} as in {first.name}, received "
                    f"{part.shape[1:]} {part.dtype}"
                )
        self.parts, self.dtype = list(parts), first.dtype
        self._starts = [0]
        for part in parts:
            self._starts.append(self._starts[-1] + part.shape[0])
        self.shape = (self._starts[-1], *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Of one row, as it is stored."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def longest_whole(self) -> int:
        """Rows of the longest part that can only be read as a whole; 0 for none."""
        return max((part.shape[0] for part in self.parts if part.whole), default=0)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows first..last: a view where they lie in one part, a copy where they lie in several."""
        pieces: list[np.ndarray] = []
        for k in range(max(0, bisect_right(self._starts, first) - 1), len(self.parts)):
            start, end = self._starts[k], self._starts[k + 1]
            if start >= last and pieces:
                break
            pieces.append(self.parts[k].rows(max(first, start) - start, max(min(last, end), start) - start))
        pieces = [piece for piece in pieces if len(piece)] or pieces[:1]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def column(source: Any, where: str, member: str = "x") -> Column:
    """A column from an array, the path of a .npy or .npz file, or a list of such paths.

    Args:
        member: of .npz files.
    Raises:
        FileFormatError: a file that is damaged, or not of that kind. OSError: one that cannot be read.
        DataError: shards that do not fit together, or a .npz file without the member. DTypeError: no numbers.
    """
    if is_paths(source):
        paths = [source] if isinstance(source, str | os.PathLike) else source
        return Column([_file(os.fspath(path), member) for path in paths], where)
    try:
        array = np.asarray(source)
    except ValueError as error:
        raise DataError(f"{where}: expected an array, received lists of unequal lengths ({error})") from error
    _check_numbers(array.dtype, where)
    return Column([InMemory(array, where)], where)


def is_paths(source: Any) -> bool:
    """Whether it is a path, or a list of paths."""
    if isinstance(source, list | tuple) and source:
        return all(isinstance(one, str | os.PathLike) for one in source)
    return isinstance(source, str | os.PathLike)


def members(source: Any) -> list[str]:
    """The names of the arrays in the first file of a list of .npz files; none for other sources."""
    if not is_paths(source):
        return []
    path = os.fspath(source[0] if isinstance(source, list | tuple) else source)
    if not path.lower().endswith(".npz"):
        return []
    with _refusing(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _file(path: str, member: str) -> Part:
    if path.lower().endswith(".npz"):
        return _member(path, member)
    with open(path, "rb") as file:
        shape, dtype = _read_header(file, path)
        offset = file.tell()
    _check_size(path, path, os.path.getsize(path) - offset, shape, dtype)
    return Mapped(path, path, shape, dtype, offset)


def _member(path: str, member: str) -> Part:
    """An array of a .npz file, mapped where the zip holds it as it is."""
    name = f"{path}: {member}"
    with _refusing(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if f"{member}.npy" not in names:
            arrays = ", ".join(n.removesuffix(".npy") for n in names) or "no array"
            raise DataError(
                f"{path}: expected an array named {member}, received {arrays}; save it as np.savez(path, x=, y=)"
            )
        info = archive.getinfo(f"{member}.npy")
        with archive.open(info) as stream:
            shape, dtype = _read_header(stream, name)
            header = stream.tell()
        _check_size(path, name, info.file_size - header, shape, dtype)
        if info.compress_type != zipfile.ZIP_STORED:
            return Packed(path, info.filename, name, shape, dtype)
        with open(path, "rb") as file:  # a member's own header may be longer than the directory says
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
            offset = info.header_offset + 30 + int(lengths.sum()) + header
            _check_size(path, name, min(info.file_size - header, os.path.getsize(path) - offset), shape, dtype)
    return Mapped(path, name, shape, dtype, offset)


def _check_size(path: str, name: str, size: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
    wanted = math.prod(shape) * dtype.itemsize
    if size != wanted if name == path else size < wanted:
        raise FileFormatError(f"{name}: expected {wanted} bytes of numbers for {shape} {dtype}, received {size}")


def _read_header(stream: Any, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in NumPy's format, versions 1 and 2, in C order.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    begin = stream.read(8)
    if len(begin) < 8 or begin[:6] != b"\x93NUMPY" or begin[6] not in (1, 2):
        raise FileFormatError(f"{name}: expected an array as np.save writes it, received {begin[:8]!r} at its beginning")
    width = 2 if begin[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    text = stream.read(min(length, 1 << 16))
    found = _parsed(text) if len(text) == length else None
    if found is None:
        raise FileFormatError(f"{name}: expected the header that np.save writes, received a damaged one")
    shape, dtype, fortran_order = found
    _check_numbers(dtype, name)
    if fortran_order and len(shape) > 1:
        raise FileFormatError(
            f"{name}: expected rows one after the other, received Fortran order; save np.ascontiguousarray(x)"
        )
    return shape, dtype


def _parsed(text: bytes) -> tuple[tuple[int, ...], np.dtype, bool] | None:
    """Shape, dtype and order in a header; None where it is damaged."""
    try:
        header = ast.literal_eval(text.decode("latin1").strip())
        shape, dtype, fortran_order = header["shape"], np.dtype(header["descr"]), bool(header["fortran_order"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return None
    good = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**62 for n in shape)
    return (shape, dtype, fortran_order) if good else None


def _check_numbers(dtype: np.dtype, name: str) -> None:
    if dtype.kind not in NUMBERS:
        raise DTypeError(f"{name}: expected numbers, received an array of {dtype}")


class _refusing:
    """What `zipfile` raises about a damaged zip, as FileFormatError; an OSError stays one."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        import struct
        import zlib

        kinds = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError, LookupError)
        if isinstance(error, kinds) and not isinstance(error, DataError | FileFormatError):
            raise FileFormatError(
                f"{self.name}: expected a .npz file as np.savez writes it, received a damaged one ({error})"
            )
