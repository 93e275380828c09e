"""Everything `fit` is given, checked before any work starts. Stage: train. Must not know: executors, kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..checks import check_count, check_list
from ..errors import DataError, HyperparameterError, warn
from ..layers.normalization import BatchNormalization
from ..plan.plan import Request
from ..strategy import Strategy
from .aims import log_names
from .callbacks import CallbackList
from .fit import Job
from .history import History
from .loader import DataLoader, Window, is_iterable
from .progress import Display, progress
from .ranks import led
from .sources import as_loader, as_source, check_rows, stream_of
from .stream import Rows, Source, Stream, Whole

#: rows of a shard from which on its own statistics are good enough for batch normalisation
FEW_ROWS = 16


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
    validation_steps: int | None = None


def prepare_fit(model: Any, x, y, given: FitArguments) -> tuple[Job, Display, CallbackList, History]:
    """What `run_fit` needs. Raises ParnetError of the kind that fits."""
    batch_size = check_count(given.batch_size, "fit: batch_size")
    epochs = check_count(given.epochs, "fit: epochs")
    initial_epoch = check_count(given.initial_epoch, "fit: initial_epoch", low=0)
    training, validation = _data(model, x, y, batch_size, epochs - initial_epoch, given)
    _warn_of_no_update(model.optimizer, training, epochs - initial_epoch)
    request = Request("train", 1, dtype=model.dtype, optimizer=model.optimizer, aims=model.aims)
    job = Job(request, given.strategy, training, validation, epochs, initial_epoch)
    if given.strategy.leads:
        _warn_of_few(model, given.strategy, training.batch)
        _warn_of_squashed_logits(model)
    verbose: Any = given.verbose if given.strategy.leads else 0
    held = 0 if validation is None else validation.samples or 0
    display = progress(verbose, training.samples, held, epochs, steps=training.steps)
    history = History()
    given = given if given.strategy.leads else replace(given, callbacks=())
    hooks = [given.callbacks] if hasattr(given.callbacks, "on_epoch_end") else given.callbacks
    hooks = [] if hooks is None else check_list(hooks, "fit: callbacks", "callbacks")
    params: dict[str, Any] = {
        "epochs": epochs,
        "steps": training.steps,
        "batch_size": training.batch,
        "samples": training.samples,
    }
    names = log_names(model.aims, model.output_names)
    params["metrics"] = names + ([] if validation is None else [f"val_{name}" for name in names])
    params["verbose"] = given.verbose
    callbacks = CallbackList([*hooks, history], model, params)
    return job, display, led(callbacks, model, job), history


def _data(model: Any, x, y, batch: int, epochs: int, given: FitArguments) -> tuple[Source, Source | None]:
    """What is trained and validated on."""
    loader = as_loader(x, y, given.sample_weight, "fit", batch_size=batch, shuffle=given.shuffle, seed=model.session.seed)
    if loader is not None and loader.rows == 0:
        raise DataError(f"fit: expected at least one batch, received {loader!r} with drop_last; take a smaller batch_size")
    if loader is not None and not loader.in_memory:
        if given.validation_split:
            raise HyperparameterError(
                "fit: expected arrays with validation_split, received a loader, files or an iterable; give validation_data"
            )
        if loader.one_pass and epochs > 1 and given.steps_per_epoch is None:
            raise DataError(
                f"fit: expected an iterable that can be gone through {epochs} times, received an iterator; give a function "
                "that returns a new one, or steps_per_epoch"
            )
        steps = None if given.steps_per_epoch is None else check_count(given.steps_per_epoch, "fit: steps_per_epoch")
        if loader.rows is not None:
            steps = _steps(loader.rows, loader.batch_size, steps)
        stream = stream_of(model, loader, given.class_weight, steps, given.strategy, "fit")
        return stream, _validation(model, None, given, batch, epochs)
    seed: int | None = model.session.seed if given.shuffle else None
    if loader is not None and loader.columns is not None:  # arrays, which shuffle and run as those of fit do
        batch, seed = loader.batch_size, loader.seed if loader.shuffle else None
        x, y, weight = loader.arrays(Window(0, len(loader.columns[0])))
        given = replace(given, sample_weight=weight)
    rows = check_rows(model, x, y, given.sample_weight, given.class_weight, "fit")
    if given.validation_data is not None:
        _warn_of_same(given.validation_data, x)
    held = _held_back(len(rows), given)
    steps = _steps(len(rows) - held, batch, given.steps_per_epoch)
    if loader is not None and loader.drop_last:
        steps = max(1, min(steps, (len(rows) - held) // batch))
    validation = _validation(model, rows.part(len(rows) - held, len(rows)) if held else None, given, batch, epochs)
    return Whole(rows.part(0, len(rows) - held), batch, steps, seed), validation


def _validation(model: Any, held: Rows | None, given: FitArguments, batch: int, epochs: int) -> Source | None:
    """What is validated on: the rows held back, or the validation data."""
    found, where = given.validation_data, "fit: validation_data"
    if found is None:
        return None if held is None else Whole(held, batch)
    x, y, weight = (found, None, None) if is_source(found) else _pair(found)
    source = as_source(model, x, y, weight, batch, given.validation_steps, given.strategy, where)
    if isinstance(source, Stream) and source.loader.one_pass and given.validation_steps is None and epochs > 1:
        raise DataError(
            f"{where}: expected an iterable that can be gone through in each epoch, received an iterator; give a function "
            "that returns a new one, or validation_steps"
        )
    return source


def is_source(x: Any) -> bool:
    """Whether x alone can be validation data: a loader, a .npz file, or an iterable of batches."""
    return isinstance(x, DataLoader) or isinstance(x, str) or (not isinstance(x, tuple | list) and is_iterable(x))


def _pair(pair: Any) -> tuple[Any, Any, Any]:
    if not isinstance(pair, tuple | list) or len(pair) not in (2, 3):
        raise DataError(f"fit: expected validation_data (x, y) or (x, y, sample_weight), received {type(pair)}")
    return pair[0], pair[1], pair[2] if len(pair) == 3 else None


def _warn_of_same(pair: Any, x: Any) -> None:
    """Where the validation data are the training data."""
    if isinstance(pair, tuple | list) and pair and isinstance(pair[0], np.ndarray) and isinstance(x, np.ndarray):
        if np.shares_memory(pair[0][:1], x[:1]):
            warn("fit: validation_data is the training data, so it cannot show over-fitting; hold rows back instead")


def _warn_of_few(model: Any, strategy: Strategy, batch: int) -> None:
    """Where a batch normalisation takes its statistics from few rows; the fewer, the more they vary from batch to batch."""
    rows = batch // strategy.shards
    if strategy.shards == 1 or rows >= FEW_ROWS:
        return
    for layer in model.session.network.layers:
        if isinstance(layer, BatchNormalization) and layer.trainable and (strategy.alone or not layer.synchronized):
            cure = "mode='sync'" if strategy.alone else "synchronized=True"
            cure = f"take a batch_size of at least {FEW_ROWS * strategy.shards}, or {cure}"
            warn(
                f"fit: {layer.name} normalises each shard of {rows} rows by the shard's own statistics, which vary much "
                f"with so few; {cure}"
            )
            return


def _warn_of_squashed_logits(model: Any) -> None:
    """Where a loss takes probabilities for the sums before a softmax or sigmoid, and so squashes them twice."""
    for place, (name, aim) in enumerate(zip(model.output_names, model.aims, strict=True)):
        last = model.session.network.activation(place)
        if aim.loss is not None and aim.loss.from_logits and last in ("softmax", "sigmoid"):
            warn(
                f"fit: {name} ends with {last}, and {type(aim.loss).__name__}(from_logits=True) applies another one to what "
                "it gives, so it learns slowly; leave from_logits out, or the activation"
            )


def _warn_of_no_update(rule: Any, training: Source, epochs: int) -> None:
    """Where the gradients of more batches than there are make one update."""
    group, steps = rule.gradient_accumulation_steps, training.steps
    if group is not None and steps is not None and rule.batches % group + steps * epochs < group:
        warn(
            f"fit: no weight will change: gradient_accumulation_steps={group} makes an update of {group} batches, and there "
            f"are {steps * epochs}; their gradients wait for the next fit"
        )


def _held_back(rows: int, given: FitArguments) -> int:
    """Rows at the end that are not trained on."""
    split = given.validation_split
    if given.validation_data is not None:
        return 0
    if not (isinstance(split, int | float) and 0 <= split < 1):
        raise HyperparameterError(f"fit: expected validation_split of at least 0 and below 1, received {split!r}")
    if not split:
        return 0
    held = rows - int(rows * (1 - split))
    if not 0 < held < rows:
        raise DataError(
            f"fit: validation_split={split} of {rows} rows leaves {rows - held} to train on and {held} to validate on; give "
            "more rows or another share"
        )
    return held


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
