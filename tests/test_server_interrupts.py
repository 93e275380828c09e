"""Ctrl-C and other signals to a training on workers, at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import parnet as pn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes and open files are looked up in Linux's /proc")

TESTS = Path(__file__).parent


def test_ctrl_c_in_any_phase_leaves_nothing_and_weights_of_the_counted_updates():
    """From the start of the workers to their end, once, and once more while they are ended; see `interrupted.py`."""
    paths = os.pathsep.join([str(Path(pn.__file__).parents[1]), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(TESTS / "interrupted.py")],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout.split("\n") == ["21", ""], done.stdout + done.stderr
