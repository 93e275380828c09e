"""What plans are told apart by, and what a manual loop starts with. Stage: train, beneath the session.

Must not know: executors, a plan's insides.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .. import losses
from ..losses import Loss
from ..optimizers import Optimizer
from ..plan.plan import Network


@lru_cache(maxsize=64)
def text(thing) -> str:
    """A loss or metrics as a key; they do not change once made."""
    return repr(thing)


def rule_key(optimizer: Optimizer | None) -> tuple:
    """An optimizer as a key: its kind and numbers, not its rate."""
    if optimizer is None:
        return ()
    clips = (optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue)
    how = (optimizer.numbers(), clips, optimizer.gradient_accumulation_steps, optimizer.rides)
    return (type(optimizer).__name__, optimizer.kernel, *how)


def guess_loss(network: Network) -> Loss | None:
    """The loss that a first forward pass is planned for, before the loop has shown its own; None for several outputs."""
    if len(network.outputs) > 1:
        return None
    classes = network.activation(0) == "softmax" and len(network.output_shapes[0]) == 1
    return losses.get("sparse_categorical_crossentropy" if classes else "mse")


@lru_cache(maxsize=16)
def dtype_name(dtype: np.dtype) -> str:
    """Its name, which NumPy takes 5 us to put together."""
    return dtype.name


@lru_cache(maxsize=8)
def ones(rows: int, dtype: str) -> np.ndarray:
    """The weights of samples that have none."""
    result = np.ones(rows, dtype)
    result.flags.writeable = False
    return result
