"""The picture of a model: a box for each call, an arrow for each connection, nothing on top of anything."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

import parnet as pn
from parnet import layers as L
from parnet.diagram import BOX_HEIGHT
from parnet.errors import StateError, UnknownNameError

SPACE = "{http://www.w3.org/2000/svg}"


def blocks(n, width=6):
    """A network of n residual blocks, the first with a layer on its short cut."""
    x = inputs = pn.Input((4,), name="start")
    for k in range(n):
        short = L.Dense(width, name=f"short{k}")(x) if k == 0 else x
        y = L.Activation("relu", name=f"relu{k}")(L.Dense(width, name=f"a{k}")(x))
        x = L.Add(name=f"sum{k}")([short, L.Dense(width, name=f"b{k}")(y)])
    return pn.Model(inputs, L.Dense(3, name="end")(x), name="blocks & <more>")


def shared():
    a, b, layer = pn.Input((4,), name="a"), pn.Input((4,), name="b"), L.Dense(3, name="twice")
    return pn.Model([a, b], L.Concatenate(name="both")([layer(a), layer(b), a]))


MODELS = {
    "one block": lambda: blocks(1),
    "forty blocks": lambda: blocks(40),
    "shared": shared,
    "chain": lambda: pn.Sequential([L.Input((4,)), L.Dense(3), L.Dense(2)]),
    "chain without Input": lambda: pn.Sequential([L.Dense(3, input_shape=(4,)), L.Dense(2)]),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def rectangle(box):
    return box.x - box.width / 2, box.y, box.x + box.width / 2, box.y + BOX_HEIGHT


@every_model
def test_boxes_lie_apart_inside_the_picture_and_below_what_they_read(make):
    diagram = pn.viz.plot_model(make())
    for box in diagram.boxes:
        x1, y1, x2, y2 = rectangle(box)
        assert 0 < x1 < x2 < diagram.width and 0 < y1 < y2 < diagram.height
        assert all(other.y > box.y for other in box.below)
    for one, two in itertools.combinations(diagram.boxes, 2):
        (a1, b1, a2, b2), (c1, d1, c2, d2) = rectangle(one), rectangle(two)
        assert a2 <= c1 or c2 <= a1 or b2 <= d1 or d2 <= b1, f"{one.name} lies on {two.name}"


@every_model
def test_edges_join_the_boxes_and_pass_beside_all_others(make):
    model = make()
    diagram = pn.viz.plot_model(model)
    ends = {(round(box.x, 6), round(box.y + BOX_HEIGHT, 6)): box.name for box in diagram.boxes}
    starts = {(round(box.x, 6), round(box.y, 6)): box.name for box in diagram.boxes}
    drawn = {(ends[tuple(round(v, 6) for v in e[0])], starts[tuple(round(v, 6) for v in e[-1])]) for e in diagram.edges}
    for edge in diagram.edges:
        for x, y in edge[1:-1]:
            for x1, y1, x2, y2 in map(rectangle, diagram.boxes):
                assert not (x1 < x < x2 and y1 <= y <= y2), f"an edge runs through a box at {x:.0f}, {y:.0f}"
    calls = [t for t in model.graph.calls if not t.layer.is_input]
    assert len(diagram.edges) == sum(len(set(map(id, t.inputs))) for t in calls)
    assert {b.removesuffix(" (call 2)") for _, b in drawn} == {t.name for t in calls}


def test_the_edges_are_those_of_the_model():
    diagram = pn.viz.plot_model(shared())
    found = {(a.name, b.name) for a in diagram.boxes for b in a.below if b.name}
    assert found >= {("a", "twice"), ("b", "twice (call 2)"), ("twice", "both"), ("twice (call 2)", "both")}
    assert len(diagram.edges) == 5


def test_the_svg_is_well_formed_and_says_names_kinds_and_shapes(tmp_path):
    diagram = pn.viz.plot_model(blocks(2), tmp_path / "model.svg")
    text = (tmp_path / "model.svg").read_text(encoding="utf-8")
    assert text == diagram.svg() == diagram._repr_svg_()
    root = ElementTree.fromstring(text.encode())
    words = [element.text for element in root.iter(f"{SPACE}text")]
    assert {"start", "a0", "sum1", "end"} <= set(words) and len(words) == 2 * len(diagram.boxes)
    assert {"Input  (4)", "Dense  (4) → (6)", "Add  (6)", "Dense  (6) → (3)"} <= set(words)
    assert root.find(f"{SPACE}title").text == "blocks & <more>"
    assert len(root.findall(f"{SPACE}path")) == len(diagram.edges)
    assert float(root.get("width")) == pytest.approx(diagram.width, abs=1)
    assert not re.search(r"nan|inf(?!o)", text.lower())


def test_a_short_cut_is_straight_where_nothing_is_in_its_way():
    """A chain stands in one column."""
    diagram = pn.viz.plot_model(pn.Sequential([L.Input((4,)), L.Dense(3), L.Dense(200), L.Dense(2)]))
    assert max(box.x for box in diagram.boxes) - min(box.x for box in diagram.boxes) < 1


@pytest.mark.plot
@pytest.mark.parametrize("suffix, magic", [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_matplotlib_saves_the_same_picture_as_png_and_pdf(suffix, magic, tmp_path):
    pytest.importorskip("matplotlib")
    diagram = pn.viz.plot_model(shared(), tmp_path / f"model.{suffix}")
    assert (tmp_path / f"model.{suffix}").read_bytes().startswith(magic)
    (ax,) = diagram.figure().axes
    assert {text.get_text() for text in ax.texts} == {word for box in diagram.boxes for word in (box.name, box.detail)}
    assert len(ax.patches) == len(diagram.boxes) + len(diagram.edges)


def test_a_suffix_or_a_model_that_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(
        UnknownNameError, match=r"plot_model: suffix of path: expected one of .pdf, .png, .svg; received '.gif'"
    ):
        pn.viz.plot_model(shared(), tmp_path / "model.gif")
    with pytest.raises(StateError, match="the input's shape is not known"):
        pn.viz.plot_model(pn.Sequential([L.Dense(3)]))
    assert not list(tmp_path.iterdir())
