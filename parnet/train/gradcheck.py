"""Gradients against finite differences. Stage: train. Must not know: callbacks, files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import losses
from ..checks import check_model
from ..errors import ParnetError, StateError
from ..strategy import Serial
from .session import Session

#: parts of the step that differences are taken with, where the one before found a difference
FINER = (1, 8, 64)


class GradientError(ParnetError, AssertionError):
    """A gradient that differs from the finite difference."""


@dataclass(frozen=True)
class GradientReport:
    """What a check found.

    Attributes:
        entries: numbers compared.
        worst: the largest relative error.
        where: the entry it was found at.
    """

    entries: int
    worst: float
    where: str


def check_gradients(
    model: Any, loss, x, y, *, entries: int = 200, step: float = 2e-4, tolerance: float = 1e-6, seed: int = 0
) -> GradientReport:
    """Compare a model's gradients with five-point central differences, in float64, on a copy of its weights.

    The error of an entry is |g - d| / max(|g|, |d|, 1e-3 of the array's largest gradient, what rounding leaves of d).
    A kink (relu at 0, max) within `step` of a value makes d meaningless: where the two differ, smaller steps are taken too,
    and the best counts. A wrong gradient differs at every step.

    Args:
        model: with its input shape known; its weights are not changed.
        loss: name or object.
        x, y: a small batch.
        entries: numbers of each array that are compared, drawn with `seed`.
        step: of the difference, the largest that is taken.
        tolerance: of the largest relative error.
    Returns:
        the report.
    Raises:
        GradientError: names the worst entry, its gradient and its difference.
    """
    check_model(model, "check_gradients")
    loss, session = losses.get(loss), _copy(model)
    value = _loss(session, loss, x, y)
    session.backward(session.forward_ticket)
    noise = 8 * np.finfo(np.float64).eps * abs(value) / tolerance
    gradients = session.store.gradients.copy()
    rng, report, values = np.random.default_rng(seed), GradientReport(0, 0.0, "nothing"), (0.0, 0.0)
    for placed in session.network.placed.values():
        if not placed.trainable:
            continue
        own = placed.read(gradients).reshape(-1)
        floor = 1e-3 * float(np.abs(own).max(initial=0.0))
        chosen = rng.permutation(placed.count)[:entries]
        for index in chosen:
            entry = tuple(int(i) for i in np.unravel_index(index, placed.weight.shape))
            place = placed.place(entry)
            for finer in FINER:
                difference = _difference(session, loss, x, y, place, step / finer)
                scale = max(abs(own[index]), abs(difference), floor, noise * finer / step)
                error = abs(own[index] - difference) / scale
                if error <= tolerance:
                    break
            if not error <= report.worst:
                report = GradientReport(report.entries, float(error), f"{placed.key}{list(entry)}")
                values = (float(own[index]), difference)
        report = GradientReport(report.entries + len(chosen), report.worst, report.where)
    if not report.worst <= tolerance:
        raise GradientError(
            f"check_gradients: expected a relative error of at most {tolerance:g}, received {report.worst:.3g} at "
            f"{report.where}: gradient {values[0]:.9g}, finite difference {values[1]:.9g}; see its layer's backward"
        )
    return report


def _copy(model: Any) -> Session:
    """A float64 session with the model's weights."""
    source: Session = model.session
    if len(source.network.outputs) > 1:
        raise StateError(
            f"check_gradients: expected a model of one output, received one of {len(source.network.outputs)}; "
            "check pn.Model(model.inputs, model.outputs[k]) for each k"
        )
    weights = source.store  # first: the network knows how long its vectors are from then on
    session = Session(source.network, source.seed, "float64")
    session.strategy = Serial()
    session.store.parameters[:] = weights.parameters
    session.store.state[:] = weights.state
    return session


def _loss(session: Session, loss: losses.Loss, x, y) -> float:
    """The loss of the batch; the same random numbers and moving averages each time."""
    state = session.store.state.copy()
    session.rewind()
    output = session.forward(x, training=True)
    value = session.loss(loss, output.ticket, y, None)
    session.store.state[:] = state
    return value


def _difference(session: Session, loss: losses.Loss, x, y, place: int, step: float) -> float:
    """The five-point central difference by one weight: error of fourth order in the step."""
    weights = session.store.parameters
    before, losses_at = weights[place], {}
    for k in (-2, -1, 1, 2):
        weights[place] = before + k * step
        losses_at[k] = _loss(session, loss, x, y)
    weights[place] = before
    return (8 * (losses_at[1] - losses_at[-1]) - (losses_at[2] - losses_at[-2])) / (12 * step)
