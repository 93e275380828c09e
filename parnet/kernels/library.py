"""Compiled kernels by name: in memory, on disk, or compiled now. Stage: kernels. Must not know: plans, layers, threads.

The disk cache holds one object file a kernel and dtype, in a folder named by a hash of all kernel sources, the
versions of Numba, llvmlite and Python, and the processor: an edit in any file of kernels/ starts a new folder.
With a full cache Numba is never imported. Files are written beside and renamed, so that any number of
processes may fill the cache at once; a damaged one fails its checksum and is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import os
import sys
import tempfile
import threading
import time
import warnings
from functools import lru_cache
from pathlib import Path

import llvmlite.binding as llvm

from ..config import settings
from ..errors import KernelError, ParnetWarning, unknown_name
from . import target
from .declare import Kernel, compile_object, target_machine
from .externals import declare_externals, new_engine

_lock = threading.RLock()
_addresses: dict[tuple[str, str], int] = {}
_engines: list = []  # LLVM frees the machine code with its engine
_user_kernels: dict[str, Kernel] = {}
_objects: dict[tuple[str, str], tuple[bytes, str]] = {}  # of kernels that are in no cache on disk

#: rises when a user's kernel takes another's place: what was linked before is out of date
user_generation = 0

#: seconds spent compiling in this process, for `History.timing`
compile_seconds = 0.0


def address(name: str, dtype: str) -> int:
    """Where the machine code of a kernel starts, compiled or loaded if need be.

    Args:
        name: "module.function", as in a plan's steps.
        dtype: "float32" or "float64".
    Raises:
        KernelError: it does not compile.
    """
    global compile_seconds
    with _lock:
        found = _addresses.get((name, dtype))
        if found is None:
            begun = time.perf_counter()
            found = _addresses[name, dtype] = _link(*_object(name, dtype))
            compile_seconds += time.perf_counter() - begun
        return found


def add_user_kernel(kernel: Kernel) -> None:
    """Make a kernel from outside parnet known by its name; a later one of that name takes its place."""
    global user_generation
    with _lock:
        if _user_kernels.get(kernel.name) is not kernel:
            user_generation += 1
            _user_kernels[kernel.name] = kernel
            for dtype in ("float32", "float64"):
                _addresses.pop((kernel.name, dtype), None)
                _objects.pop((kernel.name, dtype), None)


def find(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name in _user_kernels:
        return _user_kernels[name]
    place, _, function = name.partition(".")
    with contextlib.suppress(ModuleNotFoundError):
        found = getattr(importlib.import_module(f"{__package__}.{place}"), function, None)
        if isinstance(found, Kernel):
            return found
    raise unknown_name("kernel", name, _user_kernels)


def object_code(name: str, dtype: str) -> tuple[bytes, str]:
    """The object file of a kernel and the name of its function in it, for a process that shall not compile it again."""
    with _lock:
        return _objects.get((name, dtype)) or _object(name, dtype)


def adopt(name: str, dtype: str, code: bytes, entry: str) -> None:
    """Link a kernel that another process of the same machine has compiled, in place of one of that name."""
    with _lock:
        _addresses[name, dtype] = _link(code, entry)


def _object(name: str, dtype: str) -> tuple[bytes, str]:
    """Object file and entry of a kernel, from the disk cache or compiled and put there."""
    folder = cache_folder() if name not in _user_kernels else None
    path = folder / f"{name}.{dtype}.o" if folder else None
    cached = _read(path) if path else None
    if cached is not None:
        return cached
    code, entry = compile_object(find(name), dtype)
    if path is None or not _write(path, code, entry):
        _objects[name, dtype] = code, entry
    return code, entry


def _read(path: Path) -> tuple[bytes, str] | None:
    """A cached object file, or None where it is missing or damaged."""
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    digest, _, rest = blob.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        return None
    entry, _, code = rest.partition(b"\n")
    return code, entry.decode()


def _write(path: Path, code: bytes, entry: str) -> bool:
    """Put an object file into the cache; where that cannot be done, say so once and go on. Returns whether it was."""
    rest = entry.encode() + b"\n" + code
    blob = hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(blob)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        _warn_once(f"kernel cache {path.parent} cannot be written ({error.strerror}); kernels compile in each run")
        return False
    return True


@lru_cache(maxsize=8)
def _warn_once(message: str) -> None:
    warnings.warn(message, ParnetWarning, stacklevel=2)


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """The folder of this set of sources, versions and processor, or None when caching is off."""
    base = settings().cache_dir
    if base is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = [importlib.metadata.version(package) for package in ("numba", "llvmlite")]
    digest.update(repr((versions, sys.version_info[:3], target.describe())).encode())
    return base / "kernels" / digest.hexdigest()[:20]


def _link(code: bytes, entry: str) -> int:
    """Load an object file into this process and return the address of its entry."""
    machine = target_machine()
    declare_externals()
    engine = new_engine(machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    found = engine.get_function_address(entry)
    if not found:
        raise KernelError(f"kernel {entry}: its object file holds no such function; empty the kernel cache")
    _engines.append(engine)
    return found
