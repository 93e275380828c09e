"""The process of one run: python worker.py JOB ORDER RESULT, or many under mpirun. Stage: study, started by `launch`.

JOB holds builders, samples and settings, written by the parent where nobody else may read; ORDER says what of it to run;
RESULT is written. The process ends when its standard input does, so none outlives a parent that was killed, nor do ranks:
rank 0 has the parent's input. Where files have names, FOLDER PARENT follow: the folder of the files, which nobody else would
remove then.
Must not know: the design, statistics.
"""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
import sys
import threading
import time
import types
from pathlib import Path

#: exit code of a run that raised; the reason is in its file
FAILED = 3
#: looks at whether the parent is gone, 50 ms apart
ORPHAN_LOOKS = 20


def main(arguments: list[str]) -> int:
    """Run one job, or say why not."""
    job, order, result, *left = arguments
    if rank() == 0:
        threading.Thread(target=_end_with_parent, args=left, daemon=True).start()
    try:
        found = _run(job, order)
        code = 0
    except Exception as error:
        found, code = {"failure": f"{type(error).__name__}: {error}"}, FAILED
        if ranks() and rank():
            raise  # which ends the whole job, so that no rank waits for this one
    if rank() == 0:
        Path(result).write_text(json.dumps(found), encoding="utf-8")
    return code


def ranks() -> bool:
    """Whether `parnet launch` started this process; it ends its ranks itself."""
    return "PARNET_RANKS" in os.environ


def rank() -> int:
    """This process's number among those that mpirun started; 0 without it."""
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def _end_with_parent(folder: str = "", parent: str = "") -> None:
    """Wait for the end of standard input, which the parent holds open while it lives."""
    try:
        while os.read(0, 64):  # not sys.stdin, whose lock a process that ends would wait for
            pass
    except OSError:
        return
    for _ in range(ORPHAN_LOOKS if folder else 0):  # a killed parent closes its files a moment before it is gone
        if os.getppid() != int(parent):
            shutil.rmtree(folder, ignore_errors=True)
            break
        time.sleep(0.05)
    os._exit(FAILED)


def _run(job_path: str, order_path: str) -> dict:
    with open(job_path, "rb") as file:
        _become(**pickle.load(file))
        from parnet.study.design import Point
        from parnet.study.sample import take

        job = pickle.load(file)
    order = json.loads(Path(order_path).read_text(encoding="utf-8"))
    point = Point.of(order["point"])
    build = pickle.loads(job["builders"][point.network])
    return take(build, job["compiled"], point, job["data"], job["settings"] | order["settings"])


def _become(path: list[str], script: str, module: str) -> None:
    """Find what the parent's main module defined, as multiprocessing's spawned processes do: run it under another name."""
    sys.path[:] = path
    if not script and not module:
        return
    name = "__mp_main__"
    found = runpy.run_module(module, run_name=name, alter_sys=True) if module else runpy.run_path(script, run_name=name)
    main_module = types.ModuleType(name)
    main_module.__dict__.update(found)
    sys.modules["__main__"] = sys.modules[name] = main_module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
