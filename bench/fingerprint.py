"""The machine a measurement was taken on, as plain data. Names no file, no host and no user.

Whatever the system does not tell is None; nothing here raises.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime
from importlib import metadata
from pathlib import Path

import parnet
from parnet.config import cgroup_quota, usable_cores
from parnet.kernels import target

try:
    import psutil
except ImportError:
    psutil = None

ROOT = Path(__file__).parent.parent
CPU = Path("/sys/devices/system/cpu/cpu0")
KEYS = (
    "cpu cores_physical cores_logical cores_usable affinity quota caches governor memory_mib os python "
    "numpy numba llvmlite blas parnet commit simd load date"
).split()


def fingerprint() -> dict:
    """The record of this machine, now; its keys are KEYS."""
    return {
        "cpu": cpu_model(),
        "cores_physical": psutil.cpu_count(logical=False) if psutil else None,
        "cores_logical": os.cpu_count(),
        "cores_usable": usable_cores(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota": cgroup_quota(),
        "caches": caches(),
        "governor": _read(CPU / "cpufreq" / "scaling_governor"),
        "memory_mib": psutil.virtual_memory().total // 2**20 if psutil else None,
        "os": f"{platform.system()} {release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": version("numpy"),
        "numba": version("numba"),
        "llvmlite": version("llvmlite"),
        "blas": blas(),
        "parnet": parnet.__version__,
        "commit": commit(),
        "simd": target.simd(),
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


def slug(model: str) -> str:
    """A processor's name for a file name: "Intel(R) Xeon(R) CPU @ 2.50GHz" is "intel-xeon-2.50ghz"."""
    plain = re.sub(r"\((r|tm|c)\)|\b(cpu|processor)\b", " ", model.lower())
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.") or "unknown"


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


def commit() -> str | None:
    """The commit in the working tree, with a plus sign if files of it are changed."""
    head = _run("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    if not head:
        return None
    changed = _run("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "parnet")
    return head + ("+" if changed else "")


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
