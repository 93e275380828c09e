"""What a training writes for other programs: TensorBoard's event files, lines of JSON, a notebook's bar."""

from __future__ import annotations

import importlib
import json
import sys
import types

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, MissingExtraError
from parnet.train import progress

X, Y = np.random.default_rng(0).normal(size=(40, 6)).astype("float32"), np.arange(40) % 3


def trained(*callbacks, **options):
    model = pn.Sequential([L.Dense(4, activation="tanh", input_shape=(6,)), L.Dense(3, activation="softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy", "confusion_matrix"])
    return model.fit(X, Y, 8, 3, validation_split=0.2, callbacks=callbacks, verbose=0, **options)


def events(folder):
    """{tag: {step: value}} of the scalars, and the tags of the histograms, in all event files of a folder."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs tensorboardX")
    scalars, histograms = {}, set()
    for path in sorted(folder.glob("events*")):
        data, place = path.read_bytes(), 0
        while place < len(data):  # length (8 bytes), its checksum (4), the event, its checksum (4)
            size = int.from_bytes(data[place : place + 8], "little")
            event = proto.Event.FromString(data[place + 12 : place + 12 + size])
            place += size + 16
            for value in event.summary.value:
                if value.HasField("histo"):
                    histograms.add(value.tag)
                else:
                    scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars, histograms


@pytest.mark.tensorboard
def test_tensorboard_files_hold_the_history(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    history = trained(pn.callbacks.TensorBoard(tmp_path / "logs", histogram_freq=2)).history
    scalars, histograms = events(tmp_path / "logs" / "train")
    assert set(scalars) == {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"}
    assert scalars["epoch_loss"] == pytest.approx(dict(enumerate(history["loss"])), rel=1e-6)
    assert histograms == {"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"}
    scalars, histograms = events(tmp_path / "logs" / "validation")
    assert scalars["epoch_loss"] == pytest.approx(dict(enumerate(history["val_loss"])), rel=1e-6)
    assert not histograms


@pytest.mark.tensorboard
def test_tensorboard_counts_batches_on_demand_and_says_what_is_wrong(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    trained(pn.callbacks.TensorBoard(tmp_path, update_freq=2))
    assert list(events(tmp_path / "train")[0]["batch_loss"]) == [2, 4, 6, 8, 10, 12]
    with pytest.raises(HyperparameterError, match="update_freq"):
        pn.callbacks.TensorBoard(tmp_path, update_freq=0)
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        trained(pn.callbacks.TensorBoard(tmp_path / "file" / "logs"))


def test_tensorboard_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match=r"TensorBoard: .*pip install 'parnet\[tensorboard\]'"):
        pn.callbacks.TensorBoard()


def test_json_lines_hold_the_history(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("old\n")
    logger = pn.callbacks.JSONLogger(path)
    history = trained(logger).history
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [line["val_loss"] for line in lines] == history["val_loss"]
    np.testing.assert_array_equal(lines[2]["confusion_matrix"], history["confusion_matrix"][2])
    logger.append = True
    trained(logger)
    assert len(path.read_text().splitlines()) == 6
    logger.on_epoch_end(6, {"loss": float("nan")})
    assert json.loads(path.read_text().splitlines()[-1]) == {"epoch": 6, "loss": None}
    with pytest.raises(OSError):
        trained(pn.callbacks.JSONLogger(tmp_path / "no" / "folder"))


def test_a_notebook_gets_tqdms_widget_and_the_lines(monkeypatch, capsys):
    """As in a notebook: IPython's shell is that of a kernel, and tqdm.auto hands out its class for notebooks."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    shown = []

    from tqdm import std

    class Widget(std.tqdm):
        def display(self, *args, **options):
            shown.append(self.n)

    monkeypatch.setattr(importlib.import_module("tqdm.auto"), "tqdm", Widget)  # the one that others will import
    progress.bar_class.cache_clear()
    try:
        assert progress.in_notebook()
        history = trained_with("auto")
    finally:
        progress.bar_class.cache_clear()
    assert shown and shown[-1] <= 32
    out = capsys.readouterr().out
    assert out.count("Epoch ") == 3 and "Train on 32 samples, validate on 8 samples" in out
    assert "<table>" in history._repr_html_() and "val_loss" in history._repr_html_()


def trained_with(verbose):
    model = pn.Sequential([L.Dense(3, activation="softmax", input_shape=(6,))], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model.fit(X, Y, 8, 3, validation_split=0.2, verbose=verbose)
