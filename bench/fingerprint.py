"""The record of the machine that stands in a results file: `parnet.study.machine`'s, with the commit that was measured."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from parnet.study import machine

ROOT = Path(__file__).parent.parent
KEYS = [*machine.KEYS, "commit"]


def fingerprint() -> dict:
    """The record of this machine, now; its keys are KEYS."""
    return machine.fingerprint() | {"commit": commit()}


def slug(model: str) -> str:
    """A processor's name for a file name: "Intel(R) Xeon(R) CPU @ 2.50GHz" is "intel-xeon-2.50ghz"."""
    plain = re.sub(r"\((r|tm|c)\)|\b(cpu|processor)\b", " ", model.lower())
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.") or "unknown"


def commit() -> str | None:
    """The commit in the working tree, with a plus sign if files of it are changed."""
    head = _run("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    if not head:
        return None
    changed = _run("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "parnet")
    return head + ("+" if changed else "")


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
