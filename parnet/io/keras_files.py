"""Reads the weights of Keras's files. Stage: io, a reader. Must not know: parnet's models.

| file                        | layout                                                                              |
|-----------------------------|-------------------------------------------------------------------------------------|
| `.h5` of Keras 2 and 3      | attribute layer_names; group of each layer with weight_names; in a whole model all  |
|                             | below the group model_weights                                                       |
| `.weights.h5` of Keras 3    | layers/<class>_<number>/vars/0, 1, ...; since 3.8 the attribute name of vars is the  |
|                             | layer's own name; a model within the model has layers of its own below its group,   |
|                             | and the order of the whole is the one in which the groups were written              |
| `.keras`                    | a zip with model.weights.h5, as before, and config.json, which has the layers' names |
|                             | and their order, also of models within the model                                    |

Numbers and names are taken, nothing else: no configuration is turned into objects, no Lambda unpacked.
Sources: keras/src/legacy/saving/legacy_h5_format.py, keras/src/saving/saving_lib.py (3.15).
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from ..registry import snake_case
from . import hdf5
from .archive import refusing
from .fields import clip, damaged
from .found import FileLayer, Found, Source

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
#: groups of a Keras 3 file that hold no weights of the model
_OTHERS = ("optimizer", "metrics", "compile_metrics")


@contextmanager
def reading_h5(path: str | os.PathLike[str]) -> Iterator[Source]:
    """A `.h5` or `.weights.h5` file; its arrays are read on demand.

    Raises:
        FileFormatError: it is truncated, damaged, hostile, or no file of Keras's.
        MissingExtraError: h5py is not installed.
        OSError: it is not there or cannot be read.
    """
    name = os.fsdecode(path)
    with open(name, "rb"), hdf5.opened(name, name) as file:
        yield _source(file, name, "keras-h5", _Config())


@contextmanager
def reading_zip(path: str | os.PathLike[str]) -> Iterator[Source]:
    """A `.keras` file; for errors see `reading_h5`."""
    name = os.fsdecode(path)
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        with refusing(name), zipfile.ZipFile(file) as archive:
            data, config = _member(archive, WEIGHTS, size, name), _member(archive, CONFIG, size, name)
    with hdf5.opened(BytesIO(data), f"{name}: {WEIGHTS}") as inner:
        yield _source(inner, name, "keras", _config_of(config, f"{name}: {CONFIG}"))


def _member(archive: zipfile.ZipFile, member: str, size: int, name: str) -> bytes:
    """A member of the zip, no larger than the zip."""
    if member not in archive.namelist():
        raise damaged(name, f"a member {member}", ", ".join(archive.namelist()) or "no member", "give a file of model.save")
    info = archive.getinfo(member)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
        raise damaged(
            f"{name}: {member}",
            "a member that is not compressed",
            f"{info.compress_size} bytes that claim to become {info.file_size}",
            "use the file as Keras wrote it, not as another program has packed it",
        )
    return archive.read(info)


@dataclass(frozen=True)
class _Config:
    """What a configuration says of its layers; those of a model within the model stand in its place.

    Attributes:
        names: path of each layer, such as ("sequential", "conv2d_3"), to its own name, in the order of the model; empty
            where the configuration is no list of layers.
    """

    names: dict[tuple[str, ...], str] = field(default_factory=dict)


def _config_of(data: bytes, where: str) -> _Config:
    try:
        config = json.loads(data)
        return _Config(_names_below(config, ()) or {})
    except (ValueError, RecursionError) as error:
        raise damaged(where, "well-formed JSON", error) from error


def _names_below(line: Any, above: tuple[str, ...]) -> dict[tuple[str, ...], str] | None:
    """Paths and names of the layers of a model's configuration, in order; None where it is none."""
    inner = line.get("config") if isinstance(line, dict) else None
    lines = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(lines, list):
        return None
    names: dict[tuple[str, ...], str] = {}
    counts: dict[str, int] = {}
    for one in lines:
        kind, given = (one.get("class_name"), one.get("config")) if isinstance(one, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(given, dict) or not isinstance(given.get("name"), str):
            return None
        base = class_key(kind.rsplit(">", 1)[-1])
        number = counts.get(base, 0)
        counts[base] = number + 1
        path = (*above, f"{base}_{number}" if number else base)
        below = _names_below(one, path) if isinstance(given.get("layers"), list) else {path: given["name"]}
        if below is None:
            return None
        names |= below
    return names


def _parts(path: str) -> tuple[str, ...]:
    """layers/sequential/layers/dense as ("sequential", "dense")."""
    return tuple(part for part in path.split("/") if part != "layers")


def class_key(kind: str) -> str:
    """A class's name as Keras 3 counts it in files: Conv2D as conv2d, BatchNormalization as batch_normalization."""
    return snake_case(re.sub(r"\W+", "", kind))


def _source(file: Any, name: str, format: str, config: _Config) -> Source:
    """The layers of an open file, in whichever layout it has."""
    top = hdf5.members(file, name)
    if hdf5.words(file, "layer_names", name) is None and "model_weights" in top:
        file = hdf5.child(file, "model_weights", name)
    listed = hdf5.words(file, "layer_names", name)
    if listed is not None:
        groups = [_named_layers(file, title, name) for title in listed]
        named = [layer for group in groups for layer in group]
        return Source(name, format, named, nested=(named,) if any(len(group) > 1 for group in groups) else ())
    layers, ignored = {}, []
    places = {parts: place for place, parts in enumerate(config.names)}
    for path in sorted(_vars(file, name), key=lambda path: places.get(_parts(path), len(places))):
        arrays = _numbered(file, path, name)
        if path.split("/")[0] in _OTHERS:
            ignored += [found.name for found in arrays]
        elif arrays:
            layers[path] = _keyed_layer(file, path, arrays, config, name)
    if not layers:
        received = f"groups {', '.join(top[:8])}" if top else "an empty one"
        raise damaged(name, "an HDF5 file with weights as Keras writes them", received, "save with model.save_weights")
    nested: tuple[list[FileLayer], ...] = ()
    if any(path.count("layers/") > 1 for path in layers):
        nested = (list(layers.values()),) if config.names else tuple(_as_written(file, layers, name))
    return Source(name, format, list(layers.values()), tuple(ignored), nested)


def _as_written(file: Any, layers: dict[str, FileLayer], where: str) -> list[list[FileLayer]]:
    """The layers in the order of the model, as far as the file tells it: Keras writes one after the other, those of a model
    within the model in its place, so arrays and what describes them lie in that order, but where HDF5 fills a gap.

    Returns:
        one order, or two between which the shapes will decide.
    Raises:
        FileFormatError: the file does not tell it, and names do not tell all layers apart either.
    """
    places = {path: hdf5.places(hdf5.child(file, layer.arrays[0].name, where), where) for path, layer in layers.items()}
    orders = []
    if all(first is not None for first, _ in places.values()):  # Keras writes each array in one piece
        orders = [sorted(layers, key=lambda path: places[path][i] or 0) for i in (0, 1)]
    orders = [order for order in orders if _rises(order)]
    alike = {tuple(sorted(order, key=lambda path: [a.shape for a in layers[path].arrays])) for order in orders}
    if len(alike) != 1 and not all(_is_named(layer) for layer in layers.values()):
        raise damaged(
            where,
            "the layers of models within the model in the order in which Keras wrote them",
            "others",
            "use the file as Keras wrote it, not as another program has packed it, or a .keras file",
        )
    return [[layers[path] for path in order] for order in orders]


def _rises(order: list[str]) -> bool:
    """Whether the numbers of each class rise in that order, and the layers of a model stand together."""
    seen: dict[tuple[str, ...], int] = {}
    done: set[tuple[str, ...]] = set()
    last: tuple[str, ...] = ()
    for path in order:
        parts = _parts(path)
        for depth in range(1, len(parts) + 1):
            above, (base, number) = parts[:depth], _counted(parts[depth - 1])
            rank = (*above[:-1], base)
            if number < seen.get(rank, 0) or above in done:
                return False
            seen[rank] = number
        done |= {last[:depth] for depth in range(1, len(last) + 1) if last[:depth] != parts[:depth]}
        last = parts
    return True


def _counted(key: str) -> tuple[str, int]:
    """conv2d_3 as ("conv2d", 3), conv2d as ("conv2d", 0)."""
    base, _, number = key.rpartition("_")
    return (base, int(number)) if base and number.isdigit() else (key, 0)


def _is_named(layer: FileLayer) -> bool:
    """Whether a user gave the layer its name, and the file has it."""
    return bool(layer.name) and not is_usual(layer.name, _counted(layer.key.split("/")[-1])[0])


def is_usual(name: str, base: str) -> bool:
    """Whether a layer is called by its class and a number: Keras counts layers as they are made, inner models' first."""
    return _counted(name)[0] == base


# -- the layout with layer_names ----------------------------------------------------------------


def _named_layers(file: Any, title: str, where: str) -> list[FileLayer]:
    """The arrays of a layer; those of a model within the model as layers of their own."""
    group = hdf5.child(file, title, where)
    weights = hdf5.words(group, "weight_names", f"{where}: {clip(title)}")
    if weights is None:
        raise damaged(f"{where}: {clip(title)}", "an attribute weight_names", "none")
    owners: dict[tuple[str, ...], list[Found]] = {}
    for weight in weights:
        *above, last = weight.split("/")
        dataset = hdf5.child(group, weight, f"{where}: {clip(title)}")
        full = weight if above and above[0] == title else f"{title}/{weight}"
        if not hdf5.is_float(dataset, f"{where}: {full}"):
            raise damaged(f"{where}: {clip(full)}", "an array of floats", getattr(dataset, "dtype", "a group"))
        owners.setdefault(tuple(above) or (title,), []).append(hdf5.found(dataset, full, last.split(":")[0], where))
    if len(owners) == 1:
        return [FileLayer(title, "", tuple(arrays)) for arrays in owners.values()]
    return [FileLayer(owner[-1], "", tuple(arrays)) for owner, arrays in owners.items()]


# -- the layout with vars -----------------------------------------------------------------------


def _vars(file: Any, where: str) -> list[str]:
    """The paths of all groups that have a group "vars", in the order in which Keras counts them."""
    found, waiting, seen = [], [(file, "")], 0
    while waiting:
        group, path = waiting.pop()
        for name in hdf5.members(group, where):
            inner, seen = hdf5.child(group, name, where), seen + 1
            if seen > hdf5.MEMBERS_LIMIT or path.count("/") > hdf5.DEPTH_LIMIT:
                limits = f"at most {hdf5.MEMBERS_LIMIT} members, {hdf5.DEPTH_LIMIT} deep"
                raise damaged(where, limits, f"more, at {clip(path)}")
            if name == "vars":
                found.append(path)
            elif hdf5.is_group(inner):
                waiting.append((inner, f"{path}/{name}".lstrip("/")))
    return sorted(found, key=_natural)


def _natural(path: str) -> list[Any]:
    """Sorts conv2d_10 behind conv2d_9."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", path)]


def _numbered(file: Any, path: str, where: str) -> list[Found]:
    """The arrays 0, 1, ... of a layer that are floats."""
    inside = f"{path}/vars".lstrip("/")
    group = hdf5.child(file, inside, where)
    found = []
    for name in sorted(hdf5.members(group, where), key=_natural):
        dataset = hdf5.child(group, name, f"{where}: {inside}")
        if hdf5.is_float(dataset, f"{where}: {inside}/{name}"):
            found.append(hdf5.found(dataset, f"{inside}/{name}", name, where))
    return found


def _keyed_layer(file: Any, path: str, arrays: list[Found], config: _Config, where: str) -> FileLayer:
    """A layer by its key, and by its name if the file has it."""
    parts = _parts(path)
    own = hdf5.word(hdf5.child(file, f"{path}/vars".lstrip("/"), where), "name", where)
    return FileLayer(own or config.names.get(parts, ""), "/".join(parts), tuple(arrays))
