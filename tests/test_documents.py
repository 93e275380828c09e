"""What people read runs: code blocks of the documents, and a docstring for every public name."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from subprocesses import run_python

import parnet as pn

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "README.es.md", "CONTRIBUTING.md")
#: blocks that need what a test has not: a word in them -> why they are only compiled
ONLY_COMPILED = {'weights="imagenet"': "downloads 100 MB", "CUDA": "needs a GPU", "mpirun": "needs MPI"}
#: commands of shell blocks that the tests do not run: how they begin -> why
NOT_RUN = {
    "python -m pip install": "changes the environment",
    "parnet": "tested by test_cli",
    "python -m pytest": "is what runs this",
    "pytest": "is what runs this",
    "mpirun": "needs MPI",
    "python -m pdoc": "needs the extra docs",
    ".ci/check": "is run by CI",
    ".ci/run": "is run by CI",
}


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.sklearn
@pytest.mark.timeout(280)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_blocks_run_one_after_the_other(document, tmp_path):
    pytest.importorskip("sklearn", reason="the documents train on scikit-learn's digits")
    pytest.importorskip("matplotlib", reason="the documents draw")
    code = blocks(document, "python")
    for block in code:
        compile(block, document, "exec")
    run = [block for block in code if not any(word in block for word in ONLY_COMPILED)]
    if not run:
        pytest.skip(f"{document} has no Python blocks")
    rng = np.random.default_rng(0)
    for part in (1, 2):
        np.savez(tmp_path / f"part{part}.npz", x=rng.integers(0, 17, (40, 8, 8)).astype("uint8"), y=np.arange(40) % 10)
    (tmp_path / "run.py").write_text("\n".join(run), encoding="utf-8")
    script = f"import os, runpy; os.chdir({str(tmp_path)!r}); runpy.run_path('run.py', run_name='__main__'); print('ran')"
    assert run_python(script, limit_s=250)[-1] == "ran"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_shell_blocks_are_commands_we_know(document):
    for block in blocks(document, "sh"):
        for line in filter(None, block.splitlines()):
            for command in line.split("&&"):
                words = " ".join(shlex.split(command, comments=True))
                assert any(words.startswith(known) for known in NOT_RUN), f"{document}: nothing tests {command.strip()!r}"


def test_files_that_documents_name_exist():
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for name in re.findall(r"`((?:parnet|bench|tests|examples|\.ci)/[\w./]+)`", text):
            assert (ROOT / name).exists(), f"{document} names {name}"


def public():
    """(name, object) of everything that the package and its public modules export, and their public methods."""
    for name in pn.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(pn, name)
        yield name, thing
        if inspect.ismodule(thing):
            for inner in getattr(thing, "__all__", ()):
                yield f"{name}.{inner}", getattr(thing, inner)


def documented(owner, name):
    """Whether a method has a docstring of its own, or one that it inherits."""
    return any(getattr(vars(base).get(name), "__doc__", None) for base in owner.__mro__ if name in vars(base))


def test_every_public_name_has_a_docstring():
    missing = []
    for name, thing in public():
        if not callable(thing) and not inspect.ismodule(thing):
            continue
        if not (inspect.getdoc(thing) or "").strip():
            missing.append(name)
        if inspect.isclass(thing) and thing.__module__.startswith("parnet"):
            missing += [
                f"{name}.{method}"
                for method, value in vars(thing).items()
                if not method.startswith("_") and inspect.isfunction(value) and not documented(thing, method)
            ]
    assert not missing
