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
NEEDS = {
    "quickstart": ("sklearn", "matplotlib"),
    "manual_loop": ("sklearn",),
    "dense_networks": ("sklearn",),
    "convolutional_network": ("sklearn",),
    "large_batch": ("sklearn",),
    "pixel_picture": ("sklearn", "matplotlib"),
    "scaling_report": ("matplotlib", "scipy", "simpy"),
    "cuda_matmul_ladder": ("numba_cuda",),
}


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
    text = Path(__file__).read_text(encoding="utf-8")
    tested = set(re.findall(r'run\("(\w+)"', text)) | {"mpi_train"}
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


@pytest.mark.sklearn
def test_large_batches_learn_faster_by_a_scaled_rate_with_a_warm_up(tmp_path):
    out = run("large_batch", tmp_path)
    losses = {
        words[0]: numbers(words[1]) for line in out.splitlines() if len(words := re.split(r"  +", line, maxsplit=1)) > 1
    }
    same, warm = losses["batch 256, the same rate"], losses["batch 256, scaled rate, warm-up"]
    assert warm[2] < same[2] / 2 and warm[3] > same[3]
    assert "makes 6 updates an epoch" in out


class TestMPI:
    pytestmark = needs_mpi

    def test_mpi_training_is_the_same_on_one_rank_and_two_and_goes_on_from_its_checkpoint(self, tmp_path):
        text = (FOLDER / "mpi_train.py").read_text(encoding="utf-8")
        said = [run_ranks(tmp_path, text, ranks)[-40:] for ranks in (2, 1)]
        assert re.search(r"loss: 0\.\d+, accuracy: 1\.0000$", said[0].strip())
        assert said[0].split("loss")[1] == said[1].split("loss")[1]


@pytest.mark.sklearn
def test_dense_networks_learn_digits(tmp_path):
    out = run("dense_networks", tmp_path, "--rows", "1000")
    simple, deeper = (numbers(line)[-1] for line in out.splitlines() if line.startswith("after "))
    assert simple > 0.75 and deeper > 0.8
    assert "Train on 900 samples, validate on 100 samples" in out


@pytest.mark.sklearn
def test_convolutional_network_learns_and_shows_what_another_scale_does(tmp_path):
    out = run("convolutional_network", tmp_path, "--rows", "800")
    same, other = (numbers(line)[-1] for line in out.splitlines() if line.startswith("test pictures"))
    assert same > 0.85 and same > other + 0.1
    assert "filters by hand: vertical edges" in out and "the warning: evaluate" in out


def test_backpropagation_by_hand_is_parnets(tmp_path):
    out = run("backpropagation", tmp_path)
    slope, gradient = numbers(out.split("slope of the error")[1])[:2]
    assert slope == pytest.approx(gradient, rel=1e-4)
    errors = [numbers(line)[-1] for line in out.splitlines() if line.startswith("step ")]
    assert len(errors) == 3 and errors == sorted(errors, reverse=True)


@pytest.mark.sklearn
@pytest.mark.plot
def test_pixel_picture_shows_a_digit_as_numbers(tmp_path):
    out = run("pixel_picture", tmp_path, "--number", "7")
    assert "all pictures: (1437, 8, 8) uint8, from 0 to 16" in out and "as a row: (64,)" in out
    assert (tmp_path / "pixels.png").read_bytes().startswith(b"\x89PNG")


def test_resnet_50_names_a_made_up_picture(tmp_path):
    out = run("resnet50", tmp_path, "--weights", "none", "--side", "32")
    assert "177 layers, 25,636,712 parameters, 25,583,592 of them trainable" in out
    assert "a batch (1, 32, 32, 3)" in out and "of random weights" in out


@pytest.mark.mnist
@pytest.mark.plot
@pytest.mark.study
@pytest.mark.slow
def test_scaling_report_is_complete(tmp_path):
    folder = os.environ.get("PARNET_DATA")
    if not folder:
        pytest.skip("PARNET_DATA is not set")
    out = run("scaling_report", tmp_path, "--rows", "600", "--repeats", "1", PARNET_DATA=folder)
    assert all(f"{name}: " in out for name in ("mlp", "selu", "cnn")) and "Report: " in out
    names = {path.name for path in (tmp_path / "scaling_report").iterdir()}
    assert {"study.jsonl", "report.html", "report.md", "tables.tex", "strategies.svg", "time.svg"} <= names


@pytest.mark.cuda
def test_every_rung_of_the_ladder_is_right(tmp_path):
    out = run("cuda_matmul_ladder", tmp_path, NUMBA_ENABLE_CUDASIM="1")
    assert out.count("largest error") == 3
