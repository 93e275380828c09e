"""Matrix products beside OpenBLAS and beside the processor's peak, as GFLOP/s in float32.

In each round, in one process: the peak (a register tile on resident operands), NumPy's `matmul` with `out=`
on as many threads of its BLAS, and parnet's kernel in the native loop; each for some milliseconds, so that
entering Python, once a product for NumPy (under 1 us) and once a sample for parnet, does not count. Ratios
and fractions are medians over rounds.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from parnet.config import usable_cores
from parnet.study.peaks import Peak

from . import timing
from .native import Product

#: seconds between samples on several threads
PAUSE_S = 0.1
#: name -> kernel, rows, depth, width, threads (0: all), batches a sample, rounds, target
CASES = {
    "forward 32x784x100": ("product.forward", 32, 784, 100, 1, 120, 150, "small product / OpenBLAS"),
    "weight gradient 784x32x100": (
        "product.weight_gradient",
        32,
        784,
        100,
        1,
        120,
        150,
        "small product / OpenBLAS",
    ),
    "forward 32x200x100": ("product.forward", 32, 200, 100, 1, 400, 150, "small product / OpenBLAS"),
    "forward 1024x1024x1024": ("product.forward", 1024, 1024, 1024, 1, 1, 60, "large product / OpenBLAS"),
    "forward 1024x1024x1024, all threads": (
        "product.forward",
        1024,
        1024,
        1024,
        0,
        2,
        60,
        "large product / OpenBLAS",
    ),
}


def rested(sample):
    """The sample, after a pause: threads of OpenBLAS spin for 30 ms when their work is done, on a core that the next needs.

    Without it 1024 x 1024 x 1024 on two threads ran at 104 GFLOP/s beside it, and at 213 alone.
    """

    def later() -> float:
        time.sleep(PAUSE_S)
        return sample()

    return later


@pytest.mark.parametrize("name", CASES)
def test_product(name, benchmark, record, repeats):
    """One case."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    kernel, rows, depth, width, threads, batches, rounds, target = CASES[name]
    threads = threads or usable_cores()
    product, peak = Product(kernel, rows, depth, width, threads), Peak(threads)
    a, b = product.operands()
    out = np.empty((a.shape[0], b.shape[1]), np.float32)

    def numpy_products() -> None:
        for _ in range(batches):
            np.matmul(a, b, out=out)

    contenders = {
        "peak": peak.seconds,
        "openblas": timing.seconds(numpy_products),
        "parnet": lambda: product.seconds(batches),
    }
    if threads > 1:
        contenders = {key: rested(sample) for key, sample in contenders.items()}
    try:
        with limits(limits=threads, user_api="blas"):
            times = timing.pedantic(benchmark, "parnet", contenders, repeats(rounds), warmups=3)
        np.testing.assert_allclose(product.result(), out, rtol=1e-3, atol=1e-3 * depth**0.5)
    finally:
        product.executor.close()
    work = product.flops * batches / 1e9
    rates = {key: [work / t for t in times[key]] for key in ("parnet", "openblas")}
    rates["peak"] = [peak.flops / 1e9 / t for t in times["peak"]]
    ours, top = timing.summarize(rates["parnet"]), timing.summarize(rates["peak"])
    beside = timing.ratio(rates["parnet"], rates["openblas"]).median
    share = timing.ratio(rates["parnet"], rates["peak"]).median
    record(name, ours, "GFLOP/s", target, ratio=beside, against="OpenBLAS")
    record(f"{name}, of the peak", share, "")
    record(f"{name}, OpenBLAS", timing.summarize(rates["openblas"]), "GFLOP/s")
    record(f"peak on {threads} threads" if threads > 1 else "peak on one thread", top, "GFLOP/s")
    benchmark.extra_info.update(gflops=ours.median, openblas=beside, peak=share)
