"""The examples run as they stand, in a folder of their own, without a screen and without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from ranks import needs_mpi, run_ranks
from subprocesses import STRICT

FOLDER = Path(__file__).parent.parent / "examples"
#: example -> packages that it needs beside parnet's own
NEEDS = {"quickstart": ("sklearn", "matplotlib"), "manual_loop": ("sklearn",)}


def run(name: str, folder: Path, *words: str, **environment: str) -> str:
    """What the example prints."""
    for package in NEEDS.get(name, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    environ = {key: value for key, value in os.environ.items() if key not in ("PARNET_DATA", "DISPLAY", "MPLBACKEND")}
    done = subprocess.run(
        [sys.executable, *STRICT, FOLDER / f"{name}.py", *words],
        cwd=folder,
        env=environ | environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"[-+]?\d+\.\d+", text)]


def test_every_example_has_a_test():
    tested = {"quickstart", "manual_loop", "one_neuron", "xor", "own_layer", "mpi_train"}
    assert {path.stem for path in FOLDER.glob("*.py")} == tested


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_example_says_what_it_shows_and_can_be_imported(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""') and text.endswith('\n\nif __name__ == "__main__":\n    main()\n')
    assert len(text.splitlines()) <= 120


@pytest.mark.sklearn
@pytest.mark.plot
def test_quickstart_learns_draws_saves_and_loads(tmp_path):
    out = run("quickstart", tmp_path)
    assert "Train on 1365 samples, validate on 72 samples" in out
    assert numbers(out.split("test: ")[1])[1] > 0.85
    assert out.endswith("saved and loaded: True\n")
    assert {path.name for path in tmp_path.iterdir()} == {"history.png", "digit.png", "mlp.parnet", "run.csv"}


@pytest.mark.mnist
@pytest.mark.plot
@pytest.mark.slow
@pytest.mark.parametrize("words", [("mnist",), ()], ids=["argument", "environment"])
def test_quickstart_learns_mnist(tmp_path, words):
    folder = os.environ.get("PARNET_DATA")
    if not folder:
        pytest.skip("PARNET_DATA is not set")
    out = run("quickstart", tmp_path, *words, PARNET_DATA=folder)
    assert "Train on 57000 samples, validate on 3000 samples" in out and "79,510" in out
    assert numbers(out.split("test: ")[1])[1] > 0.95


@pytest.mark.sklearn
def test_manual_loop_learns_and_checks_its_gradients(tmp_path):
    out = run("manual_loop", tmp_path)
    losses = [float(loss) for loss in re.findall(r"epoch +\d+: loss (\S+)", out)]
    assert len(losses) == 10 and losses[-1] < losses[0] / 4
    assert numbers(out.split("test accuracy ")[1])[0] > 0.85
    assert "after 230 updates" in out and "gradients checked" in out


def test_one_neuron_finds_the_line_of_least_squares(tmp_path):
    *_, found, best = run("one_neuron", tmp_path).splitlines()
    assert numbers(found) == pytest.approx(numbers(best), abs=1e-3)


def test_xor_needs_a_hidden_non_linearity(tmp_path):
    out = run("xor", tmp_path)
    right = {kind: int(count) for kind, count in re.findall(r"hidden (\w+) .* (\d) of 4 right", out)}
    assert right["linear"] < 4 and right["sigmoid"] == right["tanh"] == 4


def test_own_layer_and_activation_learn_the_same_in_every_strategy(tmp_path):
    out = run("own_layer", tmp_path)
    first, last = numbers(out.split("loss: ")[1])[:2]
    assert last < first / 4
    assert "gradients of " in out and out.endswith("agree bit for bit: True\n")


class TestMPI:
    pytestmark = needs_mpi

    def test_mpi_training_is_the_same_on_one_rank_and_two_and_goes_on_from_its_checkpoint(self, tmp_path):
        text = (FOLDER / "mpi_train.py").read_text(encoding="utf-8")
        said = [run_ranks(tmp_path, text, ranks)[-40:] for ranks in (2, 1)]
        assert re.search(r"loss: 0\.\d+, accuracy: 1\.0000$", said[0].strip())
        assert said[0].split("loss")[1] == said[1].split("loss")[1]
