"""`evaluate` and `predict`: whole data sets in inference mode. Stage: train. Must not know: callbacks, files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import StateError
from ..executors.base import Feed
from ..executors.link import Program
from ..plan.objective import Aim
from ..plan.plan import Request
from ..strategy import Strategy
from .aims import log_names
from .data import kinds

#: batches between two looks at Python: Ctrl-C is heard about ten times a second
STRETCH_ROWS = 1 << 14


@dataclass(frozen=True)
class Measurement:
    """Sums over some rows, and what they mean.

    Attributes:
        sums: float64; the loss's, then each metric's at its slot.
        rows: that were summed.
        aims: what was measured of each output; names: of the outputs.
        slots: where each metric's sums are, output by output.
    """

    sums: np.ndarray
    rows: int
    aims: tuple[Aim, ...]
    names: tuple[str, ...]
    slots: tuple[tuple[int, int], ...]

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
        for metric, (first, size) in zip(measured, self.slots, strict=True):
            values.append(metric.result(self.sums[first : first + size].copy(), self.rows))
        return dict(zip(log_names(self.aims, self.names), values, strict=True))


def prepare_measure(model: Any, x: tuple[np.ndarray, ...], weight, batch: int, strategy: Strategy) -> Program:
    """The program that measures such arrays; its kernels compile here."""
    if model.loss is None:
        raise StateError("evaluate: the model has no loss; call compile(optimizer, loss) first")
    request = Request(
        "evaluate",
        min(batch, len(x[0])),
        kinds(x),
        model.session.dtype,
        weighted=weight is not None,
        aims=model.aims,
    )
    return model.session.fitted(request, strategy)


def measure(
    model: Any, x: tuple[np.ndarray, ...], y: tuple, weight, batch: int, strategy: Strategy, unchanged: object = None
) -> Measurement:
    """Loss and metrics of checked arrays. unchanged: see `parnet.executors.base.Feed`."""
    program = prepare_measure(model, x, weight, batch, strategy)
    rows = len(x[0])
    steps = -(-rows // program.plan.request.batch)
    feed = Feed(x, rows, y=y, weight=weight, sums=np.zeros(program.plan.sums), losses=np.zeros(steps), unchanged=unchanged)
    _run_all(model, program, feed, steps)
    return Measurement.of(model, feed.sums, rows, program)


def predict(model: Any, x: tuple[np.ndarray, ...], batch: int, strategy: Strategy) -> list[np.ndarray]:
    """Outputs (rows, *output shape) of checked inputs, one array for each output."""
    session, rows = model.session, len(x[0])
    out = session.room(rows)
    if rows:
        request = Request("predict", min(batch, rows), kinds(x), session.dtype)
        program = session.fitted(request, strategy)
        _run_all(model, program, Feed(x, rows, out=out), -(-rows // request.batch))
    return list(out)


def _run_all(model, program, feed: Feed, steps: int) -> None:
    stretch = max(1, STRETCH_ROWS // program.plan.request.batch)
    model.session.start(program, feed)
    for first in range(0, steps, stretch):
        model.session.run(program, first, min(steps, first + stretch))
        if program.stopped():
            feed.sums[0] = np.nan  # the loss is not finite, so its mean is not either
            break
