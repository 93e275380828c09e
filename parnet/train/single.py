"""`train_on_batch`: one update, by the plan that `fit` uses. Stage: train. Must not know: callbacks, files."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import NonFiniteLossError
from ..executors.base import Feed
from ..plan.plan import Request
from . import data
from .diagnose import first_non_finite
from .evaluate import Measurement
from .stream import Rows


def train_on_rows(model: Any, rows: Rows) -> dict[str, Any]:
    """One update with all rows as one batch. Returns loss and metrics from before it."""
    session, rule = model.session, model.optimizer
    request = Request(
        "train",
        len(rows),
        data.kinds(rows.x),
        session.dtype,
        optimizer=rule,
        weighted=rows.weight is not None,
        aims=model.aims,
    )
    program = session.fitted(request)
    rates, sums = rule.rates(np.array([rule.batches])), np.zeros(program.plan.sums)
    feed = Feed(rows.x, len(rows), rows.y, rows.weight, rates=rates, sums=sums, epoch=rule.batches, seed=session.seed)
    session.start(program, feed)
    session.run(program, 0, 1)
    if program.stopped():
        raise NonFiniteLossError(
            f"train_on_batch: the loss became {feed.losses[0]} (update {rule.iterations + 1}); {first_non_finite(program)}. "
            "The weights are those before that step; lower the learning rate or check the data"
        )
    rule.batches += 1
    return Measurement.of(model, sums, len(rows), program).results()
