"""Whose files the ending of a path stands for. Stage: beneath everything but errors and checks. Must not know: models."""

from __future__ import annotations

import os

from .checks import check_path
from .errors import HyperparameterError

_KERAS = "model.save_weights(path) writes the weights for Keras"
_TORCH = "model.save_weights('net.safetensors') writes the weights for PyTorch, which needs no pickle"
_NUMPY = "np.savez(path, *model.get_weights()) writes the arrays alone"
_PICKLE = "parnet writes no pickles, which can run any code when they are loaded"

#: ending that belongs to another program -> who writes that
FOREIGN = {
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".keras": _KERAS,
    ".safetensors": "model.save_weights(path) writes the weights for PyTorch",
    ".onnx": "model.export(path) writes the model for ONNX Runtime, and pn.load_model(path) reads it",
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".npy": _NUMPY,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".joblib": _PICKLE,
}


def ending(path: str | os.PathLike[str], where: str) -> str:
    """The last part of a path from its point on, in lower case. Raises HyperparameterError where it is no path."""
    return os.path.splitext(check_path(path, f"{where}: path"))[1].lower()


def check_own(path: str | os.PathLike[str], where: str) -> None:
    """Raise HyperparameterError where parnet's own format would stand under another program's ending.

    `.npz` is none of them: NumPy reads parnet's files.
    """
    found = ending(path, where)
    if found in FOREIGN:
        raise HyperparameterError(
            f"{where}: expected a path for parnet's own format, such as 'net.parnet', received one that ends in {found!r}; "
            f"give another ending: {FOREIGN[found]}"
        )
