"""parnet: a deep-learning engine for CPUs. Public names, sorted; each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import (
        activations,
        applications,
        callbacks,
        constraints,
        cuda,
        datasets,
        image,
        initializers,
        keras,
        layers,
        losses,
        metrics,
        optimizers,
        regularizers,
        schedules,
        sklearn,
        strategy,
        study,
        viz,
    )
    from .cli.info import info
    from .errors import ParnetError, ParnetWarning
    from .graph import Input
    from .io.model_file import load_model
    from .io.model_json import clone_model, model_from_json
    from .model import Model
    from .seeding import set_seed
    from .sequential import Sequential
    from .train.gradcheck import check_gradients
    from .train.loader import DataLoader
    from .warm import warmup

#: public name -> the module it lives in; "" for a module of that name
_HOMES = {
    "DataLoader": "train.loader",
    "Input": "graph",
    "Model": "model",
    "ParnetError": "errors",
    "ParnetWarning": "errors",
    "Sequential": "sequential",
    "activations": "",
    "applications": "",
    "callbacks": "",
    "check_gradients": "train.gradcheck",
    "clone_model": "io.model_json",
    "constraints": "",
    "cuda": "",
    "datasets": "",
    "image": "",
    "info": "cli.info",
    "initializers": "",
    "keras": "",
    "layers": "",
    "load_model": "io.model_file",
    "losses": "",
    "metrics": "",
    "model_from_json": "io.model_json",
    "optimizers": "",
    "regularizers": "",
    "schedules": "",
    "set_seed": "seeding",
    "sklearn": "",
    "strategy": "",
    "study": "",
    "viz": "",
    "warmup": "warm",
}

__all__ = [
    "DataLoader",
    "Input",
    "Model",
    "ParnetError",
    "ParnetWarning",
    "Sequential",
    "__version__",
    "activations",
    "applications",
    "callbacks",
    "check_gradients",
    "clone_model",
    "constraints",
    "cuda",
    "datasets",
    "image",
    "info",
    "initializers",
    "keras",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "model_from_json",
    "optimizers",
    "regularizers",
    "schedules",
    "set_seed",
    "sklearn",
    "strategy",
    "study",
    "viz",
    "warmup",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        from .errors import unknown_attribute

        raise unknown_attribute(__name__, name, __all__)
    module = importlib.import_module(f".{home or name}", __name__)
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
