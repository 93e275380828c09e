"""What every test gets: a seeded generator, and the promise that it leaves no thread, process or shared memory behind."""

from __future__ import annotations

import gc
import time

import leaks
import numpy as np
import pytest
import ranks

#: seconds that threads and processes may take to end
PATIENCE_S = 5.0


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = leaks.now()
    yield
    if not leaks.since(before):
        return
    gc.collect()  # a session ends its threads when it is collected
    until = time.monotonic() + PATIENCE_S
    while leaks.since(before) and time.monotonic() < until:
        time.sleep(0.01)
    assert not leaks.since(before), f"left behind: {', '.join(leaks.since(before))}"


@pytest.fixture
def nothing_left(tmp_path):
    """No rank of a job that was started in the test's folder is left."""
    yield
    assert ranks.of_jobs(tmp_path) == set()
