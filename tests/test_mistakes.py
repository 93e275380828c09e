"""Pictures of mistakes: what is drawn is what was counted."""

from __future__ import annotations

import numpy as np
import pytest

import parnet as pn
from parnet.errors import DataError, ShapeError, UnknownNameError

pytest.importorskip("matplotlib", reason="needs matplotlib")
pytestmark = pytest.mark.plot

TRUTH = np.array([0, 0, 1, 1, 1, 2])
TAKEN = np.array([0, 1, 1, 1, 1, 0])
OUTPUTS = np.array([[0.9, 0.1, 0], [0.3, 0.6, 0.1], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0.8, 0.1, 0.1]])
COUNTS = [[1, 1, 0], [0, 3, 0], [1, 0, 0]]


def cells(figure):
    """{(row, column): text} of the first axes."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in figure.axes[0].texts}


@pytest.mark.parametrize("given", [(COUNTS,), (TRUTH, TAKEN), (TRUTH, OUTPUTS), (np.eye(3)[TRUTH], OUTPUTS)])
def test_the_confusion_matrix_holds_the_counts(given, tmp_path):
    figure = pn.viz.plot_confusion_matrix(*given, names=["cat", "dog", "ship"], path=tmp_path / "c.svg")
    assert cells(figure) == {(i, j): str(n) for i, row in enumerate(COUNTS) for j, n in enumerate(row) if n}
    assert figure.axes[0].get_title() == "6 samples, 66.67 % right"
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["cat", "dog", "ship"]
    assert (tmp_path / "c.svg").stat().st_size > 1000


def test_many_classes_are_drawn_without_numbers_and_the_metric_fits():
    figure = pn.viz.plot_confusion_matrix(np.eye(60))
    assert not cells(figure)
    assert pn.viz.plot_confusion_matrix(np.zeros((2, 2))).axes[0].get_title().startswith("0 samples")
    assert cells(pn.viz.plot_confusion_matrix([0, 1, 1], [[0.2], [0.7], [0.4]])) == {(0, 0): "1", (1, 1): "1", (1, 0): "1"}


def test_misclassified_images_come_surest_first_and_say_what_they_are():
    images = np.arange(6 * 4).reshape(6, 2, 2)
    figure = pn.viz.show_misclassified(images, TRUTH, OUTPUTS)
    assert [ax.get_title() for ax in figure.axes] == ["0 for 2\n#5", "1 for 0\n#1"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[5])
    figure = pn.viz.show_misclassified(images[..., None], TRUTH, TAKEN, most=1, names="abc")
    assert [ax.get_title() for ax in figure.axes] == ["b for a\n#1"]
    figure = pn.viz.show_misclassified(np.zeros((6, 2, 2, 3)), TRUTH, TRUTH)
    assert not figure.axes and figure.get_suptitle() == "0 of 6 images taken for another class"


REFUSED = {
    "a rectangle": (lambda: pn.viz.plot_confusion_matrix(np.ones((2, 3))), ShapeError, r"\(classes, classes\)"),
    "a negative count": (lambda: pn.viz.plot_confusion_matrix([[1, -1], [0, 1]]), DataError, "0 or more, received -1"),
    "fractions": (lambda: pn.viz.plot_confusion_matrix([0.5, 1], [0, 1]), DataError, "class numbers from 0"),
    "lengths": (lambda: pn.viz.plot_confusion_matrix([0, 1], [0]), DataError, "received 1 and 2"),
    "names": (lambda: pn.viz.plot_confusion_matrix(COUNTS, names=["a"]), DataError, "expected 3 names"),
    "a suffix": (
        lambda: pn.viz.plot_confusion_matrix(COUNTS, path="c.jpg"),
        UnknownNameError,
        "plot_confusion_matrix: suffix",
    ),
    "images": (lambda: pn.viz.show_misclassified(np.ones((2, 3)), [0, 1], [1, 1]), ShapeError, "images"),
    "image count": (lambda: pn.viz.show_misclassified(np.ones((3, 2, 2)), [0, 1], [1, 1]), DataError, "as many images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_refused(name):
    attempt, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        attempt()
