"""What this machine can do at most: products, the tile, memory, barriers; each for a moment, best of many. Stage: study.

    peaks = measure_peaks(threads=2)     peaks.gflops; peaks.bandwidths -> the roofs of a roofline

The product and the barrier run as they do in training: a plan, an executor, the native loop.
Must not know: command lines, models.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..executors.base import Executor, Feed
from ..executors.link import Program
from ..executors.memory import Store, aligned_zeros
from ..executors.serial import native
from ..executors.threads import ThreadsExecutor
from ..kernels.target import vector_bytes
from ..layers import Dense
from ..plan.plan import Network, Request, make_plan
from ..strategy import Threads

#: a product whose operands stay in a core's L2 cache and whose sizes every tile divides
ROWS, DEPTH, COLUMNS_A_THREAD = 192, 192, 192
COPY_BYTES = 64 * 2**20
#: seconds of all runs of one measurement, and of one run at least
LIMIT_S, RUN_S = 0.2, 0.005
#: numbers between the operands of two threads: pages apart
APART = 8192
#: bytes of a thread's vectors where a cache's size is not known
CACHE_BYTES = {"L1": 24 * 2**10, "L2": 192 * 2**10}
#: bytes of all vectors where they shall not stay in any cache; bytes that one run moves at least
MEMORY_BYTES, MOVED_BYTES = 192 * 2**20, 64 * 2**20


def product_gflops(threads: int) -> float:
    """Billions of float32 operations a second in X . W, on that many threads."""
    with _steady(threads) as executor:
        program = _program(executor, threads)
        names = [step.kernel for step in program.plan.steps]
        place = names.index("product.forward")
        seconds = best(lambda runs: executor.run(program, 0, runs, (place, place + 1)))
        return 2e-9 * ROWS * DEPTH * COLUMNS_A_THREAD * threads / seconds


def barrier_us(threads: int) -> float:
    """Microseconds that threads take to meet, when all are running."""
    with _steady(threads) as executor:
        program = _program(executor, threads)
        program.tables[:] = 0
        program.tables[:, :, 2] = 1  # steps of no part, each with a barrier after it
        return 1e6 * best(lambda runs: executor.run(program, 0, runs)) / len(program.plan.steps)


def _steady(threads: int) -> Executor:
    """Threads that never give way to one."""
    executor = Threads(threads).open(threads)
    if isinstance(executor, ThreadsExecutor):
        executor.gives_way = False
    return executor


def copy_gb_per_s() -> float:
    """Billions of bytes a second that NumPy reads and writes when it copies a large array, on one thread."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)

    def copy(runs: int) -> None:
        for _ in range(runs):
            np.copyto(target, source)

    return 2e-9 * COPY_BYTES / best(copy)


def best(work: Callable[[int], object]) -> float:
    """Seconds of one unit of work, the best of several runs.

    Args:
        work: does so many units.
    """
    units, seconds, total = 1, 0.0, 0.0
    while (seconds := _time(work, units)) < RUN_S:
        units *= 2
        total += seconds
    found = seconds
    while total < LIMIT_S:
        seconds = _time(work, units)
        total += seconds
        found = min(found, seconds)
    return found / units


def _time(work: Callable[[int], object], units: int) -> float:
    begun = time.perf_counter()
    work(units)
    return time.perf_counter() - begun


def _program(executor: Executor, threads: int) -> Program:
    """One layer, ready to run on random numbers."""
    layer = Dense(COLUMNS_A_THREAD * threads, use_bias=False, name="product")
    network = Network.of([layer], (DEPTH,))
    plan = make_plan(network, Request("predict", ROWS, threads=threads))
    store = Store.of_sizes(network.sizes)
    program = executor.open(plan, store)
    rng = np.random.default_rng(0)
    for vector in (store.parameters, program.arena):
        vector[:] = rng.random(len(vector), np.float32)
    executor.start(program, Feed(np.zeros((1, DEPTH), np.float32), total=2**62))
    return program


class Together:
    """A kernel that runs on several threads at once, each on memory of its own.

    Args:
        kernel: its name; it takes op[1] as the numbers from one part's memory to the next part's.
        op: its operands.
        threads: that run it.
        size: numbers of memory in all. dtype: "float32" or "float64".
    """

    def __init__(self, kernel: str, op: list[int], threads: int, size: int, dtype: str = "float32"):
        self.threads, self._run = threads, native(kernel, dtype)
        self._memory, self._words = aligned_zeros(size, dtype), np.zeros(64, np.int64)
        self._memory[:] = 1e-6
        self._op = np.array(op, np.int64)

    def seconds(self) -> float:
        """One run: from the start of the first thread to the end of the last."""
        if self.threads == 1:
            return self._timed(0)[1]
        gate, ends = threading.Barrier(self.threads), [(0.0, 0.0)] * self.threads
        places = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

        def work(part: int) -> None:
            if part < len(places):
                os.sched_setaffinity(0, {places[part]})  # else new threads share a core for their few milliseconds
            gate.wait()
            begun, took = self._timed(part)
            ends[part] = (begun, begun + took)

        crowd = [threading.Thread(target=work, args=(part,)) for part in range(self.threads)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        return max(end for _, end in ends) - min(begun for begun, _ in ends)

    def _timed(self, part: int) -> tuple[float, float]:
        begun = time.perf_counter()
        op, words, memory = (array.ctypes.data for array in (self._op, self._words, self._memory))
        self._run(op, words, memory, part, self.threads)
        return begun, time.perf_counter() - begun


class Peak(Together):
    """The most multiply-adds the processor does: parnet's own register tile on numbers that stay in the first-level cache.

    Args:
        threads: that run the tile at once. dtype: "float32" or "float64".
    """

    DEPTH = 400_000

    def __init__(self, threads: int, dtype: str = "float32"):
        from ..kernels.share import TILE_ROWS, TILE_VECTORS  # brings Numba, which nothing else here needs

        super().__init__("peak.tile", [self.DEPTH, APART], threads, threads * APART, dtype)
        lanes = vector_bytes() // np.dtype(dtype).itemsize
        self.flops = 2.0 * TILE_ROWS * min(3, TILE_VECTORS) * lanes * self.DEPTH * threads


class Stream(Together):
    """The most bytes that are moved: a = b + f c over vectors of a chosen size.

    Args:
        threads: that move at once. size: bytes of the vectors of one thread. dtype: of their numbers.
    """

    def __init__(self, threads: int, size: int, dtype: str = "float32"):
        item = np.dtype(dtype).itemsize
        numbers = size // (3 * item) // 64 * 64
        times = max(1, MOVED_BYTES // (3 * numbers * item))
        apart = 3 * numbers + APART // item  # a page and a line, so that threads do not meet in one set of a cache
        super().__init__("peak.triad", [numbers, apart, times], threads, threads * apart, dtype)
        self.bytes = 3.0 * numbers * item * times * threads


@dataclass(frozen=True)
class Peaks:
    """What so many threads, or a GPU, can do at most.

    Attributes:
        threads, dtype: measured on and with.
        gflops: billions of operations a second, of the register tile.
        bandwidths: "L1", "L2" and "memory" -> billions of bytes a second, of vectors that fit there; of a GPU its memory.
        device: "GPU 0"; empty for threads.
    """

    threads: int
    dtype: str
    gflops: float
    bandwidths: dict[str, float]
    device: str = ""

    @property
    def where(self) -> str:
        """ "1 thread", "2 threads", "GPU 0"."""
        return self.device or ("1 thread" if self.threads == 1 else f"{self.threads} threads")

    def roof(self, intensity: float, level: str = "memory") -> float:
        """The most GFLOP/s at so many operations a byte that come from that level."""
        return min(self.gflops, intensity * self.bandwidths[level])


def measure_peaks(threads: int = 1, dtype: str = "float32", limit_s: float = LIMIT_S) -> Peaks:
    """Measure them, in this process, in about 4 * limit_s seconds.

    Raises:
        HyperparameterError, ResourceError: threads is no number above 0, or more than the process may use.
    """
    Threads(threads)
    peak = Peak(threads, dtype)
    rate = peak.flops / shortest(peak.seconds, limit_s)
    sizes = {level: cache_bytes(level) * 2 // 3 for level in CACHE_BYTES} | {"memory": MEMORY_BYTES // threads}
    bandwidths = {}
    for level, size in sizes.items():
        stream = Stream(threads, size, dtype)
        bandwidths[level] = 1e-9 * stream.bytes / shortest(stream.seconds, limit_s)
    return Peaks(threads, dtype, 1e-9 * rate, bandwidths)


def measure_device(index: int, dtype: str = "float32", limit_s: float = LIMIT_S) -> Peaks:
    """The same of a GPU. Raises DeviceError: there is none of that number."""
    from ..cuda import peak

    gflops, memory = peak.measure(index, dtype, limit_s)
    return Peaks(1, dtype, gflops, {"memory": memory}, f"GPU {index}")


def cache_bytes(level: str) -> int:
    """Size of a core's own data cache."""
    for folder in Path("/sys/devices/system/cpu/cpu0").glob("cache/index*"):
        try:
            found, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if f"L{found}" == level and kind != "Instruction" and re.fullmatch("[0-9]+K", size):
            return int(size[:-1]) * 1024
    return CACHE_BYTES[level]


def shortest(run: Callable[[], float], limit_s: float) -> float:
    """The least seconds that any of several runs took; the first does not count."""
    found, total = run(), 0.0
    while total < limit_s:
        seconds = run()
        found, total = min(found, seconds), total + seconds
    return found
