"""Tables as text, Markdown, LaTeX and HTML. Stage: study, on plain cells. Must not know: studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .statistics import Estimate

#: how a text stands in LaTeX
LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "–": "--", "µ": r"$\mu$"}
NOTHING = "–"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns aligned for a fixed-width font, the first `left` of them to the left."""
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(head), "  ".join("-" * w for w in widths), *map(line, rows)])


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """With pipes; pipes in cells are escaped."""
    rule = [":--" if k < left else "--:" for k in range(len(head))]
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (head, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def latex_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, caption: str = "") -> str:
    """A table environment that needs no package."""
    columns = "l" * left + "r" * (len(head) - left)
    lines = [" & ".join(map(latex, row)) + r" \\" for row in (head, *rows)]
    body = [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            r"\caption{" + latex(caption) + "}",
            r"\begin{tabular}{" + columns + "}",
            *body,
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def latex(text: str) -> str:
    """A text with LaTeX's own signs escaped."""
    return "".join(LATEX.get(sign, sign) for sign in text.replace("\\", "/"))


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, caption: str = "", wrap: int | None = None
) -> str:
    """With a head; numbers to the right. The column `wrap` may break into lines."""

    def line(row: Sequence[str], tag: str) -> str:
        kinds = ["text" if k == wrap else "" if k < left else "n" for k in range(len(row))]
        marks = [f' class="{kind}"' if kind else "" for kind in kinds]
        return "<tr>" + "".join(f"<{tag}{m}>{escape(c)}</{tag}>" for c, m in zip(row, marks, strict=True)) + "</tr>"

    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = f"<thead>{line(head, 'th')}</thead>" if any(head) else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>{title}{top}<tbody>{body}</tbody></table></div>'


def number(value: float, digits: int = 3) -> str:
    """Significant digits, without an exponent where it can be avoided; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= digits - 1:
        return f"{round(value):,}"
    return f"{value:.{min(digits - 1 - size, 9)}f}" if size >= -4 else f"{value:.{digits - 1}e}"


def seconds(value: float) -> str:
    """In a unit that suits: "12.3 ms"."""
    if not math.isfinite(value):
        return NOTHING
    unit, factor = ("s", 1.0) if value >= 1 else ("ms", 1e3) if value >= 1e-3 else ("µs", 1e6)
    return f"{number(value * factor)} {unit}"


def interval(estimate: Estimate, digits: int = 3, factor: float = 1.0) -> str:
    """ "1.82 [1.79, 1.85]"."""
    if not math.isfinite(estimate.value):
        return NOTHING
    text = number(estimate.value * factor, digits)
    if not estimate.known:
        return text
    return f"{text} [{number(estimate.low * factor, digits)}, {number(estimate.high * factor, digits)}]"


def percent(value: float) -> str:
    """ "12.3 %"."""
    if not math.isfinite(value):
        return NOTHING
    return f"{100 * value:,.0f} %" if abs(value) >= 0.0995 or value == 0 else f"{100 * value:.1f} %"


def size(value: float) -> str:
    """Bytes in a unit that suits."""
    if not math.isfinite(value) or value <= 0:
        return NOTHING
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{number(value)} {unit}"
        value /= 1024
    return f"{number(value)} GiB"
