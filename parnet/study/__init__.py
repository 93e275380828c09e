"""Scaling studies: how much faster does more of the machine make a training, and why not more? Stage: study, outermost.

| module       | what it does                                                        |
|--------------|---------------------------------------------------------------------|
| `costs`      | `profile`: what each layer costs, forward, backward and update      |
| `roofs`      | `roofline`: each kernel beside what processor and memory allow      |
| `peaks`      | what they allow, measured                                           |
| `madeup`     | samples for a model whose own are not at hand                       |
| `machine`    | the machine's record, and the meter of other load                   |

Must not know: command lines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .costs import Profile, profile
    from .peaks import Peaks, measure_peaks
    from .roofs import Roofline, roofline

#: public name -> the module it lives in
_HOMES = {
    "Peaks": "peaks",
    "Profile": "costs",
    "Roofline": "roofs",
    "measure_peaks": "peaks",
    "profile": "costs",
    "roofline": "roofs",
}

__all__ = ["Peaks", "Profile", "Roofline", "measure_peaks", "profile", "roofline"]


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
