"""The callbacks that stop, save and log, with Keras' names and arguments.

Stage: called by `CallbackList` around epochs.
Must not know: how the model trains; they use only what `Callback` grants.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import string
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..checks import check_argument, check_count, check_flag, check_number, check_path
from ..endings import check_own
from ..errors import FileFormatError, HyperparameterError
from .callbacks import Callback, Logs, Mode, Monitor


class EarlyStopping(Callback):
    """Stop when a metric has not improved for `patience` epochs; never in epoch 0.

    One object serves many fits: each starts it anew.

    Args:
        monitor: name of the metric, as it stands in the history.
        min_delta: a change of at most this much is no improvement.
        patience: epochs without improvement before it stops; 0 and 1 both stop at the first such epoch.
        verbose: 1 prints when it stops and what it restores.
        mode: "min", "max", or "auto": as the model's metric of that name wants it; of what is none, such as a value that a
            callback adds, more is better where its name has a word such as "accuracy".
        baseline: a value to beat: an epoch that does not beat it counts as one without improvement.
        restore_best_weights: put back the weights of the best epoch when the training ends for any reason.
        start_from_epoch: epochs before this one are not looked at.
    Raises:
        HyperparameterError, UnknownNameError: an argument that makes no sense.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: Mode = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        self.monitor = monitor
        self._watch = Monitor(self, monitor, mode, min_delta)
        self.patience = check_count(patience, "EarlyStopping(patience)", low=0)
        self.verbose = verbose
        self.baseline = None if baseline is None else check_number(baseline, "EarlyStopping(baseline)")
        self.restore_best_weights = check_flag(restore_best_weights, "EarlyStopping(restore_best_weights)")
        self.start_from_epoch = check_count(start_from_epoch, "EarlyStopping(start_from_epoch)", low=0)
        self._reset()

    def _reset(self) -> None:
        self._watch.warned = False
        self._best_weights: list[np.ndarray] | None = None
        self._wait = 0
        #: best value so far, and its epoch (from 0)
        self.best = self._watch.worst
        self.best_epoch: int | None = None
        #: epoch (from 0) in which it stopped the training, or 0
        self.stopped_epoch = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self._watch.look_at(self.model)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, and stop when patience is used up."""
        value = self._watch.read(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        better = self._watch.improves(value, self.best)
        if better:
            self.best = value
        if better or self.best_epoch is None:
            self.best_epoch = epoch
            if self.restore_best_weights:  # copied: get_weights may hand out views of what is in training
                self._best_weights = [np.array(weights) for weights in self.model.get_weights()]
        if better and (self.baseline is None or self._watch.improves(value, self.baseline)):
            self._wait = 0
            return
        self._wait += 1
        if self._wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights when asked to."""
        if self.verbose and self.stopped_epoch:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self._best_weights is not None and self.best_epoch is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch, {self.best_epoch + 1}")
            self.model.set_weights(self._best_weights)
            self._best_weights = None


class ModelCheckpoint(Callback):
    """Save the model as it trains, to a path such as "run/{epoch:02d}-{val_loss:.4f}.parnet".

    Where Ctrl-C ends the training, the model as it is then goes beside the others, to "interrupted.parnet" (or what the
    path ends with), unless only the best is saved: the files of whole epochs stay what they are.

    Args:
        filepath: path with fields for `epoch` (from 1), metrics, and `batch` where `save_freq` is a number.
        monitor: metric that says which model is best.
        save_best_only: save only when the metric improved on all earlier ones of this model; it is compared anew where the
            model was compiled anew with a metric of that name of which more, no longer less, is better, or the other way.
        save_weights_only: `model.save_weights` in place of `model.save`.
        mode: see EarlyStopping.
        save_freq: "epoch", or a number of batches; the latter makes training slower.
    Raises:
        HyperparameterError: a field that is no metric of the fit, or a `save_freq` that makes no sense.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: Mode = "auto",
        save_freq: int | Literal["epoch"] = "epoch",
    ):
        self.filepath = check_path(filepath, "ModelCheckpoint(filepath)")
        self.save_best_only = check_flag(save_best_only, "ModelCheckpoint(save_best_only)")
        self.save_weights_only = check_flag(save_weights_only, "ModelCheckpoint(save_weights_only)")
        if not self.save_weights_only:
            check_own(self.filepath, "ModelCheckpoint(filepath)")
        self.save_freq = save_freq
        self._watch = Monitor(self, monitor, mode)
        self._best = self._watch.worst
        self._epoch = self._batches = 0
        if not isinstance(save_freq, str) or save_freq != "epoch":
            check_count(save_freq, "ModelCheckpoint(save_freq), unless 'epoch'")
            # on the object, not in the class: the usual checkpoint must not wake Python at each batch
            self.on_train_batch_end = self._count_batch  # type: ignore[method-assign]

    def set_model(self, model: Any) -> None:
        """A new model, or one whose metric now wants the opposite, starts without a best value; others keep theirs."""
        sign = self._watch.sign
        self._watch.look_at(model)
        if model is not self.model or self._watch.sign != sign:
            self._best = self._watch.worst
        super().set_model(model)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Let the monitor warn once in this training too, and refuse a path whose fields nothing will fill."""
        self._watch.warned = False
        names = ["epoch", *(() if self.save_freq == "epoch" else ("batch",)), *self.params.get("metrics", ())]
        try:
            fields = [field for _, field, *_ in string.Formatter().parse(self.filepath) if field is not None]
        except ValueError as error:
            raise self._bad_path(names) from error
        if self.params.get("metrics") is not None and not {re.split(r"[.\[!]", f)[0] for f in fields} <= set(names):
            raise self._bad_path(names)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remember the epoch for the name of the file."""
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save after the epoch."""
        if self.save_freq == "epoch":
            self._save(logs or {}, {"epoch": epoch + 1})

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % self.save_freq == 0:
            self._save(logs or {}, {"epoch": self._epoch + 1, "batch": batch + 1})

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Save what Ctrl-C has left of an epoch."""
        if isinstance(sys.exc_info()[1], KeyboardInterrupt) and not self.save_best_only:
            self._write(self.interrupted_path)

    @property
    def interrupted_path(self) -> str:
        """Where the model goes when Ctrl-C ends the training: a folder whose name no epoch fills in."""
        folder = os.path.dirname(self.filepath.split("{")[0])
        ending = re.search(r"(\.[A-Za-z]\w*)*$", self.filepath)
        return os.path.join(folder, f"interrupted{ending[0] if ending else ''}")

    def _save(self, logs: Logs, position: dict[str, int]) -> None:
        if self.save_best_only:
            value = self._watch.read(logs)
            if value is None or not self._watch.improves(value, self._best):
                return
            self._best = value
        self._write(self._path({**logs, **position}))

    def _write(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)

    def _path(self, fields: dict[str, Any]) -> str:
        try:
            return self.filepath.format(**fields)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise self._bad_path(fields) from error

    def _bad_path(self, fields: Iterable[str]) -> HyperparameterError:
        return HyperparameterError(
            f"ModelCheckpoint(filepath): expected fields among {', '.join(fields)}, received {self.filepath!r}; "
            "write for example 'model-{epoch:02d}.parnet'; a callback that adds to the logs says so: adds = ('name',)"
        )


class CSVLogger(Callback):
    """Write one row for each epoch: epoch (from 0) and the metrics, unrounded.

    The columns are the metrics of the first epoch; a metric missing later is written as NA, and one of several numbers,
    such as a confusion matrix, as the lists that JSON has for it.

    Args:
        filename: path of the file.
        separator: one character between columns.
        append: add to a file that is there, under its header, in place of starting it anew.
    Raises:
        FileFormatError: `append` to a file that lacks a column for one of the metrics.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        self.filename = check_path(filename, "CSVLogger(filename)")
        good = isinstance(separator, str) and len(separator) == 1
        check_argument(good, "CSVLogger(separator)", "one character", separator, "pass such as ',' or ';'")
        self.separator = separator
        self.append = check_flag(append, "CSVLogger(append)")
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Empty the file, unless appending; an unwritable path fails here, before any epoch."""
        self._columns = None
        with open(self.filename, "a" if self.append else "w", encoding="utf-8"):
            pass

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the row. The file is open only here, so each row is on disk whatever happens next."""
        row = {"epoch": epoch, **{name: _csv_value(value) for name, value in (logs or {}).items()}}
        with open(self.filename, "a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            header = next(csv.reader(file, delimiter=self.separator), None)
            if self._columns is None:
                self._columns = self._choose_columns(header, list(row))
            writer = csv.DictWriter(file, self._columns, restval="NA", extrasaction="ignore", delimiter=self.separator)
            if header is None:
                writer.writeheader()
            writer.writerow(row)

    def _choose_columns(self, header: list[str] | None, names: list[str]) -> list[str]:
        if header is not None and not set(names) <= set(header):
            raise FileFormatError(
                f"CSVLogger({self.filename!r}, append=True): expected columns {', '.join(names)}; "
                f"received a file with {', '.join(header)}; write to another file"
            )
        return header or names


def _csv_value(value: Any) -> float | str:
    return json.dumps(np.asarray(value).tolist()) if np.ndim(value) else float(value)


class TerminateOnNaN(Callback):
    """Stop when the loss becomes NaN or infinite.

    The engine looks for `handles_non_finite_loss`: it checks the loss of every step itself, and with such a
    callback it ends the training in place of raising NonFiniteLossError. So no batch hook is needed here.
    """

    handles_non_finite_loss = True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stop after an epoch without a finite loss."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True
