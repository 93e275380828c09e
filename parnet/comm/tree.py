"""The fixed binary tree over the virtual shards: which rows a shard has, who owns it, in which order sums are added.

Stage: comm, lowest: numbers in, numbers out. A batch is cut into V shards whatever the number of workers. The sums of the
shards (gradients, losses, row counts) are added pair by pair along one tree:

    shards 0 1 2 3 4 5:   ((0+1) + (2+3)) + (4+5)

A node (first, last) of at least two shards is cut at the largest power of two below its length. The tree depends on V
alone, so the sum has the same bits for any number of workers. A worker owns a run of neighbouring shards; it adds up the
whole nodes in its run by itself, and sends one sum a node: one of an aligned run, at most 2 log2 V of any.
Must not know: arrays, kernels, transports.
"""

from __future__ import annotations

from collections.abc import Sequence

#: shards first .. last - 1, as a node of the tree or a piece of a run
Node = tuple[int, int]


def share_of(part: int, parts: int, count: int) -> tuple[int, int]:
    """Part `part` of 0..count in runs that differ by at most one: (first, last).

    Rows of a batch are cut into shards by it, and shards into the runs of the workers.
    """
    return count * part // parts, count * (part + 1) // parts


def middle(node: Node) -> int:
    """Where a node of at least two shards is cut: the largest power of two below its length, from its start."""
    return node[0] + (1 << ((node[1] - node[0] - 1).bit_length() - 1))


def cover(first: int, last: int, shards: int) -> list[Node]:
    """The fewest nodes of the tree that make up shards first..last, from left to right; none for an empty run."""
    return _cover((0, shards), first, last) if first < last else []


def _cover(node: Node, first: int, last: int) -> list[Node]:
    low, high = max(first, node[0]), min(last, node[1])
    if low >= high:
        return []
    if (low, high) == node:
        return [node]
    cut = middle(node)
    return _cover((node[0], cut), first, last) + _cover((cut, node[1]), first, last)


def additions(pieces: Sequence[Node], shards: int) -> list[tuple[int, int]]:
    """The order in which the sums of pieces are added: [(into, from), ...], indices of pieces.

    The total ends in piece 0. Pieces that are missing (of workers that were late) are left out, and the others are
    still added in the order of the tree.

    Args:
        pieces: nodes of the tree, from left to right, no two of which overlap.
        shards: V.
    """
    order: list[tuple[int, int]] = []

    def fold(node: Node, mine: Sequence[int]) -> int | None:
        """Adds up the pieces inside a node; the index of the piece that holds their sum."""
        if len(mine) < 2:
            return mine[0] if mine else None
        cut = middle(node)
        left = fold((node[0], cut), [k for k in mine if pieces[k][1] <= cut])
        right = fold((cut, node[1]), [k for k in mine if pieces[k][0] >= cut])
        if left is None or right is None:
            return right if left is None else left
        order.append((left, right))
        return left

    fold((0, shards), range(len(pieces)))
    return order
