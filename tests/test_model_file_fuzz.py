"""Model files that are damaged or made to harm are refused in parnet's own words, or read as they were."""

import copy
import hashlib
import io
import json
import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import parnet as pn
from parnet import layers as L
from parnet.errors import FileFormatError, ParnetError, UnknownNameError
from parnet.io.model_file import load_model
from parnet.io.weights import load_weights
from parnet.registry import Registry

KERNEL, BIAS = "weights/dense/kernel.npy", "weights/dense/bias.npy"
#: bytes of memory for reading a file of about 4000
MEMORY = 2 * 2**20


def network():
    model = pn.Sequential([L.Input((3,)), L.Dense(2, activation="leaky_relu"), L.Reshape((2, 1))], seed=1)
    model.compile(pn.optimizers.SGD(pn.schedules.StepDecay(0.1, every_steps=3), momentum=0.9), "mse", ["mae"])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def whole(folder):
    """A good file's bytes."""
    model = network()
    model.train_on_batch(np.ones((4, 3), "f4"), np.ones((4, 2, 1), "f4"))
    model.save(folder / "whole")
    return (folder / "whole").read_bytes()


@pytest.fixture(scope="module")
def arrays(whole, folder):
    (folder / "good").write_bytes(whole)
    return [a.tobytes() for a in load_model(folder / "good").get_weights()]


@pytest.fixture
def read(folder, arrays):
    """Reads bytes as a file, both ways. Returns the error, or None where all arrays came as written."""

    def attempt(data):
        path, model, errors = folder / "file", network(), []
        path.write_bytes(data)
        before = [a.tobytes() for a in model.get_weights()]
        tracemalloc.start()
        try:
            for load in (load_model, lambda path: load_weights(model, path) and model):
                try:
                    assert [a.tobytes() for a in load(path).get_weights()] == arrays
                except ParnetError as error:
                    errors.append(error)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MEMORY + 20 * len(data), f"{peak} bytes of memory"
        assert [a.tobytes() for a in model.get_weights()] in (before, arrays)
        return errors[0] if errors else None

    return attempt


def unpacked(data):
    """(model.json, {member: bytes}) of a file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("model.json")), members


def packed(document, members, method=zipfile.ZIP_STORED):
    """A file with whatever is given; document may be bytes, members a list of pairs."""
    out = io.BytesIO()
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
        archive.writestr("model.json", text)
    return out.getvalue()


def npy(array, **options):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), **options)
    return out.getvalue()


def listed(document, members, name, data, **line):
    """Replace a member and list it truthfully, but for what `line` says."""
    members[name] = data
    line = {"dtype": "<f4", "shape": [3, 2], "sha256": hashlib.sha256(data).hexdigest()} | line
    document["arrays"][name] = line


# -- made by hand -------------------------------------------------------------------------------

#: what is done to (document, members) -> what the message says
EDITS = {
    "another format": (lambda d, m: d.update(format="keras"), "format 'parnet'"),
    "no version": (lambda d, m: d.pop("version"), "format version 1"),
    "version true": (lambda d, m: d.update(version=True), "format version 1, received True"),
    "version 0": (lambda d, m: d.update(version=0), "format version 1"),
    "of the future": (
        lambda d, m: d.update(version=2, parnet="9.9", new=1),
        "received 2, written by parnet 9.9; update",
    ),
    "unknown key": (lambda d, m: d.update(more=1), "object with the keys.*received the keys.*more"),
    "missing key": (lambda d, m: d.pop("training"), "object with the keys.*training"),
    "no object": (lambda d, m: d.update(model=[]), "model.json: model: expected an object or null"),
    "unknown key of a layer": (lambda d, m: d["model"]["layers"][1].update(code="x"), "keys class, config"),
    "unknown argument": (lambda d, m: d["model"]["layers"][1]["config"].update(code="x"), "layer 1: .*code"),
    "missing argument": (lambda d, m: d["model"]["layers"][1]["config"].pop("units"), "layer 1: .*units"),
    "argument out of range": (
        lambda d, m: d["model"]["layers"][1]["config"].update(units=-2),
        "layer 1: .*above 0",
    ),
    "argument of another type": (lambda d, m: d["model"]["layers"][1]["config"].update(units="2"), "layer 1"),
    "activation not known": (
        lambda d, m: d["model"]["layers"][1]["config"]["activation"].update(name="eval"),
        "layer 1: activation: .*'eval'.*define it again",
    ),
    "layer not known": (
        lambda d, m: d["model"]["layers"][1].update({"class": "os.system"}),
        "layer 1.*'os.system'",
    ),
    "loss not known": (
        lambda d, m: d["training"]["loss"].update({"class": "Lambda"}),
        "training: loss.*'Lambda'",
    ),
    "a layer as a loss": (
        lambda d, m: d["training"]["loss"].update({"class": "Dense"}),
        "training: loss.*'Dense'",
    ),
    "no input shape": (lambda d, m: d["model"]["layers"].pop(0), "model: .*input's shape"),
    "no layers": (lambda d, m: d["model"]["layers"].clear(), "model: "),
    "layers that do not fit": (
        lambda d, m: d["model"]["layers"][0]["config"].update(shape=[3, 3]),
        "add Flatten",
    ),
    "two of a name": (lambda d, m: d["model"]["layers"][2]["config"].update(name="dense"), "two layers"),
    "two metrics of a name": (
        lambda d, m: d["training"]["metrics"].append(d["training"]["metrics"][0]),
        "different",
    ),
    "seed below 0": (lambda d, m: d["model"].update(seed=-1), "seed"),
    "dtype": (lambda d, m: d["model"].update(dtype="float16"), "float16"),
    "dtype of the arrays": (lambda d, m: d["model"].update(dtype="float64"), "expected <f8"),
    "iterations below 0": (lambda d, m: d["training"].update(iterations=-1), "iterations of 0 or more"),
    "slots without an optimizer": (lambda d, m: d.update(training=None), "slots.npy: expected no such array"),
    "slots of an optimizer without": (
        lambda d, m: d["training"]["optimizer"]["config"].update(momentum=0.0),
        "slots.npy: expected no such array",
    ),
    "slots of another optimizer": (
        lambda d, m: d["training"].update(optimizer={"class": "Adam", "config": {}}),
        r"slots.npy: expected <f4 \(2, 8\).*received <f4 \(1, 8\)",
    ),
    "larger layer than arrays": (
        lambda d, m: d["model"]["layers"][1]["config"].update(units=10**15),
        "model: |kernel.npy: expected <f4",
    ),
    "array not listed": (lambda d, m: d["arrays"].pop(BIAS), f"members that model.json lists.*{BIAS}"),
    "array not there": (lambda d, m: m.pop(BIAS), f"members that model.json lists.*{BIAS}"),
    "array not of the model": (
        lambda d, m: listed(d, m, "weights/more/kernel.npy", m[KERNEL]),
        "weights/more/kernel.npy: expected no such array",
    ),
    "array not there nor listed": (
        lambda d, m: (m.pop(BIAS), d["arrays"].pop(BIAS)),
        r"bias.npy: expected <f4 \(2,\).*received no such array",
    ),
    "path upwards": (lambda d, m: listed(d, m, "weights/../../x.npy", m[KERNEL]), "names such as"),
    "path from the root": (lambda d, m: listed(d, m, "/etc/x.npy", m[KERNEL]), "names such as"),
    "two members exchanged": (
        lambda d, m: m.update({KERNEL: m[BIAS], BIAS: m[KERNEL]}),
        "kernel.npy: expected sha256",
    ),
    "number changed": (lambda d, m: m.update({BIAS: m[BIAS][:-1] + b"\1"}), "bias.npy: expected sha256"),
    "objects, which need pickle": (
        lambda d, m: listed(d, m, KERNEL, npy(np.array([[None] * 2] * 3, object), allow_pickle=True)),
        "kernel.npy",
    ),
    "objects, called floats": (
        lambda d, m: listed(d, m, KERNEL, m[KERNEL].replace(b"'<f4'", b"'|O' ")),
        "kernel.npy: expected the .npy header",
    ),
    "objects, called objects": (
        lambda d, m: listed(d, m, KERNEL, m[KERNEL], dtype="|O"),
        r"kernel.npy: expected one of <f4, <f8, received '\|O'",
    ),
    "whole numbers": (lambda d, m: listed(d, m, KERNEL, npy(np.ones((3, 2), "i4"))), "the .npy header"),
    "turned": (lambda d, m: listed(d, m, KERNEL, npy(np.ones((3, 2), "f4", order="F"))), "the .npy header"),
    "another shape": (lambda d, m: listed(d, m, KERNEL, npy(np.ones((2, 3), "f4"))), "the .npy header"),
    "another shape, listed": (
        lambda d, m: listed(d, m, KERNEL, npy(np.ones((2, 3), "f4")), shape=[2, 3]),
        r"kernel.npy: expected <f4 \(3, 2\).*received <f4 \(2, 3\)",
    ),
    "version 2 of .npy": (
        lambda d, m: listed(d, m, KERNEL, npy(np.ones((3, 2), "f4"), version=(2, 0))),
        "header",
    ),
    "no .npy": (lambda d, m: listed(d, m, KERNEL, bytes(24)), "bytes and a header"),
    "a long header": (lambda d, m: listed(d, m, KERNEL, bytes(10_000)), "bytes and a header"),
    "huge": (lambda d, m: listed(d, m, KERNEL, m[KERNEL], shape=[2**62, 2**62]), "bytes and a header"),
    "no numbers": (lambda d, m: listed(d, m, KERNEL, m[KERNEL], shape=[0, 2]), "above 0"),
    "below 0": (lambda d, m: listed(d, m, KERNEL, m[KERNEL], shape=[-3, -2]), "above 0"),
    "half a row": (lambda d, m: listed(d, m, KERNEL, m[KERNEL], shape=[1.5, 4.0]), "above 0"),
    "many axes": (lambda d, m: listed(d, m, KERNEL, m[KERNEL], shape=[1] * 99), "above 0"),
    "shape of true": (lambda d, m: listed(d, m, KERNEL, m[KERNEL], shape=[True]), "above 0"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_made_wrong_is_refused_and_the_message_says_where(edit, whole, read):
    change, message = EDITS[edit]
    document, members = unpacked(whole)
    change(document, members)
    error = read(packed(document, members))
    kind = UnknownNameError if edit.endswith("not known") or edit in ("a layer as a loss", "dtype") else FileFormatError
    assert isinstance(error, FileFormatError | UnknownNameError)
    if edit != "dtype":
        assert type(error) is kind, error
    with pytest.raises(ParnetError, match=message):
        raise error


#: what stands in place of model.json
TEXTS = {
    "nothing": b"",
    "no JSON": b"import os",
    "a list": b"[]",
    "not UTF-8": b'{"format": "\xff"}',
    "cut": b'{"format": "parnet"',
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested within limits of Python": b"[" * 500 + b"]" * 500,
    "a key twice": b'{"format": "parnet", "format": "parnet"}',
    "NaN": b'{"format": NaN}',
    "infinite": b'{"format": 1e999}',
    "many digits": b'{"format": ' + b"9" * 10_000 + b"}",
    "more than 64 bits": b'{"format": 9223372036854775808}',
    "a long string": b'{"format": "' + b"x" * 5000 + b'"}',
    "a list to multiply": b'{"format": "parnet", "version": 1, "a": [[0], 1000000000000]}',
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_is_no_document_is_refused(text, whole, read):
    assert type(read(packed(TEXTS[text], unpacked(whole)[1]))) is FileFormatError


def test_numbers_that_constructors_cannot_take_are_refused(whole, read):
    """One at a time, each value of the document as something else."""
    document, members = unpacked(whole)
    for place in places(document["model"]) + places(document["training"]):
        for value in ([[0], [0]], {}, 2**63 - 1):
            for part in ("model", "training"):
                changed = copy.deepcopy(document)
                if put(changed[part], place, value):
                    read(packed(changed, members))


def test_files_that_are_no_zip_are_refused(read):
    for data in (
        b"",
        b"PK",
        b"PK\3\4",
        bytes(4096),
    ):
        error = read(data)
        assert type(error) is FileFormatError and "a zip" in str(error)
    error = read(b"\x80\4cos\nsystem\n.")
    assert type(error) is FileFormatError and "a pickle, which can run any code" in str(error)


def test_zips_of_other_programs_are_refused_with_their_members(read):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", "{}")
    error = read(out.getvalue())
    assert type(error) is FileFormatError and "expected a member model.json, received config.json" in str(error)


def test_weights_of_keras_are_refused_with_what_reads_them(read):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    for data, form in ((out.getvalue(), "keras"), (b"\x89HDF\r\n\x1a\n" + bytes(99), "keras-h5")):
        error = read(data)
        assert type(error) is FileFormatError and f"received one of the format '{form}'" in str(error)
        assert "load_weights" in str(error)


def test_a_member_that_is_there_twice_is_refused(whole, read):
    document, members = unpacked(whole)
    with pytest.warns(UserWarning, match="Duplicate"):
        data = packed(document, [*members.items(), (KERNEL, members[KERNEL])])
    assert "twice" in str(read(data))


def test_compressed_members_are_refused_before_they_are_read(folder, whole, read, monkeypatch):
    document, members = unpacked(whole)
    assert "not compressed" in str(read(packed(document, members, zipfile.ZIP_DEFLATED)))
    document["model"]["layers"][0]["config"]["shape"] = [4 * 2**20]
    listed(document, members, KERNEL, npy(np.zeros((4 * 2**20, 2), "f4")), shape=[4 * 2**20, 2])
    bomb = packed(document, members, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**18
    document = members = None
    error = read(bomb)
    assert type(error) is FileFormatError and "claim to become" in str(error)


def test_sizes_beyond_the_file_are_refused(whole, read):
    """A directory of the zip that gives members sizes, or the same bytes several times."""
    place = whole.rindex(b"PK\1\2", 0, whole.rindex(b"weights/dense/kernel.npy"))
    for size in (2**31, 2**32 - 2):
        data = bytearray(whole)
        data[place + 20 : place + 28] = struct.pack("<II", size, size)
        assert "the file's size" in str(read(bytes(data)))


def test_many_arrays_over_the_same_bytes_are_refused(read):
    """Central directory entries may overlap: 1000 names, one body."""
    body = npy(np.zeros(25_000, "f4"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", body)
        info = archive.getinfo("a.npy")
        for i in range(1000):
            again = copy.copy(info)
            again.filename = again.orig_filename = f"b{i}.npy"
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive.writestr("model.json", "{}")
    assert "the file's size" in str(read(out.getvalue()))


def test_hostile_lists_do_not_reach_the_layers(whole, read):
    """A list times a number is a list of that length: 8 GB, if a layer were to count its target's numbers."""
    document, members = unpacked(whole)
    document["model"]["layers"][2]["config"]["target_shape"] = [[0], 10**9, -1]
    assert type(read(packed(document, members))) is FileFormatError


def test_a_model_has_no_array_of_another_dtype(whole, folder):
    document, members = unpacked(whole)
    listed(document, members, KERNEL, npy(np.ones((3, 2), "f8")), dtype="<f8")
    (folder / "double").write_bytes(packed(document, members))
    with pytest.raises(FileFormatError, match=r"kernel.npy: expected <f4 \(3, 2\).*received <f8"):
        load_model(folder / "double")


def test_weights_may_be_anything_a_float_can_be(whole, folder):
    document, members = unpacked(whole)
    odd = np.array([[np.nan, np.inf], [-np.inf, -0.0], [5e-45, 3e38]], "f4")
    listed(document, members, KERNEL, npy(odd))
    (folder / "odd").write_bytes(packed(document, members))
    assert load_model(folder / "odd").get_weights()[0].tobytes() == odd.tobytes()


# -- at random ----------------------------------------------------------------------------------

RANDOM = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(value, path=()):
    """The paths of all values in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [p for key, item in items for p in places(item, (*path, key))]


def put(document, path, *value):
    """Replace the value of a path, or remove it where none is given. Whether there was one."""
    *way, last = path
    try:
        for key in way:
            document = document[key]
        document[last]
    except (KeyError, IndexError, TypeError):
        return False
    if value:
        document[last] = value[0]
    else:
        del document[last]
    return True


@RANDOM
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_is_noticed_or_means_nothing(position, flip, whole, read):
    data = bytearray(whole)
    data[int(position * len(data))] ^= flip
    read(bytes(data))


@RANDOM
@given(first=st.floats(0, 1), last=st.floats(0, 1), filling=st.binary(max_size=40))
@example(first=0.5, last=1, filling=b"")
@example(first=0, last=0.1, filling=b"")
def test_bytes_cut_out_or_put_in_are_noticed_or_mean_nothing(first, last, filling, whole, read):
    first, last = sorted((int(first * len(whole)), int(last * len(whole))))
    read(whole[:first] + filling + whole[last:])


@settings(RANDOM, max_examples=40)
@given(data=st.data())
def test_members_removed_or_exchanged_are_noticed(data, whole, read):
    document, members = unpacked(whole)
    names = sorted(members)
    gone, other = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    if gone == other:
        del members[gone]
    else:
        members[gone], members[other] = members[other], members[gone]
    same = members.get(gone) == members.get(other) and gone in members
    assert (type(read(packed(document, members))) is FileFormatError) != same


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["Dense", "Dropout", "Input", "softmax", "Adam", "float64", "dense", "bias", "L2"])
)
VALUES = st.recursive(
    SCALARS,
    lambda some: (
        st.lists(some, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["class", "config", "name", "alpha"]), some, max_size=3)
    ),
    max_leaves=8,
)


@settings(RANDOM, max_examples=250)
@given(data=st.data())
def test_any_other_value_in_the_document_is_refused_or_changes_no_array(data, whole, read):
    document, members = unpacked(whole)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(document)))
        value = [data.draw(VALUES)] * data.draw(st.sampled_from([1, 1, 1, 0]))
        put(document, path, *value)
    read(packed(document, members))


def test_any_description_that_registries_know_is_refused_or_changes_no_array(whole, read):
    """Every class with every kind of argument: no constructor's own error comes through."""
    rng = random.Random(5)
    values = [
        None,
        True,
        -1,
        0,
        3,
        2.5,
        "x",
        "zeros",
        [],
        [2, 1],
        [[2, 1]],
        {},
        {"class": "Constant", "config": {}},
    ]
    registries = [m.registry for m in (pn.losses, pn.metrics, pn.optimizers, pn.schedules, pn.initializers)]
    registries += [pn.regularizers.registry, pn.constraints.registry, pn.layers.base.registry]
    assert all(isinstance(r, Registry) for r in registries)
    names = sorted({name for r in registries for name in r.classes})
    keys = [
        "units",
        "rate",
        "shape",
        "scale",
        "learning_rate",
        "momentum",
        "value",
        "l1",
        "k",
        "after",
        "name",
    ]
    document, members = unpacked(whole)
    spots = [p for p in places(document) if p[-1] in ("config", "learning_rate", "kernel_initializer", "loss")]
    for _ in range(120):
        changed = copy.deepcopy(document)
        config = {key: rng.choice(values) for key in rng.sample(keys, rng.randrange(3))}
        thing = {"class": rng.choice(names), "config": config}
        spot = rng.choice(spots)
        put(changed, spot, config if spot[-1] == "config" else thing)
        if spot[-1] == "config":
            put(changed, (*spot[:-1], "class"), rng.choice(names))
        read(packed(changed, members))
