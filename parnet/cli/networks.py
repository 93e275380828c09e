"""The networks that `parnet train` and `demo` know by name, and those of a user's file. Stage: outermost.

Must not know: command lines, files of data.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import layers as L
from ..errors import DataError, StateError, UnknownNameError, unknown_name
from ..io.model_file import load_model
from ..layers.base import Shape
from ..model import Model
from ..sequential import Sequential

#: built-in name -> learning rate of SGD that suits it
RATES = {"mlp": 0.1, "mlp-selu": 0.05}
SAVED = ".parnet"
FROM_FILE = "path/to/file.py:function"


def mlp(input_shape: Shape, classes: int, scale: float = 1.0) -> Sequential:
    """784-100(sigmoid)-10 for MNIST.

    Args:
        input_shape: of one sample.
        classes: outputs.
        scale: that the inputs are multiplied by, 1/255 for bytes.
    """
    return Sequential([*_start(input_shape, scale), L.Dense(100, activation="sigmoid"), _end(classes)], name="mlp")


def mlp_selu(input_shape: Shape, classes: int, scale: float = 1.0) -> Sequential:
    """Normalised, 200 and 100 selu units: 182,446 parameters for MNIST. Arguments as of `mlp`."""
    hidden = []
    for units in (200, 100):
        hidden += [
            L.BatchNormalization(),
            L.Dense(units, activation="selu", kernel_initializer="lecun_normal"),
        ]
    layers = [*_start(input_shape, scale), *hidden, L.BatchNormalization(), _end(classes)]
    return Sequential(layers, name="mlp-selu")


def _start(input_shape: Shape, scale: float) -> list[L.Layer]:
    return [L.Input(input_shape), *([] if scale == 1.0 else [L.Rescaling(scale)]), L.Flatten()]


def _end(classes: int) -> L.Layer:
    return L.Dense(classes, activation="softmax")


def build(name: str, x: np.ndarray, y: np.ndarray) -> Model:
    """The network of that name, sized for the data.

    Args:
        name: a built-in one, `path/to/file.py:function`, or the file of a saved model, which goes on where it was.
        x, y: what it will be trained on; a built-in network brings x of whole numbers to 0..1.
    Raises:
        UnknownNameError: no such network, file or function.
        StateError: the function wants arguments, or returns something else.
        DataError: a built-in network for targets that are no classes.
    """
    return builder(name, x, y)()


@dataclass(frozen=True)
class Builder:
    """A function that makes a network, and that other processes can be handed.

    Attributes:
        name: as `build` takes it.
        shape: of one sample. classes, scale: of a built-in network.
    """

    name: str
    shape: Shape
    classes: int = 0
    scale: float = 1.0

    def __call__(self) -> Model:
        """A fresh network; raises as `build`."""
        if self.name in RATES:
            return (mlp if self.name == "mlp" else mlp_selu)(self.shape, self.classes, self.scale)
        if self.name.endswith(SAVED):
            if not Path(self.name).is_file():
                raise UnknownNameError(f"model: expected a saved model, received {self.name!r}, which does not exist")
            return load_model(self.name)
        if self.name.endswith(".py"):
            raise UnknownNameError(f"model: expected {FROM_FILE}, received {self.name!r}; add ':' and the function's name")
        path, colon, function = self.name.rpartition(":")
        if not colon or not path.endswith(".py"):
            raise unknown_name("model", self.name, [*RATES, FROM_FILE, f"path/to/model{SAVED}"])
        model = _call(self.name, _function(Path(path), function))
        if isinstance(model, Sequential) and model.input_shape is None:
            model.build(self.shape)
        return model


def builder(name: str, x: np.ndarray, y: np.ndarray) -> Builder:
    """What makes the network of that name; arguments and errors as of `build`."""
    if name in RATES:
        return Builder(name, x.shape[1:], _classes(name, y), _scale(x))
    return Builder(name, x.shape[1:])


def _classes(name: str, y: np.ndarray) -> int:
    if y.ndim == 2 and y.shape[1] > 1:
        return y.shape[1]
    if y.dtype.kind not in "bui" or y.size == 0 or int(y.min()) < 0:
        raise DataError(
            f"{name}: expected class numbers 0, 1, 2, ... or one-hot rows as targets, "
            f"received an array {y.shape} of {y.dtype}; write a network of your own for them: {FROM_FILE}"
        )
    return max(2, int(y.max()) + 1)


def _scale(x: np.ndarray) -> float:
    largest = int(x.max()) if x.dtype.kind in "ui" and x.size else 1
    return 1.0 / largest if largest > 1 else 1.0


def _function(path: Path, name: str) -> Callable[[], Model]:
    """The function of a user's file, which is run with its folder on the path, as Python runs a script."""
    if not path.is_file():
        raise UnknownNameError(f"model: expected a Python file, received {str(path)!r}, which does not exist")
    spec = importlib.util.spec_from_file_location(f"_parnet_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StateError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise unknown_name(f"function in {path}", name, own)
    return getattr(module, name)


def _call(name: str, function: Callable[[], Model]) -> Model:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise StateError(f"{name}: expected a function that needs no arguments, but calling it fails: {error}") from None
    model = function()
    if not isinstance(model, Model):
        raise StateError(f"{name}: expected it to return a Sequential or a Model, received {type(model).__name__}")
    return model
