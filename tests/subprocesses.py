"""Runs Python code in a process of its own, with the same parnet: for what might hang, crash, or be set once a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import parnet

TESTS = Path(__file__).parent
#: warnings are errors, but for those of the oldest matplotlib we support; see pyproject.toml
STRICT = ["-W", "error"]
for _module in ("matplotlib._mathtext", "matplotlib._fontconfig_pattern", "matplotlib.fontconfig_pattern"):
    STRICT += ["-W", f"ignore::DeprecationWarning:{_module}"]


def run_python(code, *, limit_s=90, **environment):
    """Words that the code prints. `limit_s` ends a process that hangs; nothing is measured with it."""
    paths = os.pathsep.join([str(Path(parnet.__file__).parents[1]), str(TESTS)])
    variables = os.environ | {"PYTHONPATH": paths} | environment
    command = [sys.executable, *STRICT, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=variables)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the process did not end within {limit_s} s")
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout.split()
