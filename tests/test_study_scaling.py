"""Studies that run: fresh processes, the same bits, what is refused before any of them starts, and what a kill leaves."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ranks
import studies

import parnet as pn
from parnet import layers as L
from parnet.errors import (
    DataError,
    DeviceError,
    FileFormatError,
    HyperparameterError,
    MissingExtraError,
    ParnetWarning,
    ResourceError,
    ShapeError,
    StateError,
    UnknownNameError,
)
from parnet.study import campaign, design, launch, machine, records, sample, ways

X, Y = studies.blobs()


def quick(build=studies.small, data=(X, Y), **more):
    """A study of two processes."""
    given = {"strategies": {}, "repeats": 2, "batch_size": 64, "verbose": 0, **more}
    return pn.study.scaling(build, data, **given)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A study of serial and one thread that has been run, and its file."""
    path = tmp_path_factory.mktemp("study") / "study.jsonl"
    given = {"strategies": {"threads": [1]}, "test_data": (X, Y), "target": 0.5, "epochs": 3, "optimizer": "adam"}
    return quick(path=path, **given), path, given


def test_every_run_is_measured_and_all_end_in_the_same_bits(kept):
    study, _, _ = kept
    assert len(study.runs) == 4 and {run["round"] for run in study.runs} == {0, 1}
    for run in study.runs:
        assert len(run["epochs_s"]) == 3 and len(run["warmup_s"]) == 1 and min(run["epochs_s"]) > 0
        assert len(run["curve"]) == 4 and run["flops"] > 0 and run["memory_mib"] > 10
        assert run["curve"][-1][0] == pytest.approx(sum(run["warmup_s"]) + sum(run["epochs_s"]))
    assert len({run["weights"] for run in study.runs}) == 1
    assert any("all 4 runs of 2 configurations ended in the same weights" in line for line in study.findings())


def test_a_run_ends_where_the_same_training_ends_by_hand(kept):
    study, _, given = kept
    pn.set_seed(0)
    model = studies.small()
    model.compile(given["optimizer"], "sparse_categorical_crossentropy", ["accuracy"])
    history = model.fit(X, Y, batch_size=64, epochs=4, verbose=0, strategy="serial")
    assert study.runs[0]["loss"] == history.history["loss"][-1]
    assert study.runs[0]["curve"][-1][1] == model.evaluate(X, Y)[1]


def test_a_study_goes_on_where_it_was_killed(kept, tmp_path, monkeypatch):
    _, path, given = kept
    lines = path.read_text().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join(lines[:3]) + lines[3][:40])
    started = []
    run = launch.Bench.run
    monkeypatch.setattr(launch.Bench, "run", lambda self, point, *rest: started.append(point) or run(self, point, *rest))
    with pytest.warns(ParnetWarning, match="the last line was cut short"):
        study = quick(path=cut, **given)
    assert len(started) == 2 and len(study.runs) == 4
    assert [json.loads(line)["epochs_s"] for line in lines[1:3]] == [run["epochs_s"] for run in study.runs[:2]]
    assert len(quick(path=cut, **given).runs) == 4 and len(started) == 2  # nothing is left to do


def test_a_study_may_grow(kept, tmp_path):
    _, path, given = kept
    more = tmp_path / "more.jsonl"
    more.write_text(path.read_text())
    grown = quick(path=more, **given | {"repeats": 3})
    assert len(grown.runs) == 6 and all(result.runs == 3 for result in grown.results)


def test_a_file_takes_up_other_networks_and_forgets_what_never_ran(tmp_path, monkeypatch):
    """Networks that are not asked for now stay as they were measured: nobody has their builders. What failed is not kept."""
    path, started = tmp_path / "study.jsonl", []

    def run(self, point, settings, tick=None):
        started.append(point.network)
        return {"failure": "no"} if point.network == "bad" else studies.run(point, 0, 1.0)

    monkeypatch.setattr(launch.Bench, "run", run)
    quick({"first": studies.small}, path=path)
    with pytest.warns(ParnetWarning, match="bad, serial"), pytest.raises(StateError, match="bad, serial"):
        quick({"bad": studies.small}, path=path)
    started.clear()
    found = quick({"second": studies.other}, path=path, repeats=3)
    assert started == ["second"] * 3 and {r.point.network: r.runs for r in found.results} == {"second": 3, "first": 2}
    assert set(records.read(path).design.networks) == {"first", "second"}


def test_a_builder_that_is_refused_leaves_the_file_as_it_is(kept, tmp_path):
    _, path, given = kept
    copy = tmp_path / "copy.jsonl"
    copy.write_text(path.read_text())
    with pytest.raises(StateError, match="cannot be pickled"):
        quick({"another": lambda: studies.other()}, path=copy, **given)
    assert copy.read_text() == path.read_text()


def test_ctrl_c_keeps_what_was_measured_and_says_where(tmp_path, monkeypatch, capsys):
    run, path = launch.Bench.run, tmp_path / "study.jsonl"

    def interrupted(self, point, *rest):
        if len(path.read_text().splitlines()) > 1:  # the header, and a run
            raise KeyboardInterrupt
        return run(self, point, *rest)

    monkeypatch.setattr(launch.Bench, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quick(path=path)
    assert f"1 run is kept in {path}; the same study with that path goes on" in capsys.readouterr().err
    assert len(records.read(path).runs) == 1


def started_study(folder, strategies="{}", more=""):
    """A long study in a process of its own, its files, and its temporary folder."""
    path, temporary = folder / "study.jsonl", folder / "temporary"
    temporary.mkdir()
    code = f"{more}\nimport studies, parnet as pn\n"
    code += f"pn.study.scaling(studies.small, studies.blobs(), 'strong', {strategies}, 50, path={str(path)!r})"
    tests = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": tests, "PARNET_STUDY": str(folder)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=quiet, stderr=quiet), path, temporary


def processes_of(folder):
    """Names of the processes of a study that `started_study` has begun."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PARNET_STUDY") == str(folder):
                found.append(process.name())
    return found


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
@pytest.mark.parametrize("named", [False, True], ids=["no names", "names"])
def test_a_study_that_is_killed_leaves_its_results_and_nothing_else(named, tmp_path):
    """Neither a process nor a copy of the data, where files can do without names and where they cannot."""
    if not named and sys.platform != "linux":
        pytest.skip("files without names are Linux's")
    more = "from parnet.study import handover; handover.NAMELESS = False" if named else ""
    process, path, temporary = started_study(tmp_path, more=more)
    with process:
        waited(lambda: path.exists() and path.read_text().count("\n") > 2)
        assert bool(list(temporary.iterdir())) == named
        if named:  # whose folder the run removes: at its beginning
            me = psutil.Process(process.pid)
            waited(lambda: any(time.time() - child.create_time() < 0.3 for child in me.children()))
        process.kill()
    waited(lambda: not list(temporary.iterdir()) and not processes_of(tmp_path))
    assert len(records.read(path).runs) >= 2


@pytest.mark.mpi
@pytest.mark.skipif(bool(ranks.why_not()), reason=ranks.why_not() or "there")
def test_a_study_of_ranks_that_is_killed_leaves_no_rank_and_no_copy_of_the_data(tmp_path):
    more = f"import os; os.environ['PATH'] = {os.path.dirname(ranks.LAUNCHER)!r} + os.pathsep + os.environ['PATH']"
    process, path, temporary = started_study(tmp_path, "{'mpi': [2]}", more)
    with process:
        waited(lambda: path.exists() and "parnet rank" in processes_of(tmp_path))
        process.kill()
    waited(lambda: not processes_of(tmp_path))
    assert list(temporary.iterdir()) == []


def waited(condition, limit_s=90):
    """Wait until it holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_that_fails_is_told_and_the_others_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "study.jsonl"
    monkeypatch.setattr(campaign, "_describe", lambda *_: {"parameters": 1, "layers": "", "compiled": "", "summary": ""})
    networks = {"good": studies.small, "bad": studies.failing}
    with (
        pytest.warns(ParnetWarning, match="bad, serial.*no network today"),
        pytest.raises(StateError, match=r"bad, serial.*no network today.*pn\.study\.load reads it"),
    ):
        quick(networks, path=path, repeats=1)
    assert [("failure" in run) for run in records.read(path).runs].count(False) == 1


def test_a_run_that_dies_or_hangs_is_a_failure_in_words():
    point = studies.design([]).points[0]
    with launch.Bench({"mlp": studies.small}, {}, {}, {}, limit_s=0.2) as bench:
        assert "no result within 0.2 s" in bench.run(point, {})["failure"]
        bench.handover.file("job").write(b"no pickle")
        bench.limit_s = 60.0
        assert "Error" in bench.run(point, {})["failure"]
        path = bench.handover.path("job")
    assert not os.path.exists(path)


def test_a_full_disk_is_an_error_before_anything_runs(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(launch.pickle, "dump", full)
    monkeypatch.setattr(launch.Bench, "run", lambda *_: pytest.fail("a run was started"))
    with pytest.raises(ResourceError, match=r"room for a copy of the data.*No space left.*TMPDIR"):
        quick()


# -- bad input --------------------------------------------------------------------------------------


def used(model=[]):  # noqa: B006 - the same model each time, on purpose
    if not model:
        model.append(studies.small())
    return model[0]


def fitted():
    model = studies.small()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    return model


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: studies.small(), StateError, "cannot be pickled.*define it with `def` at the top of a file"),
        (used, StateError, "expected a fresh model each time"),
        (fitted, StateError, "expected a fresh model each time"),
        (dict, StateError, "expected the builder to return a model, received dict"),
        (studies.small(), HyperparameterError, "pass the function itself, without calling it"),
        ({}, HyperparameterError, "or a dict of such by name"),
    ],
    ids=["lambda", "used", "fitted", "no model", "a model", "none"],
)
def test_builders_that_cannot_be_studied_are_refused(build, error, words):
    with pytest.raises(error, match=words):
        quick(build)


@pytest.mark.parametrize(
    "more, error, words",
    [
        ({"strategies": {"threads": [0]}}, HyperparameterError, "numbers of threads of 1 or more, received 0"),
        ({"strategies": {"threads": [1.5]}}, HyperparameterError, "received 1.5"),
        ({"strategies": {"threads": []}}, HyperparameterError, "expected a list of numbers of workers"),
        ({"strategies": {"threads": [10_000]}}, ResourceError, "or say oversubscribe=True"),
        ({"strategies": {"treads": [1]}}, UnknownNameError, "Did you mean 'threads'"),
        ({"strategies": {"serial": [2]}}, HyperparameterError, r"expected \[1\]"),
        ({"strategies": 3}, HyperparameterError, "expected strategies as"),
        ({"kind": "both"}, HyperparameterError, "'strong' or 'weak'"),
        ({"kind": "weak", "batch_size": 300}, DataError, "fewer than one batch of 300"),
        ({"repeats": 0}, HyperparameterError, "repeats"),
        ({"batch_size": 0}, HyperparameterError, "batch_size"),
        ({"target": 0.5}, HyperparameterError, "expected test_data"),
        ({"data": (X, Y[:-1])}, DataError, "as many targets as samples, received 255 and 256"),
        ({"data": X}, DataError, r"expected \(x, y\)"),
        ({"data": (X[:, :5], Y)}, ShapeError, r"study: small: x: expected \(rows, 6\), received \(256, 5\)"),
        ({"data": (X, Y + 1)}, DataError, "study: small: y"),
        ({"test_data": (X.reshape(-1, 2, 3), Y)}, ShapeError, r"study: small: x: expected \(rows, 6\)"),
        ({"verbose": 7}, HyperparameterError, "verbose"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_anything_runs(more, error, words, monkeypatch):
    monkeypatch.setattr(launch.Bench, "run", lambda *_: pytest.fail("a run was started"))
    with pytest.raises(error, match=words):
        quick(**more)


@pytest.mark.skipif(pn.cuda.is_available(), reason="there is a GPU here")
def test_what_the_machine_has_not_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(launch.Bench, "run", lambda *_: pytest.fail("a run was started"))
    with pytest.raises((DeviceError, MissingExtraError), match=r"CUDA"):
        quick(strategies={"cuda": [1]})
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(MissingExtraError, match=r"study: 'mpi'.*pip install 'parnet\[mpi\]'"):
        quick(strategies={"mpi": [1]})


def test_results_of_another_study_or_machine_are_not_mixed_in(kept, tmp_path, monkeypatch):
    _, path, given = kept
    copy = tmp_path / "copy.jsonl"
    copy.write_text(path.read_text())
    with pytest.raises(StateError, match="one whose epochs was 3 and not 2"):
        quick(path=copy, **given | {"epochs": 2})
    with pytest.raises(StateError, match="results of the network 'small' as it is now"):
        quick({"small": studies.other}, path=copy, **given)
    here = machine.fingerprint()
    monkeypatch.setattr(campaign, "fingerprint", lambda: here | {"cpu": "another"})
    with pytest.raises(StateError, match=r"received those of two: cpu is .* keep a file for each machine"):
        quick(path=copy, **given)
    assert copy.read_text() == path.read_text()


@pytest.mark.parametrize("damage", ["{broken\n", '{"point": 3}\n', "[]\n"])
def test_a_damaged_line_is_named_and_the_file_left_as_it_is(kept, tmp_path, damage):
    lines = kept[1].read_text().splitlines(keepends=True)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join([*lines[:2], damage, *lines[2:]]))
    before = bad.read_text()
    with pytest.raises(FileFormatError, match=r"a run in line 3.*remove that line from a copy"):
        pn.study.load(bad)
    assert bad.read_text() == before


@pytest.mark.parametrize(
    "text", ["", "hello", "{}", '{"parnet": "study", "version": 99}', '{"parnet": "study", "version": 1}']
)
def test_a_file_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "none.json"
    path.write_text(text)
    with pytest.raises(FileFormatError):
        pn.study.load(path)


def test_saved_and_loaded_a_study_is_the_same(kept, tmp_path):
    study, path, _ = kept
    study.save(tmp_path / "study.json")
    again = pn.study.load(tmp_path / "study.json")
    assert again.runs == study.runs and again.table() == study.table() == pn.study.load(path).table()
    assert json.loads((tmp_path / "study.json").read_text())["machine"] == study.machine


def test_files_of_one_machine_are_read_together(kept, tmp_path):
    study, path, _ = kept
    assert len(pn.study.load(path, path).runs) == 2 * len(study.runs)
    header, *rest = path.read_text().splitlines(keepends=True)
    changed = json.loads(header)
    changed["machine"]["cpu"] = "another"
    (tmp_path / "b.jsonl").write_text(json.dumps(changed) + "\n" + "".join(rest))
    with pytest.raises(StateError, match="received those of two: cpu"):
        pn.study.load(path, tmp_path / "b.jsonl")


# -- strategies and orders --------------------------------------------------------------------------


def test_each_round_runs_every_point_once_in_an_order_of_its_own():
    plan = studies.design(studies.threads(1, 2, 4, 8), repeats=6)
    rounds = list(plan.rounds())
    orders = [[p for number, p in rounds if number == k] for k in range(6)]
    assert all(set(order) == set(plan.points) and len(order) == len(plan.points) for order in orders)
    assert len({tuple(order) for order in orders}) == 6 and rounds == list(plan.rounds())


def test_strategies_are_taken_by_name_by_count_and_as_objects():
    assert [c.label for c in ways.choose({}, False)] == ["serial"]
    both = ways.choose({"threads": [2, 1, 2]}, True)
    assert [(c.label, c.workers) for c in both] == [("serial", 1), ("threads", 1), ("threads", 2)]
    mine = ways.choose({"mine": [pn.strategy.Threads(1)]}, False)[1]
    assert (mine.label, mine.kind, mine.workers, mine.options) == ("mine", "Threads", 1, ())
    assert mine.make() == pn.strategy.Threads(1)


def test_more_threads_than_cores_run_where_they_were_asked_for():
    many = ways.choose({"threads": [ways.usable_cores() + 1]}, True)[1]
    assert many.make(True).threads_for(1e6) == ways.usable_cores() + 1


def test_powers_of_two_end_with_all_cores():
    assert [ways.powers_of_two(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_a_graph_and_a_compiled_builder_are_studied(tmp_path):
    study = quick({"graph": graph}, repeats=1)
    assert study.design.networks["graph"]["compiled"].startswith("Adam at 0.005")


def graph():
    inp = pn.Input((6,))
    model = pn.Model(inp, L.Dense(3, activation="softmax")(L.Dense(4)(inp)))
    model.compile(pn.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    return model


@pytest.mark.skipif(sys.platform == "win32", reason="worker processes need a system with sockets that pass files")
def test_a_parameter_server_says_what_its_workers_spent_their_time_on():
    """By a run in this process, two workers, and Adam, whose update rides on nothing."""
    data = {"x": X, "y": Y}
    settings = {"warmup": 1, "epochs": 2, "seed": 0, "oversubscribe": True, "accuracy": False, "peak": False}
    given = {"network": "mlp", "batch": 64, "rows": len(X), "base": 64}
    point = design.Point(strategy="server", kind="ParameterServer", workers=2, options=(("threads_per_worker", 1),), **given)
    found = sample.take(studies.small, {"optimizer": "adam"}, point, data, settings)
    assert found["comm_bytes"] > 0 and found["update_s"] > 0
    for run_s, wait_s, comm_s in zip(found["run_s"], found["wait_s"], found["comm_s"], strict=True):
        assert run_s > 0 and wait_s > 0 and comm_s > 0 and wait_s + comm_s + found["update_s"] / 2 < run_s
    single = design.Point(strategy="serial", kind="Serial", workers=1, **given)
    alone = sample.take(studies.small, {"optimizer": "adam"}, single, data, settings)
    assert alone["comm_bytes"] == 0 and alone["comm_s"] == [0, 0] and alone["update_s"] > 0
