"""The one place that imports numba.cuda: the package, the driver, memory, and errors said in parnet's words. Stage: cuda,
lowest.

In Numba's simulator blocks and tiles are tiny: each of its threads is a thread of Python. Must not know: kernels.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DeviceError, MissingExtraError, ResourceError

if importlib.util.find_spec("numba_cuda") is None:  # Numba's own numba.cuda is out of date
    raise MissingExtraError(
        "CUDA: expected the package 'numba-cuda', which is not installed; run: pip install 'parnet[cuda]'"
    )

from numba import cuda
from numba.core import config
from numba.cuda.cudadrv import driver

__all__ = ["cuda"]

#: whether kernels run in Numba's simulator
SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", 0))
#: threads of a block, a power of two; of a warp; blocks that a loop over many numbers is cut into at most
THREADS, WARP, MOST_BLOCKS = (4, 4, 2) if SIMULATED else (256, 32, 2048)
#: CUDA's number for "out of memory"
OUT_OF_MEMORY = 2


def devices() -> list[tuple[int, str, tuple[int, int], int, int]]:
    """(index, name, compute capability, bytes, free bytes) of every GPU. Raises DeviceError where the driver fails."""
    if SIMULATED:
        return [(0, "Numba's CUDA simulator", (0, 0), 0, 0)]
    if not cuda.is_available():
        return []
    found = []
    with said("CUDA: looking for devices"):
        for gpu in cuda.gpus:
            with gpu:
                free, total = cuda.current_context().get_memory_info()
            name = gpu.name.decode() if isinstance(gpu.name, bytes) else str(gpu.name)
            found.append((gpu.id, name, tuple(gpu.compute_capability), int(total), int(free)))
    return found


def check_device(index: int) -> None:
    """Raise DeviceError unless there is a GPU of that number."""
    found = devices()
    if not found:
        raise DeviceError(
            f"CUDA(device={index}): expected an NVIDIA GPU and its driver, found none ({_why_none()}); "
            'use strategy="threads", or set NUMBA_ENABLE_CUDASIM=1 to try tiny models in Numba\'s simulator'
        )
    if index >= len(found):
        names = ", ".join(f"{number} ({name})" for number, name, *_ in found)
        raise DeviceError(f"CUDA(device={index}): expected one of the devices {names}")


def _why_none() -> str:
    """What the driver said when it was asked to start."""
    said = str(cuda.cuda_error() or "").strip()
    return said.splitlines()[0].rstrip(".")[:200] if said else "the driver lists no device"


@contextlib.contextmanager
def said(where: str, wanted: int = 0):
    """Errors of the driver as parnet's.

    Args:
        where: what was being done.
        wanted: bytes asked for.
    Raises:
        ResourceError: the device's memory is full. DeviceError: anything else the driver, or a kernel, reports.
    """
    try:
        yield
    except (DeviceError, ResourceError):
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "code", None) == OUT_OF_MEMORY or "OUT_OF_MEMORY" in str(error):
            raise ResourceError(
                f"{where}: expected {wanted / 2**20:,.0f} MiB of memory on the device, which has {free_text()} free; use a "
                "smaller batch_size or model, or give back what other programs hold"
            ) from error
        raise DeviceError(f"{where}: the device reports {type(error).__name__}: {error}") from error


def free_text() -> str:
    """The device's free memory, for a message."""
    try:
        free = cuda.current_context().get_memory_info()[0]
        return f"{free / 2**20:,.0f} MiB"
    except Exception:
        return "an unknown amount"


class Memory:
    """The memory and the stream of one device.

    Args:
        index: of the device.
    Raises:
        DeviceError: there is none of that number.
    """

    def __init__(self, index: int):
        check_device(index)
        self.index = index
        with said(f"CUDA(device={index}): starting"):
            cuda.select_device(index)
            self.stream = cuda.stream()

    def use(self) -> None:
        """The calls of this thread are for this device."""
        cuda.select_device(self.index)

    def zeros(self, size: int, dtype, what: str) -> Any:
        """A zeroed vector on the device. Raises ResourceError where it does not fit."""
        dtype = np.dtype(dtype)
        with said(f"CUDA(device={self.index}): {what}", size * dtype.itemsize):
            result = cuda.device_array(max(1, size), dtype)
            if SIMULATED:
                result[:] = 0
            else:
                driver.device_memset(result, 0, result.nbytes, self.stream)
        return result

    def send(self, host: np.ndarray, target: Any) -> None:
        """Copy a vector of the host to the beginning of one on the device."""
        if host.size:
            with said(f"CUDA(device={self.index}): copying to it"):
                flat = host.reshape(-1)
                (target[: flat.size] if flat.size < target.size else target).copy_to_device(flat, stream=self.stream)

    def fetch(self, source: Any, host: np.ndarray, first: int = 0) -> None:
        """Fill a vector of the host from one on the device, from its number `first` on; waits for all work before."""
        if host.size:
            with said(f"CUDA(device={self.index}): copying from it"):
                source[first : first + host.size].copy_to_host(host, stream=self.stream)
                self.stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """The launches of `work`, all of whose kernels have run before, as one graph; what comes back launches it.

        The simulator has no graphs: there it is the work itself. numba-cuda has none either, so the driver is asked
        directly.
        """
        if SIMULATED:
            return work
        stream, calls = int(self.stream.handle), driver.driver  # type: ignore[attr-defined]
        mode = driver.binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL  # type: ignore[attr-defined]
        with said("cuda: capturing a graph"):
            calls.cuStreamBeginCapture(stream, mode)
            try:
                work()
            finally:
                graph = calls.cuStreamEndCapture(stream)
            ready = calls.cuGraphInstantiate(graph, 0)
            calls.cuGraphDestroy(graph)

        def replay() -> None:
            calls.cuGraphLaunch(ready, stream)

        weakref.finalize(replay, calls.cuGraphExecDestroy, ready)
        return replay

    def event(self) -> Any:
        """What takes the time in the stream, with `record(stream)`; `elapsed_time(later)` is in milliseconds."""
        return _HostEvent() if SIMULATED else cuda.event()

    def wait(self, where: str) -> None:
        """Until all work is done. Raises DeviceError if a kernel has failed."""
        with said(where):
            self.stream.synchronize()


class _HostEvent:
    """An event of the simulator, whose own do not take the time."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def record(self, stream: Any) -> None:
        self.at_s = time.perf_counter()

    def elapsed_time(self, later: _HostEvent) -> float:
        return 1e3 * (later.at_s - self.at_s)
