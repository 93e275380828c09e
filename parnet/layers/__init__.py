"""Layers, one file a kind; `base.py` is the contract. Stage: layers. Must not know: plans, executors, threads."""

from ..errors import unknown_attribute
from .base import Layer, Weight
from .dense import Dense
from .dropout import Dropout
from .merge import Add, Average, Concatenate, Maximum, Multiply, Subtract
from .normalization import BatchNormalization
from .shape import Activation, Flatten, Input, Rescaling, Reshape

__all__ = [
    "Activation",
    "Add",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "Layer",
    "Maximum",
    "Multiply",
    "Rescaling",
    "Reshape",
    "Subtract",
    "Weight",
]


def __getattr__(name: str):
    raise unknown_attribute(__name__, name, __all__)
