"""Layers, one file a kind; `base.py` is the contract. Stage: layers. Must not know: plans, executors, threads."""

from ..errors import unknown_attribute
from .base import Layer, Weight
from .convolution import Conv2D
from .dense import Dense
from .dropout import Dropout
from .merge import Add, Average, Concatenate, Maximum, Multiply, Subtract
from .normalization import BatchNormalization
from .pooling import GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D, ZeroPadding2D
from .shape import Activation, Flatten, Input, Rescaling, Reshape

__all__ = [
    "Activation",
    "Add",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Input",
    "Layer",
    "MaxPooling2D",
    "Maximum",
    "Multiply",
    "Rescaling",
    "Reshape",
    "Subtract",
    "Weight",
    "ZeroPadding2D",
]


def __getattr__(name: str):
    raise unknown_attribute(__name__, name, __all__)
