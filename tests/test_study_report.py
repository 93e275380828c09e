"""Pictures, reports and words of studies: what they show, and that a page needs nothing but itself."""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import studies

from parnet import figures
from parnet.errors import DataError, UnknownNameError
from parnet.study import contents, drawing, markup, plots, prediction_plot, report
from parnet.study.laws import amdahl
from parnet.study.statistics import Estimate
from parnet.study.ways import Chosen

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

pytestmark = [pytest.mark.plot, pytest.mark.study]

OKABE_ITO = {"#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442"}


def servers(*counts):
    return [Chosen("parameter-server", "ParameterServer", count) for count in counts]


@pytest.fixture(scope="module")
def strong():
    """Two networks, threads and servers, with accuracies."""

    def time(point):
        return float(1 / amdahl(point.workers, 0.08)) * (1.2 if point.kind == "ParameterServer" else 1)

    made = studies.study(time, [*studies.threads(1, 2, 4, 8), *servers(1, 2, 4)], networks=("mlp", "cnn<&>"), target=0.9)
    for run in made.runs:
        run["curve"] = [((k + 1) * run["epochs_s"][0], 1 - 0.5 ** (k + 1)) for k in range(5)]
    return made


@pytest.fixture(scope="module")
def weak():
    return studies.study(lambda p: 1 + 0.02 * (p.workers - 1), studies.threads(1, 2, 4, 8, 16), kind="weak")


@pytest.fixture(scope="module")
def sweep():
    return studies.study(
        lambda p: 0.5 / p.workers + 0.5 + 40 * (p.workers > 1) / p.batch, studies.threads(1, 2), batches=(32, 256, 2048)
    )


# -- pictures ---------------------------------------------------------------------------------------


def test_speedup_is_drawn_with_ideal_line_intervals_and_laws(strong):
    axes = strong.plot(kind="speedup").axes
    assert [ax.get_title() for ax in axes] == ["mlp, batch 256", "cnn<&>, batch 256"]
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels[:3] == ["ideal", "threads", "parameter-server"] and {"threads, Amdahl", "threads, USL"} <= set(labels)
    bars = {container.get_label(): container for container in axes[0].containers}
    result = strong.curves("mlp", 256)["threads"][-1]
    assert bars["threads"][0].get_ydata()[-1] == result.speedup.value
    low, high = bars["threads"][2][0].get_segments()[-1][:, 1]
    assert (low, high) == pytest.approx((result.speedup.low, result.speedup.high))


@pytest.mark.parametrize("name", ["strong", "weak", "sweep"])
def test_legends_lie_beneath_the_axes_so_that_they_cover_nothing(name, request):
    """No point, interval, law, tick or axis's name, in any picture, and they stay in the picture."""
    study = request.getfixturevalue(name)
    for kind in plots.all_kinds(study):
        figure = study.plot(kind=kind)
        figure.draw_without_rendering()
        areas = [(ax.get_window_extent(), ax.xaxis.get_tightbbox(), ax.get_legend()) for ax in figure.axes]
        assert kind == "strategies" or all(legend is not None for *_, legend in areas)
        for own, _, legend in areas:
            if legend is None:
                continue
            box = legend.get_window_extent()
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0, kind
            for inside, written, another in areas:
                assert not box.overlaps(inside) and not box.overlaps(written), kind
                assert another is legend or another is None or not box.overlaps(another.get_window_extent()), kind
            assert own.height > 0.45 * PANEL_PIXELS, kind


#: height of a panel in a picture's own pixels
PANEL_PIXELS = 100 * drawing.PANEL[1]


def test_predictions_run_through_the_measured_points_and_past_the_machines_cores(strong, weak):
    pytest.importorskip("simpy")
    ax = strong.plot(kind="prediction", network="mlp").axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    bars = {container.get_label(): container for container in ax.containers}
    for strategy, members in strong.curves("mlp", 256).items():
        line = lines[f"{strategy}, predicted"]
        found = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
        assert max(found) == 16 * max(r.point.workers for r in members) > strong.machine["cores_usable"]
        assert line.get_color() == bars[f"{strategy}, measured"][0].get_color()
        for result in members:
            assert found[result.point.workers] == pytest.approx(result.speedup.value, rel=0.1)
    assert max(lines["threads, predicted"].get_ydata()) == pytest.approx(amdahl(128, 0.08), rel=0.15)
    head, rows = prediction_plot.prediction_rows(weak)
    assert [row[head.index("workers")] for row in rows] == [str(2**k) for k in range(9)]
    assert [row[-1] != markup.NOTHING for row in rows] == [True] * 5 + [False] * 4


def test_noise_is_not_extrapolated():
    pytest.importorskip("simpy")
    made = studies.study(lambda p: 1 / p.workers, studies.threads(1, 2))
    assert plots.missing(made, "prediction") == ""
    for number, run in enumerate(made.runs):
        run["epochs_s"] = [run["epochs_s"][0] * (1 + number % 5)]
    noisy = type(made)(made._records)
    assert "measure on a quiet machine" in plots.missing(noisy, "prediction")
    assert prediction_plot.prediction_rows(noisy)[1] == []


def test_without_simpy_a_report_goes_without_predictions(strong, tmp_path, monkeypatch):
    pytest.importorskip("simpy")
    assert "## More workers than there are" in strong.report(tmp_path / "with.md").read_text(encoding="utf-8")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "simpy" else find(name, *more))
    assert "prediction" not in plots.all_kinds(strong) and "parnet[study]" in plots.missing(strong, "prediction")
    assert "More workers" not in strong.report(tmp_path / "without.md").read_text(encoding="utf-8")


def test_stacked_bars_add_up_to_the_epoch(strong):
    ax = strong.plot(kind="time", network="mlp").axes[0]
    tops = np.zeros(8)
    for container in ax.containers:
        tops += [bar.get_height() for bar in container]
    assert tops == pytest.approx([r.epoch.value for r in strong.groups["mlp", 256]], rel=0.01)


@pytest.mark.parametrize("kind", plots.KINDS)
def test_every_kind_is_drawn_or_refused_with_the_reason(strong, weak, sweep, kind, tmp_path):
    path = tmp_path / f"{kind}.png"
    for made in (strong, weak, sweep):
        reason = plots.missing(made, kind)
        if reason:
            with pytest.raises(DataError, match=re.escape(reason)):
                made.plot(path, kind)
        else:
            made.plot(path, kind)
            assert path.stat().st_size > 2000
            path.unlink()


@pytest.mark.parametrize("suffix, magic", [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_are_vectors_where_they_are_wanted(weak, suffix, magic, tmp_path):
    weak.plot(tmp_path / f"speedup.{suffix}")
    assert (tmp_path / f"speedup.{suffix}").read_bytes().startswith(magic)


def test_a_study_of_one_count_is_drawn_side_by_side():
    made = studies.study(lambda p: 1.0, studies.threads(1))
    assert plots.default_kind(made) == "strategies" and made.plot().axes[0].get_ylabel().startswith("epoch")


def test_strategies_differ_in_safe_colours_markers_and_dashes():
    found = drawing.looks([str(k) for k in range(6)])
    assert {look["color"].lower() for look in found.values()} <= OKABE_ITO
    assert len({(look["marker"], look["color"]) for look in found.values()}) == 6
    assert len({look["marker"] for look in found.values()}) == 6


def test_wrong_kinds_networks_and_suffixes_are_refused(strong, tmp_path):
    for more in ({"kind": "pie"}, {"kind": "time", "network": "rnn"}, {"path": tmp_path / "a.bmp"}):
        with pytest.raises(UnknownNameError):
            strong.plot(**more)


# -- reports ----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Counts tags and keeps the addresses that a page asks for."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.addresses, self.alts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("img", "meta", "br", "link"):
            self.open.append(tag)
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href") if name in found]
        self.alts += [found.get("alt")] if tag == "img" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def test_the_page_holds_everything_and_asks_nothing_of_the_network(strong, tmp_path):
    path = strong.report(tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.addresses) == len(plots.all_kinds(strong)) and all(page.alts)
    for address in page.addresses:
        kind, _, body = address.partition(",")
        assert kind == "data:image/svg+xml;base64" and base64.b64decode(body).startswith(b"<?xml")
    assert "url(" not in report.STYLE and "cnn&lt;&amp;&gt;" in text and "cnn<" not in text
    for result in strong.results:
        assert markup.interval(result.speedup) in text or result.point.kind == "Serial"
        assert all(f"{time:.6g}" in text for time in result.times)
    plain = html.unescape(text).replace("\xa0", " ")
    for line in (*contents.method(strong), *(line for lines in contents.bare_findings(strong).values() for line in lines)):
        assert f"<li>{line}</li>" in plain
    assert "Imaginary CPU" in text and "32K" in text


def test_every_number_can_be_traced_to_the_raw_times_and_records(strong, tmp_path):
    """All epochs of all runs stand in the page and in the Markdown, and the records themselves in the page."""
    made = studies.study(lambda p: 1 / p.workers, studies.threads(2), repeats=2)
    for k, run in enumerate(made.runs):
        run["epochs_s"] = [1.25 + k, 2.5 + k, 1.75 + k]
    page = made.report(tmp_path / "r.html").read_text(encoding="utf-8")
    markdown = made.report(tmp_path / "r.md").read_text(encoding="utf-8")
    for result in made.results:
        mine = [run["epochs_s"] for run in made.runs if run["point"] == result.point.config()]
        listed = "; ".join(", ".join(f"{t:g}" for t in times) for times in mine)
        assert f">{listed}</td>" in page and f"| {listed} |" in markdown
    records = html.unescape(page.partition("a run a line")[2].partition("<pre>")[2].partition("</pre>")[0])
    assert [json.loads(line) for line in records.splitlines()] == made.runs


def test_counts_of_one_are_singular(tmp_path):
    made = studies.study(lambda p: 1.0, [], repeats=1)
    text = made.report(tmp_path / "r.md").read_text(encoding="utf-8")
    assert "1 run of 1 configuration on" in text and "- 1 configuration, 1 run each." in text


def test_one_bad_run_does_not_flatten_a_picture():
    """Its bar is cut off, and says how far it goes."""
    made = studies.study(lambda p: 1 / p.workers, [*studies.threads(1, 2), *servers(1, 2)], repeats=3, noise=0.0)
    next(run for run in made.runs if run["point"]["kind"] == "Threads")["epochs_s"] = [50.0]
    next(run for run in made.runs if run["point"]["kind"] == "Serial")["epochs_s"] = [60.0]
    for kind, end in (("strategies", 1.5), ("speedup", 3.0), ("efficiency", 150.0)):
        ax = made.plot(None, kind).axes[0]
        assert ax.get_ylim() == pytest.approx((0, end)), kind
        assert any(text.get_text().startswith("↑") for text in ax.texts), kind
    quiet = studies.study(lambda p: 1 / p.workers, studies.threads(1, 2)).plot(None, "strategies").axes[0]
    assert not any("↑" in text.get_text() for text in quiet.texts)


def test_the_same_study_makes_the_same_page(weak, tmp_path):
    first, second = (weak.report(tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_markdown_and_latex_hold_the_tables(strong, tmp_path):
    markdown = strong.report(tmp_path / "r.md").read_text(encoding="utf-8")
    assert strong.table("markdown") in markdown and "## Machine" in markdown and "## Laws" in markdown
    latex = strong.report(tmp_path / "r.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 3 and not re.search(r"(?<!\\)[&%]\s*\w+%", latex)
    with pytest.raises(UnknownNameError, match=r"\.html, \.md, \.tex"):
        strong.report(tmp_path / "r.docx")


# -- words ------------------------------------------------------------------------------------------


def said(made):
    return "\n".join(made.findings())


def test_a_constant_karp_flatt_number_is_called_a_serial_part(strong):
    assert re.search(r"mlp, threads: the Karp-Flatt number stays .* a serial part limits", said(strong))
    assert re.search(r"by Amdahl's law 8\.\d % of the work is serial", said(strong))


def test_a_rising_karp_flatt_number_is_called_overhead():
    made = studies.study(lambda p: 1 / p.workers + 0.02 * p.workers, studies.threads(1, 2, 4, 8))
    assert "the Karp-Flatt number rises" in said(made) and re.search(r"it peaks at \d+ workers", said(made))


def test_what_one_worker_costs_is_said(strong):
    assert re.search(r"parameter-server: one worker takes (19|20|21) % more time than serial", said(strong))


def test_serial_is_named_where_it_wins_and_super_linear_speedup_is_doubted():
    slow = studies.study(lambda p: 1.0 + 0.5 * (p.workers > 1), studies.threads(2))
    assert "serial is the fastest" in said(slow) and "slower than serial with 2 threads" in said(slow)
    assert "here parallel work does not pay" in said(slow)
    level = studies.study(lambda p: 1.0 + 0.002 * (p.workers > 1), studies.threads(2))
    assert "does not pay" not in said(level) and "threads with 2 threads may be as fast" in said(level)
    fast = studies.study(lambda p: 1 / p.workers**1.4, studies.threads(2, 4))
    assert "more than linear speedup" in said(fast)


def test_the_crossover_of_a_sweep_is_found(sweep):
    assert "threads with 2 threads loses to serial at batch 32 and wins at batch 256" in said(sweep)


def test_the_first_to_the_accuracy_is_named(strong):
    assert "threads with 8 threads is the first to reach an accuracy of 0.9" in said(strong)


# -- doubts -----------------------------------------------------------------------------------------


def doubted(made):
    return "\n".join(made.warnings())


def test_a_quiet_study_has_no_warning(strong):
    assert strong.warnings() == []


@pytest.mark.parametrize(
    "change, words",
    [
        ({"cores_usable": 2}, "Up to 4 workers shared 2 usable cores"),
        ({"cores_physical": 2}, "Up to 4 workers ran on 2 physical cores"),
        ({"quota": 1.5}, "1.5 cores' worth of time"),
        ({"governor": "powersave"}, "frequency follows the load"),
        ({"boost": True}, "boost"),
    ],
)
def test_what_the_machine_spoils_is_said(change, words, monkeypatch):
    made = studies.study(lambda p: 1 / p.workers, studies.threads(1, 2, 4))
    made._records.machine = studies.MACHINE | change
    assert words in doubted(made)


def test_noise_load_drift_and_short_epochs_are_said():
    noisy = studies.study(lambda p: 1.0, studies.threads(2), noise=0.3)
    assert "is wider than 20 % of the time for 2 of 2" in doubted(
        noisy
    ) and "cannot be told from these runs: mlp, threads with 2 threads" in doubted(noisy)
    loaded = studies.study(lambda p: 1.0, studies.threads(2))
    loaded.runs[0]["other_cores"] = 1.5
    assert "Other processes used up to 1.5 cores during 1 of 10 runs" in doubted(loaded)
    assert "too short to be timed well" in doubted(studies.study(lambda p: 0.001, []))
    drifting = studies.study(lambda p: 1.0, studies.threads(2))
    for run in drifting.runs:
        run["epochs_s"] = [1 + 0.1 * run["round"]]
    assert re.search(r"The machine became \d+ % slower", doubted(drifting))


def test_a_group_without_its_serial_run_is_drawn_and_one_core_is_a_number():
    """As a killed study leaves it: its speedups are not known."""
    ax = figures.new_figure("a test", 4, 3).subplots()
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    some = Estimate(1.5, 1.4, 1.6)
    assert drawing.cut_off(ax, [(0, nothing, "red"), (1, some, "red")], 1.0) == np.inf
    assert drawing.cut_off(ax, [(0, nothing, "red")], 1.0) == np.inf
    assert contents._known({"cores_usable": 1, "governed": True}, "cores_usable") == "1"
    assert contents._known({"governed": True}, "governed") == "on"
