"""`evaluate` and `predict`: whole data sets in inference mode. Stage: train. Must not know: callbacks, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import DataError, StateError
from ..executors.base import Feed
from ..executors.link import Program
from ..plan.objective import Aim, MetricSlot
from ..plan.plan import Request
from ..strategy import Strategy
from .aims import log_names
from .stream import Piece, Source

#: batches between two looks at Python: Ctrl-C is heard about ten times a second
STRETCH_ROWS = 1 << 14


@dataclass(frozen=True)
class Measurement:
    """Sums over some rows, and what they mean.

    Attributes:
        sums: float64; the loss's, then each metric's at its slot.
        rows: that were summed.
        aims: what was measured of each output; names: of the outputs.
        slots: where each metric's sums begin, and their shape, output by output.
    """

    sums: np.ndarray
    rows: int
    aims: tuple[Aim, ...]
    names: tuple[str, ...]
    slots: tuple[MetricSlot, ...]

    @classmethod
    def of(cls, model: Any, sums: np.ndarray, rows: int, program: Program) -> Measurement:
        """What a compiled model's program has summed."""
        return cls(sums, rows, model.aims, model.output_names, program.plan.metric_slots)

    def results(self) -> dict[str, Any]:
        """{"loss": ..., metric: ...}; of several outputs {"loss": ..., "out_loss": ..., "out_metric": ...}."""
        measured = [metric for aim in self.aims for metric in aim.metrics]
        values: list[Any] = [float(self.sums[0] / self.rows)]
        if len(self.aims) > 1:
            values += [float(self.sums[1 + k] / self.rows) for k, aim in enumerate(self.aims) if aim.loss is not None]
        for metric, (first, shape) in zip(measured, self.slots, strict=True):
            values.append(metric.result(self.sums[first : first + prod(shape)].reshape(shape).copy(), self.rows))
        return dict(zip(log_names(self.aims, self.names), values, strict=True))


def prepare_measure(model: Any, piece: Piece, strategy: Strategy) -> Program:
    """The program that measures such a piece; its kernels compile here."""
    if model.loss is None:
        raise StateError("evaluate: the model has no loss; call compile(optimizer, loss) first")
    data, weighted = piece.kind
    request = Request("evaluate", piece.batch, data, model.session.dtype, weighted=weighted, aims=model.aims)
    return model.session.fitted(request, strategy)


def measure(model: Any, data: Source, strategy: Strategy, show: Callable[[int], None] | None = None) -> Measurement:
    """Loss and metrics of checked data.

    Args:
        show: called with the rows done, after each piece.
    Raises:
        DataError: there is no row.
    """
    sums, rows, program = np.zeros(0), 0, None
    for piece in data.pieces(0):
        with model.session.turn:
            program = prepare_measure(model, piece, strategy)
            if not len(sums):
                sums = np.zeros(program.plan.sums)
            feed = Feed(**piece.words(program.plan.request.batch), sums=sums, losses=np.zeros(piece.batches))
            finite = _run_all(model, program, feed, piece)
        rows += piece.total
        if not finite:
            break
        if show is not None:
            show(rows)
    if program is None:
        raise DataError("evaluate: expected at least one batch, received an iterable that gives none")
    return Measurement.of(model, sums, rows, program)


def predict(model: Any, data: Source, strategy: Strategy) -> list[np.ndarray]:
    """Outputs (rows, *output shape) of checked inputs, one array for each output."""
    session, parts = model.session, []
    for piece in data.pieces(0):
        out = session.room(piece.total)
        if piece.total:
            words = piece.words(piece.batch) | {"y": None, "weight": None}
            with session.turn:
                program = session.fitted(Request("predict", piece.batch, piece.kind[0], session.dtype), strategy)
                _run_all(model, program, Feed(**words, out=out), piece)
        parts.append(out)
    if len(parts) == 1:
        return list(parts[0])
    return [np.concatenate(some) for some in zip(*parts, strict=True)] if parts else list(session.room(0))


def _run_all(model, program, feed: Feed, piece: Piece) -> bool:
    """All batches of a piece. Returns False, with the loss's sum NaN, where a loss is not finite."""
    stretch = max(1, STRETCH_ROWS // program.plan.request.batch)
    first_batch, last = piece.first_batch, piece.first_batch + piece.batches
    model.session.start(program, feed)
    for first in range(first_batch, last, stretch):
        model.session.infer(program, first, min(last, first + stretch))
        if program.stopped():
            feed.sums[0] = np.nan  # the loss is not finite, so its mean is not either
            return False
    return True
