"""parnet under Keras's module paths, so that a tutorial written for Keras runs after its import is changed.

    from parnet import keras                                in place of  import keras, from tensorflow import keras
    from parnet.keras.models import Sequential              in place of  from keras.models import Sequential

Stage: on top of everything; a table of names, no code of models. What parnet does not have, the error says.
Keras 2 spellings work, too: `lr`, `decay`, `input_dim`, `input_shape` on any first layer, functions in lower case as losses.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .namespace import Namespace

if TYPE_CHECKING:
    from .. import (
        activations,
        applications,
        callbacks,
        constraints,
        datasets,
        initializers,
        layers,
        losses,
        metrics,
        optimizers,
        regularizers,
    )
    from .._version import __version__
    from ..graph import Input
    from ..model import Model
    from ..sequential import Sequential

_MODELS = {"Model": "model:Model", "Sequential": "sequential:Sequential"}
_MODEL_FUNCTIONS = {
    "clone_model": "io.model_json:clone_model",
    "load_model": "io.model_file:load_model",
    "model_from_json": "io.model_json:model_from_json",
}
_IMAGES = {name: f"keras.images:{name}" for name in ("array_to_img", "img_to_array", "load_img")}
_BACKEND = {
    name: f"keras.functions:{name}" for name in ("backend", "clear_session", "epsilon", "floatx", "image_data_format")
}
_CATEGORICAL = {"to_categorical": "keras.functions:to_categorical"}
_MERGES = {name.lower(): f"keras.shortcuts:{name.lower()}" for name in ("Add", "Average", "Maximum", "Multiply", "Subtract")}
_METRICS = {
    name: f"keras.shortcuts:{name}" for name in ("F1Score", "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy")
}
_SHORTCUTS = {"concatenate": "keras.shortcuts:concatenate"}
_OTHER_NAMES = {
    "Convolution2D": "layers:Conv2D",
    "AvgPool2D": "layers:AveragePooling2D",
    "GlobalAvgPool2D": "layers:GlobalAveragePooling2D",
    "GlobalMaxPool2D": "layers:GlobalMaxPooling2D",
    "Input": "graph:Input",
    "InputLayer": "layers:Input",
    "MaxPool2D": "layers:MaxPooling2D",
    "SeparableConvolution2D": "layers:SeparableConv2D",
}

#: module of Keras -> the module of parnet whose names it has, and names from elsewhere
_MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "activations": ("activations", {}),
    "applications": ("", {"ResNet50": "applications:ResNet50"}),
    "applications.imagenet_utils": ("applications.imagenet", {}),
    "applications.resnet": ("applications.resnet50", {"decode_predictions": "applications.imagenet:decode_predictions"}),
    "applications.resnet50": ("applications.resnet50", {"decode_predictions": "applications.imagenet:decode_predictions"}),
    "backend": ("", _BACKEND),
    "callbacks": ("callbacks", {}),
    "constraints": ("constraints", {}),
    "datasets": ("", {}),
    "datasets.fashion_mnist": ("", {"load_data": "datasets.fashion_mnist:load_data"}),
    "datasets.mnist": ("", {"load_data": "datasets.mnist:load_data"}),
    "initializers": ("initializers", {}),
    "layers": ("layers", _OTHER_NAMES | _MERGES | _SHORTCUTS),
    "losses": ("losses", {}),
    "metrics": ("metrics", _METRICS),
    "models": ("", _MODELS | _MODEL_FUNCTIONS),
    "optimizers": ("optimizers", {}),
    "optimizers.schedules": ("schedules", {"LearningRateSchedule": "schedules:Schedule"}),
    "preprocessing": ("", {}),
    "preprocessing.image": ("", _IMAGES),
    "regularizers": ("regularizers", {}),
    "utils": (
        "",
        _CATEGORICAL | _IMAGES | {"plot_model": "keras.shortcuts:plot_model", "set_random_seed": "seeding:set_seed"},
    ),
    "utils.np_utils": ("", _CATEGORICAL),
}

for _path, (_source, _own) in _MODULES.items():
    _inner = [inner for inner in _MODULES if inner.rpartition(".")[0] == _path]
    sys.modules[f"{__name__}.{_path}"] = Namespace(f"{__name__}.{_path}", _source, _own, _inner)

_top = Namespace(
    __name__,
    "",
    _MODELS | {"Input": "graph:Input", "__version__": "_version:__version__"},
    [path for path in _MODULES if "." not in path],
)
__all__ = [
    "Input", "Model", "Sequential", "__version__", "activations", "applications", "backend", "callbacks",
    "constraints", "datasets", "initializers", "layers", "losses", "metrics", "models", "optimizers", "preprocessing",
    "regularizers", "utils",
]  # fmt: skip


def __getattr__(name: str):
    value = globals()[name] = _top.find(name, sys._getframe(1))
    return value


def __dir__() -> list[str]:
    return list(__all__)
