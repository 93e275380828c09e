"""One file that tells a study: what was asked, how it was measured, what came out and on which machine. Stage: study.

`.html` holds everything, pictures included, and asks nothing of the network; `.md` and `.tex` hold the words and tables.
Must not know: how runs are made.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .._version import __version__
from ..errors import require_extra, unknown_name
from ..io.atomic import replacing
from . import plots, words
from .markup import html_table, latex_table, markdown_table, number, percent, seconds
from .prediction_plot import prediction_rows
from .result import cost_rows, share_rows, summary_rows

if TYPE_CHECKING:
    from .laws import Fit
    from .result import Study

#: picture -> its title and what a reader sees in it
CAPTIONS = {
    "strategies": ("Time of an epoch", "Bars are medians, dots the single runs, whiskers the 95 % interval of the median."),
    "speedup": (
        "Speedup over the best serial run",
        "The grey line is the ideal, as many times as fast as there are workers; below the dotted line serial wins. Curves "
        "without points are fitted laws.",
    ),
    "efficiency": ("Efficiency", "Speedup divided by the number of workers: what a worker is used to."),
    "weak": ("Weak scaling", "Each worker has its own samples, so the ideal is the time of the serial run."),
    "time": (
        "What an epoch is spent on",
        "Compute: the plan's steps. Optimizer: the update, where it is a step of its own. Wait: workers waiting for each "
        "other. "
        "Communication: gradients and weights between processes. Rest: everything around the plan.",
    ),
    "accuracy": (
        "Accuracy against time",
        "Measured on the test samples after each epoch; the time of measuring is not counted.",
    ),
    "batch": ("Batch sizes", "Small batches leave too little work to share; large ones learn less from an epoch."),
    "prediction": (
        "More workers than there are",
        "Points are measured; lines are simulated by pn.study.simulate, on the grey ground past this machine's cores. The "
        "times of compute, of a serial part and of messages are fitted to the points; threads meet along a tree, processes "
        "and ranks pass gradients round a ring. A prediction from few points, for more cores just like these.",
    ),
    "residuals": (
        "Residuals of the laws",
        "What was measured less what the law says. Points on one side of the line mean that the law is not that of the "
        "data.",
    ),
}
#: the tables behind the main one
DETAILS = {"Where the time went": share_rows, "Speed, bytes and memory": cost_rows}
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.35rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
h3 { font-size: 1.08rem; margin: 1.5rem 0 .4rem; }
.sub { color: #555; margin-top: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td { white-space: nowrap; } td.text { white-space: normal; }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
.n { text-align: right; }
figure { margin: 1rem 0 1.6rem; } figure img { max-width: 100%; height: auto; }
figcaption { font-size: .88rem; color: #444; max-width: 50rem; }
.warn { background: #fff6e0; border-left: 5px solid #b36b00; padding: .5rem 1rem; }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
details { margin: .6rem 0; } summary { cursor: pointer; }
pre { font-size: .78rem; overflow-x: auto; background: #f5f5f5; padding: .6rem; }
footer { margin-top: 3rem; color: #666; font-size: .85rem; }
@media print { body { max-width: none; font-size: 10.5pt; margin: 0; } .wide { overflow: visible; }
  table { font-size: 7.6pt; } th, td { padding: .15rem .3rem; }
  figure, table { break-inside: avoid; } h2, h3 { break-after: avoid; } }
""".strip()
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_report(study: Study, path: Path) -> Path:
    """Write the report and return its path.

    Raises:
        UnknownNameError: a suffix that is not .html, .md or .tex. MissingExtraError: matplotlib is not installed.
    """
    writers: dict[str, Callable[[Study], str]] = {".html": html, ".md": markdown, ".tex": latex}
    if path.suffix.lower() not in writers:
        raise unknown_name("study.report: suffix of path", path.suffix, writers)
    text = writers[path.suffix.lower()](study)
    with replacing(path, "study.report") as file:
        file.write(text.encode("utf-8"))
    return path


def title(study: Study) -> str:
    """For people."""
    names = list(study.design.networks)
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{study.design.kind.capitalize()} scaling of {listed}"


def method(study: Study) -> list[str]:
    """How it was measured, in sentences."""
    design = study.design
    points, epochs = len(design.points), f"{design.epochs} epoch{'s' * (design.epochs > 1)}"
    warm = (
        f"after {design.warmup} that {'are' if design.warmup > 1 else 'is'} not counted"
        if design.warmup
        else "from the first"
    )
    lines = [
        f"{points} configurations, {design.repeats} runs each. Each run is a fresh process that makes the model anew from "
        "seed "
        f"{design.seed} and trains {epochs} {warm}. A configuration's time is the median over its runs.",
        "In each round every configuration runs once, in a shuffled order, so that a slow spell of the machine meets all "
        "alike. "
        "Start-up, reading data and compiling kernels lie outside of the times and are listed apart.",
        "Speedup is over the best serial run, which needs no barrier and no second thread, and not over one worker. "
        "Intervals are "
        "95 % bootstrap intervals of the median, from 10,000 resamples of the runs.",
    ]
    if design.kind == "weak":
        lines.append(
            "Samples and batch grow with the workers, so that each has the same work whatever their number; the speedup "
            "is scaled "
            "by the number of workers (Gustafson)."
        )
    else:
        lines.append("All configurations train on the same samples with the same batch, so that they do the same work.")
    lines += [
        "Karp-Flatt is the serial part that Amdahl's law would need for the measured speedup: constant over the workers "
        "it is a "
        "serial part, rising it is overhead.",
        "GFLOP/s and memory traffic come from the operations and bytes that the plan counts. The peak is that of "
        "parnet's register "
        "tile on as many cores, measured in the processes of the first round.",
    ]
    if design.target is not None:
        lines.append(
            f"Time to an accuracy of {design.target:g} counts training alone, and only where every run reached it; it is "
            "known to "
            "an epoch."
        )
    return lines


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
    return (
        "not known"
        if value is None
        else {True: "on", False: "off"}.get(value, str(value))
        if value in (0, 1)
        else str(value)
    )


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
    from .result import NOTHING

    rows = []
    for result in study.results if study.design.target is not None else []:
        found = result.target
        bounds = f"{seconds(found.low)} to {seconds(found.high)}" if found.known else NOTHING
        finals = [curve[-1][1] for curve in result.curves]
        last = percent(sum(finals) / len(finals)) if finals else NOTHING
        p = result.point
        rows.append([p.network, str(p.base), p.strategy, str(p.workers), seconds(found.value), bounds, last])
    return ["network", "batch", "strategy", "workers", "time", "95 % interval", "accuracy at the end"], rows


def html(study: Study) -> str:
    """The whole report as one page."""
    require_extra("matplotlib", "study", "study.report")
    main = [f"<h1>{escape(title(study))}</h1>", f'<p class="sub">{escape(_subtitle(study))}</p>']
    warnings = study.warnings()
    if warnings:
        main.append(f'<div class="warn"><strong>Read the figures with this in mind</strong>{_list(warnings)}</div>')
    main += ["<h2>Findings</h2>", *_findings(study), "<h2>Times and speedups</h2>"]
    for key, members in study.groups.items():
        main.append(html_table(*summary_rows(members, study.design.kind), caption=study.title(*key)))
    main += _figures(study)
    rows = law_rows(study)
    if rows[1]:
        main += ["<h2>Laws</h2>", html_table(*rows, left=5, wrap=4)]
    rows = prediction_rows(study)
    if rows[1]:
        main += ["<h2>Predicted speedups</h2>", html_table(*rows, left=3)]
    rows = target_rows(study)
    if rows[1]:
        main += [f"<h2>Time to an accuracy of {study.design.target:g}</h2>", html_table(*rows, left=3)]
    for name, rows_of in DETAILS.items():
        main.append(f"<h2>{name}</h2>")
        main += [html_table(*rows_of(members), caption=study.title(*key)) for key, members in study.groups.items()]
    main += ["<h2>Method</h2>", _list(method(study)), html_table(*network_rows(study), wrap=2), *_summaries(study)]
    main += ["<h2>Machine</h2>", html_table(["", ""], machine_rows(study), left=2, wrap=1)]
    main += [
        "<h2>Raw times</h2>",
        "<p>Seconds of an epoch, run by run, from which every figure above is made.</p>",
        _raw(study),
    ]
    main.append(f"<footer>Made by parnet {escape(__version__)}.</footer>")
    return PAGE.format(title=escape(title(study)), style=STYLE, body="\n".join(main))


def _subtitle(study: Study) -> str:
    m, design = study.machine, study.design
    runs = sum(result.runs for result in study.results)
    return f"{runs} runs of {len(design.points)} configurations on {_known(m, 'cpu')}, {_known(m, 'date')[:10]}"


def _list(lines: list[str]) -> str:
    items = (escape(line).replace(" %", "&nbsp;%") for line in lines)  # a number and its sign stay together
    return "<ul>" + "".join(f"<li>{line}</li>" for line in items) + "</ul>"


def _findings(study: Study) -> list[str]:
    """Lists, under the names of the networks where there are several."""
    groups = words.grouped(study)
    if len(groups) == 1:
        return [_list(lines) for lines in groups.values()]
    return [f"<h3>{escape(name)}</h3>{_list(lines)}" for name, lines in groups.items()]


def _figures(study: Study) -> list[str]:
    found = []
    for kind in plots.all_kinds(study):
        name, text = CAPTIONS[kind]
        picture = base64.b64encode(_svg(study, kind)).decode("ascii")
        source = f"data:image/svg+xml;base64,{picture}"
        image = f'<img alt="{escape(name)}: {escape(text)}" src="{source}">'
        found.append(f"<h2>{escape(name)}</h2><figure>{image}<figcaption>{escape(text)}</figcaption></figure>")
    return found


def _svg(study: Study, kind: str) -> bytes:
    """A picture as SVG; equal studies give equal bytes."""
    matplotlib = require_extra("matplotlib", "study", "study.report")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": kind}):
        plots.plot(study, None, kind).savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _summaries(study: Study) -> list[str]:
    return [
        f"<details><summary>Layers of {escape(name)}</summary><pre>{escape(known.get('summary', ''))}</pre></details>"
        for name, known in study.design.networks.items()
    ]


def _raw(study: Study) -> str:
    rows = [
        [r.point.network, str(r.point.base), r.point.strategy, str(r.point.workers), " ".join(f"{t:.6g}" for t in r.times)]
        for r in study.results
    ]
    return html_table(["network", "batch", "strategy", "workers", "seconds"], rows, left=5).replace(
        "<td>", '<td class="text">'
    )


def markdown(study: Study) -> str:
    """Words and tables."""
    parts = [f"# {title(study)}", _subtitle(study)]
    for name, lines in (("Read with this in mind", study.warnings()), ("Findings", study.findings())):
        if lines:
            parts += [f"## {name}", "\n".join(f"- {line}" for line in lines)]
    parts += ["## Times and speedups", study.table("markdown")]
    for name, rows, left in (("Laws", law_rows(study), 5), ("Time to accuracy", target_rows(study), 3)):
        if rows[1]:
            parts += [f"## {name}", markdown_table(*rows, left=left)]
    rows = prediction_rows(study)
    if rows[1]:
        parts += ["## {}\n\n{}".format(*CAPTIONS["prediction"]), markdown_table(*rows, left=3)]
    for name, rows_of in DETAILS.items():
        parts.append(f"## {name}")
        for key, members in study.groups.items():
            parts += [f"### {study.title(*key)}", markdown_table(*rows_of(members))]
    parts += ["## Method", "\n".join(f"- {line}" for line in method(study))]
    parts += ["## Machine", markdown_table(["", ""], machine_rows(study), left=2)]
    return "\n\n".join(parts) + "\n"


def latex(study: Study) -> str:
    """The tables, ready for \\input."""
    head, rows = law_rows(study)
    laws = [latex_table(head, rows, 5, "Laws of scaling")] if rows else []
    return "\n\n".join([f"% {title(study)}; {_subtitle(study)}", study.table("latex"), *laws]) + "\n"
