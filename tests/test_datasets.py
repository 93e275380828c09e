"""Data sets: what they return, and what happens when a file, the server or the disk misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from web import Server

from parnet.config import Settings, settings
from parnet.datasets import _files, digits, fashion_mnist, mnist
from parnet.errors import DatasetError, FileFormatError, HyperparameterError, MissingExtraError

SHARED = Path(__file__).parents[2] / "shared" / "data"
RNG = np.random.default_rng(0)
ARRAYS = {
    "x_train": RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8),
    "y_train": RNG.integers(0, 10, 6, dtype=np.uint8),
    "x_test": RNG.integers(0, 256, (3, 5, 4), dtype=np.uint8),
    "y_test": RNG.integers(0, 10, 3, dtype=np.uint8),
}


def idx_bytes(array):
    """An IDX file as its author describes it, written without the engine's code."""
    return b"\0\0\x08" + bytes([array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()


def source(*files, url="http://127.0.0.1:9"):
    """A data set of a few bytes, to be downloaded as these files."""
    digests = {name: hashlib.sha256(idx_bytes(array)).hexdigest() for name, array in ARRAYS.items()}
    return _files.ImageSource("toy", url, files or ("toy.npz",), digests)


def write(folder, layout, **changes):
    """The data set in a folder, as `npz`, `idx` or `idx.gz`, some arrays changed."""
    arrays = ARRAYS | changes
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "npz":
        np.savez_compressed(folder / "toy.npz", **arrays)
        return
    (folder / "toy").mkdir()
    for stem, name in _files.IDX_FILES.items():
        data = idx_bytes(arrays[name])
        if layout == "idx":
            (folder / "toy" / stem).write_bytes(data)
        else:
            (folder / "toy" / f"{stem}.gz").write_bytes(gzip.compress(data))


def npz_bytes(folder):
    write(folder, "npz")
    return (folder / "toy.npz").read_bytes()


def contents(folder):
    """Every file and folder below, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check(data):
    (x_train, y_train), (x_test, y_test) = data
    for name, array in {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == np.uint8 and array.flags.writeable and array.flags.c_contiguous


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


@pytest.fixture(scope="module")
def mnist_folder():
    for folder in filter(None, (settings().data_dir, SHARED)):
        if (folder / "mnist.npz").is_file():
            return folder
    pytest.skip("no mnist.npz: set PARNET_DATA to its folder")


@pytest.mark.mnist
def test_mnist_returns_what_keras_returns(mnist_folder):
    (x_train, y_train), (x_test, y_test) = mnist.load_data(mnist_folder / "mnist.npz")
    assert [a.shape for a in (x_train, y_train, x_test, y_test)] == [
        (60000, 28, 28),
        (60000,),
        (10000, 28, 28),
        (10000,),
    ]
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert (x_train.min(), x_train.max(), x_test.min(), x_test.max()) == (0, 255, 0, 255)
    assert y_train[:5].tolist() == [5, 0, 4, 1, 9] and y_train[-3:].tolist() == [5, 6, 8] and y_train[1] == 0
    assert y_test[:3].tolist() == [7, 2, 1] and y_test[-3:].tolist() == [4, 5, 6]
    assert hashlib.sha256(idx_bytes(x_train)).hexdigest() == mnist.SOURCE.digests["x_train"]


@pytest.mark.mnist
def test_mnist_is_found_through_parnet_data(mnist_folder, place):
    place(data=mnist_folder)
    assert mnist.load_data()[0][1][0] == 5


def test_fashion_mnist_returns_what_keras_returns():
    folders = [folder for folder in (settings().data_dir, Path("/usr/share/datasets")) if folder]
    folder = next((f for f in folders if (f / "fashion-mnist").is_dir()), None)
    if folder is None:
        pytest.skip("no fashion-mnist: set PARNET_DATA to its parent, or install Debian's dataset-fashion-mnist")
    (x_train, y_train), (x_test, y_test) = fashion_mnist.load_data(folder)
    assert x_train.shape == (60000, 28, 28) and x_test.shape == (10000, 28, 28)
    assert y_train[:5].tolist() == [9, 0, 0, 3, 0] and y_test[:5].tolist() == [9, 2, 1, 1, 6]


@pytest.mark.parametrize("layout", ["npz", "idx", "idx.gz"])
def test_the_same_arrays_come_from_every_layout(layout, place, tmp_path):
    write(tmp_path / "data", layout)
    place(data=tmp_path / "data")
    check(_files.load(source()))


def test_a_path_may_be_a_file_its_folder_or_the_folder_of_idx_files(tmp_path, place):
    write(tmp_path / "a", "npz")
    write(tmp_path / "b", "idx")
    (tmp_path / "copy.zip").write_bytes((tmp_path / "a" / "toy.npz").read_bytes())
    for path in ("a/toy.npz", "copy.zip", "a", "b", "b/toy"):
        check(_files.load(source(), tmp_path / path))
        check(_files.load(source(), str(tmp_path / path)))


def test_look_up_goes_path_then_parnet_data_then_cache(place, tmp_path):
    wrong = {"y_test": ARRAYS["y_test"] + 1}
    for name in ("path", "data", "cache/datasets"):
        write(tmp_path / name, "npz", **wrong)
    place(data=tmp_path / "data")
    for name in ("path", "data", "cache/datasets"):
        with pytest.raises(FileFormatError) as error:
            _files.load(source(), tmp_path / "path" / "toy.npz" if name == "path" else None)
        assert str(tmp_path / name / "toy.npz") in str(error.value)
        (tmp_path / name / "toy.npz").unlink()
    with pytest.raises(DatasetError, match="nowhere"):
        _files.load(source(), tmp_path / "nowhere")


def test_a_changed_array_is_named_with_both_digests_and_the_cure(place, tmp_path):
    write(tmp_path, "npz", x_test=ARRAYS["x_test"] ^ 1)
    with pytest.raises(FileFormatError) as error:
        _files.load(source(), tmp_path)
    received = hashlib.sha256(idx_bytes(ARRAYS["x_test"] ^ 1)).hexdigest()
    for part in (str(tmp_path / "toy.npz"), "x_test", source().digests["x_test"], received, "delete it"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"x_train": ARRAYS["x_train"].astype(np.int64)},
        {"x_train": ARRAYS["x_train"].reshape(6, 20)},
        {"y_test": ARRAYS["y_test"][:-1]},
    ],
    ids=["type", "shape", "length"],
)
def test_another_type_or_shape_is_refused(change, tmp_path):
    write(tmp_path, "npz", **change)
    with pytest.raises(FileFormatError, match=next(iter(change))):
        _files.load(source(), tmp_path)


def test_a_missing_array_is_refused(tmp_path):
    np.savez(tmp_path / "toy.npz", x_train=ARRAYS["x_train"])
    with pytest.raises(FileFormatError, match="y_train"):
        _files.load(source(), tmp_path)


def test_a_file_cut_at_any_place_is_refused(tmp_path):
    data = npz_bytes(tmp_path)
    for length in (0, 1, 4, 30, len(data) // 2, len(data) - 1):
        (tmp_path / "toy.npz").write_bytes(data[:length])
        with pytest.raises(FileFormatError, match=r"toy\.npz"):
            _files.load(source(), tmp_path)


def test_a_flipped_byte_is_refused_wherever_it_changes_an_array(tmp_path):
    data = npz_bytes(tmp_path)
    for place_in_file in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[place_in_file] ^= 0x55
        (tmp_path / "toy.npz").write_bytes(damaged)
        try:
            check(_files.load(source(), tmp_path))  # a byte that the arrays do not depend on, such as a date
        except FileFormatError as error:
            assert "toy.npz" in str(error)


@pytest.mark.parametrize("layout", ["idx", "idx.gz"])
@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "text"])
def test_a_damaged_idx_file_is_refused(layout, damage, tmp_path):
    write(tmp_path, layout)
    path = next((tmp_path / "toy").glob("t10k-images*"))
    data = path.read_bytes()
    page = b"<!doctype html><title>Log in to the hotel network</title>"
    path.write_bytes({"cut": data[:-9], "longer": data + data, "empty": b"", "text": page}[damage])
    with pytest.raises(FileFormatError, match="t10k-images"):
        _files.load(source(), tmp_path)


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_inside_an_npz_is_never_run(tmp_path):
    bomb = np.array([Bomb(tmp_path / "ran")], dtype=object)
    write(tmp_path, "npz", x_train=bomb)
    with pytest.raises(FileFormatError):
        _files.load(source(), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_download_is_kept_and_the_next_load_needs_no_server(server, place, tmp_path, capsys):
    server.pages["/mirror/toy.npz"] = npz_bytes(tmp_path)
    check(_files.load(source(), url=server.url + "/mirror/"))
    shown = capsys.readouterr()
    assert "toy.npz" in shown.err and shown.out == ""
    check(_files.load(source()))
    assert server.asked == ["/mirror/toy.npz"]
    assert contents(tmp_path / "cache") == ["datasets", "datasets/toy.npz"]


def test_a_download_without_a_promised_length_is_kept(server, place, tmp_path):
    server.pages["/toy.npz"] = (npz_bytes(tmp_path), None)
    check(_files.load(source(url=server.url)))
    check(_files.load(source()))


def test_only_the_missing_idx_files_are_downloaded(server, place, tmp_path):
    write(tmp_path / "web", "idx.gz")
    names = [f"toy/{stem}.gz" for stem in _files.IDX_FILES]
    server.pages = {f"/{Path(name).name}": (tmp_path / "web" / name).read_bytes() for name in names}
    here = source(*names, url=server.url)
    bad = server.pages.pop("/t10k-images-idx3-ubyte.gz")
    with pytest.raises(DatasetError, match="404"):
        _files.load(here)
    server.pages["/t10k-images-idx3-ubyte.gz"], server.asked = bad, []
    check(_files.load(here))
    assert server.asked == ["/t10k-images-idx3-ubyte.gz", "/t10k-labels-idx1-ubyte.gz"]
    assert contents(tmp_path / "cache" / "datasets") == sorted(["toy", *names])


def test_an_interrupted_download_says_so_and_leaves_nothing(server, place, tmp_path):
    data = npz_bytes(tmp_path)
    server.pages["/toy.npz"] = (data[: len(data) // 2], len(data))
    with pytest.raises(DatasetError, match=f"expected {len(data)} bytes.*after {len(data) // 2}"):
        _files.load(source(url=server.url))
    assert contents(tmp_path / "cache") == ["datasets"]


@pytest.mark.parametrize("page", ["another npz", "html"])
def test_wrong_content_from_the_server_is_refused_and_not_kept(page, server, place, tmp_path):
    write(tmp_path, "npz", y_train=ARRAYS["y_train"] ^ 1)
    other = (tmp_path / "toy.npz").read_bytes()
    server.pages["/toy.npz"] = other if page == "another npz" else b"<html>Log in</html>"
    with pytest.raises(FileFormatError, match=f"{server.url}/toy.npz.*nothing was kept"):
        _files.load(source(url=server.url))
    assert contents(tmp_path / "cache") == ["datasets"]


def test_a_bad_download_does_not_touch_the_good_files_beside_it(server, place, tmp_path):
    write(tmp_path / "cache" / "datasets", "idx.gz")
    names = [f"toy/{stem}.gz" for stem in _files.IDX_FILES]
    folder = tmp_path / "cache" / "datasets" / "toy"
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    server.pages["/t10k-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(ARRAYS["y_train"]))
    with pytest.raises(FileFormatError, match="y_test"):
        _files.load(source(*names, url=server.url))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_offline_the_error_says_where_it_looked_and_what_to_do(place, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connecting is refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        place(data=tmp_path / "data")
        with pytest.raises(DatasetError) as error:
            _files.load(source(url=url))
    looked = [tmp_path / "data" / "toy.npz", tmp_path / "cache" / "datasets" / "toy.npz"]
    for part in (*map(str, looked), f"{url}/toy.npz", "PARNET_DATA", "url=", "pn.datasets.digits"):
        assert part in str(error.value)
    place()
    with pytest.raises(DatasetError, match=r"PARNET_DATA \(not set\)"):
        _files.load(source(url="no address"))


def test_with_the_cache_off_a_download_works_and_nothing_stays(server, place, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    server.pages["/toy.npz"] = npz_bytes(tmp_path)
    place(cache=None)
    check(_files.load(source(url=server.url)))
    assert contents(tmp_path / "tmp") == []


def test_a_cache_that_cannot_be_written_names_the_setting(server, place, tmp_path):
    server.pages["/toy.npz"] = npz_bytes(tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DatasetError, match="PARNET_CACHE"):
        _files.load(source(url=server.url))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who is not root")
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path):
    write(tmp_path, "npz")
    (tmp_path / "toy.npz").chmod(0)
    with pytest.raises(DatasetError, match="allow reading"):
        _files.load(source(), tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_downloads_good_and_bad_leave_no_thread_and_no_open_file(server, place, tmp_path):
    server.pages["/toy.npz"] = npz_bytes(tmp_path)
    server.pages["/bad/toy.npz"] = b"bad"
    threads, files = set(threading.enumerate()), os.listdir("/proc/self/fd")
    for folder, error in (("/bad", FileFormatError), ("/none", DatasetError)):
        with pytest.raises(error):
            _files.load(source(), url=server.url + folder)
    check(_files.load(source(), url=server.url))
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) == len(files)


def test_importing_the_data_sets_imports_nothing_heavy():
    code = "import sys, parnet.datasets as d; d.mnist.load_data; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "matplotlib", "parnet.datasets._download"} & set(done.stdout.split())


@pytest.mark.sklearn
def test_digits_are_split_the_same_way_each_time():
    pytest.importorskip("sklearn")
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert (x_train.shape, x_test.shape) == ((1437, 8, 8), (360, 8, 8))
    assert (x_train.dtype, x_test.dtype, y_train.dtype, y_test.dtype) == (
        np.uint8,
        np.uint8,
        np.int64,
        np.int64,
    )
    assert (x_train.min(), x_train.max()) == (0, 16) and set(y_test.tolist()) == set(range(10))
    assert y_train[:5].tolist() == [0, 1, 2, 3, 4] and y_test[-3:].tolist() == [8, 9, 8]
    np.testing.assert_array_equal(digits.load_data()[0][0], x_train)
    assert len(digits.load_data(test_size=0.5)[1][0]) == 899


@pytest.mark.sklearn
@pytest.mark.parametrize("test_size", [0, 1, 1.5, -0.1, 0.9999, float("nan"), 360])
def test_digits_refuse_a_split_with_an_empty_part(test_size):
    pytest.importorskip("sklearn")
    with pytest.raises(HyperparameterError, match="test_size"):
        digits.load_data(test_size)


def test_digits_without_scikit_learn_name_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'parnet\[data\]'"):
        digits.load_data()
