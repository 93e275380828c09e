"""Layers, one file a kind; `base.py` is the contract. Stage: layers. Must not know: plans, executors, threads."""

from .base import Layer, Weight
from .convolution import Conv2D
from .dense import Dense
from .dropout import Dropout
from .normalization import BatchNormalization
from .pooling import GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D, ZeroPadding2D
from .shape import Activation, Flatten, Input, Rescaling, Reshape

__all__ = [
    "Activation",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Input",
    "Layer",
    "MaxPooling2D",
    "Rescaling",
    "Reshape",
    "Weight",
    "ZeroPadding2D",
]
