"""Optimizers by name or as objects. Stage: between layers and plan. Must not know: plans, executors, layers."""

from .base import Optimizer, registry
from .rules import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Nadam, RMSprop

__all__ = ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Nadam", "Optimizer", "RMSprop", "SGD", "get"]


def get(identifier) -> Optimizer:
    """An optimizer from a name ("sgd"), a configuration or an object."""
    return registry.get(identifier)
