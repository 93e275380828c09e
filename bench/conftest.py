"""What the measurements share: results file, data, meter of other processes. Prints the tables at the end.

With --benchmark-disable everything runs once, to see that it runs; what is measured then goes to no file of
bench/results.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from parnet.study import bench_tables
from parnet.study.machine import Meter

from . import results as files
from .data import load
from .fingerprint import fingerprint, slug

HERE = Path(__file__).parent
#: seconds a measurement may take before it is given up
LIMIT_S = 600
_results = pytest.StashKey[files.Results]()


def pytest_collection_modifyitems(items):
    """A warning of a library must not end a measurement, nor the limit that holds for tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture(scope="session")
def repeats(pytestconfig):
    """A function from how often something is repeated to how often it is repeated in this run."""
    once = pytestconfig.getoption("benchmark_disable", False)
    return lambda wanted: 1 if once else wanted


@pytest.fixture(scope="session")
def results(pytestconfig, repeats, tmp_path_factory):
    """The results file of today and this processor."""
    machine, measured = fingerprint(), repeats(2) == 2
    folder = files.FOLDER if measured else tmp_path_factory.mktemp("results")
    path = folder / f"{date.today().isoformat()}-{slug(machine['cpu'])}.json"
    pytestconfig.stash[_results] = files.Results(machine, path)
    return pytestconfig.stash[_results]


@pytest.fixture
def record(results, request):
    """A function that keeps a value; see `bench.results.Record.of`, less the group and `other_cpu`."""
    meter, group = Meter(), request.node.path.stem.removeprefix("test_")

    def keep(name: str, value, unit: str, target: str = "", **more) -> files.Record:
        return results.add(files.Record.of(name, group, value, unit, target, other_cpu=meter.other(), **more))

    return keep


@pytest.fixture(scope="session")
def samples():
    """MNIST, or random numbers of its shape."""
    return load()


@pytest.fixture(scope="session")
def sample_file(samples, tmp_path_factory):
    """The training samples as a file for other interpreters."""
    return samples.export(tmp_path_factory.mktemp("samples") / "samples.npz")


def pytest_terminal_summary(terminalreporter, config):
    """The tables of this run, with all records of the file."""
    written = config.stash.get(_results, None)
    if written is not None and written.path.exists():
        terminalreporter.section(f"measured: {written.path.name}")
        terminalreporter.write_line(bench_tables.report(files.read(written.path)))
