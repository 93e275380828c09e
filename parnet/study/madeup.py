"""Made-up samples for a model whose own are not at hand: right in shape and kind, without meaning. Stage: study, lowest.

Must not know: what they are run through.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..losses import CategoricalCrossentropy

SEED = 0


def sample_inputs(shapes: tuple[tuple[int, ...], ...], rows: int, dtype: str = "float32") -> Any:
    """Numbers from 0 to 1, (rows, *shape); of several inputs a list."""
    rng = np.random.default_rng(SEED)
    arrays = [rng.random((rows, *shape), dtype=np.dtype(dtype).type) for shape in shapes]
    return arrays[0] if len(arrays) == 1 else arrays


def sample_targets(model: Any, rows: int) -> Any:
    """What the losses of a compiled model want: class numbers, one-hot rows, or numbers from 0 to 1.

    Args:
        model: compiled. rows: of the targets.
    Returns:
        an array; of several outputs a list, with None for an output without a loss.
    """
    rng = np.random.default_rng(SEED + 1)
    found: list[Any] = []
    for target, aim in zip(model.session.targets(model.aims), model.aims, strict=True):
        if target is None or aim.loss is None:
            found.append(None)
        elif target.labels:
            found.append(rng.integers(0, max(1, target.classes), rows))
        elif isinstance(aim.loss, CategoricalCrossentropy):
            found.append(np.eye(target.width, dtype=np.float32)[rng.integers(0, target.width, rows)])
        else:
            found.append(rng.random((rows, *target.shape), np.float32))
    return found[0] if len(found) == 1 else found
