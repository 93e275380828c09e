"""`pn.warmup` leaves nothing to compile; `pn.info` tells programs what `parnet info` shows."""

import json

import numpy as np
import pytest
from subprocesses import run_python

import parnet as pn
from parnet import layers as L
from parnet.errors import UnknownNameError
from parnet.kernels import library


def test_after_warmup_a_model_compiles_no_kernel(monkeypatch):
    model = pn.Sequential([L.Dense(4, activation="tanh", input_shape=(3,)), L.BatchNormalization(), L.Dense(2)], seed=0)
    model.compile(pn.optimizers.Adam(clipnorm=1.0), "huber", ["mae"])
    assert pn.warmup(model, batch_size=4) >= 0 and not model.session.has_weights
    monkeypatch.setattr(library, "_object", lambda *key: pytest.fail(f"compiled {key}"))
    x, y = np.ones((8, 3)), np.ones((8, 2))
    model.fit(x, y, batch_size=4, verbose=0, validation_data=(x.copy(), y))
    model.predict(x.astype(np.uint8))
    optimizer = pn.optimizers.Adam(model.parameters(), clipnorm=1.0)
    pn.losses.Huber()(model(x), y).backward()
    optimizer.step()


def test_warmup_of_an_unknown_dtype_is_refused():
    with pytest.raises(UnknownNameError, match="warmup: dtype"):
        pn.warmup(dtype="float16")


@pytest.mark.slow
def test_warmup_without_a_model_covers_every_kernel():
    pn.warmup()
    assert {"product.forward", "gather.uint8", "loop.run"} <= {
        name for name, dtype in library._addresses if dtype == "float32"
    }


def test_info_is_what_the_command_shows():
    found = pn.info()
    assert found["versions"]["parnet"] == pn.__version__ and json.dumps(found)
    assert set(found) == {"versions", "processor", "threading", "folders", "measured", "extras", "backends"}


FIRST_FIT = """
import numpy as np, parnet as pn
from nets import Split
from parnet import layers as L
from parnet.kernels import library
model = pn.Sequential([L.Dense(4, "relu", input_shape=(5,)), L.Dense(1)], seed=1)
model.compile("sgd", "mse")
history = model.fit(np.ones((8, 5), np.float32), np.ones(8, np.float32), batch_size=4, verbose=0, strategy={strategy})
print(history.timing.compile_s > 0, history.timing.compile_s == library.compile_seconds)
"""


@pytest.mark.parametrize("strategy", ["'serial'", "pn.strategy.Serial(shards=2)", "Split(2, 1)", "Split(2, 2)"])
def test_nothing_is_compiled_or_loaded_once_the_clock_of_the_epochs_runs(strategy):
    assert run_python(FIRST_FIT.format(strategy=strategy)) == ["True", "True"]
