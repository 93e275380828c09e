"""One kernel on one array: what makes activations callable alone. Stage: executors. Must not know: models, training."""

from __future__ import annotations

import numpy as np

from ..kernels import control, library
from ..kernels.step import ROWS_SHARED, number, row_stride
from .memory import aligned_zeros
from .serial import KERNEL


def apply_activation(activation, x: np.ndarray) -> np.ndarray:
    """The activation of an array of any shape, by the layers' own kernel; softmax and its logarithm along the last axis."""
    dtype = "float64" if x.dtype == np.float64 else "float32"
    width = x.shape[-1] if x.ndim and activation.by_rows else x.size
    rows, stride = x.size // max(1, width), row_stride(width)
    memory = aligned_zeros(2 * rows * stride, dtype).reshape(2, rows, stride)
    memory[0, :, :width] = x.reshape(rows, width)
    words = np.zeros(control.WIDTH, np.int64)
    words[control.ROWS] = rows
    if activation.by_rows:
        op = [0, rows * stride, width, width]
    else:
        op = [0, 0, 0, rows * stride, width, number(activation.alpha), ROWS_SHARED]
    operands = np.array(op, np.int64)
    run = KERNEL(library.address(activation.kernel, dtype))
    if x.size:
        run(operands.ctypes.data, words.ctypes.data, memory.ctypes.data, 0, 1)
    return memory[1, :, :width].reshape(x.shape)
