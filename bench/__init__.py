"""Measurements: what parnet must reach, and its peers. Run with `pytest --benchmark`; see `bench.results`."""
