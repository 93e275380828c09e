"""The steps that bring a batch into the input buffers, each cut as its first reader needs it. Stage: plan.

Must not know: kernels' code, executors.
"""

from __future__ import annotations

from dataclasses import replace

from ..kernels.step import COLUMNS, EACH, PIXELS, ROWS_SHARED, Step, number, writes_own
from ..layers.activate import cut_of, usual_share
from .builder import Builder, Source


def gather_steps(build: Builder, kinds: tuple[str, ...], own_copy: bool) -> list[Step]:
    """The steps that bring the batch into the input buffers, each cut as its first reader needs it.

    Args:
        kinds: dtype of the data of each input, "uint8", "float32" or "float64".
        own_copy: every part may gather the whole batch for itself.
    """
    pairs = enumerate(zip(build.inputs, kinds, strict=True))
    return [_gather_step(build, source, kind, place, own_copy) for place, (source, kind) in pairs]


def _gather_step(build: Builder, source: Source, kind: str, place: int, own_copy: bool) -> Step:
    x = source.buffer
    reader = next((s for s in build.steps if s.touches(x)), None)
    share = ROWS_SHARED
    if reader is not None and reader.share == COLUMNS:
        share = COLUMNS
        if reader.kernel.startswith("product.") and own_copy:
            share = EACH
    if share == EACH:
        build.buffers[x.name] = replace(x, copies=True)
    cut = ROWS_SHARED if share == EACH else share
    extent: tuple[int, ...] = (-1, x.width) if share == COLUMNS else (-1,)
    if reader is not None and reader.share == PIXELS and len(x.shape) == 3:
        cut, (share, extent) = usual_share(x.shape), cut_of(usual_share(x.shape), x.shape)
    operands = (x, x.width, number(source.scale), number(source.offset), cut, place, 1)
    cost = {"uint8": 5.0, "float32": 10.0, "float64": 16.0}[kind] * x.width
    return Step(f"gather.{kind}", operands, writes_own(x), share, extent, 0.0, cost, True, "input", "input")
