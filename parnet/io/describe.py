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
from ..model import Model
from ..registry import Registry
from ..seeding import check_seed
from ..sequential import Sequential
from .archive import encode
from .fields import clip, damaged, parse, take
from .graph_lines import connect, describe_graph

NONE = type(None)


def describe_model(model: Model, where: str) -> dict[str, Any]:
    """Layers and what they were made with.

    Raises:
        HyperparameterError: a layer cannot be made again from its description.
    """
    head = {"name": str(model.name), "dtype": model.dtype, "seed": model.seed}
    ranges = [_finite(seen.seen) for seen in model.input_ranges]
    if isinstance(model, Sequential):
        return head | {"input_range": ranges[0], "layers": [_dump(layers, layer, where) for layer in model._layers]}
    return head | {"input_ranges": ranges} | describe_graph(model.graph, lambda layer: _dump(layers, layer, where))


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def describe_training(model: Model, where: str) -> dict[str, Any] | None:
    """What `compile` was given, and how far the optimizer is; None for a model that is not compiled.

    Raises:
        HyperparameterError: an argument cannot be made again from its description.
    """
    rule = model.optimizer
    if rule is None:
        return None
    head = {"optimizer": _dump(optimizers.registry, rule, where), "iterations": int(rule.batches)}
    aims = [
        {
            "loss": None if aim.loss is None else _dump(losses.registry, aim.loss, where),
            "metrics": [_dump(metrics.registry, metric, where) for metric in aim.metrics],
        }
        for aim in model.aims
    ]
    if len(aims) == 1:
        return head | aims[0]
    return head | {"aims": [aim | {"weight": goal.weight} for aim, goal in zip(aims, model.aims, strict=True)]}


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


def build(lines: Any, training: Any, where: str) -> Model:
    """The model of `describe_model` and `describe_training`, with no array made yet.

    Raises:
        FileFormatError: the descriptions do not make a model.
        UnknownNameError: they name a class or activation that is neither parnet's nor defined here.
    """
    make = _graph_model if type(lines) is dict and "calls" in lines else _sequential
    model = make(lines, f"{where}: model")
    if training is not None:
        _compile(model, training, f"{where}: training")
    return model


def _sequential(lines: Any, where: str) -> Model:
    kinds = {"name": str, "dtype": str, "seed": int, "input_range": (float, int, NONE), "layers": list}
    name, dtype, seed, seen, described = take(lines, where, **kinds)
    made = _load_layers(described, where)
    with _building(where):
        model = Sequential(made, name=name, dtype=dtype, seed=check_seed(seed))
        model.session  # noqa: B018  raises where no layer states the input's shape
    model.input_range.seen = None if seen is None else float(seen)
    return model


def _graph_model(lines: Any, where: str) -> Model:
    kinds = {"name": str, "dtype": str, "seed": int, "input_ranges": list}
    kinds |= {"layers": list, "inputs": list, "calls": list, "outputs": list}
    name, dtype, seed, ranges, described, inputs, calls, outputs = take(lines, where, **kinds)
    if len(ranges) != len(inputs) or not all(type(seen) in (float, int, NONE) for seen in ranges):
        raise damaged(f"{where}: input_ranges", "a number or null for each input", ranges)
    made = _load_layers(described, where)
    with _building(where):
        first, last = connect(made, inputs, calls, outputs, where)
        model = Model(first, last, name=name, dtype=dtype, seed=check_seed(seed))
        if len(model._layers) != len(made):
            raise damaged(f"{where}: layers", "layers that the outputs depend on", f"{len(made)}, more than those")
    for seen, value in zip(model.input_ranges, ranges, strict=True):
        seen.seen = None if value is None else float(value)
    return model


def _load_layers(described: list, where: str) -> list[Any]:
    place = where.removesuffix(": model")
    return [_load(layers, line, f"{place}: layer {i}") for i, line in enumerate(described)]


def _compile(model: Model, lines: Any, where: str) -> None:
    several = type(lines) is dict and "aims" in lines
    goal = {"loss": (dict, NONE), "metrics": list}
    optimizer, iterations, *rest = take(
        lines, where, optimizer=dict, iterations=int, **({"aims": list} if several else goal)
    )
    rule = _load(optimizers.registry, optimizer, where)
    goals = [take(aim, f"{where}: aims", **goal, weight=(float, int)) for aim in rest[0]] if several else [[*rest, 1.0]]
    aims = [None if aim is None else _load(losses.registry, aim, where) for aim, _, _ in goals]
    chosen = [[_load(metrics.registry, line, where) for line in measured] for _, measured, _ in goals]
    with _building(where):
        if several:
            model.compile(rule, aims, chosen, loss_weights=[weight for _, _, weight in goals])
        else:
            model.compile(rule, aims[0], chosen[0])
    if iterations < 0:
        raise damaged(where, "iterations of 0 or more", iterations)
    rule.batches = iterations


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
