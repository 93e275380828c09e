"""Model files: what comes back from one, and what a failed or killed save leaves behind."""

import errno
import json
import math
import os
import signal
import stat
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.errors import (
    FileFormatError,
    HyperparameterError,
    ParnetWarning,
    ShapeError,
    StateError,
    UnknownNameError,
)
from parnet.initializers import Initializer
from parnet.io import atomic
from parnet.io.model_file import load_model, save_model, save_weights
from parnet.io.weights import load_weights
from parnet.layers.base import registry
from parnet.losses import Loss

OWN = {name: cls for name, cls in registry.classes.items() if cls.__module__.startswith("parnet.")}
EXAMPLES = [(name, i) for name, cls in sorted(OWN.items()) for i in range(len(cls.examples()))]


def network(dtype="float32", seed=1, **names):
    """A small model with every kind of array: weights, moving averages, and dropout to tell seeds apart."""
    layers = [
        L.Input((4,)),
        L.Dense(8, activation="relu", kernel_regularizer="l2", name=names.get("first")),
        L.BatchNormalization(),
        L.Dropout(0.3),
        L.Dense(3, activation="softmax", name=names.get("last")),
    ]
    return pn.Sequential(layers, dtype=dtype, seed=seed)


def samples():
    return np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 3


def train(model, first, last):
    x, y = samples()
    model.fit(x, y, batch_size=16, epochs=last, initial_epoch=first, verbose=0)


def assert_same_arrays(a, b):
    """Bit for bit, NaN included."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# -- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_every_layer_comes_back_with_its_arguments_and_arrays(name, number, dtype, tmp_path):
    layer, shape = OWN[name].examples()[number]
    if layer.merges:
        inputs = [pn.Input(one) for one in shape]
        model = pn.Model(inputs, L.Flatten()(layer(inputs)), name="model of one", dtype=dtype, seed=5)
    else:
        model = pn.Sequential([L.Input(shape), layer, L.Flatten()], name="model of one", dtype=dtype, seed=5)
    rng = np.random.default_rng(3)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e30])
    model.set_weights([np.resize(np.append(odd, rng.normal(size=a.size)), a.shape) for a in model.get_weights()])
    model.save(tmp_path / "file")
    again = load_model(tmp_path / "file")
    assert [registry.dump(a) for a in again._layers] == [registry.dump(a) for a in model._layers]
    assert (again.name, again.dtype, again.seed, again.optimizer) == ("model of one", dtype, 5, None)
    assert_same_arrays(again.get_weights(), model.get_weights())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loaded_model_predicts_the_same(dtype, tmp_path):
    model = network(dtype)
    model.save(tmp_path / "file")
    x, _ = samples()
    assert_same_arrays([load_model(tmp_path / "file").predict(x)], [model.predict(x)])


RULES = {
    "momentum": lambda: pn.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: pn.optimizers.Adam(0.01, clipnorm=1.0),
    "adamw on a schedule": lambda: pn.optimizers.AdamW(pn.schedules.WarmUp(pn.schedules.CosineDecay(0.01, 9), 3)),
    "adagrad": lambda: pn.optimizers.Adagrad(0.1, initial_accumulator_value=0.5),
}


@pytest.mark.parametrize(("rule", "dtype"), [*((rule, "float32") for rule in RULES), ("adam", "float64")])
def test_training_goes_on_after_loading_as_if_it_had_not_stopped(rule, dtype, tmp_path):
    whole, half = network(dtype), network(dtype)
    for model in (whole, half):
        model.compile(RULES[rule](), "sparse_categorical_crossentropy", ["accuracy", pn.metrics.TopKAccuracy(2)])
    train(whole, 0, 4)
    train(half, 0, 2)
    half.save(tmp_path / "file")
    again = load_model(tmp_path / "file")
    assert again.optimizer.iterations == 6
    train(again, 2, 4)
    assert_same_arrays(again.get_weights(), whole.get_weights())
    again.save(tmp_path / "again")
    whole.save(tmp_path / "whole")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "whole").read_bytes()


def test_compile_arguments_come_back(tmp_path):
    model = network()
    model.compile(pn.optimizers.RMSprop(0.125, rho=0.75, clipvalue=2.0), pn.losses.Huber(0.5), [pn.metrics.Recall(0.25)])
    model.save(tmp_path / "file")
    again = load_model(tmp_path / "file")
    found, given = (repr([m.optimizer, m.loss, m.metrics]) for m in (again, model))
    assert found == given
    assert not len(again.session.store.slots)


def test_a_model_compiled_without_a_loss_comes_back(tmp_path):
    model = network()
    model.compile("adam")
    model.save(tmp_path / "file")
    assert load_model(tmp_path / "file").loss is None


def test_a_loaded_model_warns_of_inputs_of_another_scale(tmp_path):
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy")
    train(model, 0, 1)
    model.save(tmp_path / "file")
    with pytest.warns(ParnetWarning, match="scaled differently"):
        load_model(tmp_path / "file").predict(1000 * samples()[0])


def test_loading_draws_no_seed_and_no_weights(tmp_path, monkeypatch):
    network().save(tmp_path / "file")
    monkeypatch.setattr(Initializer, "__call__", lambda *a, **k: pytest.fail("weights drawn"))
    monkeypatch.setattr(pn.seeding, "next_seed", lambda: pytest.fail("seed drawn"))
    load_model(tmp_path / "file")


def test_equal_models_make_equal_files_that_numpy_can_read(tmp_path):
    one, other = network(), network()
    one.save(tmp_path / "one.npz")
    other.save(tmp_path / "other")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as arrays:
        assert_same_arrays([arrays["weights/dense_1/bias"]], [one.get_weights()[-1]])
    with zipfile.ZipFile(tmp_path / "other") as archive:
        document = json.loads(archive.read("model.json"))
        assert archive.testzip() is None
    assert (document["format"], document["version"], document["parnet"]) == ("parnet", 1, pn.__version__)


def test_a_model_without_known_input_shape_is_refused_and_no_file_made(tmp_path):
    model = pn.Sequential([L.Dense(3)])
    for save in (save_model, save_weights):
        with pytest.raises(StateError, match="input's shape"):
            save(model, tmp_path / "file")
    assert files(tmp_path) == []


# -- names of one's own -------------------------------------------------------------------------


def test_an_own_activation_must_be_defined_again_before_loading(tmp_path, monkeypatch):
    cube = pn.activations.define("cube_of_mine", lambda x, a: x * x * x, lambda x, y, a: 3 * x * x, alpha=0.5)
    model = pn.Sequential([L.Input((2,)), L.Dense(2, activation=cube)])
    model.save(tmp_path / "file")
    assert load_model(tmp_path / "file").layers[0].activation == cube
    monkeypatch.delitem(pn.activations._known, "cube_of_mine")
    with pytest.raises(UnknownNameError, match=r"layer 1: activation.*cube_of_mine.*define it again"):
        load_model(tmp_path / "file")


@pytest.fixture
def scope(monkeypatch):
    """Classes entered in the layers' registry during the test leave it afterwards."""
    monkeypatch.setattr(registry, "classes", dict(registry.classes))
    monkeypatch.setattr(registry, "_aliases", dict(registry._aliases))


def test_an_own_layer_must_be_defined_again_before_loading(tmp_path, scope):
    class Doubling(L.Flatten):
        def __init__(self, times=2, **base):
            super().__init__(**base)
            self.times = times

    pn.Sequential([L.Input((2,)), Doubling(3)]).save(tmp_path / "file")
    assert load_model(tmp_path / "file").layers[0].times == 3
    registry.classes.pop("Doubling")
    registry._aliases.pop("doubling")
    with pytest.raises(UnknownNameError, match=r"layer 1: layer: expected.*'Doubling'.*define it again"):
        load_model(tmp_path / "file")


def test_what_could_not_be_loaded_is_refused_when_saved(tmp_path, scope):
    class Unregistered(Loss):
        kernel = "loss.mean_squared"

    class Halves(Initializer):
        def draw(self, shape, rng):
            return np.full(shape, 0.5)

    class Odd(L.Rescaling):
        def __init__(self, what=None, **base):
            super().__init__(1.0)
            self.what = what

        def get_config(self):
            return {"what": self.what}

    class Forgetful(L.Rescaling):
        def get_config(self):
            return {"name": self.name}

    model = network()
    model.compile("sgd", Unregistered())
    refused = [
        model,
        *(pn.Sequential([L.Input((2,)), Odd(v)]) for v in (np.float32(1), {1, 2}, [1, "a"], math.nan)),
    ]
    refused += [pn.Sequential([L.Input((2,)), layer]) for layer in (Forgetful(1.0), L.Dense(2, kernel_initializer=Halves()))]
    save_weights(network(), tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    for model in refused:
        with pytest.raises(HyperparameterError, match=r"save: .*get_config\(\)"):
            model.save(tmp_path / "file")
    with pytest.raises(HyperparameterError, match="rename the layer"):
        pn.Sequential([L.Input((2,)), L.Dense(2, name="..")]).save(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == before and files(tmp_path) == ["file"]


# -- weights alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [save_model, save_weights])
def test_weights_are_read_from_both_kinds_of_file(save, tmp_path):
    model, other = network(seed=1), network(seed=2)
    for each in (model, other):
        each.compile("adam", "sparse_categorical_crossentropy")
        train(each, 0, 1)
    save(model, str(tmp_path / "file"))
    slots = other.session.store.slots.copy()
    other.load_weights(tmp_path / "file")
    assert_same_arrays(other.get_weights(), model.get_weights())
    assert_same_arrays([other.session.store.slots], [slots])


def test_weights_are_converted_between_float32_and_float64(tmp_path):
    model, single = network("float64"), network("float32")
    model.set_weights([np.full(a.shape, 1e300) for a in model.get_weights()])
    save_weights(model, tmp_path / "file")
    load_weights(single, tmp_path / "file")
    assert all(np.isinf(a).all() and a.dtype == np.float32 for a in single.get_weights())
    save_weights(network("float32"), tmp_path / "file")
    load_weights(model, tmp_path / "file")
    assert_same_arrays([a.astype("f4") for a in model.get_weights()], network("float32").get_weights())


def test_load_model_of_weights_alone_says_what_to_do(tmp_path):
    save_weights(network(), tmp_path / "file")
    with pytest.raises(FileFormatError, match="weights alone; build the model and call its load_weights"):
        load_model(tmp_path / "file")


def test_weights_under_other_names_are_refused_with_the_pairs(tmp_path):
    save_weights(network(first="entry"), tmp_path / "file")
    model, before = network(seed=2), network(seed=2).get_weights()
    with pytest.raises(ShapeError, match=r"the same shapes in the same order.*entry/kernel for dense/kernel"):
        load_weights(model, tmp_path / "file")
    assert_same_arrays(model.get_weights(), before)


def test_weights_of_other_shapes_are_refused_or_left_out_with_one_warning(tmp_path):
    other = pn.Sequential([L.Input((4,)), L.Dense(8), L.Dense(5, name="dense_1"), L.Dense(2, name="more")], seed=9)
    save_weights(other, tmp_path / "file")
    model, before = network(seed=2), network(seed=2).get_weights()
    named = (
        r"none of the name: batch_normalization/gamma.*; others: more/kernel, more/bias; "
        r"other shapes: dense_1/kernel \(8, 5\) for \(8, 3\), dense_1/bias \(5,\) for \(3,\)"
    )
    with pytest.raises(ShapeError, match=named):
        load_weights(model, tmp_path / "file")
    assert_same_arrays(model.get_weights(), before)
    with pytest.warns(ParnetWarning, match=f"read 2 of 8 arrays.*{named}") as caught:
        model.load_weights(tmp_path / "file", strict=False)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert_same_arrays(model.get_weights(), [*other.get_weights()[:2], *before[2:]])


def test_loading_weights_from_a_damaged_file_changes_nothing(tmp_path):
    path, model = tmp_path / "file", network(seed=2)
    save_weights(network(seed=1), path)
    data, last = bytearray(path.read_bytes()), network(seed=1).get_weights()[-2].tobytes()
    data[bytes(data).index(last)] ^= 1
    path.write_bytes(data)
    for strict in (True, False):
        with pytest.raises(FileFormatError, match=r"weights/dense_1/kernel\.npy"):
            load_weights(model, path, strict=strict)
    assert_same_arrays(model.get_weights(), network(seed=2).get_weights())


# -- whole files or none ------------------------------------------------------------------------


class Failing:
    """A file whose n-th write raises."""

    def __init__(self, file, allowed=10**9, error=None):
        self.file, self.allowed, self.error, self.writes = file, allowed, error, 0

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self.file.close()

    def write(self, data):
        self.writes += 1
        if self.writes > self.allowed:
            raise self.error
        return self.file.write(data)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_at_any_write_leaves_the_old_file_and_nothing_else(error, tmp_path, monkeypatch):
    path, claim, opened = tmp_path / "file", atomic._claim, []
    monkeypatch.setattr(atomic, "_claim", lambda part: opened.append(Failing(claim(part))) or opened[-1])
    network(seed=1).save(path)
    before, writes = path.read_bytes(), opened[-1].writes
    assert writes > 20
    for allowed in range(writes):
        monkeypatch.setattr(atomic, "_claim", lambda part, n=allowed: Failing(claim(part), n, error))
        with pytest.raises(type(error)):
            network(seed=2).save(path)
        assert files(tmp_path) == ["file"] and path.read_bytes() == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_save_that_fails_at_the_end_leaves_the_old_file_and_nothing_else(call, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "file"
    network(seed=1).save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        network(seed=2).save(path)
    assert path.read_bytes() == before and files(tmp_path) == ["file"]


def test_data_and_folder_reach_the_disk_around_the_rename(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    kinds = {True: "folder", False: "file"}
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(kinds[stat.S_ISDIR(os.fstat(fd).st_mode)]), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("rename"), replace(*a)))
    network().save(tmp_path / "file")
    assert calls == ["file", "rename", "folder"]


def test_saves_to_one_path_at_the_same_time_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file"
    with atomic.replacing(path, "one") as one:
        one.write(b"one")
        with atomic.replacing(path, "other") as other:
            other.write(b"other")
        assert path.read_bytes() == b"other"
    assert path.read_bytes() == b"one" and files(tmp_path) == ["file"]


def test_leftovers_of_this_file_alone_are_removed(tmp_path):
    digits = "0123456789abcdef"
    mine = [f".file.{digits}.parnet-part", f".{'x' * 50}.{digits}.parnet-part"]
    others = [
        f".other.{digits}.parnet-part",
        f".file.{digits}",
        ".file.parnet-part",
        f"file.{digits}.parnet-part",
    ]
    for name in mine + others:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / f".file.{digits[::-1]}.parnet-part").mkdir()
    network().save(tmp_path / "file")
    network().save(tmp_path / ("x" * 250))
    kept = [*others, f".file.{digits[::-1]}.parnet-part", "file", "x" * 250]
    assert files(tmp_path) == sorted(kept)


KILLED = """
import os, random, signal, sys, time
import parnet as pn
from parnet import layers as L
from parnet.io import archive, atomic
from parnet.io.model_file import load_model

def model(value):
    made = pn.Sequential([L.Input((3,)), L.Dense(4), L.Dense(2)], seed=0)
    made.set_weights([0 * a + value for a in made.get_weights()])
    return made

def slowly(stream, array, write=archive.write_array):
    time.sleep(0.001)
    return write(stream, array)

def wait(happened):
    end = time.monotonic() + 20
    while not happened() and time.monotonic() < end:
        time.sleep(0.0005)

def others():
    return set(os.listdir(os.path.dirname(path))) - {os.path.basename(path)}

path, rng = sys.argv[1], random.Random(int(sys.argv[2]))
models = [model(0), model(1), model(2)]
models[0].save(path)
archive.write_array = slowly
seen, leftovers = set(), 0
for _ in range(int(sys.argv[3])):
    child = os.fork()
    if not child:
        while True:
            models[1].save(path)
            models[2].save(path)
    for _ in range(rng.randrange(3)):
        old = os.stat(path).st_ino
        wait(lambda: os.stat(path).st_ino != old)
    wait(others)
    time.sleep(rng.random() * 0.015)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    loaded = load_model(path)
    values = {float(v) for a in loaded.get_weights() for v in a.ravel()}
    if len(values) != 1:
        sys.exit(f"a mixture: {values}")
    seen |= values
    names = others()
    if len(names) > 1 or not all(n.endswith(atomic.SUFFIX) for n in names):
        sys.exit(f"left behind: {names}")
    leftovers += len(names)
models[1].save(path)
print(len(seen), leftovers, os.listdir(os.path.dirname(path)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_saves_leave_the_old_or_the_new_file_and_the_next_save_tidies_up(tmp_path):
    rounds = 50
    command = [sys.executable, "-c", KILLED, str(tmp_path / "file"), "7", str(rounds)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    seen, leftovers, names = done.stdout.split(maxsplit=2)
    assert int(seen) > 1 and int(leftovers) > 0, done.stdout
    assert names.strip() == "['file']"


def test_an_interrupt_from_the_keyboard_leaves_nothing_behind(tmp_path):
    script = KILLED.split("seen, leftovers")[0] + "\nprint('ready', flush=True)\nwhile True:\n    models[1].save(path)\n"
    command = [sys.executable, "-c", script, str(tmp_path / "file"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        child.stdout.readline()
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        child.wait(30)
    assert files(tmp_path) == ["file"]
    load_model(tmp_path / "file")


# -- paths --------------------------------------------------------------------------------------


def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("plain", Path("model.zip"), "µ 模型.parnet", os.fsencode("bytes")):
        network().save(path)
        load_model(path)
    assert files(tmp_path) == sorted(["plain", "model.zip", "µ 模型.parnet", "bytes"])


def test_paths_that_cannot_be_are_the_systems_errors_and_say_so(tmp_path):
    model = network()
    with pytest.raises(IsADirectoryError, match="add a file's name"):
        model.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="make the folder first"):
        model.save(tmp_path / "none" / "file")
    with pytest.raises(OSError, match="device or pipe"):
        model.save(os.devnull)
    for load in (load_model, model.load_weights):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none")
        with pytest.raises(OSError):
            load(tmp_path)
    assert files(tmp_path) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom files can refuse")
def test_missing_permissions_are_permission_errors(tmp_path):
    path = tmp_path / "file"
    network().save(path)
    path.chmod(0)
    with pytest.raises(PermissionError):
        load_model(path)
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        network().save(path)
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_modes_and_links_are_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    mask = os.umask(0o027)
    try:
        network().save(target)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    link.symlink_to(target)
    network(seed=2).save(link)
    assert link.is_symlink() and stat.S_IMODE(target.stat().st_mode) == 0o604
    assert_same_arrays(load_model(target).get_weights(), network(seed=2).get_weights())


def test_nothing_is_warned_of_on_the_way(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network().save(tmp_path / "file")
        load_model(tmp_path / "file")


def test_the_range_of_the_inputs_stands_under_its_name(tmp_path):
    from parnet.io.describe import describe_model

    model = pn.Sequential([L.Dense(1, input_shape=(2,))])
    model.input_range.learn(np.full((4, 2), 3.0))
    assert describe_model(model, "test")["input_range"] == 3.0
    model.save(tmp_path / "a.parnet")
    assert pn.load_model(tmp_path / "a.parnet").input_range.seen == 3.0
