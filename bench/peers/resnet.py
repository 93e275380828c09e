"""What the scripts that run ResNet-50 share: its shape, random images and weights, and how they are asked.

The line that asks names what runs and the rows of a batch: predict-1, predict-8, train-8. The network is version 1,
224x224x3: strides stand in the first 1x1 convolution of a block. Needs NumPy alone. Must not know: any library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from serve import serve

SIZE, CLASSES, RATE = 224, 1000, 1e-3
#: filters of the narrow convolutions, blocks and first stride of each stage
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
#: batches that one answer is about
BATCHES = {"predict-1": 10, "predict-8": 1, "train-8": 1}


def images(batch: int) -> np.ndarray:
    """Random (batch, 224, 224, 3) float32 from -1 to 1."""
    return np.random.default_rng(0).uniform(-1, 1, (batch, SIZE, SIZE, 3)).astype(np.float32)


def labels(batch: int) -> np.ndarray:
    """Class numbers."""
    return np.arange(batch, dtype=np.int64) * 7 % CLASSES


def blocks():
    """Of all stages in turn: channels of the input, filters of the narrow convolutions, stride, whether it widens."""
    channels = 64
    for filters, count, stride in STAGES:
        for index in range(count):
            yield channels, filters, stride if index == 0 else 1, index == 0
            channels = 4 * filters


def network(build, x):
    """The inference graph, batch normalisation folded into the convolutions, made of what `build` knows.

    Args:
        build: of `conv(x, weights (F, C, k, k), bias, stride, relu)`, `max_pool(x)` (3, stride 2, padding 1),
            `add(a, b)` with relu, `dense(x, weights (C, F), bias)` of the mean over all pixels, with softmax.
    """
    rng = np.random.default_rng(1)

    def conv(x, inputs: int, outputs: int, size: int = 1, stride: int = 1, relu: bool = False):
        scale = (2 / (inputs * size * size)) ** 0.5 * (1 if relu else 0.5)
        weights = rng.normal(0, scale, (outputs, inputs, size, size)).astype(np.float32)
        return build.conv(x, weights, rng.normal(0, 0.1, outputs).astype(np.float32), stride, relu)

    x = build.max_pool(conv(x, 3, 64, 7, 2, True))
    for inputs, filters, stride, widens in blocks():
        own = conv(x, inputs, filters, 1, stride, True)
        own = conv(own, filters, filters, 3, 1, True)
        own = conv(own, filters, 4 * filters)
        x = build.add(own, conv(x, inputs, 4 * filters, 1, stride) if widens else x)
    weights = rng.normal(0, 2048**-0.5, (2048, CLASSES)).astype(np.float32)
    return build.dense(x, weights, np.zeros(CLASSES, np.float32))


def serve_batches(library: str, make: Callable[[str, int], Callable[[], object]]) -> None:
    """Answer lines with the seconds of as many batches as BATCHES says.

    Args:
        make: from "predict" or "train" and the rows of a batch to a function that runs one; called once for each.
    """
    made = lru_cache(None)(make)

    def epoch(line: str) -> tuple[float, int]:
        task, rows = line.rsplit("-", 1)
        call, count = made(task, int(rows)), BATCHES["-".join(line.split("-")[-2:])]
        begun = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - begun, count * int(rows)

    serve(library, epoch, 1)
