"""Finds for each array of a model its counterpart in a file. Stage: io, above the readers. Must not know: file formats.

Layers are paired first, by the first of these that fits best: their names (PyTorch's and torchvision's, "probs" and
"predictions" count as the same); their classes, each counted by itself, as Keras 3 does; their order, as Keras 2 does,
and this only where all shapes agree. Then arrays within a layer: by name, or by place where the file numbers them.
A pure function of names and shapes; no array is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import torch_layout
from .features import Pieces
from .found import FileLayer, Found, Mismatch, Report, Shape, Source, few
from .keras_files import class_key, is_usual
from .torch_layout import Layout, same

#: names of one and the same layer in versions of Keras's applications
_LAST = ("probs", "predictions")
#: Keras 2's names of arrays -> Keras 3's, which are parnet's
_SYNONYMS = {"depthwise_kernel": "kernel"}
#: what wrappers put before PyTorch's names
_WRAPPERS = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class ModelLayer:
    """A layer of the model as far as files are concerned.

    Attributes:
        name, kind: its own and its class's.
        shapes: of its arrays by name, in order.
        flattened: the pieces of its input, see `features.flattened`; None where no picture is in it.
    """

    name: str
    kind: str
    shapes: dict[str, Shape]
    flattened: Pieces | None = None


@dataclass(frozen=True)
class Pair:
    """An array of the model and its counterpart of the right shape.

    Attributes:
        key: "layer/weight".
        found: in the file.
        layout: the file's.
    """

    key: str
    found: Found
    layout: Layout

    def read(self) -> np.ndarray:
        """The array as the model wants it."""
        return self.layout.convert(self.found.read())


@dataclass(frozen=True)
class _Trial:
    """What one way of pairing layers comes to."""

    pairs: list[Pair]
    report: Report


def match(layers: list[ModelLayer], source: Source) -> tuple[list[Pair], Report]:
    """All pairs that fit, and the report on them and on what does not."""
    layers = [layer for layer in layers if layer.shapes]
    trials = [_tried(layers, source, how, paired) for how, paired in _pairings(layers, source)]
    best = max(trials, key=lambda trial: (trial.report.complete, trial.report.matched_by != "order", len(trial.pairs)))
    return best.pairs, best.report


def renamed(layers: list[ModelLayer], source: Source) -> str:
    """Says so where a file of parnet's has the same shapes in the same order, but under other names; else empty."""
    mine = [(f"{layer.name}/{weight}", shape) for layer in layers for weight, shape in layer.shapes.items()]
    theirs = [(found.name, found.shape) for filed in source.layers for found in filed.arrays]
    if source.format != "parnet" or [shape for _, shape in mine] != [shape for _, shape in theirs]:
        return ""
    pairs = [f"{b} for {a}" for (a, _), (b, _) in zip(mine, theirs, strict=True) if a != b]
    return f"the same shapes in the same order under other names ({few(pairs)}; name the layers alike)"


# -- layers -------------------------------------------------------------------------------------


def _pairings(layers: list[ModelLayer], source: Source) -> Iterator[tuple[str, dict[str, FileLayer]]]:
    """The ways to pair layers, likely ones first: what decided, and the model's layers with their counterparts."""
    orders = [
        ("order", {layer.name: f for layer, f in zip(layers, filed, strict=True)})
        for filed in source.nested or _in_order(source)
        if len(filed) == len(layers)
    ]
    if source.nested and orders and _stand_alike(layers, orders[0][1]):
        yield from orders
        return
    for prefix in _prefixes(source):
        named = {f.name.removeprefix(prefix): f for f in reversed(source.layers) if f.name.startswith(prefix) and f.name}
        free = {name: f for name, f in named.items() if name not in {layer.name for layer in layers}}
        own = {layer.name: layer.name if layer.name in named else _alias(layer.name, free, source) for layer in layers}
        yield "name", {name: named[alias] for name, alias in own.items() if alias is not None}
    if any(f.key for f in source.layers):
        keyed = {f.key: f for f in reversed(source.layers)}
        keys = zip(layers, _class_keys(layers), strict=True)
        yield "class", {layer.name: keyed[key] for layer, key in keys if key in keyed}
    yield from orders


def _stand_alike(layers: list[ModelLayer], paired: dict[str, FileLayer]) -> bool:
    """Whether the names that were given to layers here stand in the same places in the file, and some were given none.

    The usual names tell nothing then: Keras counts layers as they are made, those of inner models first.
    """
    usual = [is_usual(layer.name, class_key(layer.kind)) for layer in layers]
    return any(usual) and all(u or layer.name == paired[layer.name].name for u, layer in zip(usual, layers, strict=True))


def _prefixes(source: Source) -> list[str]:
    """What may stand before all layers' names: nothing, or in PyTorch's files a wrapper's name."""
    return ["", *_WRAPPERS] if source.format == "safetensors" else [""]


def _alias(name: str, free: dict[str, FileLayer], source: Source) -> str | None:
    """Another name of a layer under which the file has it."""
    if source.format == "safetensors":
        others = [torch_layout.torchvision_name(name)]
    else:
        others = [other for other in _LAST if name in _LAST and source.format != "parnet"]
    return next((other for other in others if other in free), None)


def _class_keys(layers: list[ModelLayer]) -> list[str]:
    """The key of each layer, as Keras 3 would write it: dense, dense_1, ..."""
    counts: dict[str, int] = {}
    keys = []
    for layer in layers:
        base = class_key(layer.kind)
        number = counts.get(base, 0)
        counts[base] = number + 1
        keys.append(f"{base}_{number}" if number else base)
    return keys


def _in_order(source: Source) -> tuple[list[FileLayer], ...]:
    """The file's layers in the order of their model; nothing where the file has not kept it."""
    filed = [f for f in source.layers if f.arrays]
    if source.format == "keras-h5" and not any(f.key for f in filed):
        return (filed,)
    if source.format == "safetensors" and all(f.name.isdigit() for f in filed):  # torch.nn.Sequential counts them
        return (sorted(filed, key=lambda f: int(f.name)),)
    return ()


# -- arrays -------------------------------------------------------------------------------------


def _tried(layers: list[ModelLayer], source: Source, how: str, paired: dict[str, FileLayer]) -> _Trial:
    """The arrays of paired layers, compared."""
    pairs: list[Pair] = []
    missing: list[str] = []
    wrong: list[Mismatch] = []
    used: set[int] = set()
    for layer in layers:
        counterparts = _arrays(layer, paired.get(layer.name), source.format)
        for weight in layer.shapes:
            key, found = f"{layer.name}/{weight}", counterparts.get(weight)
            if found is None:
                missing.append(key)
                continue
            used.add(id(found))
            layout = _layout(layer, weight, found, source.format)
            if found.shape == layout.shape:
                pairs.append(Pair(key, found, layout))
            else:
                wrong.append(Mismatch(key, layout.shape, found.name, found.shape))
    rest = tuple(a.name for f in source.layers for a in f.arrays if id(a) not in used)
    matched = {pair.key: pair.found.name for pair in pairs}
    report = Report(source.file, source.format, how, matched, tuple(missing), rest, tuple(wrong), source.ignored)
    return _Trial(pairs, report)


def _arrays(layer: ModelLayer, filed: FileLayer | None, format: str) -> dict[str, Found]:
    """The counterparts of a layer's arrays, by the model's names."""
    if filed is None:
        return {}
    if format == "safetensors":
        named = {own: a for a in filed.arrays for own in (a.weight, *torch_layout.NAMES.get(a.weight, ()))}
    else:
        named = {_SYNONYMS.get(a.weight, a.weight): a for a in filed.arrays}
        if format != "parnet" and not set(named) & set(layer.shapes):
            return dict(zip(layer.shapes, filed.arrays, strict=False))
    return {weight: named[weight] for weight in layer.shapes if weight in named}


def _layout(layer: ModelLayer, weight: str, found: Found, format: str) -> Layout:
    """How the file keeps an array: in PyTorch's way where it has PyTorch's name."""
    if format == "safetensors" and found.weight != weight:
        return torch_layout.layout(layer.kind, weight, layer.shapes[weight], layer.flattened)
    return same(layer.shapes[weight])
