"""The measurements' pure parts: statistics, targets, results file and tables, and what the flag collects."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import results, timing, workers
from bench.fingerprint import KEYS, fingerprint, slug
from bench.results import Record, Results
from bench.targets import TARGETS, meets
from parnet.cli import main
from parnet.errors import DataError, DatasetError, FileFormatError
from parnet.study import bench_plots, benchmarks
from parnet.study import bench_tables as tables

ROOT = Path(__file__).parent.parent
MACHINE = {
    "cpu": "Imaginary(R) CPU @ 1.00GHz",
    "cores_usable": 2,
    "cores_logical": 4,
    "simd": "avx2",
    "os": "Linux 1 x86_64",
    "parnet": "0.1.0",
    "commit": "abc1234",
    "date": "2026-01-02T03:04:05+00:00",
}


@pytest.fixture
def filled(tmp_path):
    """A results file with a figure that reaches its target, one that does not, and one without."""
    made = Results(MACHINE, tmp_path / "2026-01-02-imaginary.json")
    made.add(Record.of("peak memory", "startup", 400.0, "MiB", "peak memory", note="made up"))
    made.add(Record.of("N1, parnet / fastest peer", "epochs", 0.4, "", "N1 / fastest peer", ratio=0.4, against="jax"))
    made.add(Record.of("N1, one thread", "epochs", timing.summarize([2.0, 3.0, 4.0]), "us/sample", other_cpu=0.1))
    made.peer("jax scan, 1 thread", "jax 1.2.3")
    made.peer("keras fn, 1 thread", "not installed")
    return made


# -- statistics -------------------------------------------------------------------------------------


def test_summary_gives_median_minimum_quartile_distance_and_count():
    summary = timing.summarize([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (summary.median, summary.minimum, summary.spread, summary.samples) == (3.0, 1.0, 2.0, 5)


def test_summary_leaves_out_what_failed_and_survives_nothing():
    assert timing.summarize([math.nan, 2.0]).samples == 1
    assert math.isnan(timing.summarize([math.nan]).median) and timing.summarize([]).samples == 0


def test_ratio_is_taken_round_by_round():
    assert timing.ratio([1.0, 20.0, 3.0], [2.0, 40.0, 6.0]).median == 0.5
    with pytest.raises(ValueError):
        timing.ratio([1.0], [1.0, 2.0])


def test_contenders_run_in_turn_and_warm_up_rounds_are_left_out():
    calls = []

    def contender(name):
        def run():
            calls.append(name)
            return float(len(calls))

        return run

    times = timing.in_turn({name: contender(name) for name in "ab"}, rounds=2, warmups=1)
    assert calls == list("ababab")
    assert times == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


# -- targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "reached", "missed"),
    [("<= 0.45", 0.45, 0.46), (">= 1.3", 1.3, 1.29), ("< 5", 4.9, 5.0), ("0.960 +- 0.004", 0.964, 0.9641)],
)
def test_target_is_met_up_to_its_bound(target, reached, missed):
    assert meets(target, reached) and not meets(target, missed) and not meets(target, math.nan)


def test_every_target_can_be_read_and_others_are_refused():
    assert all(meets(text, 0.5) in (True, False) for text in TARGETS.values())
    with pytest.raises(ValueError, match="about one"):
        meets("about one", 1.0)


def test_target_of_a_ratio_is_held_against_the_ratio():
    record = Record.of("forward", "products", 150.0, "GFLOP/s", "small product / OpenBLAS", ratio=1.2, against="OpenBLAS")
    assert record.target == ">= 1.3" and record.meets is False


# -- the file ---------------------------------------------------------------------------------------


def test_file_is_complete_after_every_record(filled):
    content = json.loads(filled.path.read_text())
    assert [r["name"] for r in content["records"]] == [
        "peak memory",
        "N1, parnet / fastest peer",
        "N1, one thread",
    ]
    assert content["machine"] == MACHINE and content["peers"]["jax scan, 1 thread"] == "jax 1.2.3"
    wanted = {"name", "value", "unit", "median", "spread", "samples", "ratio", "target", "meets"}
    assert all(wanted <= set(record) for record in content["records"])
    assert [p.name for p in filled.path.parent.iterdir()] == [filled.path.name]


def test_record_measured_again_takes_the_old_ones_place(filled):
    again = Results(MACHINE | {"commit": "def5678"}, filled.path)
    again.add(Record.of("peak memory", "startup", 300.0, "MiB", "peak memory"))
    records = {r.name: r for r in results.read(filled.path)["records"]}
    assert len(records) == 3
    assert records["peak memory"].meets and records["peak memory"].commit == "def5678"
    assert records["N1, one thread"].commit == "abc1234"


def test_missing_values_are_null_in_the_file_and_nan_in_memory(tmp_path):
    made = Results(MACHINE, tmp_path / "a.json")
    made.add(Record.of("x", "epochs", timing.summarize([math.nan]), "s"))
    assert "NaN" not in made.path.read_text()
    assert math.isnan(results.read(made.path)["records"][0].value)


def test_newest_file_is_that_of_the_latest_date(tmp_path):
    with pytest.raises(DatasetError, match="pytest --benchmark"):
        benchmarks.newest(tmp_path)
    for name, day in (("z", "2026-01-01"), ("a", "2026-02-01")):
        Results(MACHINE | {"date": day}, tmp_path / f"{name}.json").write()
    assert benchmarks.newest(tmp_path).name == "a.json"


# -- tables -----------------------------------------------------------------------------------------


def test_report_shows_values_targets_notes_and_peers(filled):
    text = tables.report(results.read(filled.path))
    assert text.index("epochs\n") < text.index("startup\n")
    line = next(line for line in text.splitlines() if line.startswith("peak memory  "))
    assert "400" in line and "< 350" in line and "NO" in line
    assert "peak memory: made up" in text and "peer keras fn, 1 thread: not installed" in text
    assert "Imaginary(R) CPU" in text


def test_readme_gets_the_figures_between_its_markers(filled, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    assert main(["report", str(filled.path), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- figures -->\n| |") and text.endswith("<!-- /figures -->\nafter\n")
    assert "old" not in text and "Imaginary(R) CPU" in text and "2026-01-02" in text
    assert "| N1, parnet / fastest peer | 0.4 | jax | 0.4 | <= 0.45 | yes |" in text
    assert "| peak memory | 400 MiB |" in text and "**no**" in text and "N1, one thread" not in text
    assert "N1, one thread" in capsys.readouterr().out
    again = readme.read_text()
    tables.write_figures(readme, tables.figures(results.read(filled.path)))
    assert readme.read_text() == again


def test_details_are_a_matrix_of_ratios_by_row_and_column(filled, tmp_path):
    for name, share in (("3x3, forward, one", 0.854), ("3x3, forward, two", 0.7), ("1x1, forward, one", 0.5)):
        filled.add(Record(name, "convolutions", 100.0, "GFLOP/s", ratio=share, against="peak", target=">= 0.8", detail=True))
    content = results.read(filled.path)
    rows = [["", "forward, one", "forward, two"], ["3x3", "0.85", "0.70"], ["1x1", "0.50", ""]]
    assert tables.matrix(content["records"]) == rows
    assert "     forward  forward\n         one      two\n3x3     0.85     0.70\n1x1     0.50" in tables.report(content)
    text = tables.figures(content)
    assert "| 3x3, forward" not in text and "fraction of the peak</summary>" in text
    assert "|  | forward<br>one | forward<br>two |\n|---|---:|---:|\n| 3x3 | 0.85 | 0.70 |\n| 1x1 | 0.50 |  |" in text


def test_readme_without_markers_is_left_alone_and_said_so(filled, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("no place")
    assert main(["report", str(filled.path), "--readme", str(readme)]) == 2
    assert "<!-- figures -->" in capsys.readouterr().err and readme.read_text() == "no place"


# -- machine and workers ----------------------------------------------------------------------------


def test_fingerprint_has_its_keys_and_can_be_written():
    machine = fingerprint()
    assert set(machine) == set(KEYS)
    assert machine["cpu"] and machine["simd"] and machine["numpy"]
    json.dumps(machine)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.50GHz", "intel-xeon-2.50ghz"),
        ("AMD EPYC 7B13 64-Core Processor", "amd-epyc-7b13-64-core"),
        ("///", "unknown"),
    ],
)
def test_file_name_of_a_processor_is_plain(model, expected):
    assert slug(model) == expected


def test_reason_of_a_failure_is_the_exception_without_folders():
    errors = "Traceback\n  File /some/where/a.py\nImportError: no /some/where/lib.so here\nsee the manual\n"
    assert workers.reason_in(errors) == "ImportError: no lib.so here"
    assert workers.reason_in("") == "ended without a word"


def test_missing_peer_is_named_and_not_fatal(monkeypatch, tmp_path):
    monkeypatch.setenv("PARNET_PEER_JAX", str(tmp_path / "no-such-python"))
    monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("PARNET_PEER_TORCH", raising=False)
    peers = [workers.Worker(lib, "v", 1, "N1", tmp_path / "samples.npz") for lib in ("jax", "torch")]
    with workers.running(peers) as ready:
        assert ready == []
    assert "cannot be started" in peers[0].failure and "PARNET_PEER_TORCH" in peers[1].failure
    assert math.isnan(peers[0].ask()) and peers[1].name == "torch v, 1 thread"


# -- damaged files, and two runs beside each other -------------------------------------------------------

DAMAGED = {
    "cut": lambda text: text[:-40],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "no records": lambda text: text.replace('"records"', '"rows"'),
    "no machine": lambda text: text.replace('"machine": {', '"machine": [], "other": {'),
    "text for a number": lambda text: text.replace('"value": 400.0', '"value": "400"'),
    "no name": lambda text: text.replace('"name"', '"label"'),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_results_are_refused_by_their_name(filled, damage):
    text = filled.path.read_text()
    assert DAMAGED[damage](text) != text
    filled.path.write_text(DAMAGED[damage](text))
    with pytest.raises(FileFormatError, match=r"2026-01-02-imaginary\.json: expected results"):
        benchmarks.read(filled.path)


def test_results_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json"):
        benchmarks.read(tmp_path / "none.json")


def run_of(path, seconds, gflops, spread=0.0, machine=MACHINE, **more):
    made = Results(machine, path)
    repeats = timing.Summary(seconds, seconds, spread, 9)
    made.add(Record.of("an epoch", "epochs", repeats, "s"))
    made.add(Record.of("a product", "products", gflops, "GFLOP/s"))
    made.add(Record.of("a share", "products", 0.5, ""))
    for name, value in more.items():
        made.add(Record.of(name, "epochs", value, "s"))
    return benchmarks.read(path)


@pytest.mark.parametrize(
    ("seconds", "gflops", "spread", "verdicts"),
    [
        (1.0, 100.0, 0.0, ("same", "same")),
        (1.2, 100.0, 0.0, ("worse", "same")),
        (0.8, 80.0, 0.0, ("better", "worse")),
        (1.0, 120.0, 0.0, ("same", "better")),
        (1.04, 96.0, 0.0, ("same", "same")),  # within the threshold
        (1.2, 100.0, 0.5, ("same", "same")),  # within the doubt: 2 * 0.929 * 0.5 / 3 = 0.31
    ],
)
def test_a_value_is_worse_beyond_threshold_and_doubt_in_the_direction_of_its_unit(
    tmp_path, seconds, gflops, spread, verdicts
):
    old = run_of(tmp_path / "old.json", 1.0, 100.0)
    new = run_of(tmp_path / "new.json", seconds, gflops, spread)
    found = benchmarks.compare(old, new)
    assert tuple(change.verdict for change in found.changes) == (*verdicts, "")
    assert len(found.regressions) == verdicts.count("worse")


def test_compare_on_the_shell_lists_changes_and_fails_on_a_regression(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    run_of(old, 1.0, 100.0, gone=1.0)
    run_of(new, 2.0, 100.0, machine=MACHINE | {"parnet": "0.2.0"}, added=1.0)
    assert main(["report", "--compare", str(old), str(new)]) == 1
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("an epoch"))
    assert "+100.0 %" in line and "worse" in line
    assert "only in the old file: gone" in text and "only in the new file: added" in text
    assert "parnet: 0.1.0 -> 0.2.0" in text and "1 worse, 0 better, of 3 values in both" in text
    assert main(["report", "--compare", str(old), str(old)]) == 0


def test_results_of_two_machines_are_not_compared(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    run_of(old, 1.0, 100.0)
    run_of(new, 1.0, 100.0, machine=MACHINE | {"cores_usable": 8})
    with pytest.raises(DataError, match="cores_usable: 2 and 8"):
        benchmarks.compare(benchmarks.read(old), benchmarks.read(new))
    assert main(["report", "--compare", str(old), str(new)]) == 2
    assert "one machine" in capsys.readouterr().err


@pytest.mark.plot
def test_plots_show_each_group_and_unit_once(filled, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    filled.add(Record.of("N1, jax scan, 1 thread", "epochs", timing.summarize([4.0, 5.0]), "us/sample"))
    assert main(["report", str(filled.path), "--plots", str(tmp_path / "pictures")]) == 0
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["epochs-us-sample.svg"]
    assert "epochs-us-sample.svg" in capsys.readouterr().out
    records = [r for r in benchmarks.read(filled.path)["records"] if r.unit == "us/sample"]
    (ax,) = bench_plots.bars("epochs", "us/sample", records).axes
    assert [bar.get_width() for bar in ax.patches] == [3.0, 4.5]
    assert [bench_plots.is_ours(record) for record in records] == [True, False]


@pytest.mark.parametrize("flag", [True, False])
def test_flag_collects_the_measurements_in_place_of_the_tests(flag):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    given = ["--benchmark"] if flag else ["--ignore-glob=*/tests/test_[!b]*", "."]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of the outer run
    done = subprocess.run([*command, *given], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "::" in line]
    assert lines and all(line.startswith("bench/" if flag else "tests/") for line in lines)
