"""Where the numbers of a weight matrix lie: the panels of `parnet.kernels.step.PANEL`, read as they are. Stage: cuda.

Number (k, f) of a matrix of K rows lies at start(f) + k step(f); a thread that keeps to one column pays for that once.
"""

from __future__ import annotations

from ..kernels.step import NARROW, PANEL, row_stride
from .runtime import cuda

#: whole numbers that describe the panels of one matrix
WORDS = 6


def panels(height: int, width: int, panel: int = 0) -> tuple[int, ...]:
    """The words for a matrix (height, width): columns of a panel, the first column of the last panel, where that starts, and
    in it how far apart the columns and the rows are, then how far apart the rows of the other panels are.

    Args:
        panel: columns of a panel; 0 for PANEL and a narrow last one transposed.
    """
    wide = panel or PANEL
    last = (width - 1) // wide * wide
    rest = width - last
    if last > 0 and rest <= NARROW and not panel:
        return wide, last, last * height, row_stride(height), 1, row_stride(wide)
    return wide, last, last // wide * height * row_stride(wide), 1, row_stride(rest), row_stride(wide)


@cuda.jit(device=True)
def start(geo, at, height, f):
    """Where column f of a matrix of so many rows starts; geo[at:] are the words of `panels`."""
    if f >= geo[at + 1]:
        return geo[at + 2] + (f - geo[at + 1]) * geo[at + 3]
    panel = f // geo[at]
    return panel * height * geo[at + 5] + f - panel * geo[at]


@cuda.jit(device=True)
def step(geo, at, f):
    """How far apart the rows of column f are."""
    return geo[at + 4] if f >= geo[at + 1] else geo[at + 5]
