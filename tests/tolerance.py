"""The one place where the tests' tolerances come from: the dtype and the length of the longest sum.

A sum of n products in floating point is off by at most n eps times the sum of the terms' magnitudes (Higham 2002, "Accuracy
and Stability of Numerical Algorithms", section 3.1); what comes on top, a few roundings and a function of some ulp, is
covered by OPERATIONS.
"""

from __future__ import annotations

import numpy as np

#: roundings of the operations around a sum: activation and derivative (4 ulp each), scaling, loss
OPERATIONS = 16


def allowed(dtype, length, magnitude):
    """The largest error of a result of that dtype, of sums of `length` terms whose magnitudes add up to `magnitude`."""
    return np.finfo(dtype).eps * (OPERATIONS + length) * np.asarray(magnitude, np.float64)


def close(actual, expected, dtype, length=1, magnitude=None, what=""):
    """Assert that actual is expected up to rounding, and NaN where NaN is expected.

    Args:
        dtype: of the arithmetic.
        length: of the longest sum on the way, of all sums one after another.
        magnitude: what the terms of the sums add up to in magnitude; by default the largest number expected.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if not expected.size:
        return
    if magnitude is None:
        magnitude = np.abs(expected).max()
    underflow = np.finfo(dtype).tiny / np.finfo(dtype).eps  # below it numbers have few places left
    limit = np.broadcast_to(allowed(dtype, length, magnitude) + underflow, expected.shape)
    bad = ~((np.abs(actual - expected) <= limit) | (np.isnan(actual) & np.isnan(expected)))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise AssertionError(
            f"{what}: {int(bad.sum())} of {bad.size} differ, the first at {place}: {actual[place]!r}, "
            f"expected {expected[place]!r} within {limit[place]:.3g}"
        )
