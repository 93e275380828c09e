"""The same kernels in numba.cuda, for NVIDIA GPUs. Stage: beside kernels, beneath the executors.

    pn.cuda.is_available()       whether strategy="cuda" can run here
    pn.cuda.devices()            the GPUs: index, name, memory

`runtime.py` alone imports numba.cuda, and only when asked. `launch.py` holds the words of a launch; the other files have one
family of kernels each, named like those of `parnet/kernels`, with the operand lists of these; `table.py` finds them. Without
a GPU all of it runs in Numba's simulator (NUMBA_ENABLE_CUDASIM=1). Must not know: layers, plans.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DeviceError, MissingExtraError

__all__ = ["Device", "devices", "is_available"]


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        index: what `pn.strategy.CUDA(device=...)` takes.
        name: the maker's.
        capability: compute capability, (9, 0).
        memory: bytes it has; 0 where it does not tell.
        free: bytes of them not in use.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    free: int


def devices() -> list[Device]:
    """The GPUs that can be used; empty without any.

    Raises:
        MissingExtraError: the extra parnet[cuda] is not installed.
        DeviceError: the driver does not start.
    """
    from . import runtime

    return [Device(*facts) for facts in runtime.devices()]


def is_available() -> bool:
    """Whether there is a GPU, its driver, and the extra parnet[cuda]."""
    try:
        return bool(devices())
    except (MissingExtraError, DeviceError):
        return False
