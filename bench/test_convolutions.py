"""Each convolution of ResNet-50, as GFLOP/s in float32 and as a fraction of the processor's peak.

In each round, in one process: the peak (a register tile on resident operands), forward and, for a batch, input gradient
(the turning of the weights included) and weight gradient in the native loop, each for some milliseconds. Fractions are
medians over rounds.
"""

from __future__ import annotations

import numpy as np
import pytest

from parnet.applications.resnet50 import STAGES
from parnet.config import usable_cores

from . import timing
from .native import Convolution, Peak, Shape

ROUNDS = 15
#: arithmetic a sample, FLOPs: some ten milliseconds on a thread
SAMPLE = 6e8
THREADS = {1: "one thread", 2: "two threads"}
TARGET = "convolution / peak"


def shapes() -> dict[str, Shape]:
    """The distinct convolutions of the network, by name; the first on its padded image."""
    side, channels, found = 56, 64, [Shape(230, 3, 7, 2, 64)]
    for filters, _, stride in STAGES:
        wide, small = 4 * filters, side // stride
        found += [Shape(side, channels, 1, stride, filters), Shape(side, channels, 1, stride, wide)]
        found += [Shape(small, filters, 3, 1, filters), Shape(small, filters, 1, 1, wide)]
        found.append(Shape(small, wide, 1, 1, filters))
        side, channels = small, wide
    return {shape.name: shape for shape in found}


def must(shape: Shape) -> bool:
    """Whether forward has a target: 3x3, and 1x1 between many channels."""
    return shape.taps == 3 or (shape.taps == 1 and min(shape.channels, shape.filters) >= 256)


def passes(shape: Shape, batch: int) -> list[str]:
    """That the network makes: one image is only looked at, and the first layer's images need no gradient."""
    every = list(Convolution.PASSES)
    return [what for what in every[: 1 if batch == 1 else None] if shape.channels > 3 or what != "input gradient"]


@pytest.fixture(scope="module")
def shares() -> dict[tuple[int, int], dict[str, float]]:
    """What the convolutions leave for the verdicts: (batch, threads) -> {shape: forward's fraction of the peak}."""
    return {}


@pytest.fixture(scope="module")
def peaks() -> dict[int, list[float]]:
    """What the convolutions leave for the verdicts: threads -> every peak measured, GFLOP/s."""
    return {threads: [] for threads in THREADS}


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize("batch", [8, 1], ids=["batch8", "batch1"])
@pytest.mark.parametrize("threads", THREADS, ids=["one", "two"])
def test_convolution(name, batch, threads, benchmark, record, repeats, shares, peaks):
    """One shape."""
    if threads > usable_cores():
        pytest.skip("this process may use one core")
    shape = shapes()[name]
    layer, peak = Convolution(shape, batch, threads), Peak(threads)
    batches = max(1, round(SAMPLE * threads / layer.flops))
    contenders = {"peak": peak.seconds}
    contenders |= {what: (lambda what=what: layer.seconds(what, batches)) for what in passes(shape, batch)}
    try:
        times = timing.pedantic(benchmark, "forward", contenders, repeats(ROUNDS), warmups=2)
        np.testing.assert_allclose(*layer.middle(), rtol=1e-3, atol=1e-3)
    finally:
        layer.executor.close()
    work, place = layer.flops * batches / 1e9, f"batch {batch}, {THREADS[threads]}"
    top = [peak.flops / 1e9 / t for t in times["peak"]]
    peaks[threads] += top
    for what in passes(shape, batch):
        rates = [work / t for t in times[what]]
        share, wanted = timing.ratio(rates, top).median, TARGET if what == "forward" and must(shape) else ""
        more = {"ratio": share, "against": "peak measured beside it", "detail": True}
        record(f"{name}, {what}, {place}", timing.summarize(rates), "GFLOP/s", wanted, **more)
        if wanted:
            shares.setdefault((batch, threads), {})[name] = share


@pytest.mark.parametrize("threads", THREADS, ids=["one", "two"])
def test_peak(threads, record, peaks):
    """All rounds of all convolutions together."""
    if not peaks[threads]:
        pytest.skip("no convolution was measured in this run")
    record(f"peak beside the convolutions, {THREADS[threads]}", timing.summarize(peaks[threads]), "GFLOP/s")


@pytest.mark.parametrize("batch", [8, 1], ids=["batch8", "batch1"])
@pytest.mark.parametrize("threads", THREADS, ids=["one", "two"])
def test_verdicts(batch, threads, record, shares):
    """The lowest fraction of the peak among the shapes that must reach a target."""
    measured = shares.get((batch, threads))
    if not measured:
        pytest.skip("no convolution with a target was measured in this run")
    lowest = min(measured, key=measured.get)
    enough = sum(share >= 0.8 for share in measured.values())
    name = f"forward of 3x3 and large 1x1 convolutions / peak, batch {batch}, {THREADS[threads]}"
    more = {"against": f"lowest: {lowest}", "note": f"{enough} of {len(measured)} shapes reach it"}
    record(name, measured[lowest], "", TARGET, ratio=measured[lowest], **more)
