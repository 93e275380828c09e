"""What a report says besides its tables of results: title, method, networks, laws, machine, raw times. Stage: study.

Must not know: how pages look, how runs are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .markup import number, percent, seconds
from .result import NOTHING

if TYPE_CHECKING:
    from .laws import Fit
    from .result import Study

RAW = (
    "Seconds of every timed epoch; a semicolon stands between two runs. Times, speeds, speedups, efficiencies and fits are "
    "made of these; all else of what was recorded with them."
)


def title(study: Study) -> str:
    """For people."""
    names = list(study.design.networks)
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{study.design.kind.capitalize()} scaling of {listed}"


def runs_of(study: Study) -> str:
    """How many runs the configurations have: a file that was extended, or a killed study's, may have fewer of some."""
    counts = {len(result.times) for result in study.results} or {0}
    most = counted(max(counts), "run")
    return most if len(counts) == 1 else f"{min(counts)} to {most}"


def method(study: Study) -> list[str]:
    """How it was measured, in sentences."""
    design = study.design
    epochs, warm = counted(design.epochs, "epoch"), "from the first"
    if design.warmup:
        warm = f"after {design.warmup} that {'are' if design.warmup > 1 else 'is'} not counted"
    of_run = "that of its epoch" if design.epochs == 1 else "the median of its epochs"
    lines = [
        f"{counted(len(design.points), 'configuration')}, {runs_of(study)} each. Each run is a fresh "
        f"process that makes the model anew from seed {design.seed} and trains {epochs} {warm}. The time of a run is "
        f"{of_run}, and the time of a configuration the median over its runs.",
        "In each round every configuration runs once, in a shuffled order, so that a slow spell of the machine meets all "
        "alike. Start-up, reading data and compiling kernels lie outside of the times and are listed apart.",
        "Speedup is over the best serial run, which needs no barrier and no second thread, and not over one worker. "
        "Intervals are 95 % bootstrap intervals of the median, from 10,000 resamples of the runs.",
    ]
    if design.kind == "weak":
        lines.append(
            "Samples and batch grow with the workers, so that each has the same work whatever their number; the speedup is "
            "scaled by the number of workers (Gustafson)."
        )
    else:
        lines.append("All configurations train on the same samples with the same batch, so that they do the same work.")
    lines += [
        "Karp-Flatt is the serial part that Amdahl's law would need for the measured speedup: constant over the workers it "
        "is a serial part, rising it is overhead.",
        "The shares of the time, which add up to 100 %, are means over the runs; compile, set-up, bytes and memory are "
        "medians. Set-up goes from the call of fit to its first epoch, compiling included.",
        "GFLOP/s and memory traffic come from the operations and bytes that the plan counts. The peak is that of parnet's "
        "register tile on as many cores, measured in the processes of the first round.",
        "Equal digests mean equal weights at the end, bit for bit. Strategies that cut a batch into another number of "
        "shards add its gradients in another order, and round differently.",
    ]
    if design.target is not None:
        lines.append(
            f"Time to an accuracy of {design.target:g} counts training alone, the epochs that warm up included, and only "
            "where every run reached it; it is known to an epoch."
        )
    return lines


def counted(count: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def machine_rows(study: Study) -> list[list[str]]:
    """The machine's record, for a table of two columns."""
    m = study.machine
    cores = (
        f"{_known(m, 'cores_physical')} physical, {_known(m, 'cores_logical')} logical, {_known(m, 'cores_usable')} usable"
    )
    affinity = m.get("affinity")
    load = m.get("load")
    rows = [
        ["processor", _known(m, "cpu")],
        ["cores", cores],
        ["affinity", "not known" if affinity is None else ", ".join(map(str, affinity))],
        ["cgroup quota", "none" if m.get("quota") is None else f"{m['quota']:g} cores"],
        ["caches of a core", ", ".join(f"{name} {size}" for name, size in (m.get("caches") or {}).items()) or "not known"],
        ["governor, boost", f"{_known(m, 'governor')}, {_known(m, 'boost')}"],
        ["memory", f"{number(m['memory_mib'] / 1024)} GiB" if m.get("memory_mib") else "not known"],
        ["vectors", _known(m, "simd")],
        ["threads", _known(m, "threading")],
        ["system", _known(m, "os")],
        ["versions", ", ".join(f"{name} {_known(m, name)}" for name in ("parnet", "python", "numpy", "numba", "llvmlite"))],
        ["load average at the start", ", ".join(f"{value:.2f}" for value in load) if load else "not known"],
        ["date", _known(m, "date")],
    ]
    return rows


def _known(machine: dict, name: str) -> str:
    value = machine.get(name)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not known" if value is None else str(value)


def network_rows(study: Study) -> tuple[list[str], list[list[str]]]:
    """The networks."""
    rows = [
        [name, f"{known['parameters']:,}", str(known.get("compiled", ""))] for name, known in study.design.networks.items()
    ]
    return ["network", "parameters", "optimizer and loss"], rows


def law_rows(study: Study) -> tuple[list[str], list[list[str]]]:
    """The fits of all laws; without rows where there is none."""
    from .laws import Fit

    head = [
        "network",
        "batch",
        "strategy",
        "law",
        "parameters with their 95 % intervals",
        "R²",
        "largest residual",
        "peak",
        "limit",
    ]
    rows = []
    for (network, batch), _ in study.groups.items():
        for strategy, fits in study.fits(network, batch).items():
            for made in fits.values():
                if isinstance(made, Fit):
                    rows.append([network, str(batch), strategy, made.law.name, *_law_cells(made, study.design.kind)])
    return head, rows


def _law_cells(made: Fit, kind: str) -> list[str]:
    digits = zip(made.law.parameters, made.values, made.low, made.high, strict=True)
    listed = ", ".join(f"{name} {number(v)} [{number(low)}, {number(high)}]" for name, v, low, high in digits)
    worst = max(abs(r / m) for r, m in zip(made.residuals, made.measured, strict=True))
    peak = f"{made.peak:.0f} workers" if made.peak < 1e4 else "none"
    unit = " samples/s" if made.law.quantity == "throughput" else ""
    limit = f"{number(made.limit)}{unit}" if made.limit < 1e12 else "none"
    return [listed, f"{made.r2:.4f}", percent(worst), peak, limit]


def target_rows(study: Study) -> tuple[list[str], list[list[str]]]:
    """Seconds to the accuracy, where one was asked for."""
    rows = []
    for result in study.results if study.design.target is not None else []:
        found = result.target
        bounds = f"{seconds(found.low)} to {seconds(found.high)}" if found.known else NOTHING
        finals = [curve[-1][1] for curve in result.curves]
        last = percent(sum(finals) / len(finals)) if finals else NOTHING
        p = result.point
        rows.append([p.network, str(p.base), p.strategy, str(p.workers), seconds(found.value), bounds, last])
    return ["network", "batch", "strategy", "workers", "time", "95 % interval", "accuracy at the end"], rows


def subtitle(study: Study) -> str:
    m, design = study.machine, study.design
    runs, points = counted(sum(result.runs for result in study.results), "run"), counted(len(design.points), "configuration")
    return f"{runs} of {points} on {_known(m, 'cpu')}, {_known(m, 'date')[:10]}"


def bare_findings(study: Study) -> dict[str, list[str]]:
    """The findings of each network, without its name, which stands above them."""
    return {name: [words.under(name, line) for line in lines] for name, lines in words.grouped(study).items()}


def raw_rows(study: Study) -> tuple[list[str], list[list[str]]]:
    """Every timed epoch of every run."""
    rows = []
    for result in study.results:
        p = result.point
        runs = [run for run in study.runs if run["point"] == p.config() and "failure" not in run]
        times = "; ".join(", ".join(f"{t:.6g}" for t in run["epochs_s"]) for run in runs)
        rows.append([p.network, str(p.base), p.strategy, str(p.workers), times or NOTHING])
    return ["network", "batch", "strategy", "workers", "seconds"], rows
