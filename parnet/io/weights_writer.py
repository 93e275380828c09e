"""Weights into files of other programs: Keras's and PyTorch's. Stage: io, on top. Must not know: plans, kernels.

| path              | format        | read by                                                                       |
|-------------------|---------------|-------------------------------------------------------------------------------|
| `*.safetensors`   | "safetensors" | PyTorch: `model.load_state_dict(safetensors.torch.load_file(path))`           |
| `*.weights.h5`    | "keras-h5"    | Keras 3: `model.load_weights(path)`                                           |
| `*.h5`            | "keras-h5"    | Keras 2 and 3: `model.load_weights(path)`                                     |
| `*.keras`         | "keras"       | Keras 3: `model.load_weights(path)`                                           |
| anything else     | "parnet"      | parnet                                                                        |

The other program must have a model of the same layers: for PyTorch with modules named as the layers here, for Keras in the
same order. Layouts as in `keras_files`, which reads them.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from ..checks import check_choice, check_path
from ..endings import check_own, ending
from ..errors import HyperparameterError, require_extra
from . import keras_files, torch_layout
from .atomic import replacing
from .model_file import save_weights as save_parnet
from .weights import FORMATS, model_layers

Path = str | os.PathLike[str]

#: the release of Keras whose files these are
KERAS = "3.8.0"
#: ending of a path -> format; that of any other is parnet's
ENDINGS = {".safetensors": "safetensors", ".h5": "keras-h5", ".hdf5": "keras-h5", ".keras": "keras"}
#: bytes of an attribute in HDF5; Keras cuts longer lists into pieces
ATTRIBUTE_LIMIT = 64_000
#: layers of Keras that keep the state of a random generator
_RANDOM = ("Dropout", "GaussianNoise", "RandomErasing", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomCrop")
#: parnet's name of an array -> PyTorch's
_TORCH = {own: name for name, mine in torch_layout.NAMES.items() for own in mine}


def save_weights(model: Any, path: Path, format: str = "auto") -> None:
    """Write a model's weights and moving averages.

    Args:
        model: built.
        path: of the file; an older one there is replaced as a whole or not at all.
        format: "auto" tells by the path's ending, see the module's table.
    Raises:
        UnknownNameError: there is no such format. StateError: the model's input shape is not known.
        HyperparameterError: PyTorch has no counterpart of an array.
        MissingExtraError: h5py, which Keras's files need, is not installed. OSError: the file cannot be written.
    """
    check_choice(format, "format of weights", ("auto", *FORMATS))
    where = f"{model.name}.save_weights"
    name = check_path(path, f"{where}: path")
    chosen = ENDINGS.get(ending(path, where), "parnet") if format == "auto" else format
    if chosen == "parnet":
        check_own(path, where)
        save_parnet(model, path)
        return
    make: dict[str, Callable[[], bytes]] = {
        "safetensors": lambda: _safetensors(model, where),
        "keras": lambda: _zipped(model, where),
        "keras-h5": lambda: (_keras_3 if name.endswith(".weights.h5") else _keras_2)(model, where),
    }
    data = make[chosen]()
    with replacing(path, where) as file:
        file.write(data)


def _arrays(model: Any) -> dict[str, dict[str, np.ndarray]]:
    """{layer: {weight: array}}, of every layer, in order; with Input layers, which Keras counts among them."""
    found: dict[str, dict[str, np.ndarray]] = {layer.name: {} for layer in model._layers}
    for parameter in model.weights:
        layer, weight = parameter.name.rsplit("/", 1)
        found[layer][weight] = parameter.numpy()
    return found


# -- PyTorch ------------------------------------------------------------------------------------


def _safetensors(model: Any, where: str) -> bytes:
    """A state_dict: arrays in PyTorch's order of axes under PyTorch's names, sorted."""
    arrays, state = _arrays(model), {}
    for layer in model_layers(model):
        for weight, shape in layer.shapes.items():
            if weight not in _TORCH:
                raise HyperparameterError(
                    f"{where}: expected arrays that PyTorch has, {', '.join(_TORCH)}, received {layer.name}/{weight}; "
                    "save in parnet's own format"
                )
            layout = torch_layout.layout(layer.kind, weight, shape, layer.flattened)
            state[f"{layer.name}.{_TORCH[weight]}"] = layout.invert(arrays[layer.name][weight])
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    first = 0
    for name in sorted(state):
        end, kind = first + state[name].nbytes, f"F{8 * state[name].itemsize}"
        header[name] = {"dtype": kind, "shape": list(state[name].shape), "data_offsets": [first, end]}
        first = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    little = (state[name].astype(state[name].dtype.newbyteorder("<"), copy=False) for name in sorted(state))
    return b"".join([struct.pack("<Q", len(text)), text, *(array.tobytes() for array in little)])


# -- Keras --------------------------------------------------------------------------------------


def _keras_2(model: Any, where: str) -> bytes:
    """The layout with layer_names."""
    h5py, data = require_extra("h5py", "io", where), BytesIO()
    with h5py.File(data, "w") as file:
        arrays = _arrays(model)
        _list(file, "layer_names", list(arrays))
        file.attrs["keras_version"], file.attrs["backend"] = np.bytes_(KERAS), np.bytes_("tensorflow")
        for layer, weights in arrays.items():
            group = file.create_group(layer)
            _list(group, "weight_names", [f"{layer}/{weight}:0" for weight in weights])
            for weight, array in weights.items():
                group.create_dataset(f"{layer}/{weight}:0", data=array)
        _list(file.create_group("top_level_model_weights"), "weight_names", [])
    return data.getvalue()


def _list(group: Any, name: str, words: list[str]) -> None:
    """A list of names as attribute, or cut into `<name>0`, `<name>1`, ..."""
    listed = [word.encode() for word in words]
    size = len(listed) * max(map(len, listed), default=0)
    if size <= ATTRIBUTE_LIMIT:
        group.attrs[name] = listed
        return
    for number, piece in enumerate(np.array_split(np.asarray(listed), -(-size // ATTRIBUTE_LIMIT))):
        group.attrs[f"{name}{number}"] = piece


def _keras_3(model: Any, where: str) -> bytes:
    """The layout with vars."""
    h5py, data = require_extra("h5py", "io", where), BytesIO()
    arrays = _arrays(model)
    with h5py.File(data, "w") as file:
        for layer, key in _keys(model):
            group = file.create_group(f"layers/{key}/vars")
            group.attrs["name"] = layer.name
            for number, array in enumerate(arrays[layer.name].values()):
                group.create_dataset(str(number), data=array)
            if type(layer).__name__ in _RANDOM:
                state = file.create_group(f"layers/{key}/seed_generator/vars")
                state.attrs["name"] = "seed_generator"
                state.create_dataset("0", data=np.array([model.seed % 2**32, 0], np.uint32))
        file.create_group("vars")
    return data.getvalue()


def _keys(model: Any) -> list[tuple[Any, str]]:
    """The layers with their keys, counted by class: dense, dense_1, ..."""
    counts: dict[str, int] = {}
    result = []
    for layer in model._layers:
        base = keras_files.class_key("InputLayer" if layer.is_input else type(layer).__name__)
        number = counts.get(base, 0)
        counts[base] = number + 1
        result.append((layer, f"{base}_{number}" if number else base))
    return result


def _zipped(model: Any, where: str) -> bytes:
    """The same as a member of a zip, beside the names of the layers."""
    data = BytesIO()
    layers = [{"class_name": type(layer).__name__, "config": {"name": layer.name}} for layer in model._layers]
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("metadata.json"), json.dumps({"keras_version": KERAS}))
        config = {"class_name": "Functional", "config": {"name": model.name, "layers": layers}}
        archive.writestr(zipfile.ZipInfo(keras_files.CONFIG), json.dumps(config))
        archive.writestr(zipfile.ZipInfo(keras_files.WEIGHTS), _keras_3(model, where))
    return data.getvalue()
