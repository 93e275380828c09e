"""Layers, one file a kind; `base.py` is the contract. Stage: layers. Must not know: plans, executors, threads."""

from .augmentation import RandomCrop, RandomErasing, RandomFlip, RandomRotation, RandomTranslation
from .average_pooling import AveragePooling2D
from .base import Layer, Weight
from .convolution import Conv2D
from .dense import Dense
from .depthwise import DepthwiseConv2D
from .dropout import Dropout
from .layer_normalization import LayerNormalization
from .normalization import BatchNormalization
from .shape import Activation, Flatten, Input, Rescaling, Reshape
from .upsampling import UpSampling2D

__all__ = [
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "Input",
    "Layer",
    "LayerNormalization",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "Rescaling",
    "Reshape",
    "UpSampling2D",
    "Weight",
]
