"""Anything at all as an argument: it is taken, or refused by an error of parnet's own; no other exception comes out."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, ParnetError
from parnet.layers.base import Layer
from parnet.registry import arguments

STRANGE = {
    "text": "a",
    "digits": "3",
    "no text": "",
    "bytes": b"x",
    "None": None,
    "negative": -1,
    "zero": 0,
    "fraction": 2.5,
    "huge": 10**30,
    "nan": float("nan"),
    "infinite": float("inf"),
    "complex": 1j,
    "true": True,
    "list": [],
    "dict": {},
    "tuple": (1, 2, 3, 4),
    "array": np.array([1, 2]),
    "object": object(),
}
X = np.linspace(-1, 1, 24).reshape(8, 3)
Y = X[:, :2]

#: what a class cannot be made without
NEEDED = {
    "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "boundaries": [1], "values": [0.1, 0.2],
    "warmup_steps": 3, "after": 0.1, "every_steps": 3, "filepath": "x.parnet", "filename": "x.csv", "log_dir": "x",
    "schedule": lambda epoch, rate: rate, "learning_rate": 0.1, "factor": 0.5, "value": 1.0,
    "first_decay_steps": 10,
}  # fmt: skip


def made(cls):
    """Good arguments of a class: those of its first example, or what it needs."""
    if issubclass(cls, Layer):
        example = cls.examples()[0][0]
        return {name: getattr(example, name) for name in arguments(cls) if hasattr(example, name)}
    given = inspect.signature(cls).parameters.values()
    return {
        p.name: NEEDED[p.name] for p in given if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def classes():
    modules = (pn.losses, pn.metrics, pn.optimizers, pn.schedules, pn.initializers, pn.regularizers, pn.constraints)
    registries = [m.registry for m in modules]
    found = [
        cls for r in [L.base.registry, *registries] for cls in r.classes.values() if cls.__module__.startswith("parnet.")
    ]
    names = ("EarlyStopping", "ModelCheckpoint", "CSVLogger", "JSONLogger", "LearningRateScheduler", "ReduceLROnPlateau")
    found += [getattr(pn.callbacks, name) for name in names if hasattr(pn.callbacks, name)]
    return found


def refused_or_taken(call, told, kinds=tuple(STRANGE), **good):
    """Each argument in turn as something strange. Returns how many were refused."""
    refused = 0
    for name in told:
        for kind in kinds:
            value = STRANGE[kind]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    repr(call(**good | {name: value}))
            except ParnetError as error:
                refused += 1
                assert len(str(error)) > 20, f"{name}={kind}: {error}"
            except OSError:  # a path that is not there
                assert isinstance(good.get("path", value), str | bytes), f"{name}={kind}"
            except Exception as error:
                raise AssertionError(f"{name}={kind}: {type(error).__name__}: {error}") from error
    return refused


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_constructors_take_or_refuse_anything(cls):
    told, good = arguments(cls), made(cls)
    assert refused_or_taken(cls, told, **good) > 5 * len(set(told) - {"seed", "parameters", "name"}) or not told


#: method -> (good arguments, arguments tried); one that counts rounds is not tried with 10**30
METHODS = {
    "compile": ({"optimizer": "sgd", "loss": "mse"}, None),
    "evaluate": ({"x": X, "y": Y}, None),
    "predict": ({"x": X}, None),
    "train_on_batch": ({"x": X, "y": Y}, None),
    "predict_on_batch": ({"x": X}, None),
    "fit": (
        {"x": X, "y": Y, "verbose": 0},
        ("x", "y", "batch_size", "verbose", "callbacks", "validation_split", "validation_data", "shuffle", "class_weight",
         "sample_weight", "initial_epoch", "steps_per_epoch", "validation_steps", "strategy", "trace"),
    ),
    "explain": ({}, ("threads",)),
    "save": ({}, None),
    "save_weights": ({"path": "w"}, None),
    "load_weights": ({"path": "w"}, None),
    "set_weights": ({}, None),
    "get_layer": ({}, None),
    "summary": ({}, None),
    "to_json": ({}, None),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_a_model_take_or_refuse_anything(method, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = pn.Sequential([L.Dense(2, input_shape=(3,))], seed=1)
    model.compile("sgd", "mse")
    good, told = METHODS[method]
    told = told or [p for p in inspect.signature(getattr(model, method)).parameters]
    assert refused_or_taken(getattr(model, method), told, **good) > 3 * len(told)


#: function of one argument
DOORS = {
    "Sequential": pn.Sequential,
    "a list of layers": lambda value: pn.Sequential([value]),
    "build": lambda value: pn.Sequential([L.Dense(2)]).build(value),
    "Input": pn.Input,
    "a layer": lambda value: L.Dense(2)(value),
    "a merge": lambda value: L.Add()([value, value]),
    "Model": lambda value: pn.Model(value, value),
    "load_model": pn.load_model,
    "model_from_json": pn.model_from_json,
    "clone_model": pn.clone_model,
    "set_seed": lambda value: pn.set_seed(value) or pn.seeding._global.update(seed=None),
    "warmup": lambda value: None if value is None else pn.warmup(value),
    "check_gradients": lambda value: pn.check_gradients(value, "mse", X, Y),
    "plot_model": pn.viz.plot_model,
    "a loss": lambda value: pn.losses.MeanSquaredError()(value, Y),
    "sigmoid": pn.activations.sigmoid,
    "activation": pn.activations.get,
    "optimizer": pn.optimizers.get,
    "strategy": pn.strategy.get,
    "resize_with_pad": lambda value: pn.image.resize_with_pad(np.ones((2, 2, 1)), value, 2),
    "image.load": pn.image.load,
    "mnist": lambda value: None if value is None else pn.datasets.mnist.load_data(value),
    "ResNet50 weights": lambda value: None if value is None else pn.applications.resnet50.ResNet50(weights=value),
    "ResNet50 shape": lambda value: pn.applications.resnet50.ResNet50(weights=None, input_shape=value),
    "DataLoader": lambda value: list(pn.DataLoader(value, Y)),
}


@pytest.mark.parametrize("door", DOORS)
def test_functions_take_or_refuse_anything(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused_or_taken(lambda value: DOORS[door](value), ["value"]) > 5


def test_an_array_in_place_of_one_number_is_refused_by_name():
    with pytest.raises(HyperparameterError, match=r"Dense: expected units.*received array\(\[1, 2\]\)"):
        L.Dense(np.array([1, 2]))
    assert L.Dense(np.int64(3)).units == 3 and L.Dense(np.array(3)).units == 3


def test_a_text_is_no_yes_and_no_no():
    for build in (
        lambda v: L.Dense(2, use_bias=v),
        lambda v: pn.optimizers.SGD(nesterov=v),
        lambda v: L.Flatten(trainable=v),
    ):
        with pytest.raises(HyperparameterError, match="expected True or False, received 'False'; pass one of them"):
            build("False")
    assert L.Dense(2, use_bias=np.False_).use_bias is False and L.Dense(2, use_bias=0).use_bias is False


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: pn.optimizers.SGD(momentun=0.9),
            r"SGD: no argument 'momentun'; it takes .*nesterov.* Did you mean 'momentum'\?",
        ),
        (lambda: L.Dense(3, activaton="relu"), r"Dense: no argument 'activaton'.*Did you mean 'activation'\?"),
        (lambda: pn.metrics.F1(treshold=0.4), r"F1: no argument 'treshold'; it takes .*name, threshold"),
        (lambda: pn.losses.MeanSquaredError(x=1), r"MeanSquaredError: no argument 'x'; it takes none"),
        (lambda: pn.optimizers.Adam(0.1, 1, 2, 3, 4, 5, 6, 7), r"Adam\.__init__\(\) takes from 1 to"),
        (lambda: L.Dense(), r"Dense\.__init__\(\) missing 1 required positional argument: 'units'"),
    ],
)
def test_an_argument_that_is_none_is_refused_in_the_name_of_the_class_the_user_wrote(make, words):
    with pytest.raises(TypeError, match=words):
        make()


def test_a_class_of_ones_own_takes_what_arguments_it_likes():
    class Loose(Layer):
        def __init__(self, **given):
            self.sides = given.pop("sides")
            super().__init__(**given)

    try:
        assert Loose(sides=3, name="a").sides == 3
        with pytest.raises(TypeError, match="colour"):
            Loose(sides=3, colour="red")
    finally:
        del L.base.registry.classes["Loose"], L.base.registry._aliases["loose"]


def test_a_layer_whose_init_failed_can_be_shown():
    class Broken(Layer):
        def __init__(self, units):
            self.units = units
            raise RuntimeError("no")

    layer = Broken.__new__(Broken)
    with pytest.raises(RuntimeError):
        layer.__init__(3)
    try:
        assert repr(layer) == "Broken(units=3)"
        with pytest.raises(AttributeError, match=r"Broken: no attribute 'kernel'.*super\(\).__init__"):
            _ = layer.kernel
    finally:
        del L.base.registry.classes["Broken"], L.base.registry._aliases["broken"]


@pytest.mark.parametrize("name", ["n.h5", "n.weights.h5", "n.KERAS", "n.onnx", "n.safetensors", "n.pt", "n.pkl", "n.npy"])
def test_a_model_is_not_saved_under_another_programs_ending(name, tmp_path):
    model = pn.Sequential([L.Dense(2, input_shape=(3,))], seed=1)
    right = {"n.onnx": r"model\.export\(path\)", "n.pkl": "no pickles", "n.npy": "np.savez"}.get(name, "model.save_weights")
    with pytest.raises(HyperparameterError, match=rf"sequential.save: expected a path for parnet's own.*{right}"):
        model.save(tmp_path / name)
    with pytest.raises(HyperparameterError, match=r"ModelCheckpoint\(filepath\): expected a path for parnet's own"):
        pn.callbacks.ModelCheckpoint(str(tmp_path / name))
    assert not list(tmp_path.iterdir())


def test_weights_alone_are_not_saved_as_what_parnet_cannot_write(tmp_path):
    model = pn.Sequential([L.Dense(2, input_shape=(3,))], seed=1)
    for name in ("n.onnx", "n.pth", "n.npy"):
        with pytest.raises(HyperparameterError, match=r"sequential.save_weights: expected a path for parnet's own"):
            model.save_weights(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.sklearn
@pytest.mark.parametrize("name", ["ParnetClassifier", "ParnetRegressor"])
def test_estimators_take_or_refuse_anything(name):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    estimator = getattr(pn.sklearn, name)
    scikits = {"random_state", "class_weight", "epochs"}  # the first two are checked by scikit-learn in words of its own
    told = [argument for argument in inspect.signature(estimator).parameters if argument not in scikits]
    x, y = np.repeat(X, 4, 0), np.arange(32) % 2

    def fitted(**arguments):
        return estimator(**{"hidden_layer_sizes": (3,), "epochs": 1, "strategy": "serial"} | arguments).fit(x, y)

    assert refused_or_taken(fitted, told, ("text", "None", "nan", "array", "object")) > 2 * len(told)
