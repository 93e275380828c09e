"""Layers, one file a kind; `base.py` is the contract. Stage: layers. Must not know: plans, executors, threads."""

from ..errors import unknown_attribute
from .base import Layer, Weight
from .dense import Dense
from .dropout import Dropout
from .normalization import BatchNormalization
from .shape import Activation, Flatten, Input, Rescaling, Reshape

__all__ = [
    "Activation",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "Layer",
    "Rescaling",
    "Reshape",
    "Weight",
]


def __getattr__(name: str):
    raise unknown_attribute(__name__, name, __all__)
