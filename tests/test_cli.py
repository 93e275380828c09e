"""The command line: what each command does, what it says when something wrong is typed, and Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import parnet as pn
from parnet.cli import main
from parnet.cli.networks import mlp_selu
from parnet.comm import blocks
from parnet.config import usable_cores
from parnet.io.model_file import load_model

COMMAND = [sys.executable, "-m", "parnet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An npz with two classes that a line separates, 120 rows to train on and 40 to test on."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 4, 2)).astype(np.float32)
    y = (x.sum(axis=(1, 2)) > 0).astype(np.int64)
    path = tmp_path_factory.mktemp("data") / "line.npz"
    np.savez(path, x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    return path


def run(capsys, *words) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `parnet words...` in this process."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as left:  # argparse
        code = int(left.code or 0)
    return code, *capsys.readouterr()


def refused(capsys, *words) -> str:
    """The one line that the command ends with."""
    code, out, err = run(capsys, *words)
    assert code == 2 and "Traceback" not in err
    assert err.startswith("parnet: error: ") and err.count("\n") == 1 and out == ""
    return err.removeprefix("parnet: error: ").strip()


def file(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


# -- train --------------------------------------------------------------------------------------


def test_train_learns_tests_and_saves(capsys, data, tmp_path):
    saved = tmp_path / "out.parnet"
    words = ("--epochs", 30, "--lr", 0.5, "--validation-split", 0.1, "--save", saved, "--verbose", 2)
    code, out, err = run(capsys, "train", "mlp", "--data", data, *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Train on 108 samples, validate on 12 samples"
    assert lines[-2] == f"Saved: {saved}" and saved.is_file()
    assert float(lines[-1].split("accuracy ")[1]) > 0.9


def test_saved_model_gives_the_accuracy_that_was_printed(capsys, data, tmp_path):
    saved = tmp_path / "out.parnet"
    _, out, _ = run(capsys, "train", "mlp", "--data", data, "--save", saved, "--verbose", 0)
    with np.load(data) as arrays:
        _, accuracy = load_model(saved).evaluate(arrays["x_test"], arrays["y_test"])
    assert out.endswith(f"accuracy {accuracy:.4f}\n")


@pytest.mark.parametrize("name", ["mlp", "mlp-selu"])
def test_same_command_gives_the_same_numbers_in_every_strategy(capsys, data, name):
    words = ("train", name, "--data", data, "--epochs", 2, "--verbose", 0)
    runs = {run(capsys, *words, *more) for more in ((), ("--strategy", "serial"), ("--threads", 1), ("--seed", 0))}
    assert len(runs) == 1
    assert run(capsys, *words, "--seed", 1) not in runs


def test_builtin_networks_are_the_tutorials(capsys):
    model = mlp_selu((28, 28), 10)
    assert model.count_params() == 182_446
    assert sum(w.numpy().size for w in model.weights if not w.trainable) == 2_168


def test_whole_numbers_are_scaled_and_plain_x_y_suffice(capsys, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (64, 3), np.uint8)
    np.savez(tmp_path / "bytes.npz", x=x, y=(x[:, 0] > 127).astype(np.uint8))
    words = ("--optimizer", "adam", "--lr", 0.05, "--epochs", 20, "--verbose", 2)
    code, out, err = run(capsys, "train", "mlp", "--data", tmp_path / "bytes.npz", *words)
    assert (code, err) == (0, "") and "Test" not in out
    assert float(out.split("accuracy: ")[-1]) > 0.9


OWN = """
import parnet as pn
from parnet import layers as L
def plain(): return pn.Sequential([L.Flatten(), L.Dense(2, activation="softmax")])
def compiled():
    model = plain()
    model.compile(pn.optimizers.Adam(0.25), "sparse_categorical_crossentropy", ["accuracy", "f1"])
    return model
def line(): return pn.Sequential([L.Flatten(), L.Dense(1)])
def wants(units): return pn.Sequential([L.Dense(units)])
def number(): return 7
"""


@pytest.fixture
def own(tmp_path):
    return file(tmp_path / "own.py", OWN)


@pytest.mark.parametrize(
    ("function", "options", "expected"),
    [
        ("plain", (), ["loss", "accuracy"]),
        ("compiled", (), ["loss", "accuracy", "f1"]),
        ("compiled", ("--lr", "0.1"), ["loss", "accuracy", "f1"]),
        ("line", (), ["loss"]),
        ("line", ("--loss", "mae", "--optimizer", "rmsprop"), ["loss"]),
    ],
)
def test_own_builder_from_a_file(capsys, data, own, function, options, expected):
    code, out, err = run(capsys, "train", f"{own}:{function}", "--data", data, "--epochs", 1, *options)
    assert (code, err) == (0, "")
    assert [pair.split()[0] for pair in out.splitlines()[-1].removeprefix("Test: ").split(", ")] == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "mpl", "--data", "{data}"), "Did you mean 'mlp'?"),
        (("train", "gone.py:net", "--data", "{data}"), "received 'gone.py', which does not exist"),
        (("train", "{own}", "--data", "{data}"), "path/to/file.py:function"),
        (("train", "{own}:plian", "--data", "{data}"), "Did you mean 'plain'?"),
        (("train", "{own}:wants", "--data", "{data}"), "missing a required argument: 'units'"),
        (("train", "{own}:number", "--data", "{data}"), "expected it to return a Sequential or a Model, received int"),
        (("train", "mlp", "--data", "gone.npz"), "received 'gone.npz': No such file or directory"),
        (("train", "mlp", "--data", "."), "Is a directory"),
        (("train", "mlp", "--data", "{data}", "--strategy", "thread"), "--strategy: expected one of auto, cuda, "),
        (("train", "mlp", "--data", "{data}", "--strategy", "thread"), "received 'thread'. Did you mean 'threads'?"),
        (("profile", "mlp", "--strategy", "thread"), "--strategy: expected one of auto, cuda, "),
        (
            ("train", "mlp", "--data", "{data}", "--threads", "0"),
            "expected a number of threads above 0, received 0",
        ),
        (
            ("train", "mlp", "--data", "{data}", "--threads", "9999"),
            f"expected at most {usable_cores()} threads",
        ),
        (
            ("train", "mlp", "--data", "{data}", "--threads", "1", "--strategy", "serial"),
            "received 1 with serial",
        ),
        (("train", "mlp", "--data", "{data}", "--optimizer", "adm"), "--optimizer: expected one of adadelta, adagrad, adam"),
        (("train", "mlp", "--data", "{data}", "--optimizer", "adm"), "Did you mean 'adam'?"),
        (("train", "mlp", "--data", "{data}", "--loss", "msee"), "--loss: expected one of bce"),
        (("train", "mlp", "--data", "{data}", "--loss", "msee"), "Did you mean 'mse'?"),
        (("train", "mlp", "--data", "{data}", "--lr", "-1"), "received -1.0"),
        (("train", "mlp", "--data", "{data}", "--lr", "nan"), "received nan"),
        (
            ("train", "mlp", "--data", "{data}", "--epochs", "0"),
            "--epochs: expected a whole number of 1 or more",
        ),
        (("train", "mlp", "--data", "{data}", "--batch-size", "-3"), "received -3"),
        (("train", "mlp", "--data", "{data}", "--validation-split", "1"), "below 1, received 1.0"),
        (("train", "mlp", "--data", "{data}", "--seed", "-1"), "received -1"),
        (("train", "mlp", "--data", "{data}", "--save", "no/such/folder/a.parnet"), "a folder that exists"),
        (("train", "mlp", "--data", "{data}", "--save", "."), "expected a file in a folder that exists"),
        (("train", "mlp", "--data", "{data}", "--save", "a.h5"), "--save: expected a path for parnet's own format"),
        (("train", "gone.parnet", "--data", "{data}"), "expected a saved model, received 'gone.parnet', which does not"),
        (("launch", "-n", "2", "--mpi-args", "'a", "{own}"), "close the quotation"),
        (("demo", "--threads", "-2"), "received -2"),
        (("demo", "--output", "history.gif"), "expected one of .pdf, .png, .svg; received '.gif'"),
        (("demo", "--output", "no/such/folder/a.png"), "a folder that exists"),
        (
            ("demo", "--data", "digits", "--epochs", "0"),
            "--epochs: expected a whole number of 1 or more, received 0",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_said_in_one_line(capsys, monkeypatch, tmp_path, data, own, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *(word.format(data=data, own=own) for word in words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tarin",), "invalid choice: 'tarin' (choose from 'demo', 'train',"),
        (("tarin",), "; did you mean train?"),
        (("frobnicate",), "invalid choice: 'frobnicate'"),
        (("train",), "the following arguments are required: MODEL, --data"),
        (("train", "mlp", "--data", "a.npz", "--epoch", "3"), "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        (("train", "mlp", "--dta", "a.npz", "--data", "b.npz"), "usage: parnet train "),
        (("train", "mlp", "--data", "a.npz", "--epochs", "three"), "--epochs: invalid int value: 'three'"),
        (("demo", "--data", "cifar"), "invalid choice: 'cifar'"),
        (("info", "--xml"), "unrecognized arguments: --xml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_words_that_no_command_has_are_refused_with_the_usage(capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and err.startswith("usage: parnet") and said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strategy", "thread=1"), "'thread'. Did you mean 'threads'?"),
        (("--strategy", "threads=0"), "received 0"),
        (("--repeats", "0"), "--repeats: expected a whole number of 1 or more"),
        (("--epochs", "-1"), "--epochs: expected a whole number of 1 or more"),
    ],
    ids=" ".join,
)
def test_a_study_is_refused_before_data_are_looked_for(capsys, monkeypatch, words, said):
    pytest.importorskip("scipy"), pytest.importorskip("matplotlib")
    monkeypatch.setattr("parnet.cli.study.read_arrays", lambda name: pytest.fail("data were looked for"))
    assert said in refused(capsys, "study", "mlp", *words)


def test_train_knows_the_data_sets_by_name(capsys, monkeypatch, tmp_path):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "train", "mlp", "--data", "digits", "--epochs", "1")
    assert (code, err) == (0, "") and "Test: loss" in out
    said = refused(capsys, "train", "mlp", "--data", "cifar")
    assert "--data: expected digits, mnist or an npz file that can be read, received 'cifar'" in said


def test_no_command_shows_the_help(capsys):
    code, out, err = run(capsys)
    assert (code, out) == (2, "") and all(command in err for command in ("demo", "train", "info"))


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"parnet {pn.__version__}\n", "")


# -- files that are no data ---------------------------------------------------------------------


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def damaged() -> bytes:
    content = bytearray(npz(x=np.zeros((40, 3)), y=np.zeros(40, int)))
    content[200:260] = b"?" * 60
    return bytes(content)


def not_arrays() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"no header")
        archive.writestr("y.npy", b"no header")
    return buffer.getvalue()


X, Y = np.zeros((4, 3)), np.zeros(4, int)
BAD_FILES = {
    "empty": (b"", "received another file"),
    "text": (b"x,y\n1,2\n", "received another file"),
    "cut": (npz(x=X, y=Y)[:300], "received another file"),
    "damaged": (damaged(), "expected arrays of numbers in an npz file"),
    "no header": (not_arrays(), "expected arrays of numbers in an npz file"),
    "pickled": (npz(x=np.array([{}] * 4), y=Y), "allow_pickle=False"),
    "other names": (npz(images=X, labels=Y), "received images, labels"),
    "no arrays": (npz(), "received an empty file"),
    "half": (npz(x_train=X, y=Y), "received x_train, y"),
    "lengths": (npz(x=X, y=Y[:3]), "received (4, 3) and (3,)"),
    "scalar": (npz(x=np.float64(1), y=Y), "received () and (4,)"),
    "flat": (npz(x=np.zeros(4), y=Y), "received (4,) and (4,)"),
    "text values": (npz(x=np.full((4, 3), "a"), y=Y), "expected numbers"),
    "nan": (npz(x=np.full((4, 3), np.nan), y=Y), "expected finite numbers"),
    "no rows": (npz(x=X[:0], y=Y[:0]), "expected"),
    "fractions": (npz(x=X, y=Y + 0.5), "expected class numbers 0, 1, 2, ... or one-hot rows"),
    "negative": (npz(x=X, y=Y - 1), "expected class numbers 0, 1, 2, ... or one-hot rows"),
    "test shape": (
        npz(x_train=X, y_train=Y, x_test=X[:, :2], y_test=Y),
        "expected (rows, 3), received (4, 2)",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_named_with_what_is_wrong(capsys, tmp_path, name):
    content, said = BAD_FILES[name]
    (tmp_path / "bad.npz").write_bytes(content)
    code, _, err = run(capsys, "train", "mlp", "--data", tmp_path / "bad.npz", "--epochs", 1, "--verbose", 0)
    assert code == 2 and err.startswith("parnet: error: ") and err.count("\n") == 1
    assert said in err


# -- demo and info ------------------------------------------------------------------------------


@pytest.mark.plot
@pytest.mark.sklearn
@pytest.mark.slow
def test_demo_reads_digits_compares_and_draws(capsys, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "demo")
    assert (code, err) == (0, "")
    accuracy = float(out.split("Test accuracy ")[1].split(",")[0])
    assert accuracy > 0.95
    if usable_cores() > 1:
        assert "equal, bit for bit" in out and "serial" in out and f"{usable_cores()} threads" in out
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    assert out.endswith(f"Learning curves: {tmp_path / 'history.png'}\n")


@pytest.mark.sklearn
def test_demo_on_one_thread_says_that_nothing_is_compared(capsys, monkeypatch, tmp_path):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # not installed
    code, out, err = run(capsys, "demo", "--threads", 1, "--epochs", 1)
    assert code == 0 and "nothing to compare" in out and "Learning curves" not in out
    assert err.startswith("No picture: ") and "pip install 'parnet[plot]'" in err


@pytest.mark.mnist
def test_demo_reads_mnist(capsys, tmp_path):
    if not os.environ.get("PARNET_DATA"):
        pytest.skip("PARNET_DATA is not set")
    pytest.importorskip("matplotlib")
    code, out, _ = run(capsys, "demo", "--data", "mnist", "--epochs", 1, "--output", tmp_path / "a.svg")
    assert code == 0 and float(out.split("Test accuracy ")[1].split(",")[0]) > 0.85
    assert "79,510" in out


def test_info_goes_on_where_no_memory_can_be_shared(capsys, monkeypatch):
    monkeypatch.setattr(blocks, "available", lambda: 1000)
    monkeypatch.setattr(blocks, "SPARE", 0)
    code, text, _ = run(capsys, "info")
    assert code == 0 and re.search(r"workers share +parnet info: expected 2\.00 MiB of shared memory", text)


def test_info_says_the_same_to_people_and_to_programs(capsys):
    code, text, err = run(capsys, "info")
    assert (code, err) == (0, "")
    assert "own thread pool (native loop, spin barrier)" in text
    code, out, err = run(capsys, "info", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert [line for line in text.splitlines() if not line.startswith(" ")] == list(facts)
    assert facts["versions"]["parnet"] == pn.__version__ and facts["versions"]["numpy"] == np.__version__
    assert facts["processor"]["cores_usable"] == usable_cores()
    measured = facts["measured"]
    assert all(value > 0 for value in measured.values())
    assert ("barrier_us" in measured) == (facts["threading"]["threads"] > 1)
    assert facts["extras"]["mpi4py"] or "pip install 'parnet[mpi]'" in text
    assert facts["backends"]["mpi"] is None or f"started by {facts['backends']['mpi']}" in text


# -- the process --------------------------------------------------------------------------------


def process(*words, **environment) -> subprocess.CompletedProcess:
    environ = os.environ | {"PYTHONWARNINGS": "error"} | environment
    return subprocess.run([*COMMAND, *map(str, words)], env=environ, capture_output=True, text=True, timeout=200)


def test_module_and_script_run():
    done = process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"parnet {pn.__version__}\n", "")


@pytest.mark.parametrize("name", ["PARNET_THREADS", "PARNET_SIMD"])
def test_wrong_settings_are_said_in_one_line(name):
    done = process("info", **{name: "lots"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"parnet: error: {name}") and done.stderr.count("\n") == 1


def test_library_warnings_are_one_line_without_a_path(data, tmp_path):
    own = file(
        tmp_path / "loud.py",
        "import warnings, parnet as pn\nfrom parnet import layers as L\n"
        "def net():\n    warnings.warn('careful', pn.ParnetWarning)\n"
        "    return pn.Sequential([L.Flatten(), L.Dense(2, activation='softmax')])\n",
    )
    done = process("train", f"{own}:net", "--data", data, "--epochs", 1, PYTHONWARNINGS="default")
    assert (done.returncode, done.stderr) == (0, "parnet: warning: careful\n")


def test_error_in_the_users_file_keeps_its_traceback(data, tmp_path):
    own = file(tmp_path / "broken.py", "def net():\n    return 1 / 0\n")
    done = process("train", f"{own}:net", "--data", data)
    assert done.returncode == 1 and "broken.py" in done.stderr and "ZeroDivisionError" in done.stderr


def test_reader_that_leaves_early_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*COMMAND, "info", "--json"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=200)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("strategy", ["serial", "threads"])
def test_ctrl_c_keeps_what_was_learnt_and_ends_with_130(data, tmp_path, strategy):
    saved = tmp_path / "kept.parnet"
    words = [
        "train",
        "mlp",
        "--data",
        data,
        "--epochs",
        10**6,
        "--verbose",
        2,
        "--save",
        saved,
        "--strategy",
        strategy,
    ]
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            while "Epoch 3/" not in running.stdout.readline():
                assert running.poll() is None, running.stderr.read()
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    assert "Interrupted: Epoch " in out and "the model keeps what it has learnt" in out
    assert out.endswith(f"Saved: {saved}\n") and err == "parnet: interrupted\n"
    assert load_model(saved).optimizer.iterations >= 2 * 4


def test_a_saved_model_is_trained_on(tmp_path, capsys):
    data, saved = tmp_path / "data.npz", tmp_path / "a.parnet"
    np.savez(data, x=np.linspace(0, 1, 60).reshape(20, 3), y=np.arange(20) % 2)
    words = ("--data", data, "--epochs", 1, "--save", saved, "--verbose", 0)
    assert run(capsys, "train", "mlp", *words)[0] == 0
    first = pn.load_model(saved).optimizer.iterations
    assert run(capsys, "train", saved, *words)[0] == 0
    assert pn.load_model(saved).optimizer.iterations == 2 * first == 2
