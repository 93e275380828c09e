"""Damaged files of other programs: only typed errors come out, in bounded time and memory."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

import parnet as pn
from parnet.errors import ParnetError

MUTANTS = 120
X, Y = np.arange(60, dtype="float32").reshape(20, 3), np.arange(20)


def npy():
    stream = io.BytesIO()
    np.save(stream, X)
    return stream.getvalue()


def npz(save):
    stream = io.BytesIO()
    save(stream, x=X, y=Y)
    return stream.getvalue()


def read_rows(path):
    for _ in pn.DataLoader(path, batch_size=7, prefetch=0):
        pass


FILES = {
    "npy": (npy, "x.npy", read_rows),
    "npz": (lambda: npz(np.savez), "x.npz", read_rows),
    "packed npz": (lambda: npz(np.savez_compressed), "x.npz", read_rows),
}


def mutants(data, rng):
    """Truncated, with flipped bits, with bytes cut out, doubled or overwritten by extremes."""
    for number in range(MUTANTS):
        mutant, place = bytearray(data), int(rng.integers(len(data)))
        kind = number % 6
        if kind == 0:
            del mutant[place:]
        elif kind == 1:
            mutant[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del mutant[place : place + int(rng.integers(1, 40))]
        elif kind == 3:
            mutant[place:place] = mutant[place : place + 30]
        elif kind == 4:
            mutant[place : place + 4] = b"\xff\xff\xff\x7f"
        else:
            mutant[place : place + 8] = bytes(8)
        yield bytes(mutant)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_data_files_give_rows_or_typed_errors(kind, tmp_path, rng):
    make, name, read = FILES[kind]
    path, data = tmp_path / name, make()
    path.write_bytes(data)
    read(path)
    refused = 0
    for mutant in mutants(data, rng):
        path.write_bytes(mutant)
        try:
            read(path)
        except (ParnetError, OSError):
            refused += 1
    assert refused > MUTANTS / 10


def header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "shape", ["(1099511627776, 1024)", "(4611686018427387903,)", "(20, -3)", "(20, 3.0)", "20", "(" * 3000]
)
def test_headers_that_lie_are_refused_before_memory_is_taken(shape, tmp_path):
    lying = header(shape) + bytes(240)
    (tmp_path / "x.npy").write_bytes(lying)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", lying)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ParnetError):
            read_rows(tmp_path / name)


def test_a_file_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header("(20, 3)") + bytes(64 << 20))
    with pytest.raises(ParnetError, match=r"more or fewer|expected 240 bytes"):
        read_rows(tmp_path / "x.npz")
