"""A model as a picture: boxes in layers, edges between them. Stage: after the model. Draws itself, without graphviz.

    layout     ranks by the longest way from an input, edges over several ranks led beside the boxes by points of their own,
               few crossings (Sugiyama, Tagawa & Toda 1981), places that pull connected boxes under each other
    output     SVG text; PNG and PDF by matplotlib

Must not know: plans, arrays.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from html import escape
from typing import Any

from .graph import Graph
from .layers.tensor import Tensor

BOX_HEIGHT, RANK_GAP, COLUMN_GAP, LANE, MARGIN = 36.0, 26.0, 28.0, 14.0, 20.0
#: width of a character of each of a box's two lines, about
NAME_CHARACTER, DETAIL_CHARACTER = 7.2, 6.1
#: sweeps over the ranks that put them in order, and that find their places
ORDER_SWEEPS, PLACE_SWEEPS = 12, 24
#: kind of layer -> colour: tints of M. Okabe, K. Ito, "Color universal design" (2008)
COLOURS = {"input": "#fdf3c4", "weights": "#cfe5f5", "merge": "#f8d9c4", "other": "#eeeeee"}


@dataclass(eq=False)
class Box:
    """A call of a layer; or, without a tensor, a point that a long edge passes.

    Attributes:
        name, detail: its two lines of text.
        kind: key of COLOURS.
        rank: row of the picture.
        x: of its middle; width.
        above, below: what it is connected to in the rows next to it.
    """

    name: str = ""
    detail: str = ""
    kind: str = ""
    rank: int = 0
    x: float = 0.0
    width: float = 0.0
    above: list[Box] = field(default_factory=list)
    below: list[Box] = field(default_factory=list)

    @property
    def y(self) -> float:
        """Of its upper edge."""
        return MARGIN + self.rank * (BOX_HEIGHT + RANK_GAP)


@dataclass
class Diagram:
    """A finished layout.

    Attributes:
        boxes: of the layers.
        edges: each the points it runs through, from a box's lower edge to another's upper one.
        width, height: of the picture.
        title: name of the model.
    """

    boxes: list[Box]
    edges: list[list[tuple[float, float]]]
    width: float
    height: float
    title: str

    def svg(self) -> str:
        """The picture as SVG text."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:.0f}" height="{self.height:.0f}" '
            f'viewBox="0 0 {self.width:.0f} {self.height:.0f}" font-family="Helvetica, Arial, sans-serif">'
        )
        lines = ['<?xml version="1.0" encoding="UTF-8"?>', head, f"<title>{escape(self.title)}</title>"]
        lines.append(
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker></defs>'
        )
        lines.append(f'<rect width="{self.width:.0f}" height="{self.height:.0f}" fill="white"/>')
        for points in self.edges:
            lines.append(f'<path d="{_svg_path(points)}" fill="none" stroke="#444" marker-end="url(#tip)"/>')
        for box in self.boxes:
            left, middle = box.x - box.width / 2, box.x
            lines.append(
                f'<rect x="{left:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{BOX_HEIGHT:.1f}" rx="4" '
                f'fill="{COLOURS[box.kind]}" stroke="#444"/>'
            )
            for text, dy, size, weight in ((box.name, 15, 12, "bold"), (box.detail, 29, 11, "normal")):
                lines.append(
                    f'<text x="{middle:.1f}" y="{box.y + dy:.1f}" font-size="{size}" font-weight="{weight}" '
                    f'text-anchor="middle">{escape(text)}</text>'
                )
        return "\n".join([*lines, "</svg>"]) + "\n"

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.svg()

    def figure(self) -> Any:
        """The picture as a matplotlib figure, a point of it as large as one of the SVG."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
        from matplotlib.path import Path

        figure = Figure(figsize=(self.width / 72, self.height / 72))
        FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, self.width), ylim=(self.height, 0))
        ax.set_axis_off()
        for points in self.edges:
            codes = [Path.MOVETO, *[Path.CURVE4] * (3 * (len(points) - 1))]
            path = Path([points[0], *_curve(points)], codes)
            ax.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=7, color="#444444", lw=0.8))
        for box in self.boxes:
            corner, size = (box.x - box.width / 2, box.y), (box.width, BOX_HEIGHT)
            style: dict[str, Any] = {"facecolor": COLOURS[box.kind], "edgecolor": "#444444", "lw": 0.8}
            ax.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=4", **style))
            ax.text(box.x, box.y + 15, box.name, size=9.5, weight="bold", ha="center", va="baseline")
            ax.text(box.x, box.y + 29, box.detail, size=8.5, ha="center", va="baseline")
        return figure


def _curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Control points of a Bezier curve that leaves and reaches every point straight down."""
    result = []
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        bend = (y2 - y1) / 2
        result += [(x1, y1 + bend), (x2, y2 - bend), (x2, y2)]
    return result


def _svg_path(points: list[tuple[float, float]]) -> str:
    numbers = " ".join(f"{x:.1f},{y:.1f}" for x, y in _curve(points))
    return f"M{points[0][0]:.1f},{points[0][1]:.1f} C{numbers}"


def draw(graph: Graph, title: str) -> Diagram:
    """Lay a graph out."""
    boxes, edges = _boxes(graph)
    paths = [_path(boxes[a], boxes[b]) for a, b in edges]
    ranks: dict[int, list[Box]] = {}
    for box in dict.fromkeys([*boxes, *(point for path in paths for point in path)]):
        ranks.setdefault(box.rank, []).append(box)
    rows = [ranks[rank] for rank in sorted(ranks)]
    _order(rows)
    _place(rows)
    left = min(box.x - box.width / 2 for row in rows for box in row)
    for row in rows:
        for box in row:
            box.x += MARGIN - left
    width = max(box.x + box.width / 2 for row in rows for box in row) + MARGIN
    return Diagram(boxes, [_points(path) for path in paths], width, rows[-1][0].y + BOX_HEIGHT + MARGIN, title)


def _boxes(graph: Graph) -> tuple[list[Box], list[tuple[int, int]]]:
    """A box for each input and call, and the pairs that are connected."""
    tensors = [*graph.inputs, *(tensor for tensor in graph.calls if not tensor.layer.is_input)]
    numbers = {id(tensor): index for index, tensor in enumerate(tensors)}
    called: dict[int, int] = {}
    boxes: list[Box] = []
    edges: list[tuple[int, int]] = []
    for index, tensor in enumerate(tensors):
        inputs = () if index < len(graph.inputs) else tensor.inputs
        call = called[id(tensor.layer)] = called.get(id(tensor.layer), 0) + 1
        box = _box(tensor, call, is_input=not inputs)
        sources = list(dict.fromkeys(numbers[id(source)] for source in inputs))
        box.rank = max((boxes[s].rank + 1 for s in sources), default=0)
        edges += [(source, index) for source in sources]
        boxes.append(box)
    for index in range(len(graph.inputs)):  # as near to their readers as can be
        box = boxes[index]
        box.rank = min((boxes[b].rank for a, b in edges if a == index), default=1) - 1
    return boxes, edges


def _box(tensor: Tensor, call: int, is_input: bool) -> Box:
    layer = tensor.layer
    shapes = [] if is_input else list(dict.fromkeys(_shape(one) for one in tensor.inputs))
    arrow = f"{', '.join(shapes)} → " if shapes and shapes != [_shape(tensor)] else ""
    name = tensor.name if call == 1 else f"{tensor.name} (call {call})"
    kind = "Input" if is_input else type(layer).__name__
    detail = f"{kind}  {arrow}{_shape(tensor)}"
    colour = "input" if is_input else "merge" if layer.merges else "weights" if layer._places else "other"
    width = max(len(name) * NAME_CHARACTER, len(detail) * DETAIL_CHARACTER) + 16
    return Box(name, detail, colour, width=max(width, 60.0))


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _path(first: Box, last: Box) -> list[Box]:
    """The boxes with a point for each rank between them; neighbours know each other."""
    points = [Box(rank=rank, width=LANE) for rank in range(first.rank + 1, last.rank)]
    path = [first, *points, last]
    for a, b in itertools.pairwise(path):
        a.below.append(b)
        b.above.append(a)
    return path


def _order(rows: list[list[Box]]) -> None:
    """Each row by the mean place of what its boxes are connected to, down and up; the order with fewest crossings stays."""
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(ORDER_SWEEPS):
        down = sweep % 2 == 0
        for row, other in zip(rows[1:], rows, strict=False) if down else zip(rows[-2::-1], rows[::-1], strict=False):
            place = {id(box): index for index, box in enumerate(other)}
            own = {id(box): index for index, box in enumerate(row)}
            row.sort(key=lambda box: _mean([place[id(b)] for b in (box.above if down else box.below)], own[id(box)]))
        count = _crossings(rows)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
    for row, kept in zip(rows, best, strict=True):
        row[:] = kept


def _mean(values: list, otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(rows: list[list[Box]]) -> int:
    total = 0
    for row, below in itertools.pairwise(rows):
        place = {id(box): index for index, box in enumerate(below)}
        ends = [sorted(place[id(b)] for b in box.below) for box in row]
        flat = [end for some in ends for end in some]
        total += sum(flat[i] > flat[j] for i in range(len(flat)) for j in range(i + 1, len(flat)))
    return total


def _place(rows: list[list[Box]]) -> None:
    """Boxes under what they are connected to, as far as their neighbours in the row let them."""
    for row in rows:
        _settle(row, [0.0] * len(row))
    for sweep in range(PLACE_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = [_mean([other.x for other in (*box.above, *box.below)], box.x) for box in row]
            _settle(row, wanted)


def _settle(row: list[Box], wanted: list[float]) -> None:
    """The places nearest to those wanted (least squares) at which no two boxes overlap: pooled neighbours."""
    shift = [0.0]
    for a, b in itertools.pairwise(row):
        shift.append(shift[-1] + (a.width + b.width) / 2 + COLUMN_GAP)
    pools: list[list[float]] = []  # sum of what is wanted, how many
    for value, offset in zip(wanted, shift, strict=True):
        pools.append([value - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    places = [total / count for total, count in pools for _ in range(int(count))]
    for box, place, offset in zip(row, places, shift, strict=True):
        box.x = place + offset


def _points(path: list[Box]) -> list[tuple[float, float]]:
    """What an edge runs through: beside a box it goes straight down."""
    points = [(path[0].x, path[0].y + BOX_HEIGHT)]
    for point in path[1:-1]:
        points += [(point.x, point.y), (point.x, point.y + BOX_HEIGHT)]
    return [*points, (path[-1].x, path[-1].y)]
