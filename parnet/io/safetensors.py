"""Reads safetensors files, PyTorch's weights without pickle. Stage: io, a reader. Must not know: models.

A length, a JSON header, numbers. Each byte of the numbers belongs to exactly one array, which is checked before one is
read; nothing is executed, and no array is larger than the file.
Format: https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from .fields import clip, damaged
from .found import FileLayer, Found, Source, as_float

#: bytes of a header at most, as the format's own library has it
HEADER_LIMIT = 100_000_000
#: numbers in a shape at most, as NumPy has it
DIMENSIONS = 64
#: bytes of a number of each type
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
#: types that weights may have; BF16 is the upper half of a float32
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[Source]:
    """A file, opened and checked; its arrays are read on demand.

    Layers are the names up to the last dot: "layer1.0.conv1" has "weight". Arrays of whole numbers, such as
    "num_batches_tracked", are no weights and stand in `ignored`.
    Raises:
        FileFormatError: the file is truncated, damaged or another.
        OSError: it is not there or cannot be read.
    """
    name = os.fsdecode(path)
    with open(name, "rb") as file:
        start, header = _header(file, name)
        layers: dict[str, list[Found]] = {}
        ignored = []
        for key, (dtype, shape, first) in _entries(header, os.fstat(file.fileno()).st_size - start, name).items():
            if dtype not in _FLOATS:
                ignored.append(key)
                continue
            layer, _, weight = key.rpartition(".")
            read = partial(_read, file, start + first, dtype, shape, f"{name}: {key}")
            layers.setdefault(layer, []).append(Found(key, weight, shape, read))
        yield Source(name, "safetensors", [FileLayer(n, "", tuple(a)) for n, a in layers.items()], tuple(ignored))


def _header(file: BinaryIO, name: str) -> tuple[int, dict[str, Any]]:
    """Where the numbers begin, and the list of arrays."""
    size, begin = os.fstat(file.fileno()).st_size, file.read(8)
    length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else size
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise damaged(name, "a safetensors file that begins with the length of its header", f"{size} bytes, {begin!r}")
    data = file.read(length)
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{name}: header", "well-formed JSON", error) from error
    if type(header) is not dict or not data.startswith(b"{"):
        raise damaged(f"{name}: header", "a JSON object", data[:40])
    header.pop("__metadata__", None)
    return 8 + length, header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice in one object")
    return result


def _entries(header: dict[str, Any], size: int, name: str) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Type, shape and place of each array, in the order of their places; together they are the rest of the file."""
    listed = {key: _entry(line, f"{name}: {clip(key)}") for key, line in header.items()}
    here = 0
    entries = {}
    for key, (dtype, shape, first, end) in sorted(listed.items(), key=lambda item: item[1][2:]):
        if first != here:
            received = f"one from byte {first}" + (", within another" if first < here else "")
            raise damaged(f"{name}: {clip(key)}", f"an array from byte {here} on, where the last one ends", received)
        entries[key], here = (dtype, shape, first), end
    if here != size:
        raise damaged(name, f"{here} bytes of numbers, as its header lists them", f"{size}; is the file truncated?")
    return entries


def _entry(line: Any, where: str) -> tuple[str, tuple[int, ...], int, int]:
    """One line of the header: type, shape, first byte, end."""
    if type(line) is not dict or line.keys() != {"dtype", "shape", "data_offsets"}:
        raise damaged(where, "an object with the keys dtype, shape, data_offsets", repr(line))
    dtype, shape, place = line["dtype"], line["shape"], line["data_offsets"]
    if type(dtype) is not str or dtype not in SIZES:
        raise damaged(where, f"a dtype of {', '.join(SIZES)}", repr(dtype), "save the weights as F32")
    if not _counts(shape) or not _counts(place) or len(place) != 2 or place[0] > place[1]:
        raise damaged(where, "shape and data_offsets of whole numbers, 0 or more", f"{shape!r} and {place!r}")
    size = math.prod(shape) * SIZES[dtype]
    if place[1] - place[0] != size:
        raise damaged(where, f"{size} bytes for {dtype} {clip(tuple(shape))}", f"{place[1] - place[0]}")
    return dtype, tuple(shape), place[0], place[1]


def _counts(value: Any) -> bool:
    return type(value) is list and len(value) <= DIMENSIONS and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _read(file: BinaryIO, first: int, dtype: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """One array, as float32 or float64."""
    size = math.prod(shape) * SIZES[dtype]
    file.seek(first)
    data = file.read(size)
    if len(data) != size:
        raise damaged(where, f"{size} bytes", f"{len(data)}; is the file truncated?")
    return as_float(np.frombuffer(data, _FLOATS[dtype]).reshape(shape), dtype == "BF16")
