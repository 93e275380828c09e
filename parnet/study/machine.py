"""The machine a measurement was taken on, as plain data, and who else used it. Stage: study, lowest.

Names no file, no host and no user. Whatever the system does not tell is None; nothing here raises.
Must not know: what is measured.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from datetime import datetime
from importlib import metadata
from pathlib import Path

from .._version import __version__
from ..config import cgroup_quota, usable_cores
from ..kernels import target

CPUS = Path("/sys/devices/system/cpu")
CPU = CPUS / "cpu0"
#: what threads are here, in words
THREADING = "own thread pool (native loop, spin barrier)"
#: what must be equal for two measurements to belong together
IDENTITY = (
    "cpu cores_physical cores_logical cores_usable affinity quota memory_mib os python numpy numba llvmlite parnet simd"
).split()
KEYS = [*IDENTITY, *"caches governor boost threading blas load date".split()]
#: seconds below which the system's counters of busy time, in hundredths, say nothing
SHORTEST_S = 0.5


def _psutil():
    """The package psutil, or None where it is missing; loaded only when it is asked."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def _memory_mib() -> int | None:
    psutil = _psutil()
    return psutil.virtual_memory().total // 2**20 if psutil is not None else None


def fingerprint() -> dict:
    """The record of this machine, now; its keys are KEYS."""
    return {
        "cpu": cpu_model(),
        "cores_physical": physical_cores(),
        "cores_logical": os.cpu_count(),
        "cores_usable": usable_cores(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota": cgroup_quota(),
        "caches": caches(),
        "governor": _read(CPU / "cpufreq" / "scaling_governor"),
        "boost": boost(),
        "memory_mib": _memory_mib(),
        "os": f"{platform.system()} {release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": version("numpy"),
        "numba": version("numba"),
        "llvmlite": version("llvmlite"),
        "blas": blas(),
        "parnet": __version__,
        "simd": target.simd(),
        "threading": THREADING,
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def release() -> str:
    """The kernel's version, without what its builders append."""
    found = re.match(r"[0-9.]+", platform.release())
    return found[0] if found else platform.release()


def cpu_model() -> str:
    """The processor's name, as its maker writes it."""
    text = _read(Path("/proc/cpuinfo")) or ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    if found:
        return found[1].strip()
    if platform.system() == "Darwin":
        return _run("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def physical_cores() -> int | None:
    """Cores without their hardware threads, of the whole machine."""
    psutil = _psutil()
    if psutil is not None:
        return psutil.cpu_count(logical=False)
    pairs = {
        (_read(folder / "physical_package_id"), _read(folder / "core_id")) for folder in CPUS.glob("cpu[0-9]*/topology")
    }
    return len(pairs) or None


def boost() -> bool | None:
    """Whether cores may run above their nominal frequency."""
    intel, other = _read(CPUS / "intel_pstate" / "no_turbo"), _read(CPUS / "cpufreq" / "boost")
    return intel == "0" if intel else other == "1" if other else None


def caches() -> dict[str, str]:
    """Sizes of the first core's caches: {"L1 Data": "32K", ...}."""
    found = {}
    for folder in sorted(CPU.glob("cache/index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        if level and kind and size:
            found[f"L{level} {kind}"] = size
    return found


def version(package: str) -> str | None:
    """Of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def blas() -> str | None:
    """NumPy's library for matrix products, with its version and the core it chose."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    for pool in threadpool_info():
        if pool.get("user_api") == "blas":
            return " ".join(str(pool[k]) for k in ("internal_api", "version", "architecture") if pool.get(k))
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


class Meter:
    """How much processor time others took since it was made, in cores.

    The machine's busy time, stolen time included, less that of this process and of all its children.
    """

    def __init__(self) -> None:
        self._begun, self._busy, self._own = time.perf_counter(), _busy(), _own()

    def other(self) -> float | None:
        """Cores that others used; None where the system does not tell, or the time was too short."""
        wall = time.perf_counter() - self._begun
        if self._busy is None or self._own is None or wall < SHORTEST_S:
            return None
        return max(0.0, ((_busy() or 0.0) - self._busy - ((_own() or 0.0) - self._own)) / wall)


def _busy() -> float | None:
    """Seconds that all cores have been busy."""
    psutil = _psutil()
    if psutil is None:
        return None
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(times, name, 0.0) for name in names)


def _own() -> float | None:
    """Processor seconds of this process and its children, living or gone."""
    psutil = _psutil()
    if psutil is None:
        return None
    gone = os.times()
    total = gone.user + gone.system + gone.children_user + gone.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total
