"""What is installed: every module, the marker of types, one version, nothing else."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest

import parnet

ROOT = Path(__file__).parent.parent


def test_the_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", parnet.__version__)
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    said = [p for p in (ROOT / "parnet").rglob("*.py") if re.search(r"^__version__ = ", p.read_text(encoding="utf-8"), re.M)]
    assert said == [ROOT / "parnet" / "_version.py"]


def test_the_wheel_holds_every_module_and_the_marker_of_types(tmp_path, monkeypatch):
    """Built by the backend itself, without a network and without an environment of its own."""
    backend = pytest.importorskip("setuptools.build_meta", reason="needs setuptools")
    import setuptools

    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip(f"needs setuptools 77, for the licence in pyproject.toml; here is {setuptools.__version__}")
    import shutil

    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "parnet", tmp_path / "parnet", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    wheel = backend.build_wheel(str(tmp_path / "dist"))
    with zipfile.ZipFile(tmp_path / "dist" / wheel) as archive:
        names, size = archive.namelist(), sum(info.file_size for info in archive.infolist())
    inside = {name for name in names if not name.startswith("parnet-")}
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "parnet").rglob("*.py")}
    assert inside == modules | {"parnet/py.typed"}
    assert size < 5 << 20
