"""`parnet train`: a network, a data set or the arrays of an npz file, and `fit`. Stage: outermost.

Must not know: layers.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, losses, optimizers, seeding
from .. import strategy as how
from ..checks import check_choice, check_count, check_number
from ..endings import check_own
from ..errors import DataError, DatasetError, FileFormatError, HyperparameterError, ParnetError
from ..executors.threads import check_threads
from ..model import Model
from ..train.defaults import usual_loss, usual_metrics
from .networks import RATES, build

#: data sets that need no file of the user's
DATA = ("digits", "mnist")


@dataclass(frozen=True)
class Arrays:
    """What a file holds: samples to train on, and None or samples to test on."""

    x: np.ndarray
    y: np.ndarray
    test: tuple[np.ndarray, np.ndarray] | None


def train(arguments: argparse.Namespace) -> int:
    """Train as the command line says; see `parnet train --help`. Returns the exit code.

    Raises:
        ParnetError: before any work starts, for everything that can be seen then.
        KeyboardInterrupt: after saving what has been learnt, if it was to be saved.
    """
    strategy = choose_strategy(arguments.strategy, arguments.threads)
    for option, count in (("--epochs", arguments.epochs), ("--batch-size", arguments.batch_size)):
        check_count(count, option)
    if arguments.lr is not None:
        check_number(arguments.lr, "--lr", 0)
    if arguments.save is not None:
        check_folder(arguments.save, "--save")
        check_own(arguments.save, "--save")
    for option, name, known in (
        ("--optimizer", arguments.optimizer, optimizers.registry),
        ("--loss", arguments.loss, losses.registry),
    ):
        if name is not None:
            known.find(name, option)
    seeding.set_seed(arguments.seed)
    data = read_arrays(arguments.data)
    model = build(arguments.model, data.x, data.y)
    compile_model(model, arguments, data.y)
    verbose = arguments.verbose if arguments.verbose == "auto" else int(arguments.verbose)
    try:
        model.fit(
            data.x,
            data.y,
            batch_size=arguments.batch_size,
            epochs=arguments.epochs,
            validation_split=arguments.validation_split,
            strategy=strategy,
            verbose=verbose,
        )
    except KeyboardInterrupt:
        if model.optimizer is not None and model.optimizer.iterations:
            _save(model, arguments.save)
        raise
    _save(model, arguments.save)
    if data.test is not None:
        logs = model.evaluate(*data.test, return_dict=True, strategy=strategy)
        print("Test: " + ", ".join(f"{name} {_text(value)}" for name, value in logs.items()))
    return 0


def _save(model: Model, path: str | None) -> None:
    if path is not None:
        model.save(path)
        print(f"Saved: {path}")


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def choose_strategy(name: str | None, threads: int | None) -> how.Strategy:
    """The strategy of `--strategy` and `--threads`.

    Raises:
        UnknownNameError: no such strategy.
        HyperparameterError, ResourceError: no such number of threads; or serial on N threads.
    """
    if name is not None:
        check_choice(name, "--strategy", how.NAMES)
    if threads is None:
        return how.get(name or "auto")
    if name not in (None, "threads"):
        raise HyperparameterError(f"--threads: expected it with --strategy threads, received {threads} with {name}")
    return how.Threads(check_threads(threads, "--threads"))


def check_folder(path: str, option: str) -> None:
    """Refuse a file that cannot be written for want of its folder, before the work whose result it takes.

    Raises:
        HyperparameterError: there is no such folder, or the path is one.
    """
    if Path(path).is_dir() or not Path(path).resolve().parent.is_dir():
        raise HyperparameterError(f"{option}: expected a file in a folder that exists, received {path!r}")


def compile_model(model: Model, arguments: argparse.Namespace, y: np.ndarray) -> None:
    """Compile with what the command line says, then what the builder said, then defaults."""
    given = (arguments.optimizer, arguments.lr, arguments.loss)
    if model.optimizer is not None and model.loss is not None and given == (None, None, None):
        return
    rule = _optimizer(model, arguments)
    loss = arguments.loss or model.loss or usual_loss(model, y)
    metrics = model.metrics or usual_metrics(loss)
    model.compile(rule, loss, metrics)


def _optimizer(model: Model, arguments: argparse.Namespace) -> optimizers.Optimizer:
    rate = arguments.lr
    if arguments.optimizer is None and model.optimizer is not None:
        if rate is not None:
            model.optimizer.learning_rate = rate
        return model.optimizer
    if arguments.optimizer is None and rate is None:
        rate = RATES.get(arguments.model)
    return optimizers.registry.find(arguments.optimizer or "sgd")(lr=rate)


def read_arrays(path: str) -> Arrays:
    """A data set by its name, or the arrays of an npz file; pickled objects in it are refused, never run.

    Raises:
        DatasetError: it is not there or cannot be read. FileFormatError: it is no npz file, damaged, or lacks the arrays.
        DataError: inputs and targets of different lengths.
    """
    if path in DATA:
        (x, y), test = getattr(datasets, path).load_data()
        return Arrays(x, y, test)
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise FileFormatError(f"{path}: expected an npz file, as numpy.savez writes it, received another file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as content:
                return _chosen(path, content)
    except ParnetError:
        raise
    except OSError as error:
        raise DatasetError(
            f"--data: expected {', '.join(DATA)} or an npz file that can be read, received {path!r}: {error.strerror}"
        ) from error
    except Exception as error:  # the parsers of zip, zlib and npy raise a dozen kinds
        raise FileFormatError(f"{path}: expected arrays of numbers in an npz file, received: {error}") from error


def _chosen(path: str, content: Mapping[str, np.ndarray]) -> Arrays:
    for x, y in (("x_train", "y_train"), ("x", "y")):
        if x in content and y in content:
            test = _pair(path, content, "x_test", "y_test") if "x_test" in content and "y_test" in content else None
            return Arrays(*_pair(path, content, x, y), test)
    raise FileFormatError(
        f"{path}: expected the arrays x_train and y_train (and x_test, y_test), or x and y, "
        f"received {', '.join(sorted(content)) or 'an empty file'}; use numpy.savez(path, x=..., y=...)"
    )


def _pair(path: str, content: Mapping[str, np.ndarray], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = content[x], content[y]
    if inputs.ndim < 2 or targets.ndim < 1 or len(inputs) != len(targets):
        raise DataError(
            f"{path}: expected {x} (rows, ...) and {y} (rows, ...) of equally many rows, "
            f"received {inputs.shape} and {targets.shape}"
        )
    return inputs, targets
