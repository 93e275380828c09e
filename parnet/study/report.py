"""One file that tells a study: what was asked, how it was measured, what came out and on which machine. Stage: study.

`.html` holds everything, pictures included, and asks nothing of the network; `.md` and `.tex` hold the words and tables.
Must not know: how runs are made.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .._version import __version__
from ..errors import require_extra, unknown_name
from ..io.atomic import replacing
from . import plots
from .contents import (
    RAW,
    bare_findings,
    law_rows,
    machine_rows,
    method,
    network_rows,
    raw_rows,
    subtitle,
    target_rows,
    title,
)
from .markup import html_table, latex_table, markdown_table
from .prediction_plot import prediction_rows
from .result import cost_rows, share_rows, summary_rows

if TYPE_CHECKING:
    from .result import Study

#: picture -> its title and what a reader sees in it
CAPTIONS = {
    "strategies": ("Time of an epoch", "Bars are medians, dots the single runs, whiskers the 95 % interval of the median."),
    "speedup": (
        "Speedup over the best serial run",
        "The grey line is the ideal, as many times as fast as there are workers; below the dotted line serial wins. Curves "
        "without points are fitted laws.",
    ),
    "efficiency": ("Efficiency", "Speedup divided by the number of workers: how much of each is put to use."),
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


def html(study: Study) -> str:
    """The whole report as one page."""
    require_extra("matplotlib", "study", "study.report")
    main = [f"<h1>{escape(title(study))}</h1>", f'<p class="sub">{escape(subtitle(study))}</p>']
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
    main += ["<h2>Raw times</h2>", f"<p>{RAW}</p>", html_table(*raw_rows(study), left=5, wrap=4), _everything(study)]
    main.append(f"<footer>Made by parnet {escape(__version__)}.</footer>")
    return PAGE.format(title=escape(title(study)), style=STYLE, body="\n".join(main))


def _list(lines: list[str]) -> str:
    items = (escape(line).replace(" %", "&nbsp;%") for line in lines)  # a number and its sign stay together
    return "<ul>" + "".join(f"<li>{line}</li>" for line in items) + "</ul>"


def _findings(study: Study) -> list[str]:
    """Lists, under the names of the networks where there are several."""
    groups = bare_findings(study)
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


def _everything(study: Study) -> str:
    """The records that the file of results holds."""
    lines = "\n".join(escape(json.dumps(run)) for run in study.runs)
    summary = "All that was recorded, a run a line, as in the file of results"
    return f"<details><summary>{summary}</summary><pre>{lines}</pre></details>"


def markdown(study: Study) -> str:
    """Words and tables."""
    parts = [f"# {title(study)}", subtitle(study)]
    warnings = study.warnings()
    if warnings:
        parts += ["## Read with this in mind", _bullets(warnings)]
    groups = bare_findings(study)
    parts.append("## Findings")
    for name, lines in groups.items():
        parts += [f"### {name}"] * (len(groups) > 1) + [_bullets(lines)]
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
    parts += ["## Method", _bullets(method(study))]
    parts += ["## Machine", markdown_table(["", ""], machine_rows(study), left=2)]
    parts += ["## Raw times", RAW, markdown_table(*raw_rows(study), left=5)]
    return "\n\n".join(parts) + "\n"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def latex(study: Study) -> str:
    """The tables, ready for \\input."""
    head, rows = law_rows(study)
    laws = [latex_table(head, rows, 5, "Laws of scaling")] if rows else []
    return "\n\n".join([f"% {title(study)}; {subtitle(study)}", study.table("latex"), *laws]) + "\n"
