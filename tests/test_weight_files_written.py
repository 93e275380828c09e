"""Weights written for Keras and PyTorch: as an independent writer of their layouts has them, and back again."""

from __future__ import annotations

import json
import sys
import zipfile
from io import BytesIO

import numpy as np
import pytest
from test_weight_files import PICTURES, assert_same, network
from weight_writers import arrays_of, keras3_h5, legacy_h5, safetensors_bytes, torch_arrays

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, MissingExtraError, StateError, UnknownNameError

needs_h5py = pytest.mark.h5py
FORMATS = {"m.safetensors": "safetensors", "m.weights.h5": "keras-h5", "m.h5": "keras-h5", "m.keras": "keras", "m": "parnet"}
ENDINGS = [pytest.param(e, marks=[needs_h5py] if "h5" in e or "keras" in e else []) for e in FORMATS]


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="h5py is not installed")


def merged(seed=1):
    """A graph with depthwise, shared and layer-normalised parts, and a flattened picture beside a row."""
    a, b = pn.Input((6, 6, 2), name="a"), pn.Input((3,), name="b")
    x = L.DepthwiseConv2D(3, depth_multiplier=2)(a)
    x = L.LayerNormalization()(x)
    shared = L.Dense(4)
    x = L.Concatenate()([L.Flatten()(x), shared(b), shared(L.Activation("tanh")(b))])
    model = pn.Model([a, b], L.Dense(2, name="last")(x), seed=seed)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1.5, p.shape) for p in model.weights])
    return model


@pytest.mark.parametrize("make", [network, merged])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_again(make, ending, tmp_path):
    if "h5" in ending or "keras" in ending:
        pytest.importorskip("h5py", reason="h5py is not installed")
    model, other = make(), make(seed=2)
    for given in ("auto", FORMATS[ending]):
        model.save_weights(tmp_path / ending, given)
        report = other.load_weights(tmp_path / ending)
        assert report.complete and report.format == FORMATS[ending] and report.matched_by == "name"
        assert_same(model, other)
    assert [path.name for path in tmp_path.iterdir()] == [ending]


def test_a_state_dict_is_the_one_of_an_independent_writer(tmp_path):
    model = network()
    model.save_weights(tmp_path / "m.safetensors")
    state = torch_arrays(arrays_of(model), PICTURES)
    state = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    assert (tmp_path / "m.safetensors").read_bytes() == safetensors_bytes(state)
    wide = network(dtype="float64")
    wide.save_weights(tmp_path / "m.safetensors")
    assert b'"F64"' in (tmp_path / "m.safetensors").read_bytes()


def contents(file) -> dict:
    """Every array of an HDF5 file, and every attribute."""
    found = dict(file.attrs)

    def look(name, thing):
        found.update({f"{name}@{key}": value for key, value in thing.attrs.items()})
        if hasattr(thing, "shape"):
            found[name] = thing[()]

    file.visititems(look)
    return found


def same(ours: dict, theirs: dict, ignored=()) -> None:
    for key in theirs:
        if key not in ignored:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


@needs_h5py
def test_keras_files_are_those_of_an_independent_writer(tmp_path, h5py):
    model, arrays = network(), arrays_of(network())
    model.save_weights(tmp_path / "ours.h5")
    legacy_h5(tmp_path / "theirs.h5", arrays)
    with h5py.File(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "theirs.h5") as theirs:
        same(contents(ours), contents(theirs), ("layer_names", "keras_version", "backend"))
        assert list(ours.attrs["layer_names"]) == [layer.name for layer in model._layers]
    model.save_weights(tmp_path / "ours.weights.h5")
    keras3_h5(tmp_path / "theirs.weights.h5", arrays)
    random = ("layers/dropout/seed_generator/vars/0",)
    with h5py.File(tmp_path / "ours.weights.h5") as ours, h5py.File(tmp_path / "theirs.weights.h5") as theirs:
        wanted = {k: v for k, v in contents(theirs).items() if not k.startswith("optimizer")}
        same(contents(ours), wanted, random)
        assert ours[random[0]].shape == (2,) and ours[random[0]].dtype == np.uint32
        inner = contents(ours)
    model.save_weights(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        names = [line["config"]["name"] for line in json.loads(archive.read("config.json"))["config"]["layers"]]
        assert names == [layer.name for layer in model._layers]
        with h5py.File(BytesIO(archive.read("model.weights.h5"))) as file:
            same(contents(file), inner)


@needs_h5py
def test_long_lists_of_names_are_cut_as_keras_cuts_them(tmp_path, h5py):
    """HDF5 keeps attributes of 64 KiB at most."""
    layers = [L.Dense(1, name=f"{'a_rather_long_name_' * 12}{i}") for i in range(300)]
    model = pn.Sequential([L.Input((1,)), *layers], seed=1)
    model.save_weights(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        assert "layer_names0" in file.attrs and "layer_names1" in file.attrs and "layer_names" not in file.attrs
    other = pn.Sequential([L.Input((1,)), *(L.Dense(1, name=layer.name) for layer in layers)], seed=2)
    assert other.load_weights(tmp_path / "m.h5").complete
    assert_same(model, other)


@pytest.mark.keras
@pytest.mark.slow
@needs_h5py
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["m.weights.h5", "m.h5", "m.keras"])
def test_keras_computes_the_same_from_our_files(tmp_path, rng, ending):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    K = keras.layers
    first = [K.Input((5, 5, 3)), K.Conv2D(4, 3, name="first"), K.BatchNormalization(), K.MaxPooling2D(2, padding="same")]
    second = [K.Flatten(), K.BatchNormalization(), K.Dropout(0.5), K.Dense(5, activation="relu")]
    theirs = keras.Sequential([*first, *second, K.Dense(3, activation="softmax", name="probs")])
    model, x = network(), rng.normal(size=(4, 5, 5, 3)).astype("f4")
    model.save_weights(tmp_path / ending)
    theirs.load_weights(tmp_path / ending)
    np.testing.assert_allclose(theirs.predict(x, verbose=0), model.predict(x), rtol=1e-4, atol=1e-6)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_pytorch_computes_the_same_from_our_files(tmp_path, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    load_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").load_file
    nn, eps = torch.nn, 1e-3
    parts = {
        "first": nn.Conv2d(3, 4, 3), "batch_normalization": nn.BatchNorm2d(4, eps), "pool": nn.MaxPool2d(2, ceil_mode=True),
        "flatten": nn.Flatten(), "batch_normalization_1": nn.BatchNorm1d(16, eps), "dense": nn.Linear(16, 5),
        "relu": nn.ReLU(), "probs": nn.Linear(5, 3), "softmax": nn.Softmax(1),
    }  # fmt: skip
    theirs = nn.Sequential()
    for name, part in parts.items():
        theirs.add_module(name, part)
    model, x = network(), rng.normal(size=(4, 5, 5, 3)).astype("f4")
    model.save_weights(tmp_path / "m.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "m.safetensors"))
    with torch.no_grad():
        wanted = theirs.eval()(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(model.predict(x), wanted, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_written_is_refused_and_the_old_file_stays(tmp_path, monkeypatch):
    class Scale(L.Layer):
        """One factor."""

        def weights(self, input_shape):
            return (L.Weight("factor", (1,), pn.initializers.Ones()),)

    (tmp_path / "m.safetensors").write_bytes(b"old")
    with pytest.raises(HyperparameterError, match=r"expected arrays that PyTorch has.*received scale/factor"):
        pn.Sequential([L.Input((2,)), Scale()]).save_weights(tmp_path / "m.safetensors")
    with pytest.raises(UnknownNameError, match="auto, keras, keras-h5, parnet, safetensors"):
        network().save_weights(tmp_path / "m", "torch")
    with pytest.raises(StateError):
        pn.Sequential([L.Dense(2)]).save_weights(tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "h5py", None)
    for ending in ("m.h5", "m.keras", "m.weights.h5"):
        with pytest.raises(MissingExtraError, match=r"pip install 'parnet\[io\]'"):
            network().save_weights(tmp_path / ending)
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    assert (tmp_path / "m.safetensors").read_bytes() == b"old"
