"""What a study will do, as plain data: the points, their sizes, and the order in which they run. Stage: study.

Must not know: processes, statistics, pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import DataError, HyperparameterError
from .ways import Chosen, way_of

KINDS = ("strong", "weak")


@dataclass(frozen=True)
class Point:
    """One configuration, which runs once a round in a process of its own.

    Attributes:
        network: its name in the study.
        strategy: the label of its strategy; kind: the class; options: that class's arguments.
        workers: how many.
        batch: rows of an update, over all workers together.
        rows: samples of an epoch.
        base: rows of an update as asked for: of all workers in a strong study, of each worker in a weak one.
    """

    network: str
    strategy: str
    kind: str
    workers: int
    batch: int
    rows: int
    base: int
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def chosen(self) -> Chosen:
        """Its strategy."""
        return Chosen(self.strategy, self.kind, self.workers, self.options)

    @property
    def name(self) -> str:
        """For people: "mlp, threads with 2 threads, batch 256"."""
        noun = way_of(self.kind).noun
        count = (
            "serial" if self.kind == "Serial" else f"{self.strategy} with {self.workers} {noun}{'s' * (self.workers > 1)}"
        )
        return f"{self.network}, {count}, batch {self.batch}"

    def config(self) -> dict:
        """Ready for JSON."""
        return asdict(self) | {"options": dict(self.options)}

    @classmethod
    def of(cls, config: dict) -> Point:
        """From `config()`."""
        return cls(**config | {"options": tuple(sorted(config["options"].items()))})


@dataclass(frozen=True)
class Design:
    """A whole study.

    Attributes:
        kind: "strong", the same work for any number of workers; "weak", the same work for each.
        networks: name -> what is known of it: parameters, digest.
        points: all configurations.
        repeats: processes of each; warmup, epochs: of each process, not timed and timed.
        seed: of weights, shuffles and the order of the runs.
        data: what the samples are: rows, shapes, digest.
        compiled: optimizer, loss and metrics.
        target: an accuracy to be reached, or None.
        oversubscribe: whether more workers than cores were allowed.
    """

    kind: str
    networks: dict[str, dict]
    points: tuple[Point, ...]
    repeats: int
    warmup: int
    epochs: int
    seed: int
    data: dict
    compiled: dict = field(default_factory=dict)
    target: float | None = None
    oversubscribe: bool = False

    def with_those_of(self, old: Design, measured: Iterable[Point]) -> Design:
        """The same study, with the repeats of an earlier one, and those of its points that were measured."""
        points = tuple(dict.fromkeys((*self.points, *measured)))
        networks = self.networks | {p.network: old.networks[p.network] for p in points if p.network not in self.networks}
        return replace(self, points=points, networks=networks, repeats=max(self.repeats, old.repeats))

    def rounds(self) -> Iterator[tuple[int, Point]]:
        """All runs, round by round; in each round every point once, in an order of its own."""
        for number in range(self.repeats):
            order = np.random.default_rng([self.seed, number]).permutation(len(self.points))
            for place in order:
                yield number, self.points[place]

    def config(self) -> dict:
        """As it comes back from JSON."""
        simple = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "points"}
        return json.loads(json.dumps(simple | {"points": [point.config() for point in self.points]}))

    @classmethod
    def of(cls, config: dict) -> Design:
        """From `config()`."""
        return cls(**config | {"points": tuple(Point.of(point) for point in config["points"])})


def points_of(kind: str, networks: list[str], chosen: list[Chosen], batches: list[int], rows: int) -> tuple[Point, ...]:
    """All combinations.

    Raises:
        HyperparameterError: no such kind. DataError: too few rows for the workers of a weak study.
    """
    if kind not in KINDS:
        raise HyperparameterError(f"study: expected kind 'strong' or 'weak', received {kind!r}")
    share = rows // max(one.workers for one in chosen) if kind == "weak" else rows
    if kind == "weak" and share < max(batches):
        raise DataError(
            f"study: a weak study of up to {max(one.workers for one in chosen)} workers gives each {share} of {rows} rows, "
            f"fewer than one batch of {max(batches)}; give more rows, a smaller batch or fewer workers"
        )
    points = []
    for network in networks:
        for base in batches:
            for one in chosen:
                times = one.workers if kind == "weak" else 1
                sizes = (base * times, share * times, base)
                points.append(Point(network, one.label, one.kind, one.workers, *sizes, one.options))
    return tuple(points)
