"""Metrics. Stage: between layers and plan. Must not know: plans, executors.

A metric names its kernel, says how many sums it keeps, and turns them into a number at the end of an epoch.
"""

from __future__ import annotations

from ..registry import arguments
from .area import AUC
from .base import Metric, Outcome, registry
from .classes import F1, ConfusionMatrix, Precision, Recall
from .rows import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    MeanAbsoluteError,
    MeanSquaredError,
    R2Score,
    RootMeanSquaredError,
    SparseCategoricalAccuracy,
    TopKAccuracy,
)

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "ConfusionMatrix",
    "F1",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Outcome",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "TopKAccuracy",
    "get",
    "get_all",
]


def get_all(identifiers) -> tuple[Metric, ...]:
    """Metrics from a list of names or objects, from one of them, or from None for none."""
    if identifiers is None:
        return ()
    single = isinstance(identifiers, str | dict | Metric | type) or not hasattr(identifiers, "__iter__")
    return tuple(get(item) for item in ([identifiers] if single else identifiers))


def get(identifier) -> Metric:
    """A metric from a name ("accuracy"), which is its key in logs then, a configuration or an object."""
    if isinstance(identifier, str):
        cls = registry.find(identifier)
        made = cls(name=identifier) if cls.name != identifier and "name" in arguments(cls) else cls()
        made.name = identifier
        return made
    return registry.get(identifier)
