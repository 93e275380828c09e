"""What `strategy="cuda"` says where it cannot run, and the tests of its kernels, which run in Numba's simulator."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.errors import DeviceError, HyperparameterError, MissingExtraError, ParnetError

TESTS = Path(__file__).parent
INSTALLED = importlib.util.find_spec("numba_cuda") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason="needs numba-cuda: pip install 'parnet[cuda]'")


def script(code, **environment):
    """A fresh process that runs the code."""
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=250
    )


def trained(strategy):
    model = pn.Sequential([L.Dense(2, input_shape=(3,))], seed=0)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0, strategy=strategy)
    return model


@pytest.mark.cuda
@needs_package
@pytest.mark.parametrize("file", ["test_cuda_device.py", "test_cuda_kernels.py"])
def test_kernels_and_training_match_the_cpu_in_the_simulator(file):
    """In a process of its own: the simulator has to be chosen before numba.cuda is imported."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(TESTS / file), "-q", "-x", "-p", "no:cacheprovider"],
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"NUMBA_ENABLE_CUDASIM": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout, done.stdout[-2000:]


@pytest.mark.cuda
@needs_package
def test_without_a_driver_the_error_says_so_and_the_model_stays_usable():
    code = """
import numpy as np, parnet as pn
from parnet import layers as L
from parnet.errors import DeviceError
assert not pn.cuda.is_available() and pn.cuda.devices() == []
model = pn.Sequential([L.Dense(2, input_shape=(3,))], seed=0)
model.compile("sgd", "mse")
try:
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0, strategy="cuda")
except DeviceError as error:
    print(error)
print(model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0, strategy="serial").history["loss"])
"""
    done = script(code, NUMBA_ENABLE_CUDASIM="0", CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 0, done.stderr
    assert "CUDA(device=0): expected an NVIDIA GPU and its driver, found none (" in done.stdout
    assert "the driver lists no device" not in done.stdout, "the driver's own words"
    assert 'use strategy="threads"' in done.stdout and "[" in done.stdout.splitlines()[-1]


def test_without_the_package_the_error_names_the_extra():
    code = """
import sys
from importlib import util
found = util.find_spec
util.find_spec = lambda name, *rest: None if name == "numba_cuda" else found(name, *rest)
import parnet as pn
print(pn.cuda.is_available())
try:
    pn.cuda.devices()
except pn.ParnetError as error:
    print(type(error).__name__, error)
"""
    done = script(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False\nMissingExtraError") and "pip install 'parnet[cuda]'" in done.stdout


@pytest.mark.parametrize("device", [-1, 1.5, "0", True])
def test_a_device_is_a_whole_number(device):
    with pytest.raises(HyperparameterError, match=r"CUDA\(device\)"):
        pn.strategy.CUDA(device=device)


def test_errors_of_the_device_are_parnets_own():
    assert issubclass(DeviceError, ParnetError) and issubclass(MissingExtraError, ImportError)


def test_info_tells_of_the_gpu():
    done = subprocess.run(
        [sys.executable, "-m", "parnet", "info", "--json"], capture_output=True, text=True, timeout=250, env=os.environ
    )
    assert done.returncode == 0 and '"gpu"' in done.stdout, done.stderr
