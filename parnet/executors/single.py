"""One kernel on one array: what makes activations callable alone. Stage: executors. Must not know: models, training."""

from __future__ import annotations

import numpy as np

from ..kernels import control, library
from ..kernels.step import ROWS_SHARED, number
from .serial import KERNEL


def apply_activation(activation, x: np.ndarray) -> np.ndarray:
    """The activation of an array of any shape, by the layers' own kernel; softmax along the last axis."""
    dtype = "float64" if x.dtype == np.float64 else "float32"
    memory = np.zeros(2 * max(1, x.size), dtype)
    memory[: x.size] = x.reshape(-1)
    width = x.shape[-1] if x.ndim and activation.name == "softmax" else 1
    rows = x.size // max(1, width)
    words = np.zeros(control.WIDTH, np.int64)
    words[control.ROWS] = rows if activation.name == "softmax" else 1
    if activation.name == "softmax":
        op = [0, x.size, width]
    else:
        op = [0, 0, 0, x.size, x.size, number(activation.alpha), ROWS_SHARED]
    operands = np.array(op, np.int64)
    run = KERNEL(library.address(activation.kernel, dtype))
    if x.size:
        run(operands.ctypes.data, words.ctypes.data, memory.ctypes.data, 0, 1)
    return memory[x.size : 2 * x.size].reshape(x.shape)
