"""What `pn.study.scaling` returns: the raw times, and everything that is worked out from them. Stage: study.

Every number comes from the raw times each time it is asked for; nothing but them is kept. Must not know: processes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, FileFormatError, HyperparameterError, StateError, unknown_name
from . import laws, markup, records
from .design import Design
from .markup import NOTHING, interval, number, percent, seconds
from .records import Records
from .statistics import Result, results

if TYPE_CHECKING:
    from .simulation import Prediction

FORMATS = ("text", "markdown", "latex")


class IncompleteError(StateError):
    """A configuration has no run that succeeded. study: with what was measured."""

    def __init__(self, words: str, study: Study):
        super().__init__(words)
        self.study = study


class Study:
    """A measured study.

    Args:
        found: its records.

    Attributes:
        design: what was run.
        machine: the record of the machine it ran on.
        runs: every run as it was measured: {"point": ..., "round": 0, "epochs_s": [...], ...}; seconds.
    """

    def __init__(self, found: Records):
        self._records = found

    @property
    def design(self) -> Design:
        """What was run."""
        return self._records.design

    @property
    def machine(self) -> dict:
        """The machine's record."""
        return self._records.machine

    @property
    def runs(self) -> list[dict]:
        """The raw measurements."""
        return self._records.runs

    @cached_property
    def results(self) -> list[Result]:
        """One for each configuration; see `parnet.study.statistics.Result`."""
        return results(self._records)

    @property
    def groups(self) -> dict[tuple[str, int], list[Result]]:
        """(network, batch) -> its results, serial first."""
        found: dict[tuple[str, int], list[Result]] = {}
        for result in self.results:
            found.setdefault((result.point.network, result.point.base), []).append(result)
        return found

    def curves(self, network: str, batch: int) -> dict[str, list[Result]]:
        """Strategy -> its measured results by number of workers, without serial."""
        found: dict[str, list[Result]] = {}
        for result in self.groups[network, batch]:
            if result.point.kind != "Serial" and result.runs:
                found.setdefault(result.point.strategy, []).append(result)
        return {name: sorted(members, key=lambda r: r.point.workers) for name, members in found.items()}

    def check_complete(self) -> None:
        """Raise IncompleteError where a configuration has no run that succeeded."""
        for result in self.results:
            if not result.runs:
                why = result.failures[-1] if result.failures else "it was not run"
                raise IncompleteError(
                    f"study: {result.point.name}: expected at least one run, received none: {why}. What was measured is in "
                    f"{self._records.path}; pn.study.load reads it",
                    self,
                )

    # -- tables ---------------------------------------------------------------------------------

    def table(self, format: str = "text", *, network: str | None = None) -> str:
        """Time and its interval, speedup, efficiency, Karp-Flatt, waiting, speed: a table for each network and batch.

        Args:
            format: "text", "markdown" or "latex".
            network: one of several.
        Raises:
            UnknownNameError: no such format or network.
        """
        if format not in FORMATS:
            raise unknown_name("study.table: format", format, FORMATS)
        if network is not None and network not in self.design.networks:
            raise unknown_name("study.table: network", network, self.design.networks)
        parts = []
        for (name, batch), members in self.groups.items():
            if network in (None, name):
                title, (head, rows) = self.title(name, batch), summary_rows(members, self.design.kind)
                if format == "latex":
                    parts.append(markup.latex_table(head, rows, caption=title))
                else:
                    table = markup.text_table if format == "text" else markup.markdown_table
                    parts.append(f"{'### ' * (format == 'markdown')}{title}\n\n{table(head, rows)}")
        return "\n\n".join(parts)

    def title(self, network: str, batch: int) -> str:
        """Of a group of results, in words."""
        members = self.groups[network, batch]
        parameters = self.design.networks[network]["parameters"]
        if self.design.kind == "weak":
            size = f"{members[0].point.rows:,} samples an epoch and batch {batch} for each worker"
        else:
            size = f"{members[0].point.rows:,} samples an epoch, batch {batch}"
        return f"{network}: {parameters:,} parameters, {size}"

    # -- laws -----------------------------------------------------------------------------------

    def fit(self, law: str, strategy: str, *, network: str | None = None, batch: int | None = None) -> laws.Fit:
        """Fit a law of scaling to one strategy.

        Args:
            law: "amdahl" (strong studies), "gustafson" (weak ones) or "usl".
            strategy: its label; network, batch: where there are several.
        Raises:
            UnknownNameError: no such law, strategy or network. DataError: too few points, and why.
            HyperparameterError: the law is not one for this kind of study.
        """
        wrong = {"amdahl": "weak", "gustafson": "strong"}.get(law)
        if wrong == self.design.kind:
            raise HyperparameterError(
                f"study.fit: expected a law for a {wrong} study, received {law!r}; Amdahl's is for strong scaling, "
                "Gustafson's "
                "for weak, 'usl' for both"
            )
        if law not in laws.LAWS:
            raise unknown_name("law", law, laws.LAWS)
        key = self._group(network, batch)
        curves = self.curves(*key)
        if strategy not in curves:
            raise unknown_name("study.fit: strategy", strategy, curves)
        members = [r for r in curves[strategy] if r.speedup.value > 0]
        unit = "rate" if laws.LAWS[law].quantity == "throughput" else "speedup"
        workers = [r.point.workers for r in members for _ in r.times]
        values = [getattr(r, unit).value * r.epoch.value / t for r in members for t in r.times]
        return laws.fit(law, workers, values)

    def fits(self, network: str, batch: int) -> dict[str, dict[str, laws.Fit | str]]:
        """Strategy -> law -> its fit, or the reason why there is none."""
        own = "gustafson" if self.design.kind == "weak" else "amdahl"
        found: dict[str, dict[str, laws.Fit | str]] = {}
        for strategy, members in self.curves(network, batch).items():
            if all(result.point.workers == 1 for result in members):
                continue
            for law in (own, "usl"):
                try:
                    made: laws.Fit | str = self.fit(law, strategy, network=network, batch=batch)
                except DataError as error:
                    made = str(error)
                found.setdefault(strategy, {})[law] = made
        return found

    def _group(self, network: str | None, batch: int | None) -> tuple[str, int]:
        names, batches = list(self.design.networks), sorted({key[1] for key in self.groups})
        if network is not None and network not in names:
            raise unknown_name("study: network", network, names)
        if batch is not None and batch not in batches:
            raise unknown_name("study: batch", str(batch), map(str, batches))
        if network is None and len(names) > 1:
            raise HyperparameterError(f"study: expected network=, one of {', '.join(names)}, received none")
        if batch is None and len(batches) > 1:
            raise HyperparameterError(f"study: expected batch=, one of {', '.join(map(str, batches))}, received none")
        return network or names[0], batch or batches[0]

    def simulate(
        self,
        strategy: str,
        workers: Sequence[int],
        topology: str = "server",
        *,
        network: str | None = None,
        batch: int | None = None,
        **changes: Any,
    ) -> Prediction:
        """Predict a strategy on more workers than were measured, from what was measured.

        Args:
            strategy: its label. workers: how many. topology: how gradients are summed, see `pn.study.simulate`; "tree" suits
                threads, which meet at barriers.
            network, batch: where there are several.
            changes: arguments of `pn.study.simulate` that shall differ: mode, jitter, failures_per_s, ...
        Raises:
            as `pn.study.simulate`.
        """
        from .calibration import calibrated
        from .simulation import simulate

        found = calibrated(self, strategy, network, batch, topology) | changes
        return simulate(found.pop("compute_s"), workers, **found)

    # -- words ----------------------------------------------------------------------------------

    def findings(self) -> list[str]:
        """What the measurements show, in sentences."""
        from .words import findings

        return findings(self)

    def warnings(self) -> list[str]:
        """What may have spoilt the measurements, in sentences; empty where nothing was seen."""
        from .doubts import doubts

        return doubts(self)

    # -- pictures and files ---------------------------------------------------------------------

    def plot(self, path: str | os.PathLike | None = None, kind: str | None = None, **chosen: Any):
        """Draw one picture; see `parnet.study.plots.plot`."""
        from .plots import plot

        return plot(self, path, kind, **chosen)

    def report(self, path: str | os.PathLike = "report.html") -> Path:
        """Write everything into one file: `.html` with pictures, `.md` or `.tex` with tables. Returns its path."""
        from .report import write_report

        return write_report(self, Path(path))

    def save(self, path: str | os.PathLike) -> None:
        """Write design, machine and raw times as one JSON file, which `pn.study.load` reads."""
        records.write(self._records, path)

    def __repr__(self) -> str:
        return f"Study({self.design.kind}, {len(self.design.points)} configurations, {len(self.runs)} runs)"

    def _repr_html_(self) -> str:
        """The tables that notebooks show."""
        return "".join(
            markup.html_table(*summary_rows(members, self.design.kind), caption=self.title(*key))
            for key, members in self.groups.items()
        )


def load(*paths: str | os.PathLike) -> Study:
    """A study from its file, of lines or as `Study.save` wrote it; several files of one study and one machine together.

    Raises:
        FileFormatError: no such file, or a damaged one. StateError: files of two machines or two studies.
    """
    if not paths:
        raise HyperparameterError("pn.study.load: expected the path of a results file, received none")
    whole = records.read(paths[0])
    for path in paths[1:]:
        more = records.read(path)
        more.path = Path(path)
        runs = whole.runs
        records.check_same_machine(whole.machine, more.machine, str(path))
        merged = Records(more.design, more.machine, Path(path))
        merged.go_on(whole)
        merged.runs = runs + more.runs
        whole = merged
    whole.path = Path(paths[0])
    if not any("failure" not in run for run in whole.runs):
        raise FileFormatError(
            f"{paths[0]}: expected at least one run that succeeded, received {len(whole.runs)} that did not"
        )
    return Study(whole)


def summary_rows(members: list[Result], kind: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the main table."""
    several = any(result.point.workers > 1 for result in members)
    speedup = "scaled speedup" if kind == "weak" else "speedup over serial"
    head = ["strategy", "workers", "epoch, 95 % interval", "samples/s", speedup, "over 1 worker", "efficiency"]
    head += ["Karp-Flatt", "wait"]
    drop = set() if several else {"over 1 worker", "efficiency", "Karp-Flatt"}
    rows = []
    for result in members:
        p = result.point
        row = [
            p.strategy,
            str(p.workers),
            time_interval(result),
            number(result.rate.value),
            interval(result.speedup) if p.kind != "Serial" else "1",
            number(result.relative.value) if p.kind != "Serial" else NOTHING,
            percent(result.efficiency.value) if p.kind != "Serial" else NOTHING,
            number(result.karp_flatt.value, 2) if p.workers > 1 else NOTHING,
            percent(result.wait),
        ]
        rows.append(row)
    kept = [k for k, name in enumerate(head) if name not in drop]
    return [head[k] for k in kept], [[row[k] for k in kept] for row in rows]


def time_interval(result: Result) -> str:
    """ "12.3 ms [12.1, 12.5]"."""
    epoch = result.epoch
    if not epoch.known:
        return seconds(epoch.value)
    unit = seconds(epoch.value).rpartition(" ")[2]
    factor = {"s": 1.0, "ms": 1e3, "µs": 1e6}[unit]
    return f"{seconds(epoch.value)} [{number(epoch.low * factor)}, {number(epoch.high * factor)}]"


def share_rows(members: list[Result]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of what an epoch was spent on, and what came before the first."""
    head = ["strategy", "workers", "runs", "compute", "optimizer", "wait", "communication", "rest", "compile", "set-up"]
    rows = []
    for r in members:
        runs = str(r.runs) + (f" ({len(r.failures)} failed)" if r.failures else "")
        shares = [percent(v) for v in (r.compute, r.update, r.wait, r.comm, r.other)]
        rows.append([r.point.strategy, str(r.point.workers), runs, *shares, seconds(r.compile_s), seconds(r.setup_s)])
    return head, rows


def cost_rows(members: list[Result]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of speed, of bytes moved and held, and of the weights at the end."""
    head = [
        "strategy",
        "workers",
        "GFLOP/s",
        "of peak",
        "memory traffic",
        "exchanged an epoch",
        "peak memory",
        "weights' digest",
    ]
    rows = []
    for r in members:
        speed = [number(r.gflops), percent(r.peak), f"{number(r.gbytes)} GB/s" if r.runs else NOTHING]
        memory = f"{number(r.memory_mib)} MiB" if r.runs else NOTHING
        digests = " ".join(w[:8] for w in r.weights) or NOTHING
        rows.append([r.point.strategy, str(r.point.workers), *speed, markup.size(r.comm_bytes), memory, digests])
    return head, rows
