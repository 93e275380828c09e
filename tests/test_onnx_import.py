"""ONNX files read: what parnet wrote comes back, what others write is computed as ONNX Runtime does, the rest is refused."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from test_onnx import ACTIVATIONS, EXAMPLES, at_random, graph, run

import parnet as pn
from parnet import layers as L
from parnet.errors import FileFormatError, MissingExtraError

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
helper = onnx.helper


def again(model, path) -> pn.Model:
    """The model, through a file."""
    model.export(path)
    return pn.load_model(path)


@pytest.mark.parametrize(("layer", "shape"), [p for p in EXAMPLES if not p.id.startswith(("RandomCrop", "Input"))])
def test_every_layer_comes_back(layer, shape, tmp_path, rng):
    layer = type(layer).from_config(layer.get_config())
    shapes = shape if layer.merges else (shape,)
    inputs = [pn.Input(s, name=f"in{i}") for i, s in enumerate(shapes)]
    model = at_random(pn.Model(inputs, L.Activation("tanh")(layer(inputs if layer.merges else inputs[0]))), rng)
    x = [rng.normal(size=(3, *s)).astype(np.float32) for s in shapes]
    x = x if len(x) > 1 else x[0]
    other = again(model, tmp_path / "m.onnx")
    assert other.input_shape == model.input_shape
    np.testing.assert_allclose(other.predict(x), model.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_come_back(name, tmp_path, rng):
    model = pn.Sequential([L.Conv2D(3, 3, activation=name, input_shape=(6, 5, 2)), L.Flatten(), L.Dense(7, name)])
    x = rng.normal(size=(4, 6, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(again(model, tmp_path / "m.onnx").predict(x), model.predict(x), rtol=1e-5, atol=1e-6)


def test_graphs_come_back_with_names_of_inputs_and_layers(tmp_path, rng):
    model = at_random(graph(), rng)
    other = again(model, tmp_path / "m.onnx")
    x = [rng.normal(size=(3, 6, 6, 3)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)]
    for ours, theirs in zip(other.predict(x), model.predict(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert [tensor.name for tensor in other.inputs] == ["picture", "row"]
    assert {"left", "conv2d", "dense", "batch_normalization"} <= {layer.name for layer in other.layers}


def test_a_network_read_can_be_trained_on(tmp_path, rng):
    model = pn.Sequential([L.Dense(16, "relu", input_shape=(5,)), L.Dense(3, "softmax")])
    other = again(model, tmp_path / "m.onnx")
    x = rng.normal(size=(300, 5)).astype(np.float32)
    y = x[:, :3].argmax(axis=1)
    other.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    other.fit(x, y, epochs=40, verbose=0)
    assert other.evaluate(x, y)[1] > 0.9


def saved(path, nodes, arrays, shape, outputs=("y",), kind=onnx.TensorProto.FLOAT):
    """A file with an input x (batch, *shape)."""
    info = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    given = [helper.make_tensor_value_info("x", kind, ["batch", *shape])]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, info, tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    path.write_bytes(model.SerializeToString())
    return path


def node(kind, *inputs, out="", **attributes):
    return helper.make_node(kind, list(inputs), [out or f"{kind}_{inputs[0]}"], **attributes)


def test_a_network_as_pytorch_exports_it(tmp_path, rng):
    """Channels first throughout, a flattened picture, kernels (out, in), windows padded alike on all sides."""

    def draw(*shape):
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    arrays = {
        "conv1.weight": draw(6, 3, 3, 3), "conv1.bias": draw(6), "conv2.weight": draw(6, 1, 3, 3),
        **{f"bn.{name}": draw(6) for name in ("weight", "bias", "mean")}, "bn.var": draw(6) ** 2 + 0.5,
        **{f"bn1.{name}": draw(54) for name in ("weight", "bias", "mean")}, "bn1.var": draw(54) ** 2 + 0.5,
        "fc1.weight": draw(7, 54), "fc1.bias": draw(7), "fc2.weight": draw(7, 4), "fc2.bias": draw(4),
        "shape": np.array([-1, 54], np.int64),
    }  # fmt: skip
    nodes = [
        node("Conv", "x", "conv1.weight", "conv1.bias", out="a", pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3]),
        node("BatchNormalization", "a", *(f"bn.{n}" for n in ("weight", "bias", "mean", "var")), out="b", epsilon=1e-4),
        node("Relu", "b", out="c"),
        node("MaxPool", "c", out="d", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", "d", "conv2.weight", out="e", group=6, pads=[1, 1, 1, 1]),
        node("Add", "d", "e", out="f"),
        node("Reshape", "f", "shape", out="g"),
        node("BatchNormalization", "g", *(f"bn1.{n}" for n in ("weight", "bias", "mean", "var")), out="h"),
        node("Gemm", "h", "fc1.weight", "fc1.bias", out="i", transB=1),
        node("LeakyRelu", "i", out="j"),
        node("MatMul", "j", "fc2.weight", out="k"),
        node("Add", "fc2.bias", "k", out="l"),
        node("Softmax", "l", out="y"),
    ]
    path = saved(tmp_path / "m.onnx", nodes, arrays, (3, 12, 12))
    x = rng.normal(size=(4, 3, 12, 12)).astype(np.float32)
    model = pn.load_model(path)
    assert model.input_shape == (12, 12, 3)
    assert [layer.name for layer in model.layers if layer.get_weights()] == ["conv1", "bn", "conv2", "bn1", "fc1", "fc2"]
    np.testing.assert_allclose(model.predict(x.transpose(0, 2, 3, 1)), run(path, [x])[0], rtol=1e-5, atol=1e-6)


def test_gelu_as_pytorch_writes_it(tmp_path, rng):
    numbers = {"s": np.array(2**0.5, "f4"), "one": np.array(1, "f4")}
    half = node("Constant", out="half", value=onnx.numpy_helper.from_array(np.array(0.5, "f4")))
    nodes = [half, node("Div", "x", "s", out="a"), node("Erf", "a", out="b"), node("Add", "b", "one", out="c")]
    nodes += [node("Mul", "x", "c", out="d"), node("Mul", "d", "half", out="e"), node("Relu", "e", out="y")]
    path, x = saved(tmp_path / "m.onnx", nodes, numbers, (5,)), rng.normal(size=(3, 5)).astype(np.float32)
    model = pn.load_model(path)
    assert [layer.activation.name for layer in model.layers] == ["gelu", "relu"]
    np.testing.assert_allclose(model.predict(x), run(path, [x])[0], atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (0.0, None), (0.0, np.finfo("f4").max), (None, None)])
def test_clip_is_read_as_the_activation_that_it_is(low, high, tmp_path, rng):
    """As PyTorch writes ReLU6 and clamp(min=0)."""
    bounds = {name: np.array(value, "f4") for name, value in (("low", low), ("high", high)) if value is not None}
    names = [name if name in bounds else "" for name in ("low", "high")]
    path = saved(tmp_path / "m.onnx", [node("Clip", "x", *names, out="a"), node("Softplus", "a", out="y")], bounds, (5,))
    x = (5 * rng.normal(size=(9, 5))).astype(np.float32)
    np.testing.assert_allclose(pn.load_model(path).predict(x), run(path, [x])[0], rtol=1e-6, atol=1e-6)


REFUSED = {
    "Clip elsewhere": (
        [node("Clip", "x", "a", "b", out="y")],
        {"a": np.array(-1, "f4"), "b": np.array(1, "f4")},
        "Clip at -1",
    ),
    "operators": ([node("LSTM", "x"), node("Erf", "LSTM_x", out="y")], {}, r"received Erf, LSTM"),
    "a computed kernel": ([node("Sigmoid", "x", out="w"), node("MatMul", "x", "w", out="y")], {}, "a constant for w"),
    "half a gelu": ([node("Erf", "x", out="a"), node("Add", "a", "c", out="y")], {"c": np.ones(1, "f4")}, "received Erf"),
    "another axis": ([node("Softmax", "x", axis=0, out="y")], {}, "axis 0"),
    "odd Selu": ([node("Selu", "x", alpha=2.0, out="y")], {}, "usual alpha"),
    "an array added": ([node("Mul", "x", "c", out="y")], {"c": np.ones(4, "f4")}, "with one number"),
    "a division by 0": ([node("Div", "x", "c", out="y")], {"c": np.zeros(1, "f4")}, "finite"),
    "a kernel that does not fit": ([node("MatMul", "x", "w", out="y")], {"w": np.ones((3, 2), "f4")}, "arrays? .*|fit"),
    "no output": ([node("Relu", "x", out="z")], {}, "the graph's output"),
    "a convolution of rows": ([node("Conv", "x", "w", out="y")], {"w": np.ones((1, 4, 1, 1), "f4")}, "an image"),
    "a turned batch": ([node("Transpose", "x", perm=[1, 0], out="y")], {}, "Transpose of each sample by itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_parnet_has_no_layer_for_is_refused(name, tmp_path):
    nodes, arrays, says = REFUSED[name]
    with pytest.raises(FileFormatError, match=says) as error:
        pn.load_model(saved(tmp_path / "m.onnx", nodes, arrays, (4,)))
    assert str(tmp_path) in str(error.value)


def with_numbers_elsewhere(path, location, **words):
    """The file of one MatMul, whose matrix is said to lie in another file."""
    saved(path, [node("MatMul", "x", "w", out="y")], {"w": np.ones((4, 2), "f4")}, (4,))
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location, **words)
    model.graph.initializer[0].ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return path


def test_numbers_in_a_file_beside_are_read(tmp_path):
    """As `torch.onnx.export` writes them."""
    matrix = np.arange(8, dtype="f4").reshape(4, 2)
    (tmp_path / "m.onnx.data").write_bytes(bytes(16) + matrix.tobytes())
    model = pn.load_model(with_numbers_elsewhere(tmp_path / "m.onnx", "m.onnx.data", offset=16, length=32))
    np.testing.assert_array_equal(model.get_weights()[0], matrix)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../secret", {}), ("/etc/passwd", {}), ("", {}), ("..", {}), ("gone", {}), ("folder", {}), ("link", {}),
        ("a\\b", {}), ("short", {}), ("whole", {"offset": 1}), ("whole", {"offset": -1}), ("whole", {"length": 31}),
        ("whole", {"offset": 2**62}), ("whole", {"length": 2**62}),
    ],
)  # fmt: skip
def test_other_references_are_refused(location, words, tmp_path):
    inner = tmp_path / "inner"
    (inner / "folder").mkdir(parents=True)
    for place in (tmp_path / "secret", inner / "whole"):
        place.write_bytes(bytes(32))
    (inner / "short").write_bytes(bytes(31))
    if hasattr(os, "symlink"):
        os.symlink(tmp_path / "secret", inner / "link")
    with pytest.raises(FileFormatError):
        pn.load_model(with_numbers_elsewhere(inner / "m.onnx", location, **words))


def test_the_mean_over_an_image_is_read_with_and_without_its_axes(tmp_path, rng):
    """As `x.mean((2, 3))` comes from PyTorch; the axes are an input from opset 18 on."""
    x = rng.normal(size=(3, 2, 5, 4)).astype("f4")
    for keepdims, axes in ((0, [2, 3]), (1, [-1, -2])):
        nodes = [
            node("Conv", "x", "w", out="c"),
            node("ReduceMean", "c", axes=axes, keepdims=keepdims, out="m"),
            node("Flatten", "m", out="y"),
        ]
        model = pn.load_model(saved(tmp_path / "m.onnx", nodes, {"w": np.ones((1, 2, 1, 1), "f4")}, (2, 5, 4)))
        np.testing.assert_allclose(model.predict(np.moveaxis(x, 1, -1)), x.sum(1).mean((1, 2))[:, None], rtol=1e-5)


def test_damaged_files_are_refused_or_harmless(tmp_path, rng):
    """Cut anywhere, or with bytes changed: an error of ours, or a model; never another error."""
    path, model = (
        tmp_path / "m.onnx",
        pn.Sequential([L.Conv2D(2, 2, input_shape=(4, 4, 1)), L.Flatten(), L.Dense(3, "relu")]),
    )
    model.export(path)
    whole, refused = path.read_bytes(), 0
    for trial in range(150):
        data = bytearray(whole[: rng.integers(len(whole))] if trial % 3 == 0 else whole)
        for place in rng.integers(max(1, len(data)), size=0 if trial % 3 == 0 else 1 + trial % 5):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            pn.load_model(path)
        except FileFormatError:
            refused += 1
    assert refused > 40
    for data in (b"", b"onnx", b"\x80\x04."):
        path.write_bytes(data)
        with pytest.raises(FileFormatError):
            pn.load_model(path)
    with pytest.raises(FileNotFoundError):
        pn.load_model(tmp_path / "nowhere.onnx")


def test_without_onnx_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'parnet\[onnx\]'"):
        pn.load_model(tmp_path / "m.onnx")
