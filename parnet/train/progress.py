"""What `fit` and `evaluate` show: nothing, a line for each epoch, or a bar. Stage: fed by the engine.

    display = progress(verbose, samples=57000, validation_samples=3000, epochs=10)
    with display:                                    # removes the bar whatever happens
        display.begin()                              # Train on 57000 samples, validate on 3000 samples
        for epoch in range(10):
            display.epoch_begin(epoch)
            display.update(samples_done, logs)       # about ten times a second
            display.epoch_end(epoch, seconds, logs)  # Epoch 3/10 - 0.11s - 2.0us/sample - loss: 0.5643 - ...

Must not know: models, callbacks, or how samples are processed.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TextIO

import numpy as np

from ..errors import HyperparameterError

Verbose = Literal["auto", 0, 1, 2]
#: what the bar looks like, and what stands in its place where nobody knows how many samples will come
BAR = "{desc} {n}/{total} [{bar}] ETA {remaining}{statistics}"
COUNTER = "{desc} {n} samples{statistics}"


class Display:
    """The contract, and the display of `verbose=0`: it shows nothing."""

    def begin(self) -> None:
        """Before the first epoch."""

    def epoch_begin(self, epoch: int) -> None:
        """Before an epoch, counted from 0."""

    def update(self, samples_done: int, logs: Mapping[str, float]) -> None:
        """Samples done in this epoch, and its loss and metrics so far."""

    def epoch_end(self, epoch: int, seconds: float, logs: Mapping[str, float]) -> None:
        """The epoch's wall clock in seconds (validation included), loss and metrics."""

    def learn_samples(self, samples: int) -> None:
        """How many samples an epoch has, where that was not known before."""

    def interrupted(self, epoch: int, samples_done: int) -> None:
        """Ctrl-C came in this epoch, after so many of its samples."""

    def end(self) -> None:
        """After the last epoch; may be called twice."""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


class LineDisplay(Display):
    """`verbose=2`: what will be done, then one line for each epoch. Arguments as of `progress`."""

    def __init__(
        self, samples: int | None, validation_samples: int, epochs: int, stream: TextIO, training: bool, steps: int | None
    ):
        self.samples = samples
        self.steps = steps
        self.validation_samples = validation_samples
        self.epochs = epochs
        self.stream = stream
        self.training = training

    def begin(self) -> None:
        validation = f", validate on {self.validation_samples} samples" if self.validation_samples else ""
        if self.training and self.samples is None:
            self.print(f"Train on {f'{self.steps} batches an epoch' if self.steps else 'batches as they come'}{validation}")
        elif self.training:
            self.print(f"Train on {self.samples} samples{validation}")

    def learn_samples(self, samples: int) -> None:
        self.samples = samples

    def epoch_end(self, epoch: int, seconds: float, logs: Mapping[str, float]) -> None:
        cost = [seconds_text(seconds), cost_text(self.samples or 0, seconds)]
        self.print(" - ".join([self.title(epoch), *cost, *metric_texts(logs)]))

    def interrupted(self, epoch: int, samples_done: int) -> None:
        total = "" if self.samples is None else f"/{self.samples}"
        where = f"{self.title(epoch)}, at {samples_done}{total} samples"
        kept = "; the model keeps what it has learnt" if self.training else ""
        self.print(f"Interrupted: {where}{kept}")

    def title(self, epoch: int) -> str:
        """How the line of an epoch, counted from 0, starts."""
        return f"Epoch {epoch + 1}/{self.epochs}" if self.training else "Evaluate"

    def print(self, line: str) -> None:
        """Write the line and flush it, so that a log file shows how far the training is."""
        self.stream.write(line + "\n")
        self.stream.flush()


class BarDisplay(Display):
    """`verbose=1`: a bar while an epoch runs, replaced by its line at the end."""

    def __init__(self, lines: LineDisplay):
        self._lines = lines
        self._bar: Any = None

    def begin(self) -> None:
        self._lines.begin()

    def epoch_begin(self, epoch: int) -> None:
        self.end()
        self._bar = bar_class()(
            total=self._lines.samples,
            desc=self._lines.title(epoch),
            # no dashes, and the cost last: in 80 columns the loss and one metric must still be readable
            bar_format=COUNTER if self._lines.samples is None else BAR,
            ascii=".>=",
            dynamic_ncols=True,
            leave=False,
            file=self._lines.stream,
        )

    def update(self, samples_done: int, logs: Mapping[str, float]) -> None:
        if self._bar is not None:
            elapsed_s = self._bar.format_dict["elapsed"]
            self._bar.n = samples_done
            self._bar.statistics = " ".join(["", *metric_texts(logs), cost_text(samples_done, elapsed_s)])
            self._bar.refresh()

    def learn_samples(self, samples: int) -> None:
        self._lines.learn_samples(samples)

    def epoch_end(self, epoch: int, seconds: float, logs: Mapping[str, float]) -> None:
        self.end()
        self._lines.epoch_end(epoch, seconds, logs)

    def interrupted(self, epoch: int, samples_done: int) -> None:
        self.end()
        self._lines.interrupted(epoch, samples_done)

    def end(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


def progress(
    verbose: Verbose,
    samples: int | None,
    validation_samples: int = 0,
    epochs: int = 1,
    stream: TextIO | None = None,
    *,
    training: bool = True,
    steps: int | None = None,
) -> Display:
    """The display for one `fit` or `evaluate`.

    Args:
        verbose: 0 nothing; 1 a bar; 2 a line for each epoch; "auto" a bar on a terminal or in a notebook,
            else lines.
        samples: samples in an epoch, None where not known.
        validation_samples: samples of the validation after it, 0 for none.
        epochs: number of the last epoch.
        stream: where to write; stdout by default.
        training: False for `evaluate`, whose one line starts with "Evaluate" and which says nothing before.
        steps: batches in an epoch, where that alone is known.
    Raises:
        HyperparameterError: another `verbose`.
    """
    if not isinstance(verbose, int | str) or verbose not in ("auto", 0, 1, 2):
        raise HyperparameterError(
            f"verbose: expected 'auto', 0 (nothing), 1 (bar) or 2 (a line for each epoch), "
            f"received {verbose!r}; leave it out for 'auto'"
        )
    stream = sys.stdout if stream is None else stream
    if verbose == "auto":
        verbose = 1 if stream.isatty() or in_notebook() else 2
    if verbose == 0:
        return Display()
    lines = LineDisplay(samples, validation_samples, epochs, stream, training, steps)
    return BarDisplay(lines) if verbose == 1 else lines


def seconds_text(seconds: float) -> str:
    """`3.14s`, or `23ms` of less than a tenth of a second."""
    return f"{seconds:.2f}s" if seconds >= 0.1 else f"{1e3 * seconds:.0f}ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f}ms"


def cost_text(samples: int, seconds: float) -> str:
    """`2.0us/sample`."""
    return f"{1e6 * seconds / samples if samples else 0.0:.1f}us/sample"


def metric_texts(logs: Mapping[str, float]) -> list[str]:
    """`loss: 0.5643` and the like."""
    return [f"{name}: {metric_text(value)}" for name, value in logs.items()]


def metric_text(value: Any, form: str = "") -> str:
    """A metric for people: of several numbers, such as a confusion matrix, the size alone.

    Args:
        form: of a number; left out, four decimals, or the exponent form where they would show nothing, as of small
            learning rates.
    """
    if np.ndim(value):
        return f"({' x '.join(map(str, np.shape(value)))})"
    if form:
        return format(value, form)
    return f"{value:.4e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, VS Code, Colab)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return any(cls.__name__ == "ZMQInteractiveShell" for cls in type(shell).__mro__)


@lru_cache(maxsize=1)
def bar_class() -> type:
    """The bar of tqdm, a widget in notebooks. Imported on first use: most processes (workers) show no bar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets the text bar, which is what we want
        from tqdm.auto import tqdm

    class Bar(tqdm):
        # tqdm would start a thread and make a multiprocessing lock: both get in the way of spawned workers
        monitor_interval = 0
        #: what stands after the ETA; written by BarDisplay.update
        statistics = ""

        @property
        def format_dict(self):
            return {**super().format_dict, "statistics": self.statistics}

    Bar.set_lock(threading.RLock())
    return Bar
