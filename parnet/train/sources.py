"""What users give as data, as something to run through: arrays, or a stream of pieces. Stage: train.

Must not know: executors, kernels, callbacks.
"""

from __future__ import annotations

from typing import Any

from ..checks import check_count
from ..errors import DataError
from ..plan.objective import Targets
from ..strategy import Strategy, check_streams
from . import data
from .columns import is_paths
from .loader import DataLoader, Window, is_iterable
from .stream import Rows, Source, Stream, Whole


def as_loader(x: Any, y: Any, sample_weight: Any, where: str, **options: Any) -> DataLoader | None:
    """A loader of x if it is one, or paths, or an iterable of batches; None for arrays.

    Raises:
        DataError: targets or weights beside a loader, which brings its own.
    """
    if isinstance(x, DataLoader):
        loader = x
    elif is_paths(x):
        return DataLoader(x, y, sample_weight=sample_weight, **options)
    elif is_iterable(x):
        loader = DataLoader(x)
    else:
        return None
    if y is not None or sample_weight is not None:
        raise DataError(
            f"{where}: expected y=None and sample_weight=None with {type(x).__name__}, which gives (x, y) or "
            "(x, y, sample_weight), received more"
        )
    return loader


def as_source(model: Any, x, y, sample_weight, batch_size: int, steps: int | None, strategy: Strategy, where: str) -> Source:
    """What `evaluate` runs through. Raises ParnetError of the kind that fits."""
    batch = check_count(batch_size, f"{where}: batch_size")
    loader = as_loader(x, y, sample_weight, where, batch_size=batch)
    wanted = None if steps is None else check_count(steps, f"{where}: steps")
    if loader is not None and not loader.in_memory:
        return stream_of(model, loader, None, wanted, strategy, where)
    if loader is not None and loader.columns is not None:
        x, y, sample_weight = loader.arrays(Window(0, loader.rows or 0))
        batch = loader.batch_size
    rows = check_rows(model, x, y, sample_weight, None, where)
    return Whole(rows, batch, None if wanted is None else min(wanted, -(-len(rows) // batch)))


def as_inputs(model: Any, x, batch_size: int, steps: int | None, strategy: Strategy) -> Source:
    """What `predict` runs through; targets that a loader gives are left aside."""
    batch = check_count(batch_size, "predict: batch_size")
    loader = as_loader(x, None, None, "predict", batch_size=batch)
    wanted = None if steps is None else check_count(steps, "predict: steps")

    def check(x: Any, y: Any, weight: Any, where: str, checked: bool) -> Rows:
        return Rows(data.as_many_inputs(x, model.session.network, f"{where}: x", model.dtype, rows=0), ())

    if loader is not None and not loader.in_memory:
        check_streams(strategy, "predict")
        return Stream(loader, check, wanted, "predict")
    if loader is not None and loader.columns is not None:
        x, batch = loader.arrays(Window(0, loader.rows or 0))[0], loader.batch_size
    rows = check(x, None, None, "predict", False)
    return Whole(rows, batch, None if wanted is None else min(wanted, -(-len(rows) // batch)))


def stream_of(
    model: Any, loader: DataLoader, class_weight: dict | None, steps: int | None, strategy: Strategy, where: str
) -> Stream:
    check_streams(strategy, where)
    _targets(model)  # finds metrics and losses that do not fit, here and not on the thread

    def check(x: Any, y: Any, weight: Any, place: str, checked: bool) -> Rows:
        return check_rows(model, x, y, weight, class_weight, place, checked)

    return Stream(loader, check, steps, where)


def check_rows(model: Any, x, y, sample_weight, class_weight, where: str, checked: bool = False) -> Rows:
    """Checked samples of a compiled model. checked: the numbers of x have been found finite before."""
    if y is None:
        raise DataError(f"{where}: expected targets y, received None")
    dtype = model.dtype
    inputs = data.as_many_inputs(x, model.session.network, f"{where}: x", dtype, checked=checked)
    targets, count = _targets(model), len(inputs[0])
    losses = tuple(aim.loss for aim in model.aims)
    labels = data.as_many_targets(y, count, targets, losses, model.output_names, f"{where}: y", dtype)
    weight = None
    if sample_weight is not None:
        weight = data.as_weights(sample_weight, count, f"{where}: sample_weight", dtype)
    if class_weight is not None:
        if len(targets) > 1 or targets[0] is None or labels[0] is None:
            raise DataError(f"{where}: class_weight is for models of one output; use sample_weight")
        table = data.class_weights(class_weight, labels[0], targets[0], f"{where}: class_weight")
        table = data.as_weights(table, count, f"{where}: class_weight", dtype)
        weight = table if weight is None else weight * table
    return Rows(inputs, labels, weight)


def _targets(model: Any) -> tuple[Targets | None, ...]:
    """What the targets must look like; also finds metrics and losses that do not fit the model."""
    return model.session.targets(model.aims)
