"""Layers, one file a kind; `base.py` is the contract. Stage: layers. Must not know: plans, executors, threads."""

from ..errors import unknown_attribute
from .activation import ELU, Activation, LeakyReLU, ReLU, Softmax
from .augmentation import RandomCrop, RandomErasing, RandomFlip, RandomRotation, RandomTranslation
from .average_pooling import AveragePooling2D
from .base import Layer, Weight
from .convolution import Conv2D
from .dense import Dense
from .depthwise import DepthwiseConv2D
from .dropout import Dropout, GaussianNoise
from .layer_normalization import LayerNormalization
from .merge import Add, Average, Concatenate, Maximum, Multiply, Subtract
from .normalization import BatchNormalization
from .pooling import Cropping2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D, ZeroPadding2D
from .separable import SeparableConv2D
from .shape import Flatten, Input, Permute, Rescaling, Reshape
from .upsampling import UpSampling2D

__all__ = [
    "Activation",
    "Add",
    "Average",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "ELU",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Input",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPooling2D",
    "Maximum",
    "Multiply",
    "Permute",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "ReLU",
    "Rescaling",
    "Reshape",
    "SeparableConv2D",
    "Softmax",
    "Subtract",
    "UpSampling2D",
    "Weight",
    "ZeroPadding2D",
]


def __getattr__(name: str):
    raise unknown_attribute(__name__, name, __all__)
