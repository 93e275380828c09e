"""The table that `model.summary()` prints. Stage: model. Allocates nothing. Must not know: executors."""

from __future__ import annotations

from typing import Any


def summary(model: Any) -> str:
    """Layers, output shapes, exact parameter counts and the memory they take."""
    network = model.session.network
    rows = [("Layer (type)", "Output Shape", "Param #")]
    for node in network.nodes:
        layer, shape = node.layer, node.shape
        size = sum(p.count for key, p in network.placed.items() if key.startswith(f"{layer.name}/"))
        text = ", ".join(map(str, (None, *shape)))
        rows.append((f"{layer.name} ({type(layer).__name__})", f"({text})", f"{size:,}"))
    widths = [max(len(row[i]) for row in rows) + 3 for i in range(3)]
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
