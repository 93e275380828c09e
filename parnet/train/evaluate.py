"""`evaluate` and `predict`: whole data sets in inference mode. Stage: train. Must not know: callbacks, files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import StateError
from ..executors.base import Feed
from ..executors.link import Program
from ..metrics import Metric
from ..plan.plan import Request
from ..strategy import Strategy

#: batches between two looks at Python: Ctrl-C is heard about ten times a second
STRETCH_ROWS = 1 << 14


@dataclass(frozen=True)
class Measurement:
    """Sums over some rows, and what they mean.

    Attributes:
        sums: float64; the loss's, then each metric's at its slot.
        rows: that were summed.
    """

    sums: np.ndarray
    rows: int
    metrics: tuple[Metric, ...]
    slots: tuple[tuple[int, int], ...]

    def results(self) -> dict[str, Any]:
        """{"loss": ..., metric: ...}."""
        logs: dict[str, Any] = {"loss": float(self.sums[0] / self.rows)}
        for metric, (first, size) in zip(self.metrics, self.slots, strict=True):
            logs[metric.name] = metric.result(self.sums[first : first + size].copy(), self.rows)
        return logs


def prepare_measure(model: Any, x: np.ndarray, weight, batch: int, strategy: Strategy) -> Program:
    """The program that measures such arrays; its kernels compile here."""
    if model.loss is None:
        raise StateError("evaluate: the model has no loss; call compile(optimizer, loss) first")
    request = Request(
        "evaluate",
        min(batch, len(x)),
        x.dtype.name,
        model.session.dtype,
        loss=model.loss,
        metrics=model.metrics,
        weighted=weight is not None,
    )
    return model.session.fitted(request, strategy)


def measure(model: Any, x: np.ndarray, y: np.ndarray, weight, batch: int, strategy: Strategy) -> Measurement:
    """Loss and metrics of checked arrays."""
    program = prepare_measure(model, x, weight, batch, strategy)
    steps = -(-len(x) // program.plan.request.batch)
    feed = Feed(x, len(x), y=y, weight=weight, sums=np.zeros(program.plan.sums), losses=np.zeros(steps))
    _run_all(model, program, feed, steps)
    return Measurement(feed.sums, len(x), model.metrics, program.plan.metric_slots)


def predict(model: Any, x: np.ndarray, batch: int, strategy: Strategy) -> np.ndarray:
    """Outputs (rows, *output shape) of checked inputs."""
    session = model.session
    out = np.empty((len(x), *session.network.output_shapes[0]), session.dtype)
    if len(x):
        request = Request("predict", min(batch, len(x)), x.dtype.name, session.dtype)
        program = session.fitted(request, strategy)
        _run_all(model, program, Feed(x, len(x), out=out), -(-len(x) // request.batch))
    return out


def _run_all(model, program, feed: Feed, steps: int) -> None:
    stretch = max(1, STRETCH_ROWS // program.plan.request.batch)
    model.session.start(program, feed)
    for first in range(0, steps, stretch):
        model.session.run(program, first, min(steps, first + stretch))
        if program.stopped():
            feed.sums[0] = np.nan  # the loss is not finite, so its mean is not either
            break
