"""Makes Numba's CUDA simulator fast enough for a test suite; `install()` is called before any kernel runs.

The simulator's own scheduler starts a thread of Python for each thread of a block and asks them in a loop whether they
wait. Here the threads of a block run one after another where the kernel, and all it calls, has no barrier, and meet at a
`threading.Barrier` otherwise.
"""

from __future__ import annotations

import functools
import sys
import threading

import numpy as np
from numba import cuda
from numba.cuda.simulator import kernel as simulated

#: seconds a thread waits for the others of its block: one that has left without the barrier is a bug in a kernel
PATIENCE_S = 120.0


@functools.cache
def synchronizes(function) -> bool:
    """Whether a kernel, or a device function that it calls, has a barrier."""
    names = function.__code__.co_names
    if "syncthreads" in names:
        return True
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    called = cells + [function.__globals__.get(name) for name in names]
    return any(synchronizes(one.fn) for one in called if isinstance(one, simulated.FakeCUDAKernel))


class _Thread(threading.Thread):
    """A thread of a block; `blockIdx` and `threadIdx` are asked of it."""

    def __init__(self, manager, grid_point, block_point, call):
        super().__init__(daemon=True)
        self.manager, self.call, self.error = manager, call, None
        self.blockIdx, self.threadIdx = simulated.Dim3(*grid_point), simulated.Dim3(*block_point)
        size = simulated.Dim3(*manager._block_dim)
        self.thread_id = self.threadIdx.x + size.x * (self.threadIdx.y + size.y * self.threadIdx.z)

    def run(self):
        try:
            with np.errstate(all="ignore"):  # a GPU does not warn
                self.call()
        except BaseException as error:
            self.error = error
            self.manager.barrier.abort()

    def syncthreads(self):
        self.manager.barrier.wait(PATIENCE_S)


def _run(self, grid_point, *args):
    """In place of `BlockManager.run`."""
    points = list(np.ndindex(*self._block_dim))
    me = threading.current_thread()
    if not synchronizes(self._f):
        me.blockIdx = simulated.Dim3(*grid_point)
        for point in points:
            me.threadIdx = simulated.Dim3(*point)
            with np.errstate(all="ignore"):
                self._f(*args)
        return
    self.barrier = threading.Barrier(len(points))
    threads = [_Thread(self, grid_point, point, lambda: self._f(*args)) for point in points]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [thread.error for thread in threads if thread.error is not None]
    if errors:
        raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])


class _Cuda:
    """What kernels know as `cuda`: that of the launch at hand, or numba.cuda itself outside of one.

    The simulator puts it into a module's globals and takes it out again at each call of a device function.
    """

    def __getattr__(self, name):
        return getattr(simulated._kernel_context or cuda, name)


_call = simulated.FakeCUDAKernel.__call__


def _called(self, *args):
    """In place of `FakeCUDAKernel.__call__`."""
    return self.fn(*args) if self._device else _call(self, *args)


def install() -> None:
    """Take the place of the simulator's scheduler."""
    import parnet.cuda.table  # noqa: F401  all kernels

    simulated.BlockManager.run = _run
    simulated.FakeCUDAKernel.__call__ = _called
    simulated.FakeWithinKernelCUDAArray = lambda array: array._ary  # kernels index arrays of NumPy, not wrappers of them
    for name, module in list(sys.modules.items()):
        if name.startswith("parnet.cuda.") and name != "parnet.cuda.runtime" and getattr(module, "cuda", None) is cuda:
            module.cuda = _Cuda()
