"""Models to files and back. Stage: io, on top. Must not know: zips, plans, kernels.

A saved model has all that training needs to go on as if it had never stopped: weights, moving averages, the
optimizer's slots and its count of updates, the learning rate, the seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ..endings import check_own, ending
from ..executors.memory import Store
from ..layers.base import Shape
from ..model import Model
from ..plan.builder import Placed
from ..plan.update import slot_size
from .archive import Archive, reading, write
from .describe import NONE, build, describe_model, describe_training
from .fields import damaged
from .weights import SLOTS, recognised

Path = str | os.PathLike[str]

__all__ = ["load_model", "save_model", "save_weights"]


# -- saving -------------------------------------------------------------------------------------


def save_model(model: Model, path: Path) -> None:
    """Write a model with everything that `load_model` needs to go on with it.

    Args:
        model: built, compiled or not.
        path: of the file, such as "net.parnet"; an older file there is replaced as a whole or not at all.
    Raises:
        StateError: the model's input shape is not known.
        HyperparameterError: a layer, loss, metric or optimizer could not be loaded again; or the path ends as files of
            other programs do, such as .h5 or .onnx.
        OSError: the file cannot be written; the older one is still there.
    """
    where = f"{model.name}.save"
    check_own(path, where)
    weights, slots = _weights(model), _packed_slots(model)
    document = {"model": describe_model(model, where), "training": describe_training(model, where)}
    write(path, where, document, weights if slots is None else [*weights, (SLOTS, slots)])


def save_weights(model: Model, path: Path) -> None:
    """Write weights and moving averages alone; for arguments and errors see `save_model`."""
    write(path, f"{model.name}.save_weights", {"model": None, "training": None}, _weights(model))


def _member(key: str) -> str:
    """The weight "dense/kernel" as a member of the file."""
    return f"weights/{key}.npy"


def _weights(model: Model) -> Iterator[tuple[str, np.ndarray]]:
    """Members and arrays, copied one at a time. An unbuilt model is refused now, before a file is opened."""
    weights = model.weights
    return ((_member(p.name), p.numpy()) for p in weights)


# -- the optimizer's slots ----------------------------------------------------------------------


def _columns(model: Model) -> list[tuple[Placed, slice]]:
    """The weights that have slots, and their columns in the file's array: side by side, no padding."""
    result: list[tuple[Placed, slice]] = []
    first = 0
    for placed in model.session.network.placed.values():
        if placed.region == "parameters":
            result.append((placed, slice(first, first + placed.count)))
            first += placed.count
    return result


def _slot_table(model: Model, store: Store) -> np.ndarray | None:
    """The store's slots (slots, P) as a view; None where the optimizer keeps nothing, or nothing yet."""
    rule = model.optimizer
    if rule is None or not len(store.slots) or len(store.slots) != slot_size(len(store.parameters), rule):
        return None
    return store.slots.reshape(rule.vectors, -1)


def _packed_slots(model: Model) -> np.ndarray | None:
    """A copy of the slots (slots, numbers in all weights)."""
    if model.optimizer is not None:
        model.session.adopt(model.optimizer)
    table = _slot_table(model, model.session.store)
    if table is None:
        return None
    return np.stack([np.concatenate([p.read(row).reshape(-1) for p, _ in _columns(model)]) for row in table])


def _unpack_slots(model: Model, store: Store, packed: np.ndarray) -> None:
    """The reverse of `_packed_slots`; the padding gets what the optimizer starts from."""
    rule = model.optimizer
    if rule is not None:
        store.need_slots(slot_size(len(store.parameters), rule), rule.starts())
    table = _slot_table(model, store)
    if table is not None:
        for placed, columns in _columns(model):
            for row, values in zip(table, packed[:, columns], strict=True):
                placed.write(row, values.reshape(placed.weight.shape))


# -- loading ------------------------------------------------------------------------------------


def load_model(path: Path) -> Model:
    """The model of a file that `save_model` wrote. No code from the file is run.

    Args:
        path: of the file; one that ends in .onnx is read by `onnx_reader.load_onnx`.
    Returns:
        the model, compiled if it was; `fit(..., initial_epoch=epochs done)` goes on exactly where it stopped.
    Raises:
        FileFormatError: the file is damaged, no model file, or of a later version.
        UnknownNameError: it names a class or activation that is neither parnet's nor defined in this session.
        OSError: the file is not there or cannot be read.
    """
    if ending(path, "load_model") == ".onnx":
        from .onnx_reader import load_onnx

        return load_onnx(path)
    kind = recognised(path)
    if kind != "parnet":
        cure = "build the model with parnet's layers and call its load_weights(path)"
        raise damaged(os.fsdecode(path), "a file that model.save wrote", f"one of the format {kind!r}", cure)
    with reading(path) as archive:
        lines, training = archive.parts(model=(dict, NONE), training=(dict, NONE))
        if lines is None:
            cure = "build the model and call its load_weights(path)"
            raise damaged(archive.name, "a whole model", "weights alone", cure)
        model = build(lines, training, f"{archive.name}: model.json")
        _expect(archive, model)
        arrays = {name: archive.array(name) for name in archive.entries}
    session = model.session
    session.weights.allocate(initialized=True)  # else all would first be drawn from their initializers
    store = session.store
    for parameter in model.weights:
        parameter.assign(arrays[_member(parameter.name)])
    if SLOTS in arrays:
        _unpack_slots(model, store, arrays[SLOTS])
    return model


def _expect(archive: Archive, model: Model) -> None:
    """The file lists the arrays that its own layers and optimizer imply, and no others."""
    expected: dict[str, Shape] = {_member(p.name): p.shape for p in model.weights}
    if SLOTS in archive.entries and model.optimizer is not None and model.optimizer.vectors:
        expected[SLOTS] = (model.optimizer.vectors, sum(placed.count for placed, _ in _columns(model)))
    dtype = f"<f{np.dtype(model.dtype).itemsize}"
    for name in dict.fromkeys([*expected, *archive.entries]):
        wanted, entry = expected.get(name), archive.entries.get(name)
        if wanted is None or entry is None or (dtype, wanted) != (entry.dtype, entry.shape):
            implied = "no such array" if wanted is None else f"{dtype} {wanted}"
            received = "no such array" if entry is None else f"{entry.dtype} {entry.shape}"
            raise damaged(f"{archive.name}: {name}", f"{implied}, as the model in model.json has it", received)
