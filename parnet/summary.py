"""The table that `model.summary()` prints. Stage: model. Allocates nothing. Must not know: executors."""

from __future__ import annotations

from typing import Any

from .graph import Graph
from .layers.base import Layer
from .layers.tensor import Tensor


def summary(model: Any) -> str:
    """Layers, output shapes, exact parameter counts and the memory they take."""
    model.session.refresh()
    network = model.session.network
    rows: list[tuple[str, ...]] = [("Layer (type)", "Output Shape", "Param #", "Connected to")]
    for layer, made in rows_of(model.graph):
        size = sum(p.count for key, p in network.placed.items() if key.rsplit("/", 1)[0] == layer.name)
        shapes = dict.fromkeys(f"({', '.join(map(str, (None, *tensor.shape)))})" for tensor in made)
        sources = dict.fromkeys(source.name for tensor in made for source in tensor.inputs)
        rows.append((f"{layer.name} ({type(layer).__name__})", " ".join(shapes), f"{size:,}", ", ".join(sources)))
    if _is_chain(model.graph):
        rows = [row[:3] for row in rows]
    widths = [max(len(row[i]) for row in rows) + 3 for i in range(len(rows[0]))]
    line = "_" * sum(widths)
    body = ["".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = sum(p.count for p in network.placed.values())
    trainable = sum(p.count for p in network.placed.values() if p.trainable)
    item = 4 if model.dtype == "float32" else 8
    return "\n".join(
        [
            f'Model: "{model.name}"',
            line,
            body[0],
            "=" * len(line),
            *body[1:],
            "=" * len(line),
            f"Total params: {total:,} ({total * item / 2**20:,.2f} MiB of {model.dtype})",
            f"Trainable params: {trainable:,}",
            f"Non-trainable params: {total - trainable:,}",
            line,
        ]
    )


def rows_of(graph: Graph) -> list[tuple[Layer, list[Tensor]]]:
    """Each layer with the tensors that it makes in the graph, in the order of the layers."""
    made: dict[int, list[Tensor]] = {id(layer): [] for layer in graph.layers}
    for tensor in (*graph.inputs, *graph.calls):
        if id(tensor.layer) in made and not (tensor.layer.is_input and made[id(tensor.layer)]):
            made[id(tensor.layer)].append(tensor)
    return [(layer, made[id(layer)]) for layer in graph.layers]


def _is_chain(graph: Graph) -> bool:
    """Whether each layer reads the one before it: then there is nothing to say about connections."""
    calls = [tensor for tensor in graph.calls if not tensor.layer.is_input]
    before = [*graph.inputs, *calls]
    single = len(graph.inputs) == len(graph.outputs) == 1
    return single and all(t.inputs == (b,) for t, b in zip(calls, before, strict=False))
