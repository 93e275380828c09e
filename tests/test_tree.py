"""The tree over virtual shards: the same order of additions whoever owns the shards."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parnet.comm.tree import additions, cover, middle, share_of

quick = settings(deadline=None, derandomize=True, database=None)
SHARDS = st.integers(1, 70)


def recursive(node):
    """The tree as nested pairs, written down once more: the left child is the largest power of two that leaves something."""
    first, last = node
    if last - first == 1:
        return first
    width = 1
    while 2 * width < last - first:
        width *= 2
    return recursive((first, first + width)), recursive((first + width, last))


def expression(pieces, shards, names):
    """What `additions` computes, as nested pairs of the pieces' own expressions."""
    held = list(names)
    for into, source in additions(pieces, shards):
        held[into], held[source] = (held[into], held[source]), None
    return held[0]


def test_six_shards_are_added_as_the_docstring_says():
    assert recursive((0, 6)) == (((0, 1), (2, 3)), (4, 5))
    assert middle((0, 6)) == 4 and middle((4, 6)) == 5 and middle((0, 8)) == 4 and middle((0, 2)) == 1


@quick
@given(SHARDS, st.integers(1, 12))
def test_any_number_of_workers_adds_in_the_order_of_the_tree(shards, workers):
    pieces = [piece for w in range(workers) for piece in cover(*share_of(w, workers, shards), shards)]
    assert [shard for first, last in pieces for shard in range(first, last)] == list(range(shards))
    assert expression(pieces, shards, [recursive(piece) for piece in pieces]) == recursive((0, shards))


@quick
@given(SHARDS, st.data())
def test_missing_pieces_leave_the_order_of_the_others(shards, data):
    present = sorted(data.draw(st.sets(st.integers(0, shards - 1), min_size=1)))
    order = additions([(k, k + 1) for k in present], shards)
    held = {k: {k} for k in range(len(present))}
    for into, source in order:
        assert into < source and max(held[into]) < min(held[source])
        held[into] |= held.pop(source)
    assert held == {0: set(range(len(present)))}


@quick
@given(SHARDS, st.data())
def test_a_cover_is_minimal_and_made_of_nodes(shards, data):
    first = data.draw(st.integers(0, shards))
    last = data.draw(st.integers(first, shards))
    nodes = cover(first, last, shards)
    assert [s for node in nodes for s in range(*node)] == list(range(first, last))
    assert len(nodes) <= 2 * shards.bit_length()
    for left, right in itertools.pairwise(nodes):
        assert not (left[0] < right[1] and cover(left[0], right[1], shards) == [(left[0], right[1])])


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
def test_a_power_of_two_of_workers_sends_one_piece_each(workers):
    for w in range(workers):
        assert len(cover(*share_of(w, workers, 16), 16)) == 1


@quick
@given(st.integers(0, 300), st.integers(1, 20))
def test_rows_are_cut_evenly_and_completely(rows, shards):
    runs = [share_of(v, shards, rows) for v in range(shards)]
    assert [r for first, last in runs for r in range(first, last)] == list(range(rows))
    lengths = [last - first for first, last in runs]
    assert max(lengths) - min(lengths) <= 1


def test_float32_sums_have_the_same_bits_for_every_number_of_workers(rng):
    shards = 11
    values = rng.normal(size=(shards, 50)).astype(np.float32) * 10.0 ** rng.integers(-6, 6, (shards, 1))
    results = set()
    for workers in range(1, 9):
        pieces, sums = [], []
        for w in range(workers):
            for node in cover(*share_of(w, workers, shards), shards):
                inside = [np.array(values[s]) for s in range(*node)]
                # a node's own sum is made along the tree too: its shards are pieces of one shard each
                for into, source in additions([(s, s + 1) for s in range(*node)], shards):
                    inside[into] += inside[source]
                pieces.append(node)
                sums.append(inside[0])
        for into, source in additions(pieces, shards):
            sums[into] += sums[source]
        results.add(sums[0].tobytes())
    assert len(results) == 1
