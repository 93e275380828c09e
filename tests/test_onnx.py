"""ONNX files: ONNX Runtime computes from them what the model computes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, MissingExtraError, StateError, UnknownNameError
from parnet.io.onnx_layers import WRITERS
from parnet.layers.base import registry

pytestmark = pytest.mark.onnx
pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

EXAMPLES = [
    pytest.param(layer, shape, id=f"{name}-{number}")
    for name, cls in sorted(registry.classes.items())
    if cls.__module__.startswith("parnet.layers.")
    for number, (layer, shape) in enumerate(cls.examples())
]
ACTIVATIONS = [one.name for one in pn.activations._BUILTIN]


def run(path, x) -> list[np.ndarray]:
    """All outputs of a file, of inputs in order or by name."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return session.run(None, x if isinstance(x, dict) else dict(zip(names, x, strict=True)))


def at_random(model, rng) -> pn.Model:
    """The model with weights that no layer starts from; variances stay above 0."""
    model.set_weights(
        [rng.uniform(0.3, 1.5, a.shape) * (1 if a.ndim == 1 else rng.choice([-1, 1])) for a in model.get_weights()]
    )
    return model


def compare(model, path, x, tolerance=1e-5) -> None:
    """Both on the same inputs; each distance in proportion to the largest number."""
    model.export(path)
    expected = model.predict(x[0] if len(x) == 1 else list(x))
    for ours, theirs in zip(expected if isinstance(expected, list) else [expected], run(path, x), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert abs(ours - theirs).max() <= tolerance * max(1, abs(ours).max())


@pytest.mark.parametrize(("layer", "shape"), EXAMPLES)
def test_every_layer_computes_the_same_in_onnx_runtime(layer, shape, tmp_path, rng):
    layer = type(layer).from_config(layer.get_config())  # examples are shared with other tests
    shapes = shape if layer.merges else (shape,)
    inputs = [pn.Input(s, name=f"in{i}") for i, s in enumerate(shapes)]
    if layer.is_input:
        model = pn.Sequential([layer, L.Flatten()])
    else:
        model = at_random(pn.Model(inputs, layer(inputs if layer.merges else inputs[0])), rng)
    compare(model, tmp_path / "m.onnx", [rng.normal(size=(3, *s)).astype(np.float32) for s in shapes])


def test_every_layer_has_a_writer():
    assert {name for name, cls in registry.classes.items() if cls.__module__.startswith("parnet.layers.")} == set(WRITERS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_after_dense_and_convolution(name, tmp_path, rng):
    """Softmax works along the channels, which stand second in ONNX's images."""
    model = pn.Sequential(
        [L.Conv2D(3, 3, activation=name, input_shape=(6, 5, 2)), L.Activation(name), L.Flatten(), L.Dense(7, name)]
    )
    size = 0.3 if name == "exponential" else 1.0
    compare(model, tmp_path / "m.onnx", [rng.normal(0, size, size=(4, 6, 5, 2)).astype(np.float32)])


def test_a_network_of_document_003(tmp_path, rng):
    first = [
        L.Conv2D(8, 3, activation="relu", input_shape=(28, 28, 1)),
        L.MaxPooling2D(),
        L.Flatten(),
        L.BatchNormalization(),
    ]
    last = [L.Dense(20, activation="selu"), L.BatchNormalization(), L.Dropout(0.5), L.Dense(10, activation="softmax")]
    model = pn.Sequential([*first, *last])
    compare(at_random(model, rng), tmp_path / "m.onnx", [rng.uniform(size=(2, 28, 28, 1)).astype(np.float32)])


def graph():
    """Two inputs, two outputs, a shared layer, a residual, images and rows side by side."""
    a, b = pn.Input((6, 6, 3), name="picture"), pn.Input((4,), name="row")
    shared = L.Conv2D(5, 3, padding="same", strides=2)
    x = L.Add()([shared(a), L.ZeroPadding2D(((0, 0), (0, 0)))(shared(L.Activation("tanh")(a)))])
    x = L.BatchNormalization()(x)
    x = L.Concatenate()([x, L.AveragePooling2D(2)(a)])
    y = L.Multiply()([L.GlobalAveragePooling2D()(x), L.Dense(8)(b)])
    return pn.Model([a, b], [L.Dense(3, name="left")(y), L.LayerNormalization()(x), y])


def test_graphs_of_several_inputs_and_outputs(tmp_path, rng):
    x = [rng.normal(size=(3, 6, 6, 3)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)]
    compare(at_random(graph(), rng), tmp_path / "m.onnx", x)
    session = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["picture", "row"] and session.get_outputs()[0].name == "left"
    assert session.get_inputs()[0].shape == ["batch", 6, 6, 3]


def test_resnet_blocks_turn_the_picture_once(tmp_path, rng):
    """Between layers that all want channels first nothing is transposed."""
    onnx = pytest.importorskip("onnx")
    model = pn.applications.resnet18(weights=None, input_shape=(32, 32, 3), classes=10)
    compare(model, tmp_path / "m.onnx", [rng.uniform(size=(2, 32, 32, 3)).astype(np.float32)])
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert kinds.count("Conv") == 20 and kinds.count("Transpose") == 1


def test_float64_stays_float64(tmp_path, rng):
    model = pn.Sequential([L.Dense(5, "sigmoid", input_shape=(4,)), L.Dense(3)], dtype="float64")
    compare(model, tmp_path / "m.onnx", [rng.normal(size=(2, 4))], tolerance=1e-12)


def test_an_output_may_be_an_input(tmp_path, rng):
    a = pn.Input((3,), name="a")
    compare(pn.Model(a, [a, L.Dense(2)(a)]), tmp_path / "m.onnx", [rng.normal(size=(2, 3)).astype(np.float32)])


def test_what_onnx_cannot_say_is_refused_and_no_file_is_left(tmp_path):
    cube = pn.activations.define("cube_for_onnx", lambda x, alpha: x * x * x, lambda x, y, alpha: x * x * 3)
    with pytest.raises(HyperparameterError, match="one of your own"):
        pn.Sequential([L.Dense(2, activation=cube, input_shape=(2,))]).export(tmp_path / "m.onnx")
    with pytest.raises(StateError, match="input's shape is not known"):
        pn.Sequential([L.Dense(2)]).export(tmp_path / "m.onnx")
    with pytest.raises(UnknownNameError, match="onnx"):
        pn.Sequential([L.Dense(2, input_shape=(2,))]).export(tmp_path / "m.onnx", format="tflite")
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'parnet\[onnx\]'"):
        pn.Sequential([L.Dense(2, input_shape=(2,))]).export(tmp_path / "m.onnx")
