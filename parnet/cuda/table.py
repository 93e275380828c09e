"""Which launcher stands for which kernel of a plan. Stage: cuda, highest.

The names and the operands are those of `parnet/kernels`; a kernel of one's own gets a twin by `add_twin`.
"""

from __future__ import annotations

from . import (
    activation,
    augment,
    channel_norm,
    constrain,
    conv,
    depthwise,
    gather,
    image,
    layer_norm,
    loss,
    merge,
    metric,
    noise,
    norm,
    pool,
    product,
    reduce,
    softmax,
    update,
)
from .launch import Launcher

FAMILIES = (
    *(activation, augment, channel_norm, constrain, conv, depthwise, gather, image, layer_norm, loss, merge, metric, noise),
    *(norm, pool, product, reduce, softmax, update),
)
LAUNCHERS: dict[str, Launcher] = {name: launcher for family in FAMILIES for name, launcher in family.LAUNCHERS.items()}


def find(name: str) -> Launcher | None:
    """The launcher of a kernel, or None where it has no twin on the device."""
    return LAUNCHERS.get(name)


def add_twin(name: str, launcher: Launcher) -> None:
    """Make a launcher known for a kernel from outside parnet, "user.<name>"; a later one takes its place."""
    LAUNCHERS[name] = launcher
