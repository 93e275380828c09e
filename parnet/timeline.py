"""A recorded run as a picture: what each thread did when, and where it waited. Stage: after training.

Must not know: models, kernels, how a run is recorded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import figures
from .checks import check_count
from .errors import DataError, HyperparameterError
from .executors.tapes import FOLD, RESUME, SEND, WAIT, WAIT_RANKS, WAIT_WORKERS
from .io.trace_file import BATCH, PYTHON, RUN, Slice, Timeline, read_trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHERE = "pn.viz.plot_timeline"
#: phase -> colour; they differ in lightness too
COLOURS = {
    "input": figures.SKY,
    "forward": figures.BLUE,
    "loss": figures.PINK,
    "backward": figures.RED,
    FOLD: figures.GREEN,
    SEND: figures.ORANGE,
    "update": figures.YELLOW,
    WAIT: "white",
    WAIT_WORKERS: "white",
    WAIT_RANKS: "white",
    RESUME: "white",
}
#: kind of wait -> how it is hatched
HATCHES = {WAIT: "////", WAIT_WORKERS: "xxxx", WAIT_RANKS: "xxxx", RESUME: "...."}
#: text on a colour
DARK = (figures.BLUE, figures.RED)
WIDTH, ROW_INCHES, MOST_BATCHES = 10.0, 0.5, 64
#: between the rows of two processes, where they have several
GAP = 0.35
#: a name is written into a slice that is at least so much of the picture wide, a letter
LETTER = 0.0085
#: and has an edge from so much on
THIN = 0.002


@dataclass(frozen=True)
class Group:
    """A batch of one thread: its slice, and those of its steps and waits."""

    whole: Slice
    inner: tuple[Slice, ...]


def plot_timeline(
    trace: str | os.PathLike | Timeline,
    path: str | os.PathLike | None = None,
    *,
    batches: int = 2,
    first: int | None = None,
) -> Figure:
    """What each thread did in a few batches, waits hatched, and below it what it did in all that were kept.

    Threads of a worker or rank stand together. A wait for other processes is hatched crosswise and says for whom; one that
    goes on after the last of them has come is dotted: "resume", as where another program has the thread's core.

    Args:
        trace: the file that `fit(..., trace=...)` has written.
        path: where to save the figure: `.svg`, `.png` or `.pdf`.
        batches: how many are drawn, at most 64.
        first: the first of them, counted from 0 among those kept, or from the end by -1, -2, ...; by default those that
            took the median time.
    Returns:
        The figure.
    Raises:
        OSError, FileFormatError: the trace cannot be read.
        DataError: there is no batch in it.
        HyperparameterError: batches or first lie outside it.
        UnknownNameError: a suffix that is not one of the three.
        MissingExtraError: matplotlib is not installed.
    """
    figures.check_suffix(WHERE, path)
    timeline = trace if isinstance(trace, Timeline) else read_trace(trace)
    threads = _threads(timeline)
    kept = max(map(len, threads.values()))
    count = min(check_count(batches, f"{WHERE}: batches"), MOST_BATCHES, kept)
    start = _typical(list(threads.values()), count) if first is None else _start(first, count, kept)
    figure = figures.new_figure(WHERE, WIDTH, 2.6 + 2 * ROW_INCHES * len(threads))
    high, low = figure.subplots(2, 1, height_ratios=(1.15, 1.0))
    _draw_slices(high, _shown(threads, start, count))
    _draw_shares(low, threads)
    high.set_title(_title(timeline, start, count, kept), fontsize=10, loc="left")
    _legend(figure, threads)
    return figures.save(figure, path)


def _threads(timeline: Timeline) -> dict[str, list[Group]]:
    """Row's name -> its training batches, or those of whatever else was recorded where there is no training."""
    found: dict[tuple[int, int], list[tuple[Slice, list[Slice]]]] = {}
    for piece in timeline.slices:
        if piece.category == BATCH:
            found.setdefault((piece.process, piece.row), []).append((piece, []))
        elif piece.category != RUN and (piece.process, piece.row) in found:
            found[piece.process, piece.row][-1][1].append(piece)
    result = {}
    for place, batches in sorted(found.items()):
        groups = [Group(whole, tuple(inner)) for whole, inner in batches]
        training = [group for group in groups if group.whole.name.startswith(BATCH)]
        result[_row_name(timeline, place, [process for process, _ in found])] = training or groups
    if not result:
        raise DataError(f"{WHERE}: expected a trace of at least one batch, received one of none; train for a batch first")
    return result


def _row_name(timeline: Timeline, place: tuple[int, int], processes: list[int]) -> str:
    """ "thread 0", "worker 0", or "worker 0, thread 0" where workers have several."""
    thread, process = timeline.rows[place], timeline.processes.get(place[0], str(place[0]))
    if len(set(processes)) == 1 and place[0] == PYTHON:
        return thread
    return process if len(set(processes)) == len(processes) else f"{process}, {thread}"


def _shown(threads: dict[str, list[Group]], start: int, count: int) -> dict[str, list[Group]]:
    """The batches that are drawn: those at the same time, where a worker was lost and so has fewer."""
    lengths = {len(groups) for groups in threads.values()}
    if len(lengths) == 1:
        return {name: groups[start : start + count] for name, groups in threads.items()}
    longest = max(threads.values(), key=len)[start : start + count]
    begun, ended = longest[0].whole.begun, _end(longest[-1].whole)
    return {name: [g for g in groups if g.whole.begun < ended and _end(g.whole) > begun] for name, groups in threads.items()}


def _places(names: Sequence[str]) -> list[float]:
    """Where the rows stand, from the top: those of one process together."""
    processes = [name.rpartition(", ")[0] for name in names]
    return [row + GAP * (len(set(processes[: row + 1])) - 1) for row in range(len(names))]


def _start(first: Any, count: int, kept: int) -> int:
    """`first` from 0, if there are so many batches from there."""
    start = first + kept if isinstance(first, int) and first < 0 else first
    if not isinstance(start, int) or not 0 <= start <= kept - count:
        raise HyperparameterError(
            f"{WHERE}: expected first from 0 to {kept - count}, or counted from the end, as {kept} batches are kept "
            f"and {count} are drawn; received {first!r}"
        )
    return start


def _typical(threads: Sequence[list[Group]], count: int) -> int:
    """Where the run of so many batches starts that took the median time."""
    kept = max(map(len, threads))
    threads = [groups for groups in threads if len(groups) == kept]
    begun = np.min([[group.whole.begun for group in groups[:kept]] for groups in threads], axis=0)
    ended = np.max([[_end(group.whole) for group in groups[:kept]] for groups in threads], axis=0)
    took = ended[count - 1 :] - begun[: kept - count + 1]
    return int(np.argsort(took, kind="stable")[(len(took) - 1) // 2])


def _end(piece: Slice) -> float:
    return piece.begun + piece.took


def _draw_slices(ax: Axes, threads: dict[str, list[Group]]) -> None:
    """A row a thread, from the top; time in microseconds or milliseconds."""
    everything = [group for groups in threads.values() for group in groups]
    origin = min(group.whole.begun for group in everything)
    span = max(_end(group.whole) for group in everything) - origin
    scale, unit = (1e-3, "ms") if span >= 2000 else (1.0, "µs")
    for row, groups in zip(_places(list(threads)), threads.values(), strict=True):
        for group in groups:
            for piece in group.inner:
                left, width = scale * (piece.begun - origin), scale * piece.took
                thin = {"linewidth": 0.0} if width < THIN * scale * span else {}  # its edge would cover it
                ax.barh(row, width, 0.8, left, **_look(piece.category) | thin)
                name = piece.name.removeprefix("wait ").removeprefix("to ")  # the hatching says it
                if piece.category != WAIT and width / (scale * span) > LETTER * (len(name) + 1):
                    _write(ax, left + width / 2, row, name, piece.category)
    for group in max(threads.values(), key=len):
        left = scale * (group.whole.begun - origin)
        ax.axvline(left, color="0.25", linewidth=0.8, linestyle=":")
        ax.text(left, -0.55, f" {group.whole.name}", size=7, color="0.25", va="bottom")
    _thread_rows(ax, list(threads))
    ax.set_xlim(0, scale * span)
    ax.set_xlabel(unit)


def _look(category: str) -> dict[str, Any]:
    """Waits are hatched: they must not pass for work in black and white either."""
    if category in HATCHES:
        return {"facecolor": COLOURS[category], "hatch": HATCHES[category], "edgecolor": "0.65", "linewidth": 0.0}
    return {"facecolor": COLOURS.get(category, "0.6"), "edgecolor": "white", "linewidth": 0.3}


def _write(ax: Axes, x: float, y: float, text: str, category: str) -> None:
    """A word in the middle of a bar."""
    ink = "white" if COLOURS.get(category) in DARK else "black"
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1} if category in HATCHES else None
    ax.text(x, y, text, color=ink, size=7.5, ha="center", va="center", bbox=box, clip_on=True)


def _thread_rows(ax: Axes, names: list[str]) -> None:
    places = _places(names)
    ax.set_yticks(places, names)
    ax.set_ylim(places[-1] + 0.5, -0.75)
    figures.plain(ax, "x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _draw_shares(ax: Axes, threads: dict[str, list[Group]]) -> None:
    """What each thread did in all kept batches, as shares of its time in them."""
    for row, groups in zip(_places(list(threads)), threads.values(), strict=True):
        total, left = sum(group.whole.took for group in groups) or 1.0, 0.0
        for phase in COLOURS:
            took = sum(piece.took for group in groups for piece in group.inner if piece.category == phase)
            share = 100 * took / total
            if not share:
                continue
            ax.barh(row, share, 0.7, left, **_look(phase))
            if share >= 4:
                _write(ax, left + share / 2, row, f"{share:.0f} %", phase)
            left += share
    _thread_rows(ax, list(threads))
    ax.set_xlim(0, 100)
    kept = max(map(len, threads.values()))
    ax.set_xlabel(f"% of each thread's time in all {kept:,} kept batches")


def _title(timeline: Timeline, start: int, count: int, kept: int) -> str:
    """Which batches these are."""
    which = f"batch {start + 1}" if count == 1 else f"batches {start + 1} to {start + count}"
    training = [program for program in timeline.programs if program.get("purpose") == "train"] or list(timeline.programs)
    run = sum(int(program.get("batches", 0)) for program in training[:1])
    size = training[0].get("batch_size") if training else None
    rows = f"; {size} rows each" if size else ""
    return f"{which} of the {kept:,} that the trace keeps of {max(run, kept):,} run{rows}"


def _legend(figure: Figure, threads: dict[str, list[Group]]) -> None:
    """The phases that occur."""
    from matplotlib.patches import Patch

    there = {piece.category for groups in threads.values() for group in groups for piece in group.inner}
    patches = [Patch(label=phase, **_look(phase) | {"linewidth": 0.5}) for phase in COLOURS if phase in there]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=9)
