"""The matrix product on a GPU, rung by rung: one thread a sum, tiles in shared memory, tiles in registers.

    python cuda_matmul_ladder.py [sizes]            needs an NVIDIA GPU and parnet[cuda,plot]; draws ladder.png
    NUMBA_ENABLE_CUDASIM=1 python ...               no GPU: Numba's simulator, a tiny size, only whether the sums are right

What changes is how often a number comes from the device's memory: n times in the first rung, n / 16 times with tiles of 16;
with registers, what has come from shared memory is used four times over. Beside them stand NumPy's and PyTorch's products.
"""

import sys
import timeit
from importlib.util import find_spec

import numpy as np

from parnet.cuda.launch import Context
from parnet.cuda.product import LAUNCHERS
from parnet.cuda.runtime import SIMULATED, check_device, cuda
from parnet.errors import DeviceError
from parnet.kernels import control
from parnet.kernels.step import PANEL, row_stride

SIDE = 2 if SIMULATED else 16


@cuda.jit
def naive(a, b, c):
    """A thread a sum; every number comes from the device's memory."""
    j, i = cuda.grid(2)
    if i < c.shape[0] and j < c.shape[1]:
        total = np.float32(0)
        for k in range(a.shape[1]):
            total += a[i, k] * b[k, j]
        c[i, j] = total


@cuda.jit
def tiled(a, b, c):
    """A block fetches SIDE x SIDE numbers of A and B at a time, which all of its threads use. n is a multiple of SIDE."""
    tile_a = cuda.shared.array((SIDE, SIDE), np.float32)
    tile_b = cuda.shared.array((SIDE, SIDE), np.float32)
    j, i = cuda.grid(2)
    x, y, total = cuda.threadIdx.x, cuda.threadIdx.y, np.float32(0)
    for first in range(0, a.shape[1], SIDE):
        tile_a[y, x], tile_b[y, x] = a[i, first + x], b[first + y, j]
        cuda.syncthreads()
        for k in range(SIDE):
            total += tile_a[y, k] * tile_b[k, x]
        cuda.syncthreads()
    c[i, j] = total


def on_a_grid(kernel, a, b, n):
    """One of the two first rungs, ready to run."""
    a, b, c = (cuda.to_device(array) for array in (a, b, np.zeros_like(a)))
    return lambda: kernel[(n // SIDE, n // SIDE), (SIDE, SIDE)](a, b, c), c


def parnets(a, b, n):
    """parnet's product: up to 64 sums a thread, and the next tile on its way while this one is used."""
    pad = ((0, 0), (0, row_stride(n) - n))  # rows of activations start at a cache line
    words = np.where(np.arange(control.WIDTH) == control.ROWS, n, 0)
    weights = np.concatenate([b[:, j : j + PANEL].ravel() for j in range(0, n, PANEL)])  # they lie in panels of columns
    arrays = {"x": np.pad(a, pad).ravel(), "w": weights, "y": np.pad(0 * a, pad).ravel(), 0: np.zeros(1, np.float32)}
    there = {name: cuda.to_device(array) for name, array in arrays.items()}
    context = Context("float32", n, cuda.to_device(words), there.get, lambda size: cuda.device_array(size, np.float32))
    launches = LAUNCHERS["product.forward"](context, ("x", "w", "y", n, n, 0))
    return lambda: [la.kernel[la.grid, la.block](*la.args) for la in launches], there["y"]


def gflops(run, n, wait=cuda.synchronize):
    """The median speed of ten runs after one that does not count."""
    times = timeit.repeat(lambda: (run(), wait()), number=1, repeat=11)
    return 2e-9 * n**3 / float(np.median(times[1:]))


def climb(n):
    """Rung -> GFLOP/s at size n; in the simulator only whether it is right."""
    a, b = np.random.default_rng(0).normal(size=(2, n, n)).astype(np.float32)
    rungs = {"a thread a sum": on_a_grid(naive, a, b, n), "tiles in shared memory": on_a_grid(tiled, a, b, n)}
    rungs["tiles in registers (parnet)"], speeds = parnets(a, b, n), {}
    for name, (run, c) in rungs.items():
        run()
        error = np.abs(c.copy_to_host().reshape(n, -1)[:, :n] - a @ b).max()
        print(f"{n:5d}  {name:30s} largest error {error:.1e}")
        assert error < 1e-5 * n, f"{name}: wrong by {error}"
        speeds |= {} if SIMULATED else {name: gflops(run, n)}
    if not SIMULATED:
        speeds["CPU (NumPy)"] = gflops(lambda: a @ b, n)
        if find_spec("torch"):
            import torch

            torch.backends.cuda.matmul.allow_tf32 = False
            x, y = torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda()
            speeds["NVIDIA's library"] = gflops(lambda: x @ y, n, torch.cuda.synchronize)
    return speeds


def main():
    """Climb the ladder at each size, and draw it."""
    sizes = [int(word) for word in sys.argv[1:]] or ([16] if SIMULATED else [480, 960, 1920, 3840])
    if not all(n > 0 and (n in (16, 32) or n % PANEL == 0) for n in sizes):
        sys.exit(f"sizes: expected 16, 32, or multiples of {PANEL}, received {sizes}")
    try:
        check_device(0)
        found = {n: climb(n) for n in sizes}
    except DeviceError as error:
        sys.exit(str(error))
    if not SIMULATED:
        import matplotlib.pyplot as plt

        for name in dict.fromkeys(name for speeds in found.values() for name in speeds):
            plt.loglog(list(found), [found[n].get(name, np.nan) for n in found], marker="o", label=name)
        plt.gca().set(xlabel="n, of n x n matrices", ylabel="GFLOP/s, float32")
        plt.legend()
        plt.savefig("ladder.png", dpi=150)


if __name__ == "__main__":
    main()
