"""A model without its arrays, as JSON and back. Stage: io, above `archive`.

Classes and activations are named, and looked up in parnet's registries; nothing else in a file leads to code.
Must not know: zips, arrays, plans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import losses, metrics, optimizers
from ..errors import HyperparameterError, UnknownNameError
from ..layers.base import registry as layers
from ..model import Sequential
from ..registry import Registry
from ..seeding import check_seed
from .archive import encode
from .fields import clip, damaged, parse, take

NONE = type(None)


def describe_model(model: Sequential, where: str) -> dict[str, Any]:
    """Layers and what they were made with.

    Raises:
        HyperparameterError: a layer cannot be made again from its description.
    """
    seen = model.input_range.seen
    return {
        "name": str(model.name),
        "dtype": model.dtype,
        "seed": model.seed,
        "input_range": float(seen) if seen is not None and math.isfinite(seen) else None,
        "layers": [_dump(layers, layer, where) for layer in model._layers],
    }


def describe_training(model: Sequential, where: str) -> dict[str, Any] | None:
    """What `compile` was given, and how far the optimizer is; None for a model that is not compiled.

    Raises:
        HyperparameterError: an argument cannot be made again from its description.
    """
    rule = model.optimizer
    if rule is None:
        return None
    return {
        "optimizer": _dump(optimizers.registry, rule, where),
        "iterations": int(rule.iterations),
        "loss": None if model.loss is None else _dump(losses.registry, model.loss, where),
        "metrics": [_dump(metrics.registry, metric, where) for metric in model.metrics],
    }


def _dump(registry: Registry, thing: Any, where: str) -> dict[str, Any]:
    """An object's description, tried out: what cannot be loaded shall fail now, not after the training."""
    where = f"{where}: {registry.kind} {type(thing).__name__}"
    description = registry.dump(thing)
    data = encode(description, where)
    try:
        again: Any = registry.load(parse(data, where))
    except Exception as error:  # a user's class may raise anything
        again = error
    if type(again) is not type(thing):
        raise HyperparameterError(
            f"{where}: expected its get_config() to make the same object again, received {clip(repr(again))}"
            f"; a class of your own must take these arguments and, unless it is a layer, be entered by "
            f"@{registry.base.__module__}.registry.add()"
        )
    return description


def build(lines: Any, training: Any, where: str) -> Sequential:
    """The model of `describe_model` and `describe_training`, with no array made yet.

    Raises:
        FileFormatError: the descriptions do not make a model.
        UnknownNameError: they name a class or activation that is neither parnet's nor defined here.
    """
    kinds = {"name": str, "dtype": str, "seed": int, "input_range": (float, int, NONE), "layers": list}
    name, dtype, seed, seen, described = take(lines, f"{where}: model", **kinds)
    made = [_load(layers, line, f"{where}: layer {i}") for i, line in enumerate(described)]
    with _building(f"{where}: model"):
        model = Sequential(made, name=name, dtype=dtype, seed=check_seed(seed))
        model.session  # noqa: B018  raises where no layer states the input's shape
    model.input_range.seen = None if seen is None else float(seen)
    if training is not None:
        _compile(model, training, f"{where}: training")
    return model


def _compile(model: Sequential, lines: Any, where: str) -> None:
    kinds = {"optimizer": dict, "iterations": int, "loss": (dict, NONE), "metrics": list}
    optimizer, iterations, loss, measured = take(lines, where, **kinds)
    rule = _load(optimizers.registry, optimizer, where)
    aim = None if loss is None else _load(losses.registry, loss, where)
    chosen = [_load(metrics.registry, line, where) for line in measured]
    with _building(where):
        model.compile(rule, aim, chosen)
    if iterations < 0:
        raise damaged(where, "iterations of 0 or more", iterations)
    rule.iterations = iterations


def _load(registry: Registry, line: Any, where: str) -> Any:
    """The object that a line describes."""
    take(line, where, **{"class": str, "config": dict})
    with _building(where):
        return registry.load(line)


@contextmanager
def _building(where: str) -> Iterator[None]:
    """Whatever constructors raise about a file's values, as FileFormatError; UnknownNameError stays one."""
    try:
        yield
    except UnknownNameError as error:
        raise UnknownNameError(
            f"{where}: {clip(error)} A file holds names, never code: if this is a class or an activation of "
            "your own, define it again (class ..., pn.activations.define(...)) before loading."
        ) from error
    except Exception as error:  # a constructor that is handed nonsense may raise anything
        raise damaged(where, "values that make a model", f"others ({clip(error)})") from error
