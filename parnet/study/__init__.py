"""Scaling studies: how much faster does more of the machine make a training, and why not more? Stage: study, outermost.

    study = pn.study.scaling(mlp, (x, y), strategies={"threads": [1, 2, 4]})
    print(study.table()); study.plot("speedup.pdf"); study.report("report.html"); study.save("study.json")

| module       | what it does                                                                    |
|--------------|---------------------------------------------------------------------------------|
| `campaign`   | runs every configuration, shuffled round by round, each run in a fresh process  |
| `ways`       | the strategies by name, and what a worker of each is                            |
| `design`     | what is run, as plain data                                                      |
| `launch`     | starts the process of a run and reads its result                                |
| `worker`     | that process; `sample`: what it measures                                        |
| `records`    | the file of raw results                                                         |
| `statistics` | medians, intervals, speedup, efficiency, Karp-Flatt, shares                     |
| `laws`       | Amdahl, Gustafson, the Universal Scalability Law                                |
| `words`      | findings in sentences; `doubts`: what may have spoilt them                      |
| `result`     | `Study`: tables, fits, files                                                    |
| `plots`      | pictures; `report`: one file that tells the study; `markup`: tables             |
| `simulation` | more workers than there are, by discrete events; `calibration`: from a study    |
| `costs`      | `profile`: what each layer costs, forward, backward and update                  |
| `roofs`      | `roofline`: each kernel beside what processor and memory allow                  |
| `peaks`      | what they allow, measured                                                       |
| `madeup`     | samples for a model whose own are not at hand                                   |
| `benchmarks` | files of `pytest --benchmark`, compared; `bench_tables`, `bench_plots`: shown   |
| `machine`    | the machine's record, and the meter of other load                               |

Must not know: command lines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .campaign import scaling
    from .costs import Profile, profile
    from .peaks import Peaks, measure_peaks
    from .result import Study, load
    from .roofs import Roofline, roofline
    from .simulation import Link, Prediction, simulate

#: public name -> the module it lives in
_HOMES = {
    "Link": "simulation",
    "Peaks": "peaks",
    "Prediction": "simulation",
    "Profile": "costs",
    "Roofline": "roofs",
    "Study": "result",
    "load": "result",
    "measure_peaks": "peaks",
    "profile": "costs",
    "roofline": "roofs",
    "scaling": "campaign",
    "simulate": "simulation",
}

__all__ = [
    "Link",
    "Peaks",
    "Prediction",
    "Profile",
    "Roofline",
    "Study",
    "load",
    "measure_peaks",
    "profile",
    "roofline",
    "scaling",
    "simulate",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        from ..errors import unknown_attribute

        raise unknown_attribute(__name__, name, __all__)
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
