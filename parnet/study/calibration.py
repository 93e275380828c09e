"""What a simulation needs to know of a measured strategy. Stage: study, between results and simulation.

Must not know: how runs are made, events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import require_extra, unknown_name
from .simulation import Link

if TYPE_CHECKING:
    from .result import Study


def calibrated(study: Study, strategy: str, network: str | None, batch: int | None, topology: str) -> dict[str, Any]:
    """What `simulate` needs to know of a measured strategy, from the times of a step at each measured number of workers.

    The parts of T(p) = serial + compute / p + message * m(p) are found by least squares that keeps them at 0 or more; m(p)
    is the number of messages that a step of that topology waits for. In a weak study compute is not divided.

    Returns:
        compute_s, serial_s, bytes, link, kind and topology.
    """
    optimize = require_extra("scipy.optimize", "study", "Study.simulate")
    name, base = study._group(network, batch)
    curves = study.curves(name, base)
    if strategy not in curves:
        raise unknown_name("study.simulate: strategy", strategy, curves)
    members = curves[strategy]
    weak, size = study.design.kind == "weak", 4.0 * study.design.networks[name]["parameters"]
    p = np.array([float(r.point.workers) for r in members])
    step_s = np.array([r.epoch.value / -(-r.point.rows // r.point.batch) for r in members])
    messages = {
        "ring": 2 * (p - 1) / p,
        "tree": 2 * np.ceil(np.log2(p)),
        "server": np.where(p > 1, p + 1, 0),
        "sharded": np.where(p > 1, p + 1, 0),
    }
    if topology not in messages:
        raise unknown_name("study.simulate: topology", topology, messages)
    columns = [np.zeros_like(p) if weak else np.ones_like(p), np.ones_like(p) if weak else 1 / p, messages[topology]]
    # relative errors count, as the shorter times of many workers matter as much
    (serial, compute, message), _ = optimize.nnls(np.column_stack(columns) / step_s[:, None], np.ones_like(p))
    link = Link(alpha_s=message) if topology == "tree" else Link(beta_s=message / size)
    return {
        "compute_s": max(float(compute), 1e-12),
        "serial_s": float(serial),
        "bytes": size,
        "link": link,
        "kind": study.design.kind,
        "topology": topology,
    }
