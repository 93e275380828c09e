"""What tells one request from another, and the loss of a first pass. Stage: train, beneath the session.

Must not know: sessions, programs.
"""

from __future__ import annotations

from functools import lru_cache

from ..losses import Loss
from ..optimizers import Optimizer
from ..plan.plan import Network


@lru_cache(maxsize=64)
def text(thing) -> str:
    """A loss or metrics as a key; they do not change once made."""
    return repr(thing)


def rule(optimizer: Optimizer | None) -> tuple:
    """An optimizer as a key: its kind and numbers, not its rate."""
    if optimizer is None:
        return ()
    clips = (optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue)
    return (type(optimizer).__name__, optimizer.kernel, optimizer.numbers(), clips)


def guess(network: Network) -> Loss:
    """The loss that a first forward pass is planned for, before the loop has shown its own."""
    from .. import losses

    classes = network.activation(0) == "softmax" and len(network.output_shapes[0]) == 1
    return losses.get("sparse_categorical_crossentropy" if classes else "mse")
