"""`parnet demo`: learn to read digits, then time one epoch serially and on threads. Stage: outermost."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import datasets, optimizers, schedules, viz
from .. import layers as L
from ..checks import check_count
from ..errors import MissingExtraError, unknown_name
from ..executors.threads import check_threads
from ..sequential import Sequential
from ..strategy import Serial, Strategy, Threads
from .networks import mlp
from .train import check_folder, choose_strategy

SEED = 0
#: timed epochs of each strategy, after one to warm up
REPEATS = 5
Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """What the demo trains.

    Attributes:
        text: the data in words.
        training, validation, test: (x, y), uint8 pictures and class numbers.
        network: a fresh model, the same each time.
        optimizer: a fresh optimizer for so many updates.
        batch, epochs: as `fit` takes them.
    """

    text: str
    training: Split
    validation: Split
    test: Split
    network: Callable[[], Sequential]
    optimizer: Callable[[int], optimizers.Optimizer]
    batch: int
    epochs: int


def demo(data: str, epochs: int | None, output: str, threads: int | None) -> int:
    """Train, test, time, draw.

    Args:
        data: "digits" or "mnist".
        epochs: None for what suits the data.
        output: file of the learning curves.
        threads: None for all usable cores.
    Returns:
        the exit code: 1 where the weights of the two strategies differ.
    """
    strategy, threads = choose_strategy(None, threads), check_threads(threads, "--threads")
    check_folder(output, "--output")
    if Path(output).suffix.lower() not in viz.SUFFIXES:
        raise unknown_name("ending of --output", Path(output).suffix, viz.SUFFIXES)
    task = _digits() if data == "digits" else _mnist()
    epochs = task.epochs if epochs is None else check_count(epochs, "--epochs")
    print(task.text)
    model = _compiled(task, epochs)
    model.summary()
    history = model.fit(
        *task.training,
        batch_size=task.batch,
        epochs=epochs,
        validation_data=task.validation,
        strategy=strategy,
    )
    loss, accuracy = model.evaluate(*task.test, strategy=strategy)
    print(f"Test accuracy {accuracy:.4f}, loss {loss:.4f}, on {len(task.test[0])} pictures never trained on")
    equal = _compare(task, threads)
    try:
        viz.plot_history(history.history, output)
        print(f"Learning curves: {Path(output).resolve()}")
    except MissingExtraError as error:
        print(f"No picture: {error}", file=sys.stderr)
    return 0 if equal else 1


def _compiled(task: Task, epochs: int) -> Sequential:
    model = task.network()
    updates = epochs * -(-len(task.training[0]) // task.batch)
    model.compile(task.optimizer(updates), "sparse_categorical_crossentropy", ["accuracy"], seed=SEED)
    return model


def _compare(task: Task, threads: int) -> bool:
    """Time epochs of two equal models, one serial, one on threads. Returns whether they stay equal."""
    if threads == 1:
        print("Speed: one thread may be used, so there is nothing to compare")
        return True
    models = {1: _compiled(task, REPEATS + 1), threads: _compiled(task, REPEATS + 1)}
    seconds: dict[int, list[float]] = {1: [], threads: []}
    for epoch in range(REPEATS + 1):
        for count, model in models.items():
            seconds[count].append(_one_epoch(model, task, epoch, Serial() if count == 1 else Threads(count)))
    median = {count: statistics.median(times[1:]) for count, times in seconds.items()}
    arrays = zip(*(model.get_weights() for model in models.values()), strict=True)
    equal = all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in arrays)
    print(f"One epoch of {len(task.training[0])} pictures, median of {REPEATS}, turn about:")
    for count, time_s in median.items():
        name = "serial" if count == 1 else f"{count} threads"
        print(f"  {name:<12}{1e3 * time_s:8.1f} ms {1e6 * time_s / len(task.training[0]):8.2f} us/sample")
    ratio = median[1] / median[threads]
    print(f"  {'ratio':<12}{ratio:8.2f}" + ("" if ratio >= 1 else "    slower here: are the cores busy with other work?"))
    verdict = "equal, bit for bit" if equal else "DIFFERENT, which is a bug in parnet; please report it"
    print(f"Weights of the two models after {REPEATS + 1} epochs: {verdict}")
    return equal


def _one_epoch(model: Sequential, task: Task, epoch: int, strategy: Strategy) -> float:
    """Seconds of one epoch without validation; the pool of threads is started before the clock."""
    history = model.fit(
        *task.training,
        batch_size=task.batch,
        epochs=epoch + 1,
        initial_epoch=epoch,
        strategy=strategy,
        verbose=0,
    )
    return history.timing.epoch_s


def _digits() -> Task:
    """The digits of scikit-learn, tested on the last fifth, which other people wrote.

    They are few: shifted copies and batch normalisation take the network from 0.90 to 0.96 there.
    """
    (x, y), test = datasets.digits.load_data()
    cut = len(x) - len(x) // 10
    shifted = [np.roll(x[:cut], shift, axis) for axis in (1, 2) for shift in (-1, 1)]
    training = np.concatenate([x[:cut], *shifted]), np.tile(y[:cut], 5)
    return Task(
        f"Digits, 8 x 8: {cut} training pictures, each also shifted four ways; {len(test[0])} test pictures",
        training,
        (x[cut:], y[cut:]),
        test,
        lambda: Sequential(
            [
                L.Input((8, 8)),
                L.Rescaling(1 / 16),
                L.Flatten(),
                L.Dense(512, activation="relu"),
                L.BatchNormalization(),
                L.Dense(10, activation="softmax"),
            ],
            name="digits",
        ),
        lambda updates: optimizers.Adam(schedules.CosineDecay(0.002, updates)),
        batch=64,
        epochs=15,
    )


def _mnist() -> Task:
    """MNIST and the tutorial's network."""
    (x, y), test = datasets.mnist.load_data()
    cut = len(x) - len(x) // 20
    return Task(
        f"MNIST, 28 x 28: {cut} training pictures; {len(test[0])} test pictures",
        (x[:cut], y[:cut]),
        (x[cut:], y[cut:]),
        test,
        lambda: mlp((28, 28), 10, 1 / 255),
        lambda updates: optimizers.SGD(0.1),
        batch=32,
        epochs=10,
    )
