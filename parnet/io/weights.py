"""Weights from files, parnet's own and other programs', into a model. Stage: io, on top. Must not know: plans, kernels.

Nothing in the model changes before every array has been found, compared and read.
"""

from __future__ import annotations

import errno
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from ..checks import check_choice, check_flag, check_path
from ..errors import ParnetWarning, ShapeError
from . import archive, hdf5, keras_files, safetensors
from .features import flattened
from .fields import damaged
from .found import FileLayer, Found, Report, Shape, Source
from .match import ModelLayer, match, renamed

Path = str | os.PathLike[str]

#: of a model file, what is no weight
SLOTS = "optimizer/slots.npy"

__all__ = ["FORMATS", "Report", "load_weights", "read_weights"]


def load_weights(model: Any, path: Path, format: str = "auto", strict: bool = True) -> Report:
    """Read a model's weights from a file; all are checked before one is replaced.

    Args:
        model: built. The state of its optimizer stays as it is.
        path: of the file; numbers of any floating type are converted into the model's.
        format: "auto" tells by the file's content; or one of `FORMATS`:

            parnet: of `save` and `save_weights`
            keras-h5: `.h5` of Keras 2 and 3 (a whole model or weights), `.weights.h5` of Keras 3
            keras: `.keras`
            safetensors: a state_dict of PyTorch, brought to parnet's order of axes
        strict: each array of the model and of the file must have its counterpart, of the same shape. Else those that
            do are read, and one ParnetWarning names the others.
    Returns:
        what was found, and where.
    Raises:
        ShapeError: the file's arrays do not fit the model. Nothing is changed then.
        FileFormatError: the file is damaged, or of another format. Nothing is changed then.
        UnknownNameError: there is no such format.
        MissingExtraError: h5py, which Keras's files need, is not installed.
        StateError: the model's input shape is not known.
        OSError: the file is not there or cannot be read.
    """
    where = f"{model.name}.load_weights"
    check_path(path, f"{where}: path")
    arrays, report = _read_all(path, model, format, where if check_flag(strict, f"{where}: strict") else None)
    mine = {p.name: p for p in model.weights}
    for key, array in arrays.items():
        mine[key].assign(array)
    if not report.complete:
        message = f"{where}: read {len(arrays)} of {len(mine)} arrays of the model; {report.file} has {report.problems()}"
        warnings.warn(message, ParnetWarning, stacklevel=3)
    return report


def read_weights(path: Path, model: Any, format: str = "auto") -> tuple[dict[str, np.ndarray], Report]:
    """The arrays of a file that fit a model, as {"layer/weight": array}, and the report; the model stays as it is.

    For arguments and errors see `load_weights`.
    """
    return _read_all(path, model, format, None)


def _read_all(path: Path, model: Any, format: str, strict: str | None) -> tuple[dict[str, np.ndarray], Report]:
    """As `read_weights`; `strict` is None, or what messages call the one who wants all arrays to fit."""
    layers = model_layers(model)
    with _reader(path, format)(path) as source, np.errstate(over="ignore"):
        pairs, report = match(layers, source)
        if strict and not report.complete:
            raise ShapeError(
                f"{strict}: expected the arrays of this model, received {report.file} with "
                f"{renamed(layers, source) or report.problems()}; load into a model of the same layers, or pass "
                "strict=False to read only what fits"
            )
        return {pair.key: pair.read().astype(model.dtype, copy=False) for pair in pairs}, report


# -- the model ----------------------------------------------------------------------------------


def model_layers(model: Any) -> list[ModelLayer]:
    """The layers of a model as files know them."""
    shapes: dict[str, dict[str, Shape]] = {layer.name: {} for layer in model.layers}
    for parameter in model.weights:
        owner, weight = parameter.name.rsplit("/", 1)
        shapes[owner][weight] = parameter.shape
    flat = flattened(model.session.network)
    return [ModelLayer(n.name, type(n).__name__, shapes[n.name], flat.get(n.name)) for n in model.layers]


# -- formats ------------------------------------------------------------------------------------


@contextmanager
def reading_parnet(path: Path) -> Iterator[Source]:
    """A file of `save` or `save_weights`; see `archive.reading`."""
    with archive.reading(path) as file:
        layers: dict[str, list[Found]] = {}
        for member, entry in file.entries.items():
            if member == SLOTS:
                continue
            name = member.removeprefix("weights/").removesuffix(".npy")
            layer, _, weight = name.rpartition("/")
            found = Found(name, weight, entry.shape, lambda member=member: file.array(member))  # type: ignore[misc]
            layers.setdefault(layer, []).append(found)
        ignored = (SLOTS,) if SLOTS in file.entries else ()
        yield Source(file.name, "parnet", [FileLayer(n, "", tuple(a)) for n, a in layers.items()], ignored)


#: format -> its reader
FORMATS: dict[str, Callable[[Path], AbstractContextManager[Source]]] = {
    "parnet": reading_parnet,
    "keras-h5": keras_files.reading_h5,
    "keras": keras_files.reading_zip,
    "safetensors": safetensors.reading,
}


def _reader(path: Path, format: str) -> Callable[[Path], AbstractContextManager[Source]]:
    check_choice(format, "format of weights", ("auto", *FORMATS))
    return FORMATS[recognised(path) if format == "auto" else format]


def recognised(path: Path) -> str:
    """The format of a file, by its first bytes; what is none of them counts as parnet's, whose reader says so."""
    name = os.fsdecode(path)
    if os.path.isdir(name):
        cure = "of a SavedModel of TensorFlow, save the weights there by model.save_weights('net.weights.h5')"
        raise IsADirectoryError(errno.EISDIR, f"expected a file, received a folder; {cure}", name)
    with open(name, "rb") as file:
        start = file.read(16)
    if start.startswith(hdf5.SIGNATURE):
        return "keras-h5"
    if start[8:9] == b"{":
        return "safetensors"
    if start.startswith(b"PK\3\4"):
        with archive.refusing(name), zipfile.ZipFile(name) as zipped:
            members = zipped.namelist()
        if any(member.endswith("data.pkl") for member in members):
            raise _pickled(name)
        return "keras" if keras_files.WEIGHTS in members else "parnet"
    if start[:1] == b"\x80":
        raise _pickled(name)
    return "parnet"


def _pickled(name: str) -> Exception:
    return damaged(
        name,
        "numbers and names",
        "a pickle, which can run any code when it is loaded",
        "in PyTorch write safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') and load that",
    )
