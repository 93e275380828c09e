"""`parnet info`: versions, processor, threads, folders, speeds, extras. Stage: outermost.

Must not know: models.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from dataclasses import dataclass
from typing import Any

from .._version import __version__
from ..comm import pages
from ..comm.blocks import new_block
from ..config import cgroup_quota, settings, usable_cores
from ..errors import DeviceError, MissingExtraError, ResourceError
from ..executors.threads import check_threads
from ..kernels import library, target
from ..study.machine import THREADING, cpu_model, version
from . import launchers

#: module -> (extra that brings it, what for)
EXTRAS = {
    "matplotlib": ("plot", "pictures"),
    "sklearn": ("data", "the digits"),
    "h5py": ("io", "Keras's .h5 files"),
    "mpi4py": ("mpi", "several machines"),
    "numba_cuda": ("cuda", "NVIDIA GPUs"),
}
#: module -> the package that has it, where the names differ
PACKAGES = {"sklearn": "scikit-learn", "numba_cuda": "numba-cuda"}
LAUNCHER_NAMES = {"openmpi": "Open MPI", "hydra": "MPICH or Intel MPI", "slurm": "Slurm"}
THREADS_WHY = "starts work in under 1 us; OpenMP takes 2.5 and may be missing, Numba's workqueue 20"


@dataclass(frozen=True)
class Fact:
    """One line.

    Attributes:
        key: in JSON, with its unit.
        label: for people.
        value: ready for JSON.
        text: for people, where `value` alone does not read well.
    """

    key: str
    label: str
    value: Any
    text: str | None = None

    def shown(self) -> str:
        if self.text is not None:
            return self.text
        return "none" if self.value is None else str(self.value)


def info() -> dict[str, dict[str, Any]]:
    """What `parnet info` shows, by section: versions, processor, threading, folders, measured speeds, extras, backends.

    Takes about a second, for the measurements.
    """
    return {name: {fact.key: fact.value for fact in facts} for name, facts in _sections().items()}


def show(as_json: bool) -> int:
    """Print what is known of this machine. Returns the exit code."""
    if as_json:
        print(json.dumps(info(), indent=2))
        return 0
    sections = _sections()
    width = max(len(fact.label) for facts in sections.values() for fact in facts) + 2
    for name, facts in sections.items():
        print(name)
        for fact in facts:
            print(f"  {fact.label:<{width}}{fact.shown()}")
    return 0


def _sections() -> dict[str, list[Fact]]:
    return {
        "versions": _versions(),
        "processor": _processor(),
        "threading": _threading(),
        "folders": _folders(),
        "measured": _measured(),
        "extras": [_extra(module) for module in EXTRAS],
        "backends": _backends(),
    }


def _versions() -> list[Fact]:
    packages = [Fact(name, name, version(name)) for name in ("numpy", "numba", "llvmlite")]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return [
        Fact("parnet", "parnet", __version__),
        Fact("python", "python", python),
        *packages,
        Fact("os", "system", system),
    ]


def _processor() -> list[Fact]:
    from ..kernels.tile import tile_rows, tile_vectors

    bits, lanes = 8 * target.vector_bytes(), target.vector_bytes() // 4
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    tile = (tile_rows(), tile_vectors() * lanes)
    return [
        Fact("cpu", "model", cpu_model()),
        Fact("llvm_cpu", "LLVM's name", target.cpu_name()),
        Fact("cores", "cores", os.cpu_count()),
        Fact("cores_affinity", "affinity mask", affinity, None if affinity is None else f"{affinity} cores"),
        Fact(
            "cores_quota",
            "cgroup quota",
            cgroup_quota(),
            None if cgroup_quota() is None else f"{cgroup_quota():g} cores",
        ),
        Fact("cores_usable", "usable cores", usable_cores()),
        Fact("simd", "SIMD in use", target.simd(), _simd()),
        Fact("simd_widest", "SIMD, widest here", target.widest_simd()),
        Fact("vector_bits", "vector width", bits, f"{bits} bits, {lanes} float32"),
        Fact("tile", "tile of a product", list(tile), f"{tile[0]} x {tile[1]} float32, in registers"),
    ]


def _simd() -> str:
    return target.simd() + (" (PARNET_SIMD)" if settings().simd else "")


def _shared_pages() -> Fact:
    """In which pages worker processes see their data."""
    try:
        size = pages.HUGE if new_block(pages.HUGE, "parnet info").huge else pages.SMALL
    except ResourceError as error:
        return Fact("shared_page_bytes", "workers share", None, str(error))
    slower = "" if size > pages.SMALL else "; huge pages, Linux 6.1 or later, would be some percent faster"
    return Fact("shared_page_bytes", "workers share", size, f"memory in pages of {size // 1024} KiB{slower}")


def _threading() -> list[Fact]:
    threads = check_threads(None)
    text = f"{threads}" + (" (PARNET_THREADS)" if settings().threads else ", all usable cores")
    return [
        Fact("kind", "threads are", THREADING),
        Fact("why", "because", THREADS_WHY),
        Fact("threads", "strategy threads", threads, text),
        _shared_pages(),
    ]


def _folders() -> list[Fact]:
    folder = library.cache_folder()
    kernels = sorted(folder.glob("*.o")) if folder is not None else []
    count = len(kernels)
    size = sum(path.stat().st_size for path in kernels)
    data, cache = settings().data_dir, settings().cache_dir
    downloads = cache and str(cache / "datasets")
    return [
        Fact("kernel_cache", "kernel cache", folder and str(folder), None if folder else "off (PARNET_CACHE)"),
        Fact("kernels_cached", "kernels in it", count, f"{count}, {size / 1024:.0f} KiB"),
        Fact("data", "data (PARNET_DATA)", data and str(data), None if data else "not set"),
        Fact("downloads", "downloads", downloads, None if downloads else "not kept (PARNET_CACHE)"),
    ]


def _measured() -> list[Fact]:
    from ..study import peaks as measure

    threads = check_threads(None)
    one = measure.product_gflops(1)
    facts = [_speed("product_gflops_1_thread", "product, 1 thread", one, "GFLOP/s float32")]
    if threads > 1:
        several = measure.product_gflops(threads)
        facts.append(_speed("product_gflops_all_threads", f"product, {threads} threads", several, "GFLOP/s float32"))
        facts.append(_speed("barrier_us", f"barrier, {threads} threads", measure.barrier_us(threads), "us"))
    facts.append(_speed("copy_gb_per_s", "memory copy, 1 thread", measure.copy_gb_per_s(), "GB/s read and written"))
    return facts


def _speed(key: str, label: str, value: float, unit: str) -> Fact:
    return Fact(key, label, round(value, 3), f"{value:.3g} {unit}")


def _extra(module: str) -> Fact:
    extra, purpose = EXTRAS[module]
    package = PACKAGES.get(module, module)
    found = importlib.util.find_spec(module) is not None
    number = version(package) or "installed" if found else None
    text = f"{number}" if found else f"missing, for {purpose}: pip install 'parnet[{extra}]'"
    return Fact(module, package, number, text)


def _backends() -> list[Fact]:
    return [_gpu(), _mpi()]


def _mpi() -> Fact:
    """The program that `parnet launch` would start ranks with."""
    if importlib.util.find_spec("mpi4py") is None:
        return Fact("mpi", "MPI", None, "needs mpi4py: pip install 'parnet[mpi]'")
    try:
        found = launchers.find(None, os.environ)
    except (MissingExtraError, ResourceError) as error:
        return Fact("mpi", "MPI", None, str(error))
    return Fact("mpi", "MPI", found.path, f"{LAUNCHER_NAMES[found.kind]}, started by {found.path}")


def _gpu() -> Fact:
    from .. import cuda

    try:
        found = cuda.devices()
    except (MissingExtraError, DeviceError) as error:
        return Fact("gpu", "GPU", [], str(error))
    named = [f"{d.index}: {d.name}" + (f", {d.memory / 2**30:.0f} GiB" if d.memory else "") for d in found]
    return Fact("gpu", "GPU", named, "; ".join(named) or "none found (no NVIDIA driver, or no device)")
