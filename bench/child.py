"""What `test_startup` runs in processes of their own; prints one line of JSON.

    python -m bench.child first-fit   N1 for one batch of 32: the system's clock at the end of the first step
    python -m bench.child memory      N1 for two epochs on MNIST as uint8: the most memory it held, in MiB
    python -m bench.child numba|parnet|both   seconds of the imports; "both" times parnet after numba

Nothing is imported before it is measured.
"""

import json
import sys
import time


def first_fit() -> dict:
    """CLOCK_MONOTONIC goes on from process to process, so that the parent can subtract the start."""
    import numpy as np

    from .models import compiled

    x, y = np.zeros((32, 28, 28), np.uint8), np.arange(32) % 10
    compiled("N1", 0.1, 0, from_bytes=True, metrics=["accuracy"]).fit(x, y, verbose=0)
    return {"end": time.monotonic()}


def memory() -> dict:
    """Data set, checks, both epochs."""
    from .data import load
    from .models import compiled

    samples = load()
    model = compiled("N1", 0.1, 0, from_bytes=True, metrics=["accuracy"])
    model.fit(samples.x_train, samples.y_train, epochs=2, verbose=0)
    return {"mib": peak_mib(), "data": samples.kind}


def peak_mib() -> float:
    """The most this process held. On Linux not from getrusage, whose figure starts at that of the parent."""
    try:
        with open("/proc/self/status") as status:
            (line,) = [line for line in status if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 2**20 if sys.platform == "darwin" else most / 1024


def imports(what: str) -> dict:
    """Seconds of one import statement."""
    if what == "both":
        import numba
    begun = time.perf_counter()
    if what == "numba":
        import numba  # noqa: F401
    else:
        import parnet  # noqa: F401
    return {"seconds": time.perf_counter() - begun}


if __name__ == "__main__":
    tasks = {"first-fit": first_fit, "memory": memory}
    print(json.dumps(tasks[sys.argv[1]]() if sys.argv[1] in tasks else imports(sys.argv[1])))
