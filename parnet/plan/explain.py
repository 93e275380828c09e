"""A plan as a table for people. Stage: plan. Must not know: executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kernels.step import EVERYONE, SHARE_NAMES

if TYPE_CHECKING:
    from .plan import Plan

COLUMNS = ("layer", "kernel", "extent", "kFLOP", "KiB", "owner rule", "parts", "then")
THEN = {0: "", 1: "meet", 2: "meet, check loss"}


def table(plan: Plan) -> str:
    """One line a step, and the arena's size against what its buffers would take side by side."""
    rows, batch = [COLUMNS], plan.request.batch
    for step, slot in zip(plan.steps, plan.slots, strict=True):
        times = batch if step.per_row else 1
        extent = " x ".join("batch" if n == -1 else str(n) for n in step.extent)
        parts = "each" if slot.parts == EVERYONE else str(slot.parts)
        flops, size = f"{step.flops * times / 1e3:,.0f}", f"{step.bytes * times / 1024:,.1f}"
        rows.append((step.label, step.kernel, extent, flops, size, SHARE_NAMES[step.share], parts, THEN[slot.barrier]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    item = 4 if plan.request.dtype == "float32" else 8
    total = sum(s.flops * (batch if s.per_row else 1) for s in plan.steps)
    lines.append(
        f"batch {batch}, {plan.request.dtype}, {len(plan.steps)} steps, {total / 1e6:.2f} MFLOP, "
        f"arena {plan.arena_size * item / 1024:,.1f} KiB"
    )
    return "\n".join(lines)
