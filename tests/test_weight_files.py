"""Weights from Keras's and PyTorch's files: what arrives, and that nothing does from a file that is damaged or another's."""

from __future__ import annotations

import json
import struct
import zipfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from weight_writers import arrays_of, keras3_h5, keras3_nested_h5, keras_zip, legacy_h5, safetensors_bytes, torch_arrays

import parnet as pn
from parnet import layers as L
from parnet.errors import FileFormatError, MissingExtraError, ParnetWarning, ShapeError, UnknownNameError
from parnet.io import torch_layout
from parnet.io.weights import read_weights

needs_h5py = pytest.mark.h5py


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="h5py is not installed")


def network(seed=1, dtype="float32", **names):
    """A small network with every kind of layer whose layout differs, and a flattened picture of 2 x 2 x 4."""
    layers = [
        L.Input((5, 5, 3)),
        L.Conv2D(4, 3, name=names.get("conv", "first")),
        L.BatchNormalization(name=names.get("norm")),
        L.MaxPooling2D(2, padding="same"),
        L.Flatten(),
        L.BatchNormalization(name=names.get("norm_1")),
        L.Dropout(0.5),
        L.Dense(5, activation="relu", name=names.get("dense")),
        L.Dense(3, activation="softmax", name=names.get("last", "probs")),
    ]
    model = pn.Sequential(layers, seed=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1.5, p.shape) for p in model.weights])
    return model


PICTURES = {"batch_normalization_1": (2, 2, 4), "dense": (2, 2, 4)}


def torch_bytes(model, rename=str, **options):
    """The network as PyTorch has it."""
    state = torch_arrays(arrays_of(model), PICTURES)
    return safetensors_bytes({rename(name): array for name, array in state.items()}, **options)


WRITERS = {
    "keras 2 weights": ("keras-h5", legacy_h5),
    "keras 2 model": ("keras-h5", lambda path, arrays: legacy_h5(path, arrays, whole=True)),
    "keras 2 long lists": ("keras-h5", lambda path, arrays: legacy_h5(path, arrays, pieces=True)),
    "keras 3 h5": ("keras-h5", lambda path, arrays: legacy_h5(path, arrays, version=3, whole=True)),
    "keras 3 weights": ("keras-h5", keras3_h5),
    "keras 3 weights without names": ("keras-h5", lambda path, arrays: keras3_h5(path, arrays, named=False)),
    "keras": ("keras", keras_zip),
    "keras without names": ("keras", lambda path, arrays: keras_zip(path, arrays, named=False)),
}
EVERY = pytest.mark.parametrize("kind", [*(pytest.param(k, marks=needs_h5py) for k in WRITERS), "safetensors", "parnet"])


def written(kind, path, model):
    """The model's weights in a file of that kind; returns the format."""
    if kind == "safetensors":
        path.write_bytes(torch_bytes(model))
        return kind
    if kind == "parnet":
        model.save_weights(path)
        return kind
    pytest.importorskip("h5py", reason="h5py is not installed")
    format, write = WRITERS[kind]
    write(path, arrays_of(model))
    return format


def assert_same(a, b):
    for one, other in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.name)


# -- what arrives -------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_weights_arrive_whatever_the_file(kind, dtype, tmp_path):
    model, path = network(), tmp_path / "file"
    format = written(kind, path, model)
    for asked in ("auto", format):
        other = network(seed=2, dtype=dtype)
        report = other.load_weights(path, asked)
        assert_same(other, model)
        assert report.complete and report.format == format
        assert report.matched.keys() == {p.name for p in model.weights}
    x = np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype("f4")
    if dtype == "float32":
        np.testing.assert_array_equal(other.predict(x), model.predict(x))


@EVERY
def test_reading_alone_changes_no_model(kind, tmp_path):
    model, other = network(), network(seed=2)
    written(kind, tmp_path / "file", model)
    arrays, report = read_weights(tmp_path / "file", other)
    assert_same(other, network(seed=2))
    assert arrays.keys() == report.matched.keys()
    for p in model.weights:
        np.testing.assert_array_equal(arrays[p.name], p.numpy())
    assert str(len(model.weights)) in str(report)


@EVERY
def test_weights_of_another_network_are_refused_and_nothing_changes(kind, tmp_path):
    model = pn.Sequential([L.Input((4,)), L.Dense(8, name="first"), L.Dense(3, name="last")])
    written(kind, tmp_path / "file", network())
    before = model.get_weights()
    with pytest.raises(ShapeError) as error:
        model.load_weights(tmp_path / "file")
    for part in ("sequential.load_weights", str(tmp_path / "file"), "first/kernel", "strict=False"):
        assert part in str(error.value)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@EVERY
def test_without_strict_what_fits_is_read_and_the_rest_named(kind, tmp_path):
    if kind == "keras 3 weights without names":
        pytest.skip("matched class by class, so that another network has other counterparts")
    model = network()
    written(kind, tmp_path / "file", model)
    layers = [
        L.Input((5, 5, 3)),
        L.Conv2D(4, 3, name="first"),
        L.Flatten(),
        L.Dense(3, name="probs"),
        L.Dense(2, name="own"),
    ]
    other = pn.Sequential(layers, seed=3)
    last = other.get_layer("own").get_weights()[0]
    with pytest.warns(ParnetWarning, match=r"read 3 of 6 arrays.*own/kernel") as caught:
        report = other.load_weights(tmp_path / "file", strict=False)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert set(report.matched) == {"first/kernel", "first/bias", "probs/bias"}
    assert [str(m) for m in report.mismatched if m.weight == "probs/kernel"] and report.missing and report.unexpected
    np.testing.assert_array_equal(other.get_layer("first").get_weights()[0], model.get_layer("first").get_weights()[0])
    np.testing.assert_array_equal(other.get_layer("own").get_weights()[0], last)


@needs_h5py
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("here", "there"), [("probs", "predictions"), ("predictions", "probs")])
def test_probs_and_predictions_are_the_same_layer(kind, here, there, tmp_path, h5py):
    model = network(last=here)
    arrays = {there if name == here else name: value for name, value in arrays_of(model).items()}
    WRITERS[kind][1](tmp_path / "file", arrays)
    other = network(seed=2, last=here)
    other.load_weights(tmp_path / "file")
    assert_same(other, model)


@needs_h5py
@pytest.mark.parametrize("kind", WRITERS)
def test_layers_of_other_names_are_matched_as_keras_does(kind, tmp_path, h5py):
    model = network()
    names = {"first": "conv2d_7", "batch_normalization": "bn_a", "dense": "dense_3", "probs": "dense_4"}
    WRITERS[kind][1](tmp_path / "file", {names.get(name, name): value for name, value in arrays_of(model).items()})
    other = network(seed=2)
    report = other.load_weights(tmp_path / "file")
    assert_same(other, model)
    assert report.matched_by in ("class", "order")


@needs_h5py
def test_names_count_before_order(tmp_path, h5py):
    """Two layers of equal shape that stand in the file the other way round."""
    model = pn.Sequential([L.Input((3,)), L.Dense(3, name="a"), L.Dense(3, name="b")], seed=1)
    arrays = dict(reversed(arrays_of(model).items()))
    other = pn.Sequential([L.Input((3,)), L.Dense(3, name="a"), L.Dense(3, name="b")], seed=2)
    for kind in WRITERS:
        if "without" in kind and kind != "keras without names":
            continue
        WRITERS[kind][1](tmp_path / "file", arrays)
        assert other.load_weights(tmp_path / "file").matched_by == "name"
        assert_same(other, model)


@needs_h5py
def test_a_model_within_a_model_is_read_by_its_own_layers_names(tmp_path, h5py):
    model = network()
    arrays = arrays_of(model)
    with h5py.File(tmp_path / "file", "w") as file:
        file.attrs["layer_names"] = [b"model_1", b"probs"]
        group = file.create_group("model_1")
        inner = {f"{n}/{w}:0": a for n, (_, weights) in arrays.items() if n != "probs" for w, a in weights.items()}
        for name, weights in {"model_1": inner, "probs": {f"probs/{w}:0": a for w, a in arrays["probs"][1].items()}}.items():
            group = file.require_group(name)
            group.attrs["weight_names"] = [path.encode() for path in weights]
            for path, array in weights.items():
                group.create_dataset(path, data=array)
    other = network(seed=2)
    other.load_weights(tmp_path / "file")
    assert_same(other, model)


def nested_zip(path, groups, config):
    """A `.keras` file of groups "layers/dense/vars" -> arrays; only the configuration keeps their order."""
    inner = BytesIO()
    with h5_module().File(inner, "w") as file:
        for group, arrays in groups.items():
            for i, array in enumerate(arrays):
                file.create_dataset(f"{group}/vars/{i}", data=array)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", inner.getvalue())


def h5_module():
    return pytest.importorskip("h5py", reason="h5py is not installed")


def line(kind, name, *inside):
    """A layer's line in a configuration of Keras, or that of a model with others inside."""
    return {"class_name": kind, "config": {"name": name, **({"layers": list(inside)} if inside else {})}}


NESTED = line(
    "Sequential", "whole",
    line("InputLayer", "input_layer"),
    line("Functional", "body", line("InputLayer", "x"), line("Dense", "dense"), line("ReLU", "r"), line("Dense", "dense_1")),
    line("Dense", "dense_4"),
    line("Sequential", "head", line("Dense", "dense_2"), line("Sequential", "deepest", line("Dense", "dense_3"))),
    line("Dense", "dense_5"),
)  # fmt: skip
#: groups of that file, in the order of the model
NESTED_GROUPS = (
    "layers/functional/layers/dense", "layers/functional/layers/dense_1", "layers/dense",
    "layers/sequential/layers/dense", "layers/sequential/layers/sequential/layers/dense", "layers/dense_1",
)  # fmt: skip


@needs_h5py
@pytest.mark.parametrize("named", [False, True])
def test_models_within_a_keras_file_are_read_in_their_place(named, tmp_path, rng):
    """All shapes are equal, so that a wrong order would not show by itself; Keras counts inner layers first."""
    names = ["dense", "dense_1", "dense_4", "dense_2", "dense_3", "dense_5"]
    arrays = {name: [rng.normal(size=(3, 3)).astype("f4"), rng.normal(size=3).astype("f4")] for name in names}
    given = [f"own_{name}" for name in names]
    config = json.loads(json.dumps(NESTED).replace('"dense', '"own_dense')) if named else NESTED
    nested_zip(tmp_path / "file", dict(zip(NESTED_GROUPS, arrays.values(), strict=True)), config)
    layers = [L.Dense(3, name=name if named else None) for name in (reversed(given) if named else given)]
    model = pn.Sequential([L.Input((3,)), *layers], seed=1)
    report = model.load_weights(tmp_path / "file")
    assert report.matched_by == ("name" if named else "order")
    wanted = list(arrays.values())
    for layer, pair in zip(layers, reversed(wanted) if named else wanted, strict=True):
        for found, array in zip(layer.get_weights(), pair, strict=True):
            np.testing.assert_array_equal(found, array)
    with pytest.raises(ShapeError, match="load into a model of the same layers"):
        pn.Sequential([L.Input((3,)), L.Dense(3), L.Dense(3)]).load_weights(tmp_path / "file")


def nested_lines(rng, sizes, names):
    """Six Dense layers, among them those of three models, and their arrays in the order of the whole."""
    pairs = [[rng.normal(size=size).astype("f4"), rng.normal(size=size[1]).astype("f4")] for size in pairwise(sizes)]
    a, b, c, d, e, f = (("Dense", name, pair) for name, pair in zip(names, pairs, strict=True))
    return [
        ("InputLayer", "input_layer", []), a,
        ("Functional", "body", [("InputLayer", "x", []), b, ("ReLU", "r", []), c]),
        ("Sequential", "head", [("Sequential", "deepest", [d]), e]),
        f,
    ], pairs  # fmt: skip


def assert_holds(model, pairs):
    dense = [layer for layer in model.layers if layer.weights]
    for layer, pair in zip(dense, pairs, strict=True):
        for found, array in zip(layer.get_weights(), pair, strict=True):
            np.testing.assert_array_equal(found, array)


#: what Keras calls those six where the inner models were made first
INNER_FIRST = ["dense_4", "dense", "dense_1", "dense_2", "dense_3", "dense_5"]


@needs_h5py
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("sizes", [[3] * 7, [3, 200, 200, 3, 3, 200, 200], [40, 30, 20, 10, 50, 30, 40]], ids=str)
def test_models_within_a_weights_file_are_read_in_the_order_they_were_written(sizes, named, tmp_path, rng):
    lines, pairs = nested_lines(rng, sizes, INNER_FIRST)
    keras3_nested_h5(tmp_path / "file.weights.h5", lines, named=named)
    model = pn.Sequential([L.Input((sizes[0],)), *(L.Dense(size) for size in sizes[1:])], seed=1)
    assert model.load_weights(tmp_path / "file.weights.h5").matched_by == "order"
    assert_holds(model, pairs)


@needs_h5py
def test_names_that_a_user_gave_hold_beside_the_usual_ones_of_models_within_a_model(tmp_path, rng):
    """One given name stands in its place; where all are given, they decide, wherever they stand."""
    lines, pairs = nested_lines(rng, [3] * 7, ["first", *INNER_FIRST[1:]])
    keras3_nested_h5(tmp_path / "mixed", lines)
    model = pn.Sequential([L.Input((3,)), L.Dense(3, name="first"), *(L.Dense(3) for _ in range(5))], seed=1)
    model.load_weights(tmp_path / "mixed")
    assert_holds(model, pairs)
    given = [f"own{k}" for k in range(6)]
    lines, pairs = nested_lines(rng, [3] * 7, given)
    keras3_nested_h5(tmp_path / "given", lines)
    model = pn.Sequential([L.Input((3,)), *(L.Dense(3, name=name) for name in reversed(given))], seed=1)
    assert model.load_weights(tmp_path / "given").matched_by == "name"
    assert_holds(model, list(reversed(pairs)))


@needs_h5py
def test_a_packed_file_that_has_lost_the_order_of_inner_models_is_refused_unless_names_tell(tmp_path, rng, h5py):
    given = [f"own{k}" for k in range(6)]
    for names in (INNER_FIRST, given):
        lines, pairs = nested_lines(rng, [3] * 7, names)
        keras3_nested_h5(tmp_path / "file", lines)
        with h5py.File(tmp_path / "file") as old, h5py.File(tmp_path / "packed", "w") as new:
            for name in ("layers/sequential", "layers/functional", "layers/dense_1", "layers/dense"):
                old.copy(name, new.require_group("layers"))
        model = pn.Sequential([L.Input((3,)), *(L.Dense(3, name=n if names is given else None) for n in names)], seed=1)
        if names is given:
            model.load_weights(tmp_path / "packed")
            assert_holds(model, pairs)
        else:
            with pytest.raises(FileFormatError, match=r"use the file as Keras wrote it.* or a \.keras file"):
                model.load_weights(tmp_path / "packed")


@needs_h5py
def test_models_within_an_h5_file_are_read_in_their_place(tmp_path, rng, h5py):
    """All shapes are equal; two inner models have a layer of the same name."""
    names = ["dense_4", "dense", "dense_1", "dense", "dense_3", "dense_5"]
    _, pairs = nested_lines(rng, [3] * 7, names)
    above = ["dense_4/", "body/", "body/", "head/", "head/", "dense_5/"]
    with h5py.File(tmp_path / "file.h5", "w") as file:
        titles = [a.rstrip("/") for a in dict.fromkeys(above)]
        file.attrs["layer_names"] = [title.encode() for title in titles]
        for title in titles:
            paths = {}
            for name, pair, over in zip(names, pairs, above, strict=True):
                if over == f"{title}/":
                    inner = f"{title}/{name}" if name != title else name
                    paths |= {f"{inner}/kernel:0": pair[0], f"{inner}/bias:0": pair[1]}
            group = file.create_group(title)
            group.attrs["weight_names"] = [path.encode() for path in paths]
            for path, array in paths.items():
                group.create_dataset(path, data=array)
    model = pn.Sequential([L.Input((3,)), *(L.Dense(3) for _ in names)], seed=1)
    assert model.load_weights(tmp_path / "file.h5").matched_by == "order"
    assert_holds(model, pairs)


@needs_h5py
def test_keras_names_of_arrays_that_tell_nothing_are_matched_by_place(tmp_path, h5py):
    model = network()
    words = {"kernel": "W_1", "bias": "b_1", "moving_mean": "running_mean", "moving_variance": "running_std"}
    arrays = {n: (k, {f"{n}_{words.get(w, w) + '_x'}": a for w, a in ws.items()}) for n, (k, ws) in arrays_of(model).items()}
    legacy_h5(tmp_path / "file", arrays)
    other = network(seed=2)
    other.load_weights(tmp_path / "file")
    assert_same(other, model)


@needs_h5py
@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_keras_arrays_of_other_types_are_converted(dtype, tmp_path, h5py):
    """bfloat16 is what Keras writes as two opaque bytes."""
    model = pn.Sequential([L.Input((3,)), L.Dense(2)], seed=1)
    rounded = [np.asarray([[1.5, -2.0], [0.25, 3.0], [0.0, -0.5]]), np.asarray([8.0, -0.125])]
    stored = [a.astype("f4").view("u4") >> 16 if dtype == "bfloat16" else a.astype(dtype) for a in rounded]
    if dtype == "bfloat16":
        stored = [a.astype("<u2").view("V2") for a in stored]
    with h5py.File(tmp_path / "file", "w") as file:
        group = file.create_group("layers/dense/vars")
        for i, array in enumerate(stored):
            group.create_dataset(str(i), data=array)
    model.load_weights(tmp_path / "file")
    for mine, wanted in zip(model.get_weights(), rounded, strict=True):
        np.testing.assert_array_equal(mine, wanted)


# -- PyTorch ------------------------------------------------------------------------------------


def test_pytorch_arrays_are_brought_to_our_axes(tmp_path, rng):
    """Convolution: sum over i of image(i) * kernel(o, i), computed from PyTorch's layout by hand."""
    weight, bias = rng.normal(size=(4, 2, 3, 3)).astype("f4"), rng.normal(size=4).astype("f4")
    (tmp_path / "file").write_bytes(safetensors_bytes({"conv.weight": weight, "conv.bias": bias}))
    model = pn.Sequential([L.Input((3, 3, 2)), L.Conv2D(4, 3, name="conv")], seed=0)
    model.load_weights(tmp_path / "file")
    x = rng.normal(size=(1, 3, 3, 2)).astype("f4")
    wanted = np.einsum("oihw,hwi->o", weight.astype("f8"), x[0].astype("f8")) + bias
    np.testing.assert_allclose(model.predict(x).reshape(-1), wanted, rtol=1e-5, atol=1e-5)


def test_a_dense_layer_behind_a_flattened_picture_gets_its_features_in_our_order(tmp_path, rng):
    """PyTorch flattens channels first; the same picture must give the same output."""
    weight, bias = rng.normal(size=(5, 3 * 4 * 2)).astype("f4"), np.zeros(5, "f4")
    (tmp_path / "file").write_bytes(safetensors_bytes({"fc.weight": weight, "fc.bias": bias}))
    model = pn.Sequential([L.Input((4, 2, 3)), L.Flatten(), L.Dropout(0.1), L.Dense(5, name="fc")], seed=0)
    model.load_weights(tmp_path / "file")
    x = rng.normal(size=(6, 4, 2, 3)).astype("f4")
    wanted = np.moveaxis(x, 3, 1).reshape(6, -1).astype("f8") @ weight.T
    np.testing.assert_allclose(model.predict(x), wanted, rtol=1e-4, atol=1e-5)


def test_pieces_of_flattened_pictures_keep_their_places_beside_other_features(tmp_path, rng):
    """Two pictures and five numbers, side by side, through a normalisation to a dense layer."""
    inputs = [pn.Input((2, 3, 4)), pn.Input((5,)), pn.Input((3, 1, 2))]
    joined = L.Concatenate()([L.Flatten()(inputs[0]), inputs[1], L.Flatten()(inputs[2])])
    model = pn.Model(inputs, L.Dense(6, name="fc")(L.BatchNormalization(name="bn", epsilon=1e-5)(joined)))
    state = {f"bn.{k}": rng.uniform(0.5, 1.5, 35).astype("f4") for k in ("weight", "bias", "running_mean", "running_var")}
    state |= {"fc.weight": rng.normal(size=(6, 35)).astype("f4"), "fc.bias": rng.normal(size=6).astype("f4")}
    (tmp_path / "file").write_bytes(safetensors_bytes(state))
    model.load_weights(tmp_path / "file")
    x = [rng.normal(size=(4, *t.shape)).astype("f4") for t in inputs]
    flat = [np.moveaxis(a, 3, 1).reshape(4, -1) if a.ndim == 4 else a for a in x]
    y = (np.concatenate(flat, 1) - state["bn.running_mean"]) / np.sqrt(state["bn.running_var"] + 1e-5)
    wanted = (y * state["bn.weight"] + state["bn.bias"]) @ state["fc.weight"].T + state["fc.bias"]
    np.testing.assert_allclose(model.predict(x), wanted, rtol=1e-4, atol=1e-4)


def test_a_depthwise_kernel_of_pytorch_is_brought_to_our_axes(rng):
    """Filter m of channel c is PyTorch's output channel c M + m."""
    channels, filters = 3, 2
    weight = rng.normal(size=(channels * filters, 1, 4, 5))
    layout = torch_layout.layout("DepthwiseConv2D", "kernel", (4, 5, channels, filters), None)
    kernel = layout.convert(weight)
    assert layout.shape == weight.shape and kernel.shape == (4, 5, channels, filters)
    for c in range(channels):
        for m in range(filters):
            np.testing.assert_array_equal(kernel[:, :, c, m], weight[c * filters + m, 0])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_a_wrappers_prefix_is_left_out(prefix, tmp_path):
    model = network()
    (tmp_path / "file").write_bytes(torch_bytes(model, rename=lambda name: prefix + name))
    other = network(seed=2)
    other.load_weights(tmp_path / "file")
    assert_same(other, model)


def test_a_pytorch_sequential_is_matched_by_its_numbers(tmp_path):
    """Twelve layers: as text "10" sorts before "2"."""
    names = [f"l{i}" for i in range(12)]
    model = pn.Sequential([L.Input((3,)), *(L.Dense(3, name=n) for n in names)], seed=1)
    data = safetensors_bytes(torch_arrays({str(2 * i): arrays_of(model)[n] for i, n in enumerate(names)}))
    (tmp_path / "file").write_bytes(data)
    other = pn.Sequential([L.Input((3,)), *(L.Dense(3, name=n) for n in names)], seed=2)
    assert other.load_weights(tmp_path / "file").matched_by == "order"
    assert_same(other, model)


def test_half_precision_is_converted_exactly(tmp_path):
    model = pn.Sequential([L.Input((2,)), L.Dense(2, name="fc")], seed=1)
    weight, bias = np.array([[1.5, -3.0], [0.125, 65280.0]]), np.array([2.0**-14, -1.0])
    data = safetensors_bytes({"fc.weight": weight.T.astype("f4"), "fc.bias": bias.astype("f2")}, bfloat16=("fc.weight",))
    (tmp_path / "file").write_bytes(data)
    model.load_weights(tmp_path / "file")
    np.testing.assert_array_equal(model.get_weights()[0], weight)
    np.testing.assert_array_equal(model.get_weights()[1], bias)


def test_counters_of_batches_are_ignored_and_reported(tmp_path):
    (tmp_path / "file").write_bytes(torch_bytes(network()))
    report = network(seed=2).load_weights(tmp_path / "file")
    assert sorted(report.ignored) == [
        "batch_normalization.num_batches_tracked",
        "batch_normalization_1.num_batches_tracked",
    ]


@pytest.mark.parametrize("start", [b"\x80\x02}q\x00.", "zip"])
def test_a_pickle_of_pytorch_is_refused_with_the_cure(start, tmp_path):
    path = tmp_path / "weights.pt"
    if start == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", b"cos\nsystem\n(S'touch ran'\ntR.")
    else:
        path.write_bytes(start)
    with pytest.raises(FileFormatError, match=r"a pickle, which can run any code.*safetensors\.torch\.save_file"):
        network().load_weights(path)


# -- files that are damaged or hostile ----------------------------------------------------------


def small(path, kind):
    """A file as small as its kind can be, and a model of its shape."""
    model = pn.Sequential([L.Input((2,)), L.Dense(2, name="fc")], seed=1)
    if kind == "safetensors":
        path.write_bytes(safetensors_bytes(torch_arrays(arrays_of(model))))
    else:
        written(kind, path, model)
    return model


def refused(model, path, also=()):
    """Loading raises what it should, or gives a complete model; in the first case the model is as it was."""
    before = [a.tobytes() for a in model.get_weights()]
    try:
        model.load_weights(path)
    except (FileFormatError, ShapeError, *also) as error:
        assert str(path) in str(error) or isinstance(error, ShapeError)
        assert [a.tobytes() for a in model.get_weights()] == before
        return True
    return False


DAMAGED = pytest.mark.parametrize(
    "kind",
    ["safetensors", *(pytest.param(k, marks=needs_h5py) for k in ("keras 2 weights", "keras 3 weights", "keras"))],
)


@DAMAGED
def test_a_file_cut_at_any_place_is_refused(kind, tmp_path):
    path = tmp_path / "file"
    model = small(path, kind)
    data = path.read_bytes()
    for length in sorted({*range(0, 64), *range(64, len(data), max(1, len(data) // 150)), len(data) - 1}):
        path.write_bytes(data[:length])
        assert refused(model, path), f"{length} of {len(data)} bytes"


@DAMAGED
@pytest.mark.slow
def test_a_flipped_byte_never_raises_anything_untyped(kind, tmp_path):
    path = tmp_path / "file"
    model = small(path, kind)
    data = path.read_bytes()
    rng = np.random.default_rng(5)
    for place in sorted(rng.choice(len(data), min(len(data), 600), replace=False)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        refused(model, path)


def changed(**changes):
    """A safetensors file whose header lists fc.weight otherwise."""
    state = {"fc.weight": np.ones((2, 2), "f4"), "fc.bias": np.ones(2, "f4")}
    return safetensors_bytes(state, header=lambda listed: listed | {"fc.weight": listed["fc.weight"] | changes})


HEADERS = {
    "past the end": changed(data_offsets=[8, 8 + 2**40], shape=[2**38]),
    "overlap": changed(data_offsets=[4, 20]),
    "negative": changed(data_offsets=[-8, 8]),
    "backwards": changed(data_offsets=[24, 8]),
    "hole": changed(data_offsets=[12, 28]),
    "shape too large": changed(shape=[2, 2**61]),
    "negative shape": changed(shape=[-2, -2]),
    "shape of floats": changed(shape=[2.0, 2]),
    "shape of bools": changed(shape=[True, 4]),
    "many axes": changed(shape=[1] * 100_000),
    "unknown type": changed(dtype="F4"),
    "type is a list": changed(dtype=["F32"]),
    "another key": changed(code="import os"),
    "three offsets": changed(data_offsets=[8, 24, 30]),
    "offset too large": changed(data_offsets=[2**70, 2**70 + 16]),
    "length of 2**63": struct.pack("<Q", 2**63) + b"{}",
    "length past the end": struct.pack("<Q", 500) + b"{}" + b" " * 20,
    "no length": b"\x04\0\0",
    "not JSON": struct.pack("<Q", 8) + b"{'a': 1}",
    "a list": struct.pack("<Q", 8) + b"{}      "[::-1],
    "nested": struct.pack("<Q", 200_001) + b"{" + b'"a":{' * 40_000,
    "twice": struct.pack("<Q", 16) + b'{"a": 1, "a": 2}',
    "not UTF-8": struct.pack("<Q", 8) + b'{"\xff": 1}',
    "bytes behind": changed() + b"more",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_safetensors_file_that_lies_is_refused(name, tmp_path):
    (tmp_path / "file").write_bytes(HEADERS[name])
    model = pn.Sequential([L.Input((2,)), L.Dense(2, name="fc")], seed=1)
    before = model.get_weights()
    with pytest.raises(FileFormatError, match=str(tmp_path)):
        model.load_weights(tmp_path / "file", "safetensors")
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_a_safetensors_file_of_integers_has_no_weights(tmp_path):
    (tmp_path / "file").write_bytes(safetensors_bytes({"fc.weight": np.ones((2, 2), "i8"), "fc.bias": np.ones(2, "i8")}))
    with pytest.raises(ShapeError, match="none of the name: fc/kernel, fc/bias"):
        pn.Sequential([L.Input((2,)), L.Dense(2, name="fc")]).load_weights(tmp_path / "file")


def dense_h5(path, h5py, change):
    """A file of Keras 2 of one dense layer, whose group `change` gets."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"fc"]
        group = file.create_group("fc")
        group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
        group.create_dataset("bias:0", data=np.ones(2, "f4"))
        change(file, group)


@needs_h5py
def test_hdf5_files_that_lead_elsewhere_or_lie_are_refused(tmp_path, h5py):
    secret = tmp_path / "secret"
    secret.write_bytes(np.ones((2, 2), "f4").tobytes())
    with h5py.File(tmp_path / "other", "w") as other:
        other.create_dataset("kernel", data=np.ones((2, 2), "f4"))

    def virtual(file, group):
        layout = h5py.VirtualLayout((2, 2), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other"), "kernel", (2, 2))
        group.create_virtual_dataset("kernel:0", layout)

    def pick(name, value):
        return lambda file, group: group.__setitem__(name, value)

    def attribute(where, name, value):
        def change(file, group):
            group.create_dataset("kernel:0", data=np.ones((2, 2), "f4"))
            (file if where == "file" else group).attrs[name] = value

        return change

    hostile = {
        "external link": pick("kernel:0", h5py.ExternalLink(str(tmp_path / "other"), "kernel")),
        "soft link": pick("kernel:0", h5py.SoftLink("/fc/bias:0")),
        "external storage": lambda file, group: group.create_dataset(
            "kernel:0", (2, 2), "f4", external=[(str(secret), 0, 16)]
        ),
        "virtual": virtual,
        "a group": lambda file, group: group.create_group("kernel:0"),
        "missing": lambda file, group: None,
        "whole numbers": pick("kernel:0", np.ones((2, 2), "i4")),
        "text": pick("kernel:0", "import os"),
        "null": pick("kernel:0", h5py.Empty("f4")),
        "names are numbers": attribute("file", "layer_names", [1, 2]),
        "a layer that is not there": attribute("file", "layer_names", [b"fc", b"fd"]),
        "a path out": attribute("group", "weight_names", [b"../fc/kernel:0", b"bias:0"]),
        "an empty name": attribute("group", "weight_names", [b"", b"bias:0"]),
        "names not UTF-8": attribute("group", "weight_names", [b"\xff", b"bias:0"]),
        "no weight_names": lambda file, group: group.attrs.__delitem__("weight_names"),
    }
    model = pn.Sequential([L.Input((2,)), L.Dense(2, name="fc")], seed=1)
    dense_h5(tmp_path / "file", h5py, lambda file, group: group.create_dataset("kernel:0", data=np.ones((2, 2), "f4")))
    assert not refused(model, tmp_path / "file")
    for name, change in hostile.items():
        dense_h5(tmp_path / "file", h5py, change)
        assert refused(model, tmp_path / "file"), name


@needs_h5py
def test_an_array_that_claims_terabytes_is_refused_unread(tmp_path, h5py):
    """A kilobyte of gzip that would be a terabyte of zeros."""
    dense_h5(
        tmp_path / "file",
        h5py,
        lambda file, group: group.create_dataset(
            "kernel:0", (2**19, 2**19), "f4", chunks=(2**10, 2**10), compression="gzip"
        ),
    )
    assert (tmp_path / "file").stat().st_size < 100_000
    with pytest.raises(ShapeError, match=r"fc/kernel .*\(524288, 524288\) for \(2, 2\)"):
        pn.Sequential([L.Input((2,)), L.Dense(2, name="fc")]).load_weights(tmp_path / "file")


@needs_h5py
def test_groups_that_contain_themselves_are_refused(tmp_path, h5py):
    with h5py.File(tmp_path / "file", "w") as file:
        layers = file.create_group("layers")
        for name in ("a", "b", "c"):
            layers[name] = layers
    with pytest.raises(FileFormatError, match="deep"):
        network().load_weights(tmp_path / "file")


@needs_h5py
def test_an_hdf5_file_of_something_else_is_refused(tmp_path, h5py):
    with h5py.File(tmp_path / "file", "w") as file:
        file.create_dataset("measurements", data=np.ones(3))
    with pytest.raises(FileFormatError, match=r"weights as Keras writes them.*measurements"):
        network().load_weights(tmp_path / "file")


@needs_h5py
def test_a_keras_file_with_compressed_members_is_refused(tmp_path, h5py):
    keras_zip(tmp_path / "file", arrays_of(network()), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(FileFormatError, match=r"model\.weights\.h5.*not compressed"):
        network().load_weights(tmp_path / "file")


@needs_h5py
@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b'{"config": {"layers": [3]}}', b'{"config": {"layers": {"a": 1}}}'])
def test_a_keras_configuration_is_only_asked_for_names(config, tmp_path, h5py):
    """Its classes are never made, so what it says besides cannot matter; it must be JSON."""
    model = network()
    keras_zip(tmp_path / "whole", arrays_of(model), named=False)
    with zipfile.ZipFile(tmp_path / "whole") as whole, zipfile.ZipFile(tmp_path / "file", "w") as file:
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", whole.read("model.weights.h5"))
    other = network(seed=2)
    if config == b"":
        with pytest.raises(FileFormatError, match=r"config\.json"):
            other.load_weights(tmp_path / "file")
    else:
        assert other.load_weights(tmp_path / "file").matched_by == "class"
        assert_same(other, model)


def test_a_file_of_another_format_than_asked_for_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(torch_bytes(network()))
    model = network(seed=2)
    with pytest.raises(FileFormatError, match=str(path)):
        model.load_weights(path, format="parnet")
    with pytest.raises(FileFormatError, match=str(path)):
        model.load_weights(path, format="keras")
    with pytest.raises(UnknownNameError, match="auto, keras, keras-h5, parnet, safetensors"):
        model.load_weights(path, format="torch")
    with pytest.raises(FileNotFoundError):
        model.load_weights(tmp_path / "nowhere")


def test_text_and_nothing_are_no_weights(tmp_path):
    for data in (b"", b"weights", json.dumps({"weights": [1, 2]}).encode()):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(FileFormatError):
            network().load_weights(tmp_path / "file")


@needs_h5py
def test_without_h5py_the_command_that_installs_it_is_named(tmp_path, h5py, monkeypatch):
    legacy_h5(tmp_path / "file", arrays_of(network()))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"h5py.*pip install 'parnet\[io\]'"):
        network().load_weights(tmp_path / "file")


@needs_h5py
def test_files_are_closed_again(tmp_path, h5py):
    """On Windows an open file cannot be replaced; elsewhere h5py would keep it locked."""
    for kind in WRITERS:
        written(kind, tmp_path / "file", network())
        network(seed=2).load_weights(tmp_path / "file")
        Path(tmp_path / "file").unlink()
        assert not h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_weights_and_folders_are_no_models_and_the_message_says_what_to_call(tmp_path):
    model = pn.Sequential([L.Dense(2, input_shape=(3,))], seed=1)
    model.save_weights(tmp_path / "w.safetensors")
    with pytest.raises(
        FileFormatError, match=r"model.save wrote, received .*'safetensors'; .* call its load_weights\(path\)"
    ):
        pn.load_model(tmp_path / "w.safetensors")
    for load in (pn.load_model, model.load_weights):
        with pytest.raises(IsADirectoryError, match="expected a file, received a folder; of a SavedModel"):
            load(tmp_path)
