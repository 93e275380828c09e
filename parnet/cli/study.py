"""`parnet study`: measure, print the table, write the report and its pictures. Stage: outermost.

A study that was interrupted goes on when the same command is given again. Must not know: how runs are made.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_count
from ..errors import HyperparameterError, require_extra
from ..figures import PNG_DPI, SUFFIXES
from ..model import Model
from ..study import Study, scaling
from ..study.result import IncompleteError
from ..study.ways import choose
from .networks import Builder, builder
from .train import Arrays, compile_model, read_arrays

#: the file of raw results in the output folder; of the pictures
RESULTS, FIGURES = "study.jsonl", "figures"


@dataclass(frozen=True)
class Compiled:
    """Makes a network and compiles it as `parnet train` would.

    Attributes:
        builder: of the network. y: a few targets. options: what the command line says.
    """

    builder: Builder
    y: np.ndarray
    options: argparse.Namespace

    def __call__(self) -> Model:
        """A fresh compiled model."""
        model = self.builder()
        compile_model(model, self.options, self.y)
        return model


def study(arguments: argparse.Namespace) -> int:
    """Measure and report as the command line says; see `parnet study --help`. Returns the exit code.

    Raises:
        ParnetError: of the kind that fits, before anything is run; or when all the rest is reported, where a configuration
            failed in every run.
        KeyboardInterrupt: after saying where the results are.
    """
    require_extra("matplotlib", "study", "parnet study")
    require_extra("scipy", "study", "parnet study")
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise HyperparameterError(f"--output: expected a folder, received the file {arguments.output!r}")
    batches, strategies = numbers("--batch-size", arguments.batch_size), chosen(arguments.strategy)
    choose(strategies, arguments.oversubscribe)  # what is wrong is said before data are read, or even downloaded
    for option, count in (("--repeats", arguments.repeats), ("--epochs", arguments.epochs)):
        check_count(count, option)
    data = arrays(arguments.data, arguments.rows)
    builders = {_name(model, arguments.models): _builder(model, data, arguments) for model in arguments.models}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HyperparameterError(
            f"--output: expected a folder that can be made, received {arguments.output!r} ({error.strerror}); name another"
        ) from error
    try:
        found = scaling(
            builders,
            (data.x, data.y),
            arguments.kind,
            strategies,
            arguments.repeats,
            arguments.warmup,
            batches,
            epochs=arguments.epochs,
            test_data=data.test if arguments.target is not None else None,
            target=arguments.target,
            seed=arguments.seed,
            oversubscribe=arguments.oversubscribe,
            path=folder / RESULTS,
            verbose=0 if arguments.quiet else "auto",
        )
    except IncompleteError as error:
        if any(result.runs for result in error.study.results):
            _report(error.study, folder, arguments.quiet)
        raise
    _report(found, folder, arguments.quiet)
    return 0


def _report(found: Study, folder: Path, quiet: bool) -> None:
    """Write everything, and say so."""
    written = write_all(found, folder)
    if not quiet:
        show(found)
    print(f"Report: {written}", flush=True)


def write_all(found: Study, folder: Path) -> Path:
    """Report, tables and pictures. Returns the report's path."""
    from ..study.plots import all_kinds

    found.report(folder / "report.md")
    found.report(folder / "tables.tex")
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    for kind in all_kinds(found):
        drawn = found.plot(None, kind)
        for suffix in SUFFIXES:
            drawn.savefig(figures / f"{kind}{suffix}", dpi=PNG_DPI)
    return found.report(folder / "report.html")


def show(found: Study) -> None:
    """Print the table, the findings and what to beware of."""
    print(found.table())
    for title, lines in (("Findings", found.findings()), ("Read with this in mind", found.warnings())):
        if lines:
            print(f"\n{title}")
            print("\n".join(f"- {line}" for line in lines))


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers from "1,2,4".

    Raises:
        HyperparameterError: something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise HyperparameterError(
            f"{option}: expected whole numbers with commas, such as 1,2,4, received {text!r}"
        ) from None


def chosen(given: list[str] | None) -> dict[str, Any] | None:
    """{"threads": [1, 2]} from ["threads=1,2"]; None stands for the default counts."""
    if given is None:
        return None
    found: dict[str, Any] = {}
    for text in given:
        name, equals, counts = text.partition("=")
        if name in found:
            raise HyperparameterError(f"--strategy: expected {name!r} once, received it twice; write {name}=1,2,4")
        found[name] = numbers("--strategy", counts) if equals else None
    return found


def arrays(name: str, rows: int | None) -> Arrays:
    """A data set or the arrays of a file, as `read_arrays` has them; cut to so many rows.

    Raises:
        HyperparameterError: fewer than one row. Others as `read_arrays`.
    """
    data = read_arrays(name)
    if rows is None:
        return data
    if not 1 <= rows <= len(data.x):
        raise HyperparameterError(f"--rows: expected 1 to {len(data.x)}, the samples there are, received {rows}")
    return Arrays(data.x[:rows], data.y[:rows], data.test)


def _builder(model: str, data: Arrays, arguments: argparse.Namespace) -> Compiled:
    options = argparse.Namespace(model=model, optimizer=arguments.optimizer, lr=arguments.lr, loss=arguments.loss)
    return Compiled(builder(model, data.x, data.y), data.y[:2], options)


def _name(model: str, models: list[str]) -> str:
    """A network's name in tables: the function's alone, if that tells it from the others."""
    short = model.rpartition(":")[2]
    return short if [other.rpartition(":")[2] for other in models].count(short) == 1 else model
