"""`parnet study`: from a command to a folder with a report, again where it stopped, and wrong use in one line."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
import studies

import parnet.cli
from parnet.cli import study as command
from parnet.cli.networks import builder
from parnet.cli.train import Arrays
from parnet.study import launch

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

pytestmark = [pytest.mark.plot, pytest.mark.study]

NETWORK = """
import parnet as pn
from parnet import layers as L

def tiny():
    return pn.Sequential([L.Dense(8, activation="relu"), L.Dense(3, activation="softmax")])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with data and a network, which the command runs in."""
    x, y = studies.blobs(128)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "nets.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ["--data", "data.npz", "--repeats", "1", "--batch-size", "32", "--strategy", "threads=1"]


def test_one_command_makes_a_report_and_the_same_again_runs_nothing(folder, monkeypatch, capsys):
    words = ["study", "nets.py:tiny", *QUICK]
    assert parnet.cli.main(words) == 0
    out = capsys.readouterr().out
    assert "tiny: " in out and "Findings" in out and "Report: " in out
    names = {str(path.relative_to(folder / "study")) for path in (folder / "study").rglob("*") if path.is_file()}
    assert {"study.jsonl", "report.html", "report.md", "tables.tex"} <= names
    assert {f"figures/{kind}.{form}" for kind in ("strategies", "time") for form in ("svg", "png", "pdf")} <= names
    header = json.loads((folder / "study" / "study.jsonl").read_text().splitlines()[0])
    assert header["design"]["networks"]["tiny"]["compiled"].startswith("SGD at 0.01")
    monkeypatch.setattr(launch.Bench, "run", lambda *_: pytest.fail("a run was started"))
    monkeypatch.setattr(command, "write_all", lambda study, where: where / "report.html")
    assert parnet.cli.main(words) == 0 and "2 runs were there already, 0 to go" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")  # the command prints it
def test_a_configuration_that_always_fails_is_told_behind_the_report_of_all_others(folder, monkeypatch, capsys):
    run = launch.Bench.run
    monkeypatch.setattr(
        launch.Bench,
        "run",
        lambda self, point, *rest: {"failure": "no"} if point.kind == "Threads" else run(self, point, *rest),
    )
    assert parnet.cli.main(["study", "nets.py:tiny", *QUICK]) == 2
    said = capsys.readouterr()
    assert "serial" in said.out and "Report: " in said.out
    assert "tiny, threads with 1 thread, batch 32: expected at least one run, received none: no" in said.err
    assert "threads" in (folder / "study" / "report.md").read_text()


def test_a_folder_that_cannot_be_made_is_named(folder, capsys):
    assert parnet.cli.main(["study", "nets.py:tiny", *QUICK, "--output", "nets.py/study"]) == 2
    assert "--output: expected a folder that can be made, received 'nets.py/study'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--strategy", "threads=two"], "expected whole numbers with commas"),
        (["--strategy", "threads=1", "--strategy", "threads=1"], "received it twice"),
        (["--strategy", "gpu=1"], "strategy: expected one of"),
        (["--batch-size", "a"], "--batch-size: expected whole numbers"),
        (["--rows", "0"], "--rows: expected 1 to 128"),
        (["--data", "none.npz"], "none.npz"),
        (["--output", "nets.py"], "expected a folder, received the file"),
        (["--target", "2"], "target"),
        (["nets.py:large"], "Did you mean"),
        (["nest"], "model: expected one of mlp, mlp-selu"),
        (["--oversubscribe", "--strategy", "threads=0"], "received 0"),
    ],
)
def test_wrong_use_is_said_in_one_line_before_anything_runs(folder, words, message, monkeypatch, capsys):
    monkeypatch.setattr(launch.Bench, "run", lambda *_: pytest.fail("a run was started"))
    given = ["study", "--data", "data.npz", "--repeats", "1", *words]
    assert parnet.cli.main(given) == parnet.cli.WRONG_USE
    error = capsys.readouterr().err.strip()
    assert message.replace("Did you mean", "function in") in error and error.count("\n") == 0


def test_a_built_in_network_trains_as_parnet_train_trains_it():
    x, y = np.zeros((4, 28, 28), np.uint8), np.arange(4)
    options = argparse.Namespace(optimizer=None, lr=None, loss=None)
    model = command._builder("mlp", Arrays(x, y, None), options)()
    assert model.optimizer.learning_rate == 0.1 and model.metrics


def test_builders_of_the_shell_can_be_handed_to_other_processes():
    x, y = np.zeros((4, 28, 28), np.uint8), np.arange(4)
    made = builder("mlp", x + 255, y)
    assert made() is not made() and launch.packed_builder("mlp", made) and made().count_params() == 784 * 100 + 100 + 404
