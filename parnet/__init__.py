"""parnet: a deep-learning engine for CPUs. Public names; no work is done at import."""

from . import (
    activations,
    callbacks,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
    strategy,
    viz,
)
from ._version import __version__
from .errors import ParnetError, ParnetWarning
from .io.model_file import load_model
from .layers import Input
from .model import Sequential
from .seeding import set_seed
from .train.data import DataLoader
from .train.gradcheck import check_gradients

__all__ = [
    "DataLoader",
    "Input",
    "ParnetError",
    "ParnetWarning",
    "Sequential",
    "__version__",
    "activations",
    "callbacks",
    "check_gradients",
    "datasets",
    "initializers",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
    "schedules",
    "set_seed",
    "strategy",
    "viz",
]
