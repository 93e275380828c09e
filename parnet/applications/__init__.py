"""Known networks, ready to build and to load. Stage: beside the model. Must not know: kernels, plans."""

from . import lenet, resnet, resnet50
from .lenet import LeNet5
from .resnet import resnet18, resnet34
from .resnet50 import ResNet50

__all__ = ["LeNet5", "ResNet50", "lenet", "resnet", "resnet18", "resnet34", "resnet50"]
