"""The settings, read from the environment once. Stage: beneath everything. Must not know: models or kernels.

| variable         | meaning                                                              | default            |
|------------------|----------------------------------------------------------------------|--------------------|
| PARNET_DATA      | folder with data sets and weights (`mnist.npz`), before the cache    | none               |
| PARNET_CACHE     | folder for downloads and compiled kernels; `off` compiles each time  | user's cache folder|
| PARNET_SIMD      | widest vectors used: `avx512`, `avx2`, `vec128`                      | what the host has  |
| PARNET_THREADS   | how many threads `auto` and `threads` take                           | usable cores       |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .errors import HyperparameterError, unknown_name

SIMD_NAMES = ("avx512", "avx2", "vec128")


@dataclass(frozen=True)
class Settings:
    """What the environment asked for; see the module's table."""

    #: folder with data sets, or None
    data_dir: Path | None
    #: folder for downloads and kernels, or None when caching is off
    cache_dir: Path | None
    #: widest vector extension to use, or None for what the host has
    simd: str | None
    #: threads to take at most, or None for the usable cores
    threads: int | None


def read(environ) -> Settings:
    """Settings from a mapping of environment variables.

    Raises:
        UnknownNameError: PARNET_SIMD names no known extension.
        HyperparameterError: PARNET_THREADS is not a positive whole number.
    """
    data = environ.get("PARNET_DATA")
    cache = environ.get("PARNET_CACHE")
    if cache == "off":
        cache_dir = None
    elif cache:
        cache_dir = Path(cache)
    else:
        import platformdirs

        cache_dir = Path(platformdirs.user_cache_dir("parnet", appauthor=False))
    simd = environ.get("PARNET_SIMD") or None
    if simd is not None and simd not in SIMD_NAMES:
        raise unknown_name("PARNET_SIMD", simd, SIMD_NAMES)
    threads = environ.get("PARNET_THREADS") or None
    if threads is not None and not (threads.isdigit() and int(threads) > 0):
        raise HyperparameterError(f"PARNET_THREADS: expected a whole number above 0, received {threads!r}")
    return Settings(
        data_dir=Path(data) if data else None,
        cache_dir=cache_dir,
        simd=simd,
        threads=int(threads) if threads else None,
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return read(os.environ)


def usable_set() -> set[int]:
    """The processors in the affinity mask, by number."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no affinity mask
        return set(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Cores this process may use: the affinity mask, cut by the cgroup's CPU quota, at least 1."""
    cores = len(usable_set())
    quota = cgroup_quota()
    if quota is not None:
        cores = min(cores, max(1, int(quota)))
    return max(1, cores)


def cgroup_quota() -> float | None:
    """The cgroup's CPU quota in cores (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), or None where there is none."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        base = Path("/sys/fs/cgroup/cpu")
        limit_us = int((base / "cpu.cfs_quota_us").read_text())
        return None if limit_us <= 0 else limit_us / int((base / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
