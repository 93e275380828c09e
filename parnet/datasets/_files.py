"""Image data sets of four uint8 arrays: find, check, read, fetch. Stage: before the model.
Must not know: which data sets there are, models, kernels.

The same arrays come in many files: an npz, IDX files, gzipped IDX files. So a digest here is the sha256 of
one array written as an IDX file (header, then bytes), whatever it came from; it covers shape and type too.
IDX: http://yann.lecun.com/exdb/mnist, section "File formats".
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..checks import check_path
from ..config import settings
from ..errors import DatasetError, FileFormatError

Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]
ImageData = tuple[Split, Split]
Arrays = dict[str, NDArray[np.uint8]]

#: IDX file (less `.gz`) -> the array it holds
IDX_FILES = {
    "train-images-idx3-ubyte": "x_train",
    "train-labels-idx1-ubyte": "y_train",
    "t10k-images-idx3-ubyte": "x_test",
    "t10k-labels-idx1-ubyte": "y_test",
}


#: of one array of a data set; MNIST's largest has 47 million
MOST_BYTES = 1 << 28
#: bytes that are read at a time
CHUNK = 1 << 20


@dataclass(frozen=True)
class ImageSource:
    """Where a data set is, and how to know it when it is found."""

    #: kept as `<name>.npz`, or as IDX files in the folder `<name>`
    name: str
    #: the web folder that has the files
    url: str
    #: the files to download, by their path in the cache folder
    files: tuple[str, ...]
    #: array name (x_train, y_train, x_test, y_test) -> digest, see `idx_digest`
    digests: Mapping[str, str]


def load(source: ImageSource, path: str | os.PathLike | None = None, url: str | None = None) -> ImageData:
    """The data set from `path`, or from PARNET_DATA, the cache or the web, whichever has it first.

    Returns:
        `((x_train, y_train), (x_test, y_test))`, uint8 and writable, with the digests that `source` names.
    Raises:
        DatasetError: not on disk, and the download failed; or `path` does not exist.
        FileFormatError: a file is damaged, or holds other arrays.
    """
    if path is None:
        arrays = _load_known(source, url)
    else:
        arrays = _load_path(source, Path(check_path(path, f"{source.name}: path")).expanduser())
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def idx_digest(array: NDArray[np.uint8]) -> str:
    """The sha256, in hex, of a uint8 array of any shape written as an IDX file."""
    digest = hashlib.sha256(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _load_path(source: ImageSource, path: Path) -> Arrays:
    """From the file or folder that the caller named."""
    layouts = [[path]] if isfile(path) else [*_layouts(source, path), _idx_files(path)]
    for files in layouts:
        if all(map(isfile, files)):
            return _read_all(source, files)
    raise DatasetError(
        f"{source.name}: expected an npz file, or a folder with {source.name}.npz or the four IDX files, "
        f"received path={str(path)!r}, which is neither; leave path out to look in PARNET_DATA and the cache "
        f"and then download"
    )


def _load_known(source: ImageSource, url: str | None) -> Arrays:
    """From the first folder of the settings that has it, else from the web into the cache."""
    here = settings()
    looked = []
    for folder in filter(None, (here.data_dir, here.cache_dir and here.cache_dir / "datasets")):
        for files in _layouts(source, folder):
            missing = [file for file in files if not isfile(file)]
            if not missing:
                return _read_all(source, files)
            looked.append(str(missing[0]))
    if here.data_dir is None:
        looked.insert(0, "PARNET_DATA (not set)")
    try:
        with download_folder(here.cache_dir, "datasets") as folder:
            return _download(source, (url or source.url).rstrip("/"), folder)
    except DatasetError as error:
        raise DatasetError(
            f"{source.name}: expected its files on this machine or on the web. "
            f"Not found: {', '.join(looked)}. Download failed: {error}. "
            f"Do one of: set PARNET_DATA to the folder that has {source.files[0]}; name a mirror with "
            f"load_data(url=...); use pn.datasets.digits, which needs no download"
        ) from error


def _layouts(source: ImageSource, folder: Path) -> list[list[Path]]:
    """The two ways a folder may hold the data set: one npz, or a folder of its own with four IDX files.

    Its own, because the IDX files of MNIST and of Fashion-MNIST have the same names.
    """
    return [[folder / f"{source.name}.npz"], _idx_files(folder / source.name)]


def _idx_files(folder: Path) -> list[Path]:
    """The four IDX files of a folder, each plain if it is there, else gzipped."""
    return [folder / name if isfile(folder / name) else folder / f"{name}.gz" for name in IDX_FILES]


def _read_all(source: ImageSource, files: list[Path]) -> Arrays:
    """The arrays of files that are on this machine, checked."""
    cure = "put a good copy in its place, or delete it: load_data() downloads what it does not find"
    arrays: Arrays = {}
    for file in files:
        arrays |= _read(source, file, str(file), cure)
    return arrays


def _read(source: ImageSource, path: Path, where: str, cure: str) -> Arrays:
    """The arrays of one file, checked. `where` and `cure` are for the messages."""
    stem = path.name.removesuffix(".gz")
    try:
        arrays = {IDX_FILES[stem]: _parse_idx(path)} if stem in IDX_FILES else _parse_npz(path, source.digests)
    except PermissionError as error:
        raise DatasetError(f"{where}: expected a readable file, received: {error}; allow reading it") from error
    except Exception as error:  # the parsers of zip, zlib, gzip and npy raise a dozen kinds
        raise FileFormatError(
            f"{where}: expected {path.name} of {source.name}, received a damaged or another file ({error}); {cure}"
        ) from error
    for name, array in arrays.items():
        received = idx_digest(array) if array.dtype == np.uint8 else f"an array of type {array.dtype}"
        if received != source.digests[name]:
            raise FileFormatError(
                f"{where}: expected {name} of {source.name} with sha256 {source.digests[name]} (as IDX), "
                f"received {received}; {cure}"
            )
    return arrays


def _parse_npz(path: Path, names: Mapping[str, str]) -> Arrays:
    """The named arrays of an npz; pickled objects in it are refused, never run; what is too large is not unpacked."""
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("not a complete npz file")
        with zipfile.ZipFile(file) as archive:
            _check_size(max((archive.getinfo(f"{name}.npy").file_size for name in names), default=0))
        file.seek(0)
        with np.load(file, allow_pickle=False) as data:
            return {name: data[name] for name in names}


def _parse_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of bytes, plain or gzipped, as a writable copy."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        zero, kind, ndim = struct.unpack(">HBB", file.read(4))
        if (zero, kind) != (0, 8):
            raise ValueError("not an IDX file of bytes")
        shape = struct.unpack(f">{ndim}I", file.read(4 * ndim))
        size = math.prod(shape)
        _check_size(size)
        data = bytearray()
        while len(data) <= size and (more := file.read(min(CHUNK, size + 1 - len(data)))):  # a read makes room for all of it
            data += more
    if len(data) != size:
        raise ValueError(
            f"{'more than' if len(data) > size else f'{len(data)} of'} the {size} bytes that its header tells of"
        )
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def _check_size(size: int) -> None:
    """Raise ValueError where an array is larger than any that is looked for here: what claims to be is not unpacked."""
    if size > MOST_BYTES:
        raise ValueError(f"an array of {size} bytes, expected at most {MOST_BYTES}")


@contextmanager
def download_folder(cache: Path | None, kind: str) -> Iterator[Path]:
    """The folder that keeps downloads of a kind, or with caching off one that is removed again."""
    if cache is not None:
        yield cache / kind
    else:
        with tempfile.TemporaryDirectory(prefix="parnet-") as folder:
            yield Path(folder)


def _download(source: ImageSource, url: str, folder: Path) -> Arrays:
    """Fetch the files that the folder lacks, and check each before it takes its place there.

    A file is fetched into a scratch folder beside its place, which is removed in any case: nothing partial
    stays, nothing good is overwritten by something bad, and two processes may download at once.
    """
    from ._download import fetch

    arrays: Arrays = {}
    for name in source.files:
        kept = folder / name
        if isfile(kept):  # an earlier download was interrupted after this file
            arrays |= _read_all(source, [kept])
            continue
        address = f"{url}/{kept.name}"
        with scratch_folder(kept.parent) as scratch:
            part = Path(scratch, kept.name)
            fetch(address, part)
            arrays |= _read(source, part, address, "nothing was kept; try again, or pass a mirror as url")
            os.replace(part, kept)
    return arrays


def scratch_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder in `parent`, which is made if it is not there."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".download-", dir=parent)
    except OSError as error:
        raise DatasetError(
            f"{parent}: expected a folder to write to, received: {error}; set PARNET_CACHE to one, or to off"
        ) from error
