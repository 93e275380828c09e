"""`pn.study.scaling`: run every configuration often enough to say what it gained. Stage: study.

Each run is a process of its own. In each round every configuration runs once, in a new order, so that a slow spell of the
machine meets all of them alike. Each result goes to the file at once. Must not know: statistics, pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import optimizers, seeding
from ..checks import check_count, check_number
from ..errors import DataError, HyperparameterError, StateError, warn
from ..io.lock import alone_with
from ..model import Model
from ..summary import summary
from ..train.progress import bar_class, in_notebook
from ..train.sources import check_rows
from . import records as files
from .design import Design, Point, points_of
from .launch import Bench
from .machine import fingerprint
from .records import Records
from .result import Study
from .sample import first_rows, ready_model
from .ways import choose

#: seconds a run may take before it is given up
LIMIT_S = 1800.0


def scaling(
    build: Callable[[], Any] | Mapping[str, Callable[[], Any]],
    data: tuple,
    kind: str = "strong",
    strategies: Any = None,
    repeats: int = 5,
    warmup: int = 1,
    batch_size: int | Sequence[int] = 256,
    *,
    epochs: int = 1,
    test_data: tuple | None = None,
    target: float | None = None,
    optimizer: Any = None,
    loss: Any = None,
    metrics: Any = None,
    seed: int = 0,
    oversubscribe: bool = False,
    path: str | os.PathLike | None = None,
    limit_s: float = LIMIT_S,
    verbose: Any = "auto",
) -> Study:
    """Measure how training scales, against the best serial run.

    Args:
        build: a function that returns a fresh model, compiled or not; or {name: function} for several networks. It must be
            importable: defined at the top of a file.
        data: (x, y), as `fit` takes them.
        kind: "strong", the same samples and batch for any number of workers; "weak", both grow with the workers.
        strategies: {name: [numbers of workers]}, as {"threads": [1, 2, 4]}; {label: [strategy objects]}; names alone, for
            powers of two up to the usable cores. Serial is always run.
        repeats: processes of each configuration.
        warmup, epochs: epochs of each process that are not counted, and that are.
        batch_size: rows of an update, in a weak study of each worker; several for a sweep.
        test_data: (x, y); its accuracy is measured after each epoch, outside of the times.
        target: an accuracy on test_data; the time until it is reached is reported.
        optimizer, loss, metrics: as in `compile`; left out, the builder's own, else SGD and what the last layer calls for.
        seed: of weights, shuffles and the order of the runs.
        oversubscribe: allow more workers than usable cores.
        path: file of results, JSON lines; a study that was interrupted goes on where it was.
        limit_s: seconds a run may take.
        verbose: 0 nothing, 1 a bar, 2 a line a round, "auto" a bar on a terminal or in a notebook, else lines.
    Returns:
        the Study.
    Raises:
        ParnetError: of the kind that fits, before anything is run.
        StateError: every run of a configuration failed; what was measured stays in the file. Or another study writes there.
    """
    builders = _builders(build)
    x, y = _pair(data, "data")
    compiled = {"optimizer": optimizer, "loss": loss, "metrics": metrics}
    batches = sorted({check_count(b, "study: batch_size") for b in np.atleast_1d(np.asarray(batch_size, object))})
    chosen = choose(strategies, oversubscribe)
    seeding.check_seed(seed)
    if target is not None:
        check_number(target, "study: target", 0, 1, above=True)
        if test_data is None:
            raise HyperparameterError("study: target: expected test_data=(x, y) to measure it on, received none; pass them")
    samples = {"x": x, "y": y}
    if test_data is not None:
        samples["x_test"], samples["y_test"] = _pair(test_data, "test_data")
    networks = {name: _describe(name, one, compiled, samples) for name, one in builders.items()}
    design = Design(
        kind,
        networks,
        points_of(kind, list(builders), chosen, batches, _rows(y)),
        check_count(repeats, "study: repeats"),
        check_count(warmup, "study: warmup", low=0),
        check_count(epochs, "study: epochs"),
        seed,
        _digest(samples),
        {"optimizer": _text(optimizer), "loss": loss and repr(loss), "metrics": metrics and repr(metrics)},
        target,
        oversubscribe,
    )
    settings = {name: getattr(design, name) for name in ("warmup", "epochs", "seed", "oversubscribe")}
    alone = contextlib.nullcontext() if path is None else alone_with(path, "study")
    with alone, Bench(builders, compiled, samples, settings, limit_s) as bench:
        records = _opened(design, path)
        _run_all(bench, records, test_data is not None, verbose)
    study = Study(records)
    study.check_complete()
    if path is None and records.path is not None:
        records.path.unlink()
        records.path = None
    return study


def _builders(build: Any) -> dict[str, Callable[[], Any]]:
    if callable(build) and not isinstance(build, Model):
        return {getattr(build, "__name__", "") or getattr(build, "name", "") or "network": build}
    if isinstance(build, Mapping) and build and all(callable(one) and isinstance(name, str) for name, one in build.items()):
        return dict(build)
    raise HyperparameterError(
        f"study: expected a function that returns a fresh model, or a dict of such by name, received {build!r}; pass the "
        "function itself, without calling it"
    )


def _pair(data: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise DataError(f"study: {where}: expected (x, y), received {type(data).__name__} of {np.size(data)} things")
    x, y = data
    rows = {len(one) for one in _arrays(x) + _arrays(y)}
    if len(rows) != 1:
        raise DataError(
            f"study: {where}: expected as many targets as samples, received {' and '.join(map(str, sorted(rows)))}"
        )
    return x, y


def _arrays(thing: Any) -> list:
    if isinstance(thing, dict):
        return list(thing.values())
    return list(thing) if isinstance(thing, list | tuple) else [thing]


def _rows(y: Any) -> int:
    return len(_arrays(y)[0])


def _describe(name: str, build: Callable[[], Any], compiled: dict, samples: dict) -> dict:
    """A network's parameters and a digest of its layers; also finds builders that do not build.

    Raises:
        StateError: it does not return a fresh model. ShapeError, DTypeError, DataError: the samples do not fit it.
    """
    x, y = samples["x"], samples["y"]
    model = build()
    if not isinstance(model, Model):
        raise StateError(f"study: {name}: expected the builder to return a model, received {type(model).__name__}")
    used = model.history is not None or (model.optimizer is not None and model.optimizer.batches > 0)
    if used or model is build():
        raise StateError(
            f"study: {name}: expected a fresh model each time the builder is called, received one that has been used "
            "before; "
            "make the model within the function"
        )
    few = first_rows(x, min(2, _rows(y))), first_rows(y, min(2, _rows(y)))
    ready = ready_model(build, compiled, *few)
    for of in ("", "_test"):
        if "x" + of in samples:
            check_rows(ready, samples["x" + of], samples["y" + of], None, None, f"study: {name}")
    described = summary(ready)
    rate = ready.optimizer.learning_rate
    how = f"{type(ready.optimizer).__name__} at {rate}, {ready.loss!r}"
    layers = hashlib.sha256(described.encode()).hexdigest()[:16]
    return {"parameters": ready.count_params(), "layers": layers, "compiled": how, "summary": described}


def _digest(samples: dict) -> dict:
    """What the data are, so that results of others are not taken for theirs."""
    whole = hashlib.sha256()
    shapes = {}
    for name, thing in samples.items():
        arrays = [np.asarray(one) for one in _arrays(thing)]
        shapes[name] = [f"{list(a.shape)} {a.dtype}" for a in arrays]
        for array in arrays:
            whole.update(np.ascontiguousarray(array).data)
    return {"arrays": shapes, "sha256": whole.hexdigest()[:16]}


def _text(optimizer: Any) -> str | None:
    """An optimizer in words that stay the same from run to run."""
    if optimizer is None:
        return None
    dumped = optimizers.registry.dump(optimizers.get(optimizer))
    return f"{dumped['class']} {json.dumps(dumped['config'], sort_keys=True)}"


def _opened(design: Design, path: str | os.PathLike | None) -> Records:
    """The records of this study, with what an earlier start has measured."""
    machine = fingerprint()
    if path is None:
        handle, name = tempfile.mkstemp(prefix="parnet-study-", suffix=".jsonl")
        os.close(handle)
        records = Records(design, machine, Path(name))
    else:
        records = Records(design, machine, Path(path))
        if Path(path).is_file() and Path(path).stat().st_size:
            records.go_on(files.read(path))
    records.begin()
    return records


def _run_all(bench: Bench, records: Records, accuracy: bool, verbose: Any) -> None:
    """Everything that has not been run yet, of the networks that are here.

    Raises:
        KeyboardInterrupt: after saying where the results are.
    """
    done = records.done()
    rounds = [(number, point) for number, point in records.design.rounds() if point.network in bench.networks]
    left = [(number, point) for number, point in rounds if (number, Records.key(point)) not in done]
    display = _Display(verbose, len(left), len(done), records.design.repeats)
    try:
        for number, point in left:
            display.show(number, point)
            settings = {"accuracy": accuracy, "peak": number == 0}
            begun = time.time()
            found = bench.run(point, settings, display.refresh)
            head = {
                "point": point.config(),
                "round": number,
                "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(begun)),
            }
            records.add(head | found)
            display.advance(point, found)
    except BaseException:
        display.close()
        count = len(records.runs)
        there = f"{count} run{' is' if count == 1 else 's are'} kept in {records.path}"
        print(f"study: {there}; the same study with that path goes on", file=sys.stderr)
        raise
    display.close()


class _Display:
    """How far the study is: a bar with the time left, lines, or nothing."""

    def __init__(self, verbose: Any, left: int, done: int, rounds: int):
        if not isinstance(verbose, int | str) or verbose not in ("auto", 0, 1, 2):
            raise HyperparameterError(f"study: verbose: expected 'auto', 0, 1 or 2, received {verbose!r}")
        self.stream = sys.stdout
        if verbose == "auto":
            verbose = 1 if self.stream.isatty() or in_notebook() else 2
        self.verbose, self.rounds, self.left = verbose, rounds, left
        self.begun, self.ended, self.round = time.monotonic(), 0, -1
        self._bar: Any = None
        if verbose and done:
            self.line(f"study: {done} run{' was' if done == 1 else 's were'} there already, {left} to go")
        if verbose == 1 and left:
            self._bar = bar_class()(
                total=left,
                bar_format="{desc} {n}/{total} [{bar}] ETA {remaining}",
                ascii=".>=",
                dynamic_ncols=True,
                leave=False,
            )

    def line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def show(self, number: int, point: Point) -> None:
        if self._bar is not None:
            self._bar.set_description_str(f"round {number + 1}/{self.rounds}: {point.name}")
        elif self.verbose == 2 and number != self.round:
            spent = time.monotonic() - self.begun
            eta = f", about {spent / self.ended * (self.left - self.ended):.0f} s to go" if self.ended else ""
            self.line(f"study: round {number + 1} of {self.rounds}{eta}")
        self.round = number

    def refresh(self) -> None:
        if self._bar is not None:
            self._bar.refresh()

    def advance(self, point: Point, found: dict) -> None:
        self.ended += 1
        if "failure" in found:
            if self._bar is not None:
                self._bar.clear()
            warn(f"study: {point.name}: {found['failure']}")
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
