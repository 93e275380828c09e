"""Everything `fit` is given, checked before any work starts. Stage: train. Must not know: executors, kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..checks import check_count
from ..errors import DataError, HyperparameterError, warn
from ..plan.objective import Targets
from ..plan.plan import Request
from ..strategy import Strategy
from . import data
from .aims import log_names
from .callbacks import CallbackList
from .fit import Job, Rows
from .history import History
from .progress import Display, progress
from .ranks import led


@dataclass(frozen=True)
class FitArguments:
    """The arguments of `Sequential.fit` as given."""

    batch_size: int
    epochs: int
    verbose: Any
    callbacks: Any
    validation_split: float
    validation_data: Any
    shuffle: bool
    class_weight: dict | None
    sample_weight: Any
    initial_epoch: int
    steps_per_epoch: int | None
    strategy: Strategy


def prepare_fit(model: Any, x, y, given: FitArguments) -> tuple[Job, Display, CallbackList, History]:
    """What `run_fit` needs. Raises ParnetError of the kind that fits."""
    batch_size = check_count(given.batch_size, "fit: batch_size")
    epochs = check_count(given.epochs, "fit: epochs")
    initial_epoch = check_count(given.initial_epoch, "fit: initial_epoch", low=0)
    rows = check_rows(model, x, y, given.sample_weight, given.class_weight, "fit")
    validation = _validation(model, rows, given, x)
    if validation is not None and given.validation_data is None:
        rows = rows.part(0, len(rows) - len(validation))
    steps = _steps(len(rows), batch_size, given.steps_per_epoch)
    for seen, x in zip(model.input_ranges, rows.x, strict=True):
        seen.learn(x)
    request = Request(
        "train",
        min(batch_size, len(rows)),
        data.kinds(rows.x),
        model.dtype,
        optimizer=model.optimizer,
        weighted=rows.weight is not None,
        aims=model.aims,
    )
    job = Job(request, given.strategy, rows, validation, epochs, initial_epoch, steps, given.shuffle)
    trained = min(len(rows), steps * batch_size)
    display = progress(
        given.verbose if given.strategy.leads else 0, trained, 0 if validation is None else len(validation), epochs
    )
    history = History()
    given = given if given.strategy.leads else replace(given, callbacks=())
    hooks = [given.callbacks] if hasattr(given.callbacks, "on_epoch_end") else list(given.callbacks or ())
    params = {"epochs": epochs, "steps": steps, "batch_size": batch_size, "samples": trained, "verbose": given.verbose}
    names = log_names(model.aims, model.output_names)
    params["metrics"] = names + ([] if validation is None else [f"val_{name}" for name in names])
    callbacks = CallbackList([*hooks, history], model, params)
    return job, display, led(callbacks, model, job), history


def check_rows(model: Any, x, y, sample_weight, class_weight, where: str) -> Rows:
    """Checked samples of a compiled model."""
    if y is None:
        raise DataError(f"{where}: expected targets y, received None")
    dtype = model.dtype
    inputs = data.as_many_inputs(x, model.session.network, f"{where}: x", dtype)
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


def _validation(model: Any, rows: Rows, given: FitArguments, x) -> Rows | None:
    pair, split = given.validation_data, given.validation_split
    if pair is not None:
        if not isinstance(pair, tuple | list) or len(pair) not in (2, 3):
            raise DataError(f"fit: expected validation_data (x, y) or (x, y, sample_weight), received {type(pair)}")
        if isinstance(pair[0], np.ndarray) and isinstance(x, np.ndarray) and np.shares_memory(pair[0][:1], x[:1]):
            warn("fit: validation_data is the training data, so it cannot show over-fitting; hold rows back instead")
        weight = pair[2] if len(pair) == 3 else None
        return check_rows(model, pair[0], pair[1], weight, None, "fit: validation_data")
    if not (isinstance(split, int | float) and 0 <= split < 1):
        raise HyperparameterError(f"fit: expected validation_split of at least 0 and below 1, received {split!r}")
    if not split:
        return None
    held = len(rows) - int(len(rows) * (1 - split))
    if not 0 < held < len(rows):
        raise DataError(
            f"fit: validation_split={split} of {len(rows)} rows leaves {len(rows) - held} to train on and {held} to "
            "validate on; give more rows or another share"
        )
    return rows.part(len(rows) - held, len(rows))


def _steps(rows: int, batch: int, wanted) -> int:
    steps = -(-rows // batch)
    if wanted is None:
        return steps
    wanted = check_count(wanted, "fit: steps_per_epoch")
    if wanted > steps:
        raise HyperparameterError(
            f"fit: expected steps_per_epoch of at most {steps}, the batches that {rows} rows make, received {wanted}"
        )
    return wanted
