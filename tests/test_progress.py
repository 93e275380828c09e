"""What `fit` and `evaluate` print, to the letter; times are replaced by # where tqdm's clock decides them."""

import io
import re
import sys
import threading
import types
import warnings

import pytest

from parnet.errors import HyperparameterError
from parnet.train import progress as module
from parnet.train.progress import progress

LOGS = {"loss": 0.56434, "accuracy": 0.85421}
END_LOGS = {**LOGS, "val_loss": 0.23108, "val_accuracy": 0.931}
FIRST_LINE = "Train on 57000 samples, validate on 3000 samples\n"
EPOCH_LINE = (
    "Epoch 3/10 - 0.11s - 2.0us/sample - loss: 0.5643 - accuracy: 0.8542 - val_loss: 0.2311 - val_accuracy: 0.9310\n"
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(verbose, stream, **arguments):
    """One epoch, the third of ten, with two updates."""
    arguments = {"validation_samples": 3000, "epochs": 10, **arguments}
    with progress(verbose, 57000, stream=stream, **arguments) as display:
        display.begin()
        display.epoch_begin(2)
        display.update(28500, LOGS)
        display.update(57000, LOGS)
        display.epoch_end(2, 0.114, END_LOGS)
        display.end()
    return stream.getvalue()


def screen(text):
    """The frames a bar drew: what stood between carriage returns, blanks dropped, measured times as #."""
    frames = [frame.strip() for frame in re.split(r"[\r\n]", text)]
    return [re.sub(r"ETA [\d:]+|[\d.]+us/sample$", "#", frame) for frame in frames if frame]


def test_verbose_2_prints_the_first_line_and_one_line_an_epoch():
    assert show(2, io.StringIO()) == FIRST_LINE + EPOCH_LINE


def test_auto_prints_lines_where_the_output_is_no_terminal(capsys):
    assert show("auto", io.StringIO()) == FIRST_LINE + EPOCH_LINE
    progress("auto", 60000).begin()
    assert capsys.readouterr().out == "Train on 60000 samples\n"


def test_verbose_0_prints_nothing():
    assert show(0, Terminal()) == ""
    with progress(0, 10, stream=(stream := Terminal())) as display:
        display.interrupted(0, 5)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("verbose", [1, "auto"])
def test_a_terminal_shows_a_bar_that_its_line_replaces(verbose):
    text = show(verbose, Terminal())
    assert screen(text) == [
        FIRST_LINE.strip(),
        "Epoch 3/10 0/57000 [..........] ETA ?",
        "Epoch 3/10 28500/57000 [=====.....] # loss: 0.5643 accuracy: 0.8542 #",
        "Epoch 3/10 57000/57000 [==========] # loss: 0.5643 accuracy: 0.8542 #",
        EPOCH_LINE.strip(),
    ]
    assert re.search(r"\r +\r" + re.escape(EPOCH_LINE) + "$", text), "the bar is wiped before the line"


def test_a_notebook_shows_a_bar(monkeypatch):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert module.in_notebook()
    assert isinstance(progress("auto", 10, stream=io.StringIO()), module.BarDisplay)


def test_plain_ipython_counts_as_a_terminal_only(monkeypatch):
    for shell in (None, type("TerminalInteractiveShell", (), {})()):
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert not module.in_notebook()


def test_a_notebook_without_ipywidgets_gets_the_text_bar_and_no_warning(monkeypatch):
    def get_ipython():
        return types.SimpleNamespace(config={"IPKernelApp": {}})

    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=get_ipython))
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.ModuleType("ipykernel.zmqshell"))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module.bar_class.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "28500/57000 [" in show(1, io.StringIO())
    finally:
        module.bar_class.cache_clear()


def test_the_bar_starts_no_thread():
    before = threading.enumerate()
    show(1, Terminal())
    assert threading.enumerate() == before


@pytest.mark.parametrize("verbose", [1, 2])
def test_an_interruption_says_where_it_stopped(verbose):
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), progress(verbose, 60000, epochs=30, stream=stream) as display:
        display.epoch_begin(18)
        display.interrupted(18, 21600)
        raise KeyboardInterrupt
    assert stream.getvalue().endswith(
        "Interrupted: Epoch 19/30, at 21600/60000 samples; the model keeps what it has learnt\n"
    )


def test_an_error_wipes_the_bar():
    stream = Terminal()
    with pytest.raises(OSError), progress(1, 100, stream=stream) as display:
        display.epoch_begin(0)
        raise OSError
    assert re.search(r"\r +\r$", stream.getvalue())
    display.end()
    display.update(50, {})
    assert re.search(r"\r +\r$", stream.getvalue()), "nothing is drawn after the end"


def test_evaluate_prints_one_line():
    stream = io.StringIO()
    with progress(2, 10000, stream=stream, training=False) as display:
        display.begin()
        display.epoch_begin(0)
        display.epoch_end(0, 0.37, {"loss": 0.13591611904501916, "accuracy": 0.96})
    assert stream.getvalue() == "Evaluate - 0.37s - 37.0us/sample - loss: 0.1359 - accuracy: 0.9600\n"


@pytest.mark.parametrize(
    "value, text",
    [(0.5, "0.5000"), (1e-4, "1.0000e-04"), (-2e-5, "-2.0000e-05"), (0, "0.0000"), (float("nan"), "nan")],
)
def test_small_numbers_keep_their_digits(value, text):
    assert module.metric_text(value) == text


@pytest.mark.parametrize("verbose", [3, -1, "bar", None, 1.5])
def test_another_verbose_is_refused_with_the_choices(verbose):
    with pytest.raises(HyperparameterError, match=r"'auto', 0 \(nothing\), 1 \(bar\)") as caught:
        progress(verbose, 10)
    assert repr(verbose) in str(caught.value)


def test_no_samples_divide_nothing():
    stream = io.StringIO()
    progress(2, 0, stream=stream).epoch_end(0, 0.1, {})
    assert stream.getvalue() == "Epoch 1/1 - 0.10s - 0.0us/sample\n"
