"""`pytest --benchmark`: run the measurements of bench/, not the tests. Must not know: what is measured.

Without the flag bench/ is left out, unless a file of it is named. All options of pytest-benchmark work with
it.
"""

from __future__ import annotations

from pathlib import Path

BENCH = Path(__file__).parent / "bench"


def pytest_addoption(parser):
    parser.addoption("--benchmark", action="store_true", help="run the measurements in bench/, not the tests")


def pytest_configure(config):
    if config.getoption("--benchmark") and config.args_source != config.ArgsSource.ARGS:
        config.args = [str(BENCH)]


def pytest_ignore_collect(collection_path, config):
    """bench/ is no test; paths named on the command line are not asked about."""
    if not config.getoption("--benchmark") and collection_path == BENCH:
        return True
    return None
