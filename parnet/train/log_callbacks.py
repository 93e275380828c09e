"""Callbacks that write what happens for other programs: TensorBoard, lines of JSON. Stage: called by `CallbackList`.

Must not know: how the model trains; they use only what `Callback` grants.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from ..checks import check_count, check_flag, check_path
from ..errors import require_extra
from .callbacks import Callback, Logs


class TensorBoard(Callback):
    """Event files for TensorBoard: `tensorboard --logdir logs`. Needs `pip install 'parnet[tensorboard]'`, not TensorFlow.

    Loss and metrics of each epoch go to the runs `train` and `validation`, under names such as `epoch_loss`, beside the
    learning rate, as those of Keras do, so that both can be compared in one chart. Metrics of several numbers are left out.

    Args:
        log_dir: folder of the runs; made when the training begins.
        histogram_freq: epochs between two histograms of all weights; 0: none.
        update_freq: "epoch", or a number of batches after which the loss and metrics so far are written too; the latter
            makes training slower.
    Raises:
        MissingExtraError: tensorboardX is not installed. HyperparameterError: a frequency that makes no sense.
    """

    def __init__(
        self, log_dir: str | os.PathLike[str] = "logs", *, histogram_freq: int = 0, update_freq: int | str = "epoch"
    ):
        self._library = require_extra("tensorboardX", "tensorboard", "TensorBoard")
        self.log_dir = check_path(log_dir, "TensorBoard(log_dir)")
        self.histogram_freq = check_count(histogram_freq, "TensorBoard(histogram_freq)", low=0)
        self.update_freq = update_freq
        if not isinstance(update_freq, str) or update_freq != "epoch":
            check_count(update_freq, "TensorBoard(update_freq), unless 'epoch'")
            self.on_train_batch_end = self._count_batch  # type: ignore[method-assign]
        self._writers: dict[str, Any] = {}
        self._batches = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Open the runs; a folder that cannot be made fails here, before any epoch."""
        os.makedirs(self.log_dir, exist_ok=True)
        self._batches = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch. What is written is on disk when this returns."""
        for name, value in (logs or {}).items():
            run, metric = ("validation", name[4:]) if name.startswith("val_") else ("train", name)
            if np.ndim(value) == 0:
                self._writer(run).add_scalar(f"epoch_{metric}", float(value), epoch)
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        if isinstance(rate, int | float) and "learning_rate" not in (logs or {}):
            self._writer("train").add_scalar("epoch_learning_rate", float(rate), epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for weight in self.model.weights:
                self._writer("train").add_histogram(weight.name, weight.numpy(), epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the files."""
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self.update_freq != "epoch" and self._batches % int(self.update_freq) == 0:
            for name, value in (logs or {}).items():
                if np.ndim(value) == 0:
                    self._writer("train").add_scalar(f"batch_{name}", float(value), self._batches)

    def _writer(self, run: str) -> Any:
        if run not in self._writers:
            self._writers[run] = self._library.SummaryWriter(os.path.join(self.log_dir, run))
        return self._writers[run]


class JSONLogger(Callback):
    """One line of JSON for each epoch: {"epoch": 0, "loss": 0.56, ...}, as `pandas.read_json(path, lines=True)` reads it.

    NaN and infinity, which JSON does not have, are written as null; metrics of several numbers as lists.

    Args:
        filename: path of the file.
        append: go on behind the lines there are; else the file is emptied when the training begins.
    """

    def __init__(self, filename: str | os.PathLike[str], append: bool = False):
        self.filename = check_path(filename, "JSONLogger(filename)")
        self.append = check_flag(append, "JSONLogger(append)")

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Empty the file, unless appending; an unwritable path fails here, before any epoch."""
        with open(self.filename, "a" if self.append else "w", encoding="utf-8"):
            pass

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the line. The file is open only here, so each line is on disk whatever happens next."""
        line = json.dumps({"epoch": epoch, **{name: _plain(value) for name, value in (logs or {}).items()}})
        with open(self.filename, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def _plain(value: Any) -> Any:
    """A metric as JSON has it."""
    if np.ndim(value):
        return [_plain(one) for one in np.asarray(value)]
    return float(value) if math.isfinite(value) else None
