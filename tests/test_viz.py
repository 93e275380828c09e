"""Pictures: what is drawn where, in which form it is saved, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from parnet import viz
from parnet.errors import DataError, MissingExtraError, ShapeError, UnknownNameError

pytest.importorskip("matplotlib")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

pytestmark = pytest.mark.plot

OKABE_ITO = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000"}
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@dataclass
class Fitted:
    """What `fit` returns, as far as the plot looks."""

    history: dict
    epoch: list = field(default_factory=list)


def curves(epochs, *names):
    return {name: [1.0 / (i + e + 1) for e in range(epochs)] for i, name in enumerate(names)}


STANDARD = ("loss", "accuracy", "val_loss", "val_accuracy")


def test_loss_and_each_metric_get_a_panel_with_its_validation_curve():
    lists = curves(5, "accuracy", "val_accuracy", "val_loss", "loss", "top_k")
    figure = viz.plot_history(Fitted(lists))
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy (fraction)", "top k"]
    for ax, name in zip(figure.axes, ("loss", "accuracy", "top_k"), strict=True):
        drawn = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
        expected = {"training": lists[name], "validation": lists.get(f"val_{name}")}
        assert drawn == {kind: values for kind, values in expected.items() if values}
        assert [text.get_text() for text in ax.get_legend().get_texts()] == list(drawn)
        assert ax.get_xlabel() == "epoch"


@pytest.mark.parametrize("epochs", [1, 2, 7, 10, 25, 100, 999, 12345])
def test_epoch_ticks_are_whole_start_at_1_and_do_not_crowd(epochs):
    ax = viz.plot_history(curves(epochs, "loss")).axes[0]
    ticks = ax.get_xticks()
    assert ticks[0] == 1 and np.all(ticks == np.round(ticks)) and np.all(np.diff(ticks) > 0)
    assert min(epochs, 5) <= len(ticks) <= 12 and ticks[-1] <= epochs
    low, high = ax.get_xlim()
    assert low < 1 and high > epochs


def test_a_resumed_training_is_numbered_on():
    ax = viz.plot_history(Fitted(curves(3, "loss"), epoch=[5, 6, 7])).axes[0]
    assert ax.lines[0].get_xdata().tolist() == [6, 7, 8] == ax.get_xticks().tolist()


def test_curves_differ_in_safe_colours_and_also_in_dash_and_marker():
    training, validation = viz.plot_history(curves(3, *STANDARD)).axes[0].lines
    assert {to_hex(line.get_color()) for line in (training, validation)} <= OKABE_ITO
    for look in ("get_color", "get_linestyle", "get_marker"):
        assert getattr(training, look)() != getattr(validation, look)()


@pytest.mark.parametrize("epochs", [1, 100])
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_the_suffix_says_the_form(suffix, epochs, tmp_path):
    path = tmp_path / f"curves.{suffix}"
    viz.plot_history(curves(epochs, *STANDARD), path)
    assert path.read_bytes().startswith(MAGIC[suffix.lower()])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_nan_infinite_and_constant_values_are_drawn_without_a_warning(tmp_path):
    history = {"loss": [1.0, np.nan, np.inf], "val_loss": [np.nan] * 3, "accuracy": [0.5] * 3}
    viz.plot_history(history, tmp_path / "curves.png")


def test_given_axes_are_drawn_on_and_their_whole_figure_is_returned_and_saved(tmp_path):
    figure = Figure()
    left, right = figure.subfigures(1, 2)
    axes = left.subplots(1, 2)
    assert viz.plot_history(curves(2, *STANDARD), tmp_path / "a.png", ax=axes) is figure
    assert [len(ax.lines) for ax in axes] == [2, 2]
    ax = right.subplots()
    assert viz.show_pixels(np.eye(3), ax=ax, path=tmp_path / "b.png") is figure
    assert len(ax.texts) == 9 and len(list(tmp_path.iterdir())) == 2
    assert viz.plot_history(curves(2, "loss"), ax=Figure().subplots()).axes[0].lines


def test_axes_that_are_not_one_a_panel_are_refused():
    with pytest.raises(ShapeError, match=r"expected 2 axes \(for loss, accuracy\), received 1"):
        viz.plot_history(curves(2, *STANDARD), ax=Figure().subplots())


def test_pyplot_is_left_alone():
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    for figure in (viz.plot_history(curves(2, "loss")), viz.show_pixels(np.eye(2))):
        assert isinstance(figure.canvas, FigureCanvasAgg)
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    "history",
    [
        {},
        {"loss": []},
        Fitted({}),
        {"loss": [1.0, 2.0], "val_loss": [1.0]},
        {"loss": [[1.0], [2.0]]},
        {"loss": ["low", "lower"]},
        {"loss": 0.5},
        [1.0, 2.0],
        None,
    ],
    ids=["no names", "no epochs", "not fitted", "lengths", "2-D", "words", "a number", "a list", "None"],
)
def test_a_history_that_cannot_be_drawn_is_refused(history):
    with pytest.raises(DataError, match="plot_history: expected"):
        viz.plot_history(history)


@pytest.mark.parametrize("name", ["curves.bmp", "curves", ".png"])
def test_another_suffix_is_refused_before_anything_is_drawn(name, tmp_path):
    for draw, what in ((viz.plot_history, {}), (viz.show_pixels, np.zeros(3))):
        with pytest.raises(UnknownNameError, match=r"\.pdf, \.png, \.svg"):
            draw(what, path=tmp_path / name)


def tutorial_colour(image, value):
    return "white" if value < image.max() / 2.5 else "black"


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_each_cell_holds_its_value_white_on_dark_and_black_on_light(dtype):
    image = np.arange(0, 252, 6).reshape(6, 7).astype(dtype)
    ax = viz.show_pixels(image).axes[0]
    assert len(ax.texts) == image.size
    for text in ax.texts:
        column, row = text.get_position()
        assert text.get_text() == str(int(image[row, column]))
        assert text.get_color() == tutorial_colour(image, image[row, column])
    np.testing.assert_array_equal(ax.images[0].get_array(), image)
    assert ax.images[0].get_cmap().name == "gray"


def test_a_channel_axis_of_one_bools_and_lists_are_accepted():
    expected = ["0", "1", "1", "0"]
    for image in (
        np.array([[0, 1], [1, 0]])[..., None],
        np.array([[False, True], [True, False]]),
        [[0, 1], [1, 0]],
    ):
        assert [text.get_text() for text in viz.show_pixels(image).axes[0].texts] == expected


def test_fractions_are_rounded_to_two_decimals():
    image = np.array([[0.0, 0.12345, 1.0], [-0.001, 2 / 3, np.nan]])
    texts = [text.get_text() for text in viz.show_pixels(image).axes[0].texts]
    assert texts == ["0", "0.12", "1", "0", "0.67", "nan"]


@pytest.mark.parametrize(
    "image",
    [np.zeros((3, 3)), np.full((3, 3), 7), np.full((2, 2), -7.0), np.linspace(-10, 1, 64).reshape(8, 8)],
    ids=["zeros", "sevens", "minus sevens", "mostly negative"],
)
def test_every_number_stands_out_from_its_cell(image):
    ax = viz.show_pixels(image).axes[0]
    for text in ax.texts:
        column, row = text.get_position()
        grey = ax.images[0].norm(image[row, column])
        assert abs(to_rgb(text.get_color())[0] - grey) > 0.35


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (1, 30), (30, 1), (1, 1)])
def test_numbers_fit_into_their_cells(shape):
    figure = viz.show_pixels(np.full(shape, -0.25))
    figure.canvas.draw()
    ax = figure.axes[0]
    cell = ax.get_window_extent().width / shape[1]
    for text in (ax.texts[0], ax.texts[-1]):
        box = text.get_window_extent()
        assert 0.3 * cell < box.width < cell and box.height < cell


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3), (3, 3, 2), (0, 3), (1, 3, 3, 1), (200, 200)])
def test_a_picture_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError) as error:
        viz.show_pixels(np.zeros(shape))
    assert str(shape) in str(error.value) and "(h, w) or (h, w, 1)" in str(error.value)


@pytest.mark.parametrize("image", [[["a"]], [[1j]], [[None]]])
def test_a_picture_of_something_other_than_real_numbers_is_refused(image):
    with pytest.raises(DataError, match="real numbers"):
        viz.show_pixels(image)


def test_without_matplotlib_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw, what in ((viz.plot_history, curves(1, "loss")), (viz.show_pixels, np.eye(2))):
        with pytest.raises(MissingExtraError, match=r"pip install 'parnet\[plot\]'"):
            draw(what)


def pictures(figure):
    return [ax for ax in figure.axes if ax.images and ax.get_title()]


def test_each_filter_is_a_picture_on_a_scale_that_is_white_at_zero():
    kernel = np.random.default_rng(0).normal(size=(3, 2, 4, 6))
    shown = pictures(viz.show_filters(kernel, channel=1))
    assert [ax.get_title() for ax in shown] == list("012345")
    largest = np.abs(kernel[:, :, 1]).max()
    for number, ax in enumerate(shown):
        np.testing.assert_array_equal(ax.images[0].get_array(), kernel[:, :, 1, number])
        assert ax.images[0].get_clim() == (-largest, largest)
        assert to_hex(ax.images[0].to_rgba(0.0)) == "#ffffff"
    first = pictures(viz.show_filters(kernel))[0]
    np.testing.assert_allclose(first.images[0].get_array(), kernel[..., 0].mean(2))
    colours = {to_hex(first.images[0].cmap(place)) for place in (0.25, 0.75)}
    assert all(min(np.abs(np.subtract(to_rgb(c), to_rgb(o))).max() for o in OKABE_ITO) < 0.02 for c in colours)


def test_the_filters_of_a_layer_are_those_of_its_kernel():
    import parnet as pn

    model = pn.Sequential([pn.layers.Input((4, 4, 1)), pn.layers.Conv2D(3, 2)], seed=1)
    shown = pictures(viz.show_filters(model.layers[0]))
    np.testing.assert_array_equal(shown[2].images[0].get_array(), model.get_weights()[0][:, :, 0, 2])


@pytest.mark.parametrize("shape", [(5, 4, 1), (1, 5, 4, 7), (2, 30, 3), (14, 14, 64)], ids=str)
def test_each_feature_map_is_a_picture_on_one_scale(shape, tmp_path):
    maps = np.random.default_rng(0).random(shape)
    maps.flat[0] = np.nan
    shown = pictures(viz.show_feature_maps(maps, path=tmp_path / "maps.png"))
    assert len(shown) == shape[-1] and {ax.images[0].get_clim() for ax in shown} == {(0.0, np.nanmax(maps))}
    last = maps[..., -1].reshape(shape[-3:-1])
    np.testing.assert_array_equal(np.asarray(shown[-1].images[0].get_array()), last)
    assert (tmp_path / "maps.png").read_bytes().startswith(MAGIC["png"])


def test_nothing_but_zeros_can_be_drawn(tmp_path):
    viz.show_feature_maps(np.zeros((3, 3, 2)), path=tmp_path / "a.svg")
    viz.show_filters(np.zeros((3, 3, 1, 2)), path=tmp_path / "b.pdf")


@pytest.mark.parametrize(
    "draw, error, words",
    [
        (lambda: viz.show_filters(np.zeros((3, 3, 2))), ShapeError, r"expected a kernel .*received \(3, 3, 2\)"),
        (lambda: viz.show_filters(np.zeros((3, 3, 2, 0))), ShapeError, "expected a kernel"),
        (lambda: viz.show_filters(np.zeros((1, 1, 1, 300))), ShapeError, "at most 256 filters, received 300"),
        (lambda: viz.show_filters(np.zeros((3, 3, 2, 4)), channel=2), ShapeError, "a channel of 2, from 0, received 2"),
        (lambda: viz.show_filters(np.zeros((3, 3, 2, 4)), channel="red"), ShapeError, "received 'red'"),
        (lambda: viz.show_filters("kernel"), DataError, "real numbers"),
        (lambda: viz.show_feature_maps(np.zeros((2, 3, 3, 2))), ShapeError, r"maps of one image .*pass maps\[0\]"),
        (lambda: viz.show_feature_maps([[1, 2], [3]]), DataError, "real numbers"),
        (lambda: viz.show_feature_maps(np.zeros((2, 2, 2), complex)), DataError, "complex"),
        (lambda: viz.show_feature_maps(np.zeros((2, 2, 2)), path="a.bmp"), UnknownNameError, "show_feature_maps: suffix"),
        (lambda: viz.show_filters(np.zeros((2, 2, 2, 2)), path="a"), UnknownNameError, "show_filters: suffix"),
    ],
)
def test_what_cannot_be_drawn_as_maps_is_refused(draw, error, words):
    with pytest.raises(error, match=words):
        draw()
