"""Damaged files of other programs: only typed errors come out, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import test_datasets
from weight_writers import safetensors_bytes

import parnet as pn
from parnet import layers as L
from parnet.datasets import _files
from parnet.errors import FileFormatError, ParnetError

MUTANTS, MIB = 120, 1 << 20
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


def read_weights(path):
    """Into a new model; a file that is refused changes none of its weights."""
    model = pn.Sequential([L.Input((2,)), L.Dense(2, name="fc"), L.Dense(2, name="out")], seed=1)
    before = model.get_weights()
    try:
        model.load_weights(path, "safetensors")
    except ParnetError:
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        raise


def weights():
    names = ("fc.weight", "fc.bias", "out.weight", "out.bias")
    return safetensors_bytes({name: np.full((2, 2) if "weight" in name else 2, 0.5, "f4") for name in names})


def read_idx(path):
    """The data set of test_datasets.py, three of whose files are as they should be."""
    folder = path.parent / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    test_datasets.write(folder, "idx")
    (folder / "toy" / "t10k-images-idx3-ubyte").unlink()
    shutil.copy(path, folder / "toy" / path.name)
    test_datasets.check(_files.load(test_datasets.source(), folder))


def idx(pack=bytes):
    return lambda: pack(test_datasets.idx_bytes(test_datasets.ARRAYS["x_test"]))


FILES = {
    "safetensors": (weights, "x.safetensors", read_weights),
    "idx": (idx(), "t10k-images-idx3-ubyte", read_idx),
    "packed idx": (idx(gzip.compress), "t10k-images-idx3-ubyte.gz", read_idx),
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
    with memory_of(4 * MIB):
        for mutant in mutants(data, rng):
            path.write_bytes(mutant)
            try:
                read(path)
            except (ParnetError, OSError):
                refused += 1
    assert refused > MUTANTS / 10


@contextmanager
def memory_of(most):
    """No more bytes than that are taken at any moment, beside what there is already."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def lying_idx(*shape, kind=8, zero=0, rest=b""):
    return struct.pack(f">HBB{len(shape)}I", zero, kind, len(shape), *shape) + rest


HOSTILE_IDX = {
    "a size beyond all bounds": lying_idx(2**32 - 1, 2**32 - 1, 2**32 - 1),
    "a size just too large": lying_idx(1 << 15, 1 << 15),
    "more than there is": lying_idx(3, 5, 4, rest=bytes(59)),
    "less than there is": lying_idx(3, 5, 4, rest=bytes(61)),
    "an empty axis": lying_idx(0, 2**32 - 1, 4, rest=bytes(60)),
    "another shape": lying_idx(4, 5, 3, rest=bytes(60)),
    "more axes than bytes": struct.pack(">HBB", 0, 8, 255) + bytes(60),
    "floats": lying_idx(3, 5, 4, kind=13, rest=bytes(240)),
    "another beginning": lying_idx(3, 5, 4, zero=1, rest=bytes(60)),
    "half a header": b"\0\0\x08\x03\0\0",
    "nothing": b"",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", HOSTILE_IDX)
def test_idx_files_that_lie_are_refused_before_memory_is_taken(name, packed, tmp_path):
    path = tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed)
    path.write_bytes(gzip.compress(HOSTILE_IDX[name]) if packed else HOSTILE_IDX[name])
    with memory_of(4 * MIB), pytest.raises(FileFormatError, match="t10k-images"):
        read_idx(path)


def test_a_small_file_that_unpacks_to_a_large_one_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(lying_idx(3, 5, 4) + bytes(64 * MIB)))
    with memory_of(4 * MIB), pytest.raises(FileFormatError, match="more than the 60 bytes"):
        read_idx(path)
    monkeypatch.setattr(_files, "MOST_BYTES", MIB)
    with zipfile.ZipFile(tmp_path / "toy.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in test_datasets.ARRAYS:
            archive.writestr(f"{name}.npy", header("(16777216,)") + bytes(64 * MIB))
    with memory_of(4 * MIB), pytest.raises(FileFormatError, match=r"toy\.npz.*expected at most"):
        _files.load(test_datasets.source(), tmp_path)


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
