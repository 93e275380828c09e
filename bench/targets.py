"""What parnet must reach, and whether a value does. Pure. Must not know: how anything is measured.

A target is a text: "<= 0.45", ">= 1.3", "< 5" or "0.960 +- 0.004".
"""

from __future__ import annotations

import math
import operator
import re

#: by what is measured; ratios of times are parnet / peer, ratios of rates parnet / OpenBLAS
TARGETS = {
    "N1 / fastest peer": "<= 0.45",
    "N1 / torch eager": "<= 0.2",
    "N2 / fastest peer": "<= 0.45",
    "N3 / fastest peer": "<= 0.45",
    "one thread / fastest peer": "< 1",
    "two threads / one, batch 32": ">= 1.5",
    "two threads / one, batch 512": ">= 1.8",
    "two threads / one, N3": ">= 1.8",
    "ResNet-50 inference / OpenVINO": "<= 1.1",
    "ResNet-50 inference / torch eager": "<= 0.667",
    "ResNet-50 training / torch eager": "< 1",
    "two threads / one, ResNet-50": ">= 1.8",
    "convolution / peak": ">= 0.8",
    "trace": "<= 1.03",
    "study": "<= 1.01",
    "two studies": ">= 1",
    "N1 accuracy": "0.960 +- 0.004",
    "N2 accuracy": ">= 0.972",
    "N3 accuracy": ">= 0.985",
    "loss beside Keras": "<= 1e-4",
    "estimator / MLPClassifier": "<= 0.2",
    "accuracy beside scikit-learn": "<= 0.002",
    "small product / OpenBLAS": ">= 1.3",
    "large product / OpenBLAS": ">= 0.9",
    "import over numba": "<= 0.1",
    "first fit, empty cache": "< 15",
    "first fit, full cache": "< 1.5",
    "peak memory": "< 350",
    "file / memory": ">= 0.9",
    "Python a step": "< 5",
    "one worker / serial": "<= 1.03",
    "two workers / serial, N1": ">= 1.6",
    "two workers / serial, N3": ">= 1.8",
    "two workers / serial, wide": ">= 1.6",
    "synchronising": "< 20",
    "two ranks / two workers": "<= 1.1",
    "chaos": ">= 1",
    "kill to error": "< 2",
    "GPU dense epoch / torch eager": "<= 0.25",
    "GPU CNN epoch / torch eager": "<= 0.8",
    "GPU product / vendor": ">= 0.6",
    "GPU kernel / copy": ">= 0.85",
    "GPU ResNet-50 / torch": "<= 2",
}

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def meets(target: str, value: float) -> bool:
    """Whether a value does what a target asks; a NaN never does.

    Raises:
        ValueError: the target is none of the forms above.
    """
    if math.isnan(value):
        return False
    if "+-" in target:
        middle, distance = (float(part) for part in target.split("+-"))
        return abs(value - middle) <= distance * (1 + 1e-12)
    found = re.fullmatch(r"\s*(<=|>=|<|>)\s*(\S+)\s*", target)
    if not found:
        raise ValueError(f'target: expected "<= 0.45", ">= 1.3" or "0.960 +- 0.004", received {target!r}')
    return bool(_COMPARE[found[1]](value, float(found[2])))
