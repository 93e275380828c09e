"""Known networks: their layers, their weights from any file, and the files that come from the web."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from web import Server
from weight_writers import arrays_of, keras3_h5, keras_zip, legacy_h5, safetensors_bytes, torch_arrays

from parnet.applications import _files, imagenet, lenet, resnet, resnet50
from parnet.applications._files import KnownFile
from parnet.config import Settings
from parnet.errors import DatasetError, FileFormatError, HyperparameterError, ShapeError, UnknownNameError
from parnet.io import torch_layout

needs_h5py = pytest.mark.h5py


def scattered(model, seed=7):
    """Weights of every layer that differ, and keep the numbers in range through fifty layers."""
    rng = np.random.default_rng(seed)
    made = {
        "kernel": lambda s: rng.normal(size=s) * np.sqrt((2 if len(s) > 2 else 0.2) / np.prod(s[:-1])),
        "gamma": lambda s: rng.uniform(0.4, 0.8, s),
        "moving_variance": lambda s: rng.uniform(0.7, 1.4, s),
    }
    model.set_weights([made.get(p.name.rsplit("/")[-1], lambda s: rng.normal(size=s) * 0.1)(p.shape) for p in model.weights])
    return model


# -- ResNet-50 ----------------------------------------------------------------------------------


def test_resnet50_has_kerass_177_rows_and_parameters_without_making_one():
    tracemalloc.start()
    try:
        model = resnet50.ResNet50()
        rows = []
        model.summary(print_fn=lambda text: rows.extend(text.splitlines()))
        assert tracemalloc.get_traced_memory()[1] < 8e6, "the weights would be 102 MB"
    finally:
        tracemalloc.stop()
    kinds = Counter(type(layer).__name__ for layer in model._layers)
    assert kinds == {
        "Conv2D": 53, "BatchNormalization": 53, "Activation": 49, "Add": 16, "ZeroPadding2D": 2, "MaxPooling2D": 1,
        "GlobalAveragePooling2D": 1, "Dense": 1, "Input": 1,
    }  # fmt: skip
    assert len(model._layers) == 177 and model.count_params() == 25_636_712
    text = "\n".join(rows)
    for line in ("Total params: 25,636,712", "Trainable params: 25,583,592", "Non-trainable params: 53,120"):
        assert line in text
    sizes = {layer.name: sum(p.size for p in map(_shape, model.weights) if p.layer == layer.name) for layer in model.layers}
    assert sum(sizes.values()) == 25_636_712
    assert sizes["conv1_conv"] == 9_472 and sizes["conv5_block3_2_conv"] == 2_359_808 and sizes["probs"] == 2_049_000


class _shape:
    """Layer and size of a parameter."""

    def __init__(self, parameter):
        self.layer, self.size = parameter.name.rsplit("/", 1)[0], int(np.prod(parameter.shape))


def keras_rows():
    """The names of keras.applications.ResNet50's layers in their order (Keras 3.15), the last one as Keras 2 has it."""
    names = ["conv1_pad", "conv1_conv", "conv1_bn", "conv1_relu", "pool1_pad", "pool1_pool"]
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, blocks + 1):
            own = ["1_conv", "1_bn", "1_relu", "2_conv", "2_bn", "2_relu"]
            own += ["0_conv", "3_conv", "0_bn", "3_bn"] if block == 1 else ["3_conv", "3_bn"]
            names += [f"conv{stage}_block{block}_{part}" for part in [*own, "add", "out"]]
    return [*names, "avg_pool", "probs"]


def test_resnet50s_layers_have_kerass_names_in_kerass_order():
    model = resnet50.ResNet50()
    assert [layer.name for layer in model.layers] == keras_rows()
    strides = {layer.name: layer.strides for layer in model.layers if type(layer).__name__ == "Conv2D"}
    assert strides["conv3_block1_1_conv"] == (2, 2) and strides["conv3_block1_2_conv"] == (1, 1)
    assert {layer.epsilon for layer in model.layers if type(layer).__name__ == "BatchNormalization"} == {1.001e-5}


def test_resnet50_without_its_top_ends_where_it_says():
    for pooling, shape in ((None, (2, 3, 2048)), ("avg", (2048,)), ("max", (2048,))):
        model = resnet50.ResNet50(include_top=False, pooling=pooling, input_shape=(64, 96, 3))
        assert model.output_shape == shape and model.count_params() == 25_636_712 - 2_049_000
    assert resnet50.ResNet50(input_shape=[33, 40, 1], classes=7).output_shape == (7,)


def test_resnet50_refuses_what_cannot_work():
    with pytest.raises(ShapeError, match=r"32 pixels or more.*\(31, 224, 3\)"):
        resnet50.ResNet50(input_shape=(31, 224, 3))
    with pytest.raises(ShapeError, match=r"\(H, W, 3\)"):
        resnet50.ResNet50("imagenet", input_shape=(224, 224, 1))
    with pytest.raises(HyperparameterError, match=r"1000 classes.*10"):
        resnet50.ResNet50("imagenet", classes=10)
    with pytest.raises(UnknownNameError, match="avg, max"):
        resnet50.ResNet50(include_top=False, pooling="mean")
    with pytest.raises(FileNotFoundError):
        resnet50.ResNet50("nowhere.h5")


# -- a small ResNet, its arithmetic done by hand ------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """ResNet-50 with a block or two a stage and few filters: every kind of layer and name it has."""
    monkeypatch.setattr(resnet50, "STAGES", ((4, 2, 1), (6, 1, 2)))
    return lambda weights=None, **options: resnet50.ResNet50(weights, input_shape=(32, 40, 3), classes=5, **options)


def pad(x, n):
    return np.pad(x, ((0, 0), (n, n), (n, n), (0, 0)))


def windows(x, size, step):
    """(N, H, W, size, size, C)."""
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.moveaxis(view[:, ::step, ::step], 3, -1)


def by_hand(model, x):
    """The forward pass of `tiny` in float64, from the arrays by Keras's names."""
    w = {p.name: p.numpy().astype("f8") for p in model.weights}

    def conv(x, name, step=1):
        kernel = w[f"{name}_conv/kernel"]
        y = np.einsum("nhwabc,abcf->nhwf", windows(x, len(kernel), step), kernel, optimize=True) + w[f"{name}_conv/bias"]
        gamma, beta, mean, variance = (w[f"{name}_bn/{k}"] for k in ("gamma", "beta", "moving_mean", "moving_variance"))
        return (y - mean) / np.sqrt(variance + 1.001e-5) * gamma + beta

    def block(x, name, step, widens):
        y = np.maximum(conv(x, f"{name}_1", step), 0)
        y = conv(np.maximum(conv(pad(y, 1), f"{name}_2"), 0), f"{name}_3")
        return np.maximum(y + (conv(x, f"{name}_0", step) if widens else x), 0)

    x = np.maximum(conv(pad(x.astype("f8"), 3), "conv1", 2), 0)
    x = windows(pad(x, 1), 3, 2).max((3, 4))
    for name, step, widens in (("conv2_block1", 1, True), ("conv2_block2", 1, False), ("conv3_block1", 2, True)):
        x = block(x, name, step, widens)
    z = x.mean((1, 2)) @ w["probs/kernel"] + w["probs/bias"]
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("rows", [1, 8])
def test_a_small_resnet_computes_what_its_formulas_say(rows, tiny, rng):
    model = scattered(tiny())
    x = (rng.normal(size=(rows, 32, 40, 3)) * 50).astype("f4")
    np.testing.assert_allclose(model.predict(x), by_hand(model, x), rtol=1e-4)


WRITERS = {
    "keras 2": legacy_h5,
    "keras 2, whole": lambda path, arrays: legacy_h5(path, arrays, whole=True),
    "keras 3": keras3_h5,
    "keras 3 without names": lambda path, arrays: keras3_h5(path, arrays, named=False),
    "keras": keras_zip,
}


@needs_h5py
@pytest.mark.parametrize("last", ["probs", "predictions"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_small_resnet_takes_its_weights_from_any_file_of_keras(kind, last, tiny, tmp_path, rng):
    pytest.importorskip("h5py", reason="h5py is not installed")
    model = scattered(tiny())
    arrays = {last if name == "probs" else name: value for name, value in arrays_of(model).items()}
    WRITERS[kind](tmp_path / "file", arrays)
    other = tiny(tmp_path / "file", seed=99)
    x = rng.normal(size=(2, 32, 40, 3)).astype("f4")
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_a_small_resnet_takes_its_weights_from_torchvisions_names(tiny, tmp_path, rng):
    model = scattered(tiny())
    arrays = {torch_layout.torchvision_name(name): value for name, value in arrays_of(model).items()}
    assert {"conv1", "bn1", "layer1.0.downsample.0", "layer1.0.downsample.1", "layer2.0.conv3", "fc"} <= arrays.keys()
    (tmp_path / "file").write_bytes(safetensors_bytes(torch_arrays(arrays)))
    other = tiny(tmp_path / "file", seed=99)
    x = rng.normal(size=(2, 32, 40, 3)).astype("f4")
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


# -- ResNet-18, ResNet-34, LeNet-5 ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "trainable", "moving"), [(resnet.resnet18, 11_689_512, 9_600), (resnet.resnet34, 21_797_672, 17_024)]
)
def test_resnets_have_torchvisions_parameters(make, trainable, moving):
    model = make()
    assert model.count_params() == trainable + moving and model.output_shape == (1000,)
    assert sum(int(np.prod(p.shape)) for p in model.weights if p.trainable) == trainable
    names = {p.name.rsplit("/", 1)[0] for p in model.weights}
    assert {"conv1", "bn1", "layer1.0.conv1", "layer2.0.downsample.0", "layer4.1.bn2", "fc"} <= names
    with pytest.raises(ShapeError, match=f"{make.__name__}.*32 pixels"):
        make(input_shape=(16, 16, 3))


def test_resnet18_takes_its_weights_from_a_state_dict(tmp_path, rng):
    model = scattered(resnet.resnet18(input_shape=(32, 32, 3), classes=10))
    (tmp_path / "file").write_bytes(safetensors_bytes(torch_arrays(arrays_of(model))))
    other = resnet.resnet18(tmp_path / "file", input_shape=(32, 32, 3), classes=10)
    x = rng.normal(size=(2, 32, 32, 3)).astype("f4")
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_lenet5_has_the_papers_parameters():
    assert lenet.LeNet5().count_params() == lenet.LeNet5(input_shape=(32, 32, 1)).count_params() == 61_706
    assert [layer.name for layer in lenet.LeNet5().layers] == "conv1 pool1 conv2 pool2 flatten fc1 fc2 fc3".split()
    with pytest.raises(ShapeError, match="12 pixels"):
        lenet.LeNet5(input_shape=(8, 8, 1))
    with pytest.raises(ShapeError, match="LeNet5"):
        lenet.LeNet5(input_shape=(28, 28))


def test_lenet5_takes_its_weights_from_pytorch_whose_features_are_in_another_order(tmp_path, rng):
    model = scattered(lenet.LeNet5())
    data = safetensors_bytes(torch_arrays(arrays_of(model), {"fc1": (5, 5, 16)}))
    (tmp_path / "file").write_bytes(data)
    x = rng.normal(size=(3, 28, 28, 1)).astype("f4")
    np.testing.assert_array_equal(lenet.LeNet5(tmp_path / "file").predict(x), model.predict(x))


# -- beside Keras and PyTorch -------------------------------------------------------------------


def spread(array, name, rng):
    """Values for a weight of Keras or PyTorch, so that a softmax of 1000 outputs stays spread out."""
    shape = tuple(array.shape)
    if "var" in name and "variable" not in name:
        return rng.uniform(0.7, 1.4, shape).astype("f4")
    if "gamma" in name or (len(shape) == 1 and name.endswith("weight")):
        return rng.uniform(0.4, 0.8, shape).astype("f4")
    if len(shape) == 4:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape) / max(shape[0], shape[-1]))).astype("f4")
    return (rng.normal(size=shape) * (0.03 if len(shape) == 2 else 0.1)).astype("f4")


def agree(mine, theirs):
    """1000 outputs to 1e-4, relative to each; they are probabilities that differ."""
    assert theirs.shape[1] == 1000 and 1e-6 < theirs.min() and theirs.max() < 0.5 and theirs.std() > 1e-5
    np.testing.assert_allclose(mine, theirs, rtol=1e-4)


@pytest.mark.keras
@pytest.mark.slow
@needs_h5py
@pytest.mark.filterwarnings("ignore")
def test_resnet50_gives_kerass_outputs_through_each_of_its_files(tmp_path, rng):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    other = keras.applications.ResNet50(weights=None)
    other.set_weights([spread(w, w.path, rng) for w in other.weights])
    x = rng.normal(size=(8, 224, 224, 3)).astype("f4")
    wanted = other.predict(x, verbose=0)
    for name in ("a.weights.h5", "a.keras", "a.h5"):
        (other.save_weights if "weights" in name else other.save)(tmp_path / name)
        model = resnet50.ResNet50(tmp_path / name)
        agree(model.predict(x), wanted)
        agree(model.predict(x[:1]), wanted[:1])


@pytest.mark.keras
@pytest.mark.slow
@needs_h5py
@pytest.mark.filterwarnings("ignore")
def test_resnet50_gives_keras_2s_outputs_through_each_of_its_files(tmp_path, rng):
    keras = pytest.importorskip("tf_keras", reason="Keras 2 (tf-keras) is not installed")
    other = keras.applications.ResNet50(weights=None)
    other.set_weights([spread(w, w.name, rng) for w in other.weights])
    x = rng.normal(size=(8, 224, 224, 3)).astype("f4")
    wanted = other.predict(x, verbose=0)
    for name in ("a.h5", "b.h5", "a.keras", "a.weights.h5"):
        (other.save_weights if name in ("a.h5", "a.weights.h5") else other.save)(tmp_path / name)
        model = resnet50.ResNet50(tmp_path / name)
        agree(model.predict(x), wanted)
        agree(model.predict(x[:1]), wanted[:1])


def torch_resnet(torch, blocks, bottleneck):
    """torchvision's module with its names; bottlenecks as in version 1, with biases and Keras's epsilon."""
    nn = torch.nn

    def conv(inputs, outputs, size, stride=1):
        return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=bottleneck)

    def norm(channels):
        return nn.BatchNorm2d(channels, eps=1.001e-5 if bottleneck else 1e-5)

    class Block(nn.Module):
        def __init__(self, inputs, filters, outputs, stride):
            super().__init__()
            sizes = [(1, stride), (3, 1), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
            channels = [inputs, *[filters] * (len(sizes) - 1), outputs]
            for i, (size, step) in enumerate(sizes):
                setattr(self, f"conv{i + 1}", conv(channels[i], channels[i + 1], size, step))
                setattr(self, f"bn{i + 1}", norm(channels[i + 1]))
            self.count, self.downsample = len(sizes), None
            if stride != 1 or inputs != outputs:
                self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), norm(outputs))

        def forward(self, x):
            y = x
            for i in range(1, self.count + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                y = torch.relu(y) if i < self.count else y
            return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1, inputs = conv(3, 64, 7, 2), norm(64), 64
            for stage, number in enumerate(blocks):
                filters, layer = 64 << stage, []
                outputs = filters * (4 if bottleneck else 1)
                for block in range(number):
                    layer.append(Block(inputs, filters, outputs, 2 if stage and not block else 1))
                    inputs = outputs
                setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
            self.fc = nn.Linear(inputs, 1000)

        def forward(self, x):
            x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return torch.softmax(self.fc(x.mean((2, 3))), 1)

    return Net().eval()


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_give_pytorchs_outputs_through_safetensors(name, tmp_path, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    blocks = (2, 2, 2, 2) if name == "resnet18" else (3, 4, 6, 3)
    other = torch_resnet(torch, blocks, name == "resnet50")
    state = {k: spread(v, k, rng) if v.ndim else v.numpy() for k, v in other.state_dict().items()}
    other.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    path = tmp_path / "weights.safetensors"
    try:
        from safetensors.torch import save_file
    except ImportError:
        path.write_bytes(safetensors_bytes(state))
    else:
        save_file(other.state_dict(), path)
    x = rng.normal(size=(8, 224, 224, 3)).astype("f4")
    with torch.no_grad():
        wanted = other(torch.tensor(np.moveaxis(x, 3, 1).copy())).numpy()
    model = resnet50.ResNet50(path) if name == "resnet50" else getattr(resnet, name)(path)
    agree(model.predict(x), wanted)
    agree(model.predict(x[:1]), wanted[:1])


# -- pixels and names ---------------------------------------------------------------------------


def test_preprocessing_turns_channels_and_takes_means_off():
    x = np.array([[[[10, 20, 30], [255, 0, 128]]]], np.uint8)
    wanted = [[[[30 - 103.939, 20 - 116.779, 10 - 123.68], [128 - 103.939, -116.779, 255 - 123.68]]]]
    np.testing.assert_allclose(resnet50.preprocess_input(x), wanted, rtol=1e-6)
    scaled = (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(resnet.preprocess_input(x), scaled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("preprocess", [resnet50.preprocess_input, resnet.preprocess_input])
def test_preprocessing_never_changes_the_callers_array(preprocess, rng):
    for dtype, wanted in (("u1", "f4"), ("f4", "f4"), ("f8", "f8"), ("i8", "f4"), ("f2", "f4")):
        for shape in ((4, 5, 3), (2, 4, 5, 3), (0, 4, 5, 3)):
            x = rng.integers(0, 256, shape).astype(dtype)
            before = x.copy()
            x.flags.writeable = False
            result = preprocess(x)
            assert result.shape == shape and result.dtype == wanted and not np.shares_memory(result, x)
            np.testing.assert_array_equal(x, before)
            np.testing.assert_array_equal(preprocess(before), result)


def test_preprocessing_refuses_what_is_no_picture():
    with pytest.raises(ShapeError, match=r"\(4, 4, 1\).*pn\.image\.load"):
        resnet50.preprocess_input(np.zeros((4, 4, 1)))
    with pytest.raises(Exception, match="real numbers"):
        resnet50.preprocess_input(np.zeros((4, 4, 3), complex))
    with pytest.raises(UnknownNameError, match="caffe, torch"):
        imagenet.preprocess_input(np.zeros((4, 4, 3)), "tf")


def class_index(change=lambda lines: lines):
    return json.dumps(change({str(i): [f"n{i:08d}", f"name_{i}"] for i in range(1000)})).encode()


def test_predictions_are_named_likeliest_first(tmp_path, rng):
    (tmp_path / "index.json").write_bytes(class_index())
    pred = rng.uniform(0, 1, (3, 1000)).astype("f4")
    pred[1, [5, 900, 77]] = 3, 4, 2
    found = resnet50.decode_predictions(pred, top=3, class_index=tmp_path / "index.json")
    assert found[1] == [("n00000900", "name_900", 4.0), ("n00000005", "name_5", 3.0), ("n00000077", "name_77", 2.0)]
    assert [len(row) for row in found] == [3, 3, 3] and type(found[0][0][2]) is float
    everything = resnet50.decode_predictions(pred[:1], top=1000, class_index=tmp_path / "index.json")[0]
    assert [p for _, _, p in everything] == sorted(map(float, pred[0]), reverse=True)
    assert len(resnet50.decode_predictions(pred, class_index=tmp_path / "index.json")[0]) == 5


@pytest.mark.parametrize("shape", [(1000,), (2, 10), (1, 1, 1000)])
def test_predictions_of_another_shape_are_refused(shape, tmp_path):
    with pytest.raises(ShapeError, match=r"\(N, 1000\)"):
        resnet50.decode_predictions(np.zeros(shape), class_index=tmp_path / "index.json")


def test_a_top_that_makes_no_sense_is_refused(tmp_path):
    for top in (0, 1001, True, 2.5, "3"):
        with pytest.raises(HyperparameterError, match="1 to 1000"):
            resnet50.decode_predictions(np.zeros((1, 1000)), top)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        class_index(lambda lines: lines | {"1000": ["a", "b"]}),
        class_index(lambda lines: lines | {"3": ["a"]}),
        class_index(lambda lines: lines | {"3": [1, 2]}),
        class_index(lambda lines: {**{k: v for k, v in lines.items() if k != "3"}, "x": ["a", "b"]}),
    ],
)
def test_a_class_index_of_another_form_is_refused(data, tmp_path):
    (tmp_path / "index.json").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"index\.json"):
        resnet50.decode_predictions(np.zeros((1, 1000)), class_index=tmp_path / "index.json")


# -- files from the web -------------------------------------------------------------------------


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Set PARNET_DATA and PARNET_CACHE for one test; returns the function that does."""

    def put(data=None, cache=tmp_path / "cache"):
        monkeypatch.setattr(_files, "settings", lambda: Settings(data, cache, None, None))

    put()
    return put


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def known(name, data, url="http://127.0.0.1:9"):
    return KnownFile(name, url, len(data), hashlib.md5(data).hexdigest())


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_the_class_index_is_downloaded_once_and_found_again(server, place, tmp_path, monkeypatch):
    data = class_index()
    server.pages["/imagenet_class_index.json"] = data
    monkeypatch.setattr(imagenet, "CLASS_INDEX", known("imagenet_class_index.json", data, server.url))
    for _ in range(2):
        assert resnet50.decode_predictions(np.eye(1, 1000), top=1) == [[("n00000000", "name_0", 1.0)]]
    assert server.asked == ["/imagenet_class_index.json"]
    assert contents(tmp_path / "cache") == ["models", "models/imagenet_class_index.json"]


def test_parnet_data_is_looked_at_before_the_cache(place, tmp_path, monkeypatch):
    data = class_index()
    monkeypatch.setattr(imagenet, "CLASS_INDEX", known("imagenet_class_index.json", data))
    for folder in ("data", "cache/models"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "imagenet_class_index.json").write_bytes(data)
    (tmp_path / "cache" / "models" / "imagenet_class_index.json").write_bytes(b"another")
    place(data=tmp_path / "data")
    assert len(imagenet.class_names()) == 1000
    (tmp_path / "data" / "imagenet_class_index.json").unlink()
    with pytest.raises(FileFormatError, match=r"models.*md5.*received 7 bytes.*delete it"):
        imagenet.class_names()


@needs_h5py
def test_pretrained_weights_are_downloaded_checked_and_read(server, place, tmp_path, monkeypatch, tiny, rng):
    pytest.importorskip("h5py", reason="h5py is not installed")
    monkeypatch.setattr(resnet50, "CLASSES", 5)
    model = scattered(tiny())
    arrays = arrays_of(model)
    legacy_h5(tmp_path / "top.h5", arrays, names_of=lambda name: "predictions" if name == "probs" else name)
    legacy_h5(tmp_path / "notop.h5", {name: value for name, value in arrays.items() if name != "probs"})
    for attribute, name in (("WEIGHTS", "top.h5"), ("WEIGHTS_WITHOUT_TOP", "notop.h5")):
        data = (tmp_path / name).read_bytes()
        server.pages[f"/{name}"] = data
        monkeypatch.setattr(resnet50, attribute, known(name, data, server.url))
    x = rng.normal(size=(1, 32, 40, 3)).astype("f4")
    np.testing.assert_array_equal(tiny("imagenet").predict(x), model.predict(x))
    inner = tiny("imagenet", include_top=False, pooling="avg")
    np.testing.assert_array_equal(inner.predict(x).shape, (1, 24))
    assert contents(tmp_path / "cache") == ["models", "models/notop.h5", "models/top.h5"]


def test_a_wrong_file_from_the_web_is_refused_and_not_kept(server, place, tmp_path, monkeypatch):
    data = class_index()
    server.pages["/imagenet_class_index.json"] = b"<html>Log in</html>"
    monkeypatch.setattr(imagenet, "CLASS_INDEX", known("imagenet_class_index.json", data, server.url))
    with pytest.raises(FileFormatError, match=f"{server.url}.*md5.*nothing was kept"):
        imagenet.class_names()
    assert contents(tmp_path / "cache") == ["models"]


def test_offline_the_error_says_where_to_put_the_file(place, tmp_path):
    missing = known("weights.h5", b"some bytes")
    place(data=tmp_path / "data")
    with pytest.raises(DatasetError) as error, _files.located(missing, "ResNet50(weights='imagenet')"):
        pass
    looked = [tmp_path / "data" / "weights.h5", tmp_path / "cache" / "models" / "weights.h5"]
    for part in ("ResNet50(weights='imagenet')", *map(str, looked), "10 bytes", missing.md5, missing.url, "PARNET_DATA"):
        assert part in str(error.value)
    place(cache=None)
    with pytest.raises(DatasetError, match="no folder is set"), _files.located(missing, "x"):
        pass


def test_with_the_cache_off_a_download_works_and_nothing_stays(server, place, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    server.pages["/weights.h5"] = b"some bytes"
    place(cache=None)
    with _files.located(known("weights.h5", b"some bytes", server.url), "x") as path:
        assert path.read_bytes() == b"some bytes"
    assert contents(tmp_path / "tmp") == []


def test_the_known_files_are_those_that_keras_publishes():
    """From keras/src/applications/resnet.py and imagenet_utils.py (3.15)."""
    assert resnet50.WEIGHTS.name == "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    assert (resnet50.WEIGHTS.md5, resnet50.WEIGHTS.size_bytes) == ("2cb95161c43110f7111970584f804107", 102_967_424)
    assert resnet50.WEIGHTS_WITHOUT_TOP.md5 == "4d473c1dd8becc155b73f8504c6f6626"
    assert (imagenet.CLASS_INDEX.md5, imagenet.CLASS_INDEX.size_bytes) == ("c2c37ea517e94d9795004a39431a14cb", 35_363)
