"""The check after each test sees what it must see; sessions and executors give back their threads."""

import gc
import subprocess
import sys
import threading
from multiprocessing import shared_memory

import leaks
import numpy as np
import pytest
from nets import Parts, n1

from parnet.executors.threads import ThreadsExecutor


def test_a_thread_a_process_and_shared_memory_left_behind_are_seen():
    before, end = leaks.now(), threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    memory = shared_memory.SharedMemory(create=True, size=64)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    thread.start()
    try:
        found = leaks.since(before)
    finally:
        end.set()
        thread.join()
        memory.close()
        memory.unlink()
        process.communicate()
    words = {"thread forgotten", f"process {process.pid}", f"shared memory {memory.name.lstrip('/')}"}
    if sys.platform != "linux":
        pytest.skip("processes and shared memory are looked up in Linux's /proc and /dev/shm")
    assert set(found) == words
    assert leaks.since(before) == []


@pytest.mark.parametrize("verb", ["fit", "evaluate", "predict"])
def test_no_thread_outlives_fit_evaluate_and_predict(verb, rng):
    model = n1()
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = rng.random((40, 784), dtype=np.float32), rng.integers(0, 10, 40)
    before = leaks.living_threads()
    calls = {
        "fit": lambda: model.fit(x, y, verbose=0, strategy=Parts(3)),
        "evaluate": lambda: model.evaluate(x, y, strategy=Parts(3)),
        "predict": lambda: model.predict(x, strategy=Parts(3)),
    }
    calls[verb]()
    assert leaks.living_threads() == before


def test_a_model_that_is_forgotten_ends_the_threads_of_its_manual_loop(rng):
    before = leaks.living_threads()
    model = n1()
    model.session.strategy = Parts(3)
    model(rng.random((40, 784), dtype=np.float32))
    assert len(leaks.living_threads() - before) == 2
    del model
    gc.collect()
    assert leaks.living_threads() == before


def test_an_executor_ends_its_threads_when_it_is_closed():
    before = leaks.living_threads()
    with ThreadsExecutor(4):
        assert len(leaks.living_threads() - before) == 3
    assert leaks.living_threads() == before
